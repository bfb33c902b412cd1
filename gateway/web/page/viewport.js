/** On-screen keyboards that cover the page instead of making it smaller, as on iOS. */

/** Have the page as high as what is seen of it. A page that is only magnified keeps its height. */
export function fitVisibleHeight() {
  const { visualViewport: view, document } = globalThis;
  if (!view) return;
  const { style } = document.documentElement;
  const fit = () => {
    const height = view.height * view.scale;
    const isCovered = innerHeight - height > 1;
    style.setProperty("--height", isCovered ? `${height}px` : "100dvh");
    style.setProperty("--top", isCovered && view.scale === 1 ? `${view.offsetTop}px` : "0px");
  };
  view.addEventListener("resize", fit);
  view.addEventListener("scroll", fit);
}
