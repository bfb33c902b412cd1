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

/** Copy text, and show on the button for a moment whether that went well. */
export async function copyText(text, from) {
  if (from.disabled) return;
  const isDone = await navigator.clipboard.writeText(text).then(() => true, () => false);
  const before = [...from.childNodes];
  const isIcon = from.classList.contains("icon-button");
  from.replaceChildren(isIcon ? icon(isDone ? "check" : "close") : isDone ? "Copied" : "Not copied");
  from.disabled = true;
  setTimeout(() => {
    from.replaceChildren(...before);
    from.disabled = false;
  }, 1_500);
}
