/** Making elements: no markup is ever parsed. */

import { announce } from "./announcer.js";

export const byId = (id) => document.getElementById(id);

/** Create an element with properties and children, which are nodes or text. */
export function make(tag, { dataset, ...properties } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  Object.assign(element.dataset, dataset);
  element.append(...children);
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** One of the symbols at the top of index.html. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

export function button(className, onClick, ...children) {
  const element = make("button", { type: "button", className }, ...children);
  element.addEventListener("click", onClick);
  return element;
}

export function iconButton(name, label, onClick) {
  return Object.assign(button("icon-button", onClick, icon(name)), { title: label, ariaLabel: label });
}

const answering = new WeakSet(); // buttons; a disabled one would lose the focus

/** Copy text, and show on the button for a moment whether that went well. */
export async function copyText(text, from) {
  if (answering.has(from)) return;
  answering.add(from);
  const isDone = await written(text);
  const before = [...from.childNodes];
  const isIcon = from.classList.contains("icon-button");
  from.replaceChildren(isIcon ? icon(isDone ? "check" : "close") : isDone ? "Copied" : "Not copied");
  announce(isDone ? "Copied." : "It could not be copied.");
  setTimeout(() => {
    from.replaceChildren(...before);
    answering.delete(from);
  }, 1_500);
}

async function written(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // not allowed, or no clipboard: the page came by plain HTTP
  }
}
