/** The two side panels: beside the conversation where there is room, else drawers above it. */

import { byId } from "./elements.js";

const NARROW = { "sessions-panel": "(max-width: 56.1875em)", "memories-panel": "(max-width: 74.9375em)" };

export function enablePanels() {
  const backdrop = byId("backdrop");
  const names = Object.keys(NARROW);
  const isDrawer = (name) => matchMedia(NARROW[name]).matches;
  const openers = (name) => document.querySelectorAll(`[data-open=${name}]`);
  const isOpen = (name) => byId(name).classList.contains("open");

  /** A closed panel takes no focus, nor does what an open drawer covers. */
  function settle() {
    const drawer = names.find((name) => isOpen(name) && isDrawer(name));
    for (const name of names) {
      const isShown = isOpen(name) || (name === "sessions-panel" && !isDrawer(name));
      byId(name).inert = !isShown || (drawer !== undefined && drawer !== name);
      byId(name).classList.toggle("drawer", isDrawer(name));
      for (const opener of openers(name)) opener.ariaExpanded = String(isShown);
    }
    byId("main").inert = drawer !== undefined;
    backdrop.hidden = drawer === undefined;
  }

  function open(name) {
    for (const other of names.filter(isDrawer)) byId(other).classList.remove("open");
    byId(name).classList.add("open");
    settle();
    if (isDrawer(name)) byId(name).querySelector("[data-close]").focus();
  }

  function close(name) {
    if (!isOpen(name)) return;
    byId(name).classList.remove("open");
    settle();
    openers(name)[0].focus();
  }

  for (const name of names) {
    matchMedia(NARROW[name]).addEventListener("change", settle);
    for (const opener of openers(name)) {
      opener.addEventListener("click", () => (isOpen(name) ? close(name) : open(name)));
    }
    document.querySelector(`[data-close=${name}]`).addEventListener("click", () => close(name));
  }
  const closeDrawers = () => names.filter(isDrawer).forEach(close);
  backdrop.addEventListener("click", closeDrawers);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || backdrop.hidden || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    closeDrawers();
  });
  settle();
  return { open, close };
}
