/** Light, dark, or as the system has it. */

import { byId, icon } from "./elements.js";

const THEMES = {
  auto: { icon: "auto", label: "Theme: as the system" },
  light: { icon: "sun", label: "Theme: light" },
  dark: { icon: "moon", label: "Theme: dark" },
};

export function enableTheme() {
  const button = byId("theme");
  const show = (theme) => {
    document.documentElement.dataset.theme = theme;
    button.replaceChildren(icon(THEMES[theme].icon));
    button.title = button.ariaLabel = THEMES[theme].label;
  };
  button.addEventListener("click", () => {
    const names = Object.keys(THEMES);
    const next = names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length];
    localStorage.setItem("makoto.theme", next);
    show(next);
  });
  const chosen = localStorage.getItem("makoto.theme");
  show(chosen in THEMES ? chosen : "auto");
}
