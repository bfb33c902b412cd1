/** What the browser keeps for the page, if it keeps anything: it may be told to refuse. */

/** Returns `localStorage` or `sessionStorage`, by name, or `null`. */
export function stored(name) {
  try {
    return globalThis[name];
  } catch {
    return null; // SecurityError: cookies are blocked, or the page is in a sandbox
  }
}
