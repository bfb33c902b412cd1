/** Where the page's tokens come from: the server's own demo tokens, or the person's clipboard. */

import { byId } from "./elements.js";

const SPARE = 60_000; // milliseconds before its expiry that a token counts as old

/** Returns the client's `token` option. `demo`: ask the page's own server first. */
export function makeTokenSource({ demo }) {
  let current = null;
  let coming = null; // one at a time: it may be a person who is asked
  return async ({ fresh }) => {
    const isOld = !current || fresh || current.expiresAt - SPARE < Date.now();
    if (isOld) {
      coming ??= newToken(demo, current).finally(() => (coming = null));
      current = await coming;
    }
    return current.token;
  };
}

async function newToken(demo, current) {
  const given = demo ? await demoToken() : null;
  if (given) return given;
  if (demo && current && (await isStillGood(current))) return current;
  return { token: await askForToken(current !== null), expiresAt: Infinity };
}

/** A failed handshake does not say whether it was the token's fault. What a token buys does. */
async function isStillGood({ token }) {
  if (expiryOf(token) - 2 * SPARE < Date.now()) return false; // it is to be renewed
  const headers = { authorization: `Bearer ${token}` };
  const { status } = await fetch("/v1/tickets", { method: "POST", headers });
  return status !== 401;
}

function expiryOf(token) {
  try {
    const claims = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    return JSON.parse(atob(claims)).exp * 1_000 || Infinity;
  } catch {
    return Infinity;
  }
}

/** `null` from a server that gives none. */
async function demoToken() {
  const response = await fetch("/v1/demo/token", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: "{}",
  });
  if (response.status === 403 || response.status === 404) return null;
  if (!response.ok) throw new Error(`no token: ${response.status}`);
  const { token, expires_at: expiresAt } = await response.json();
  return { token, expiresAt };
}

/** Waits until somebody has pasted something that can be a token. */
function askForToken(isAnother) {
  const dialog = byId("sign-in");
  const input = byId("token");
  const error = byId("sign-in-error");
  error.textContent = isAnother ? "The last token was not accepted, or is about to expire." : "";
  input.value = "";
  dialog.showModal();
  return new Promise((resolve) => {
    let token = null;
    dialog.querySelector("form").onsubmit = (event) => {
      const pasted = input.value.trim().replace(/^Bearer\s+/i, "");
      if (/^[\w-]+\.[\w-]+\.[\w-]+$/.test(pasted)) {
        token = pasted;
      } else {
        event.preventDefault();
        error.textContent = "That is not a JWT: three parts with dots between them.";
      }
    };
    dialog.onclose = () => (token ? resolve(token) : dialog.showModal()); // Escape leads nowhere
  });
}
