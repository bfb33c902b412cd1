/** Making elements: no markup is ever parsed. */

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

/** Copy text, and say on the button that it is done. */
export async function copyText(text, from) {
  await navigator.clipboard.writeText(text);
  const before = [...from.childNodes];
  from.replaceChildren(from.classList.contains("icon-button") ? icon("check") : "Copied");
  setTimeout(() => from.replaceChildren(...before), 1_500);
}
