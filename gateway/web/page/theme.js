/** Light, dark, or as the system has it. */

import { byId, icon } from "./elements.js";
import { stored } from "./stored.js";

const THEMES = {
  auto: { icon: "auto", label: "Theme: as the system" },
  light: { icon: "sun", label: "Theme: light" },
  dark: { icon: "moon", label: "Theme: dark" },
};

export function enableTheme() {
  const button = byId("theme");
  const kept = stored("localStorage");
  const colours = document.querySelectorAll("meta[name=theme-color]");
  const show = (theme) => {
    document.documentElement.dataset.theme = theme;
    for (const colour of colours) colour.media = mediaOf(colour.dataset.theme, theme);
    button.replaceChildren(icon(THEMES[theme].icon));
    button.title = button.ariaLabel = THEMES[theme].label;
  };
  button.addEventListener("click", () => {
    const names = Object.keys(THEMES);
    const next = names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length];
    show(next);
    try {
      kept?.setItem("makoto.theme", next);
    } catch { /* full: it lasts as long as the page */ }
  });
  const chosen = kept?.getItem("makoto.theme");
  show(chosen in THEMES ? chosen : "auto");
}

/** The browser's own frame has the colour of the theme that is shown. */
function mediaOf(theme, chosen) {
  if (chosen === "auto") return `(prefers-color-scheme: ${theme})`;
  return theme === chosen ? "all" : "not all";
}
