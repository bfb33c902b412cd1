/** Where the page's tokens come from: the server's own demo tokens, or the person's clipboard. */

import { byId } from "./elements.js";

const SPARE = 60_000; // milliseconds before its expiry that a token counts as old

/** Returns the client's `token` option. */
export function makeTokenSource() {
  let current = null;
  return async ({ fresh }) => {
    if (!current || fresh || current.expiresAt - SPARE < Date.now()) current = await newToken(current !== null && fresh);
    return current.token;
  };
}

async function newToken(wasRefused) {
  const response = await fetch("/v1/demo/token", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: "{}",
  });
  if (response.ok) {
    const { token, expires_at: expiresAt } = await response.json();
    return { token, expiresAt };
  }
  if (response.status !== 403 && response.status !== 404) throw new Error(`no token: ${response.status}`);
  return { token: await askForToken(wasRefused), expiresAt: Infinity };
}

/** Waits until somebody has pasted something that can be a token. */
function askForToken(wasRefused) {
  const dialog = byId("sign-in");
  const input = byId("token");
  const error = byId("sign-in-error");
  error.textContent = wasRefused ? "The server did not accept that token, or it has expired." : "";
  input.value = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.querySelector("form").onsubmit = (event) => {
      const token = input.value.trim().replace(/^Bearer\s+/i, "");
      if (/^[\w-]+\.[\w-]+\.[\w-]+$/.test(token)) return resolve(token);
      event.preventDefault();
      error.textContent = "That is not a JWT: three parts with dots between them.";
    };
  });
}
