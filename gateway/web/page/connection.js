/** What the connection is doing: a line in the panel, a dot on narrow screens, a notice if it matters. */

import { byId } from "./elements.js";

const TEXTS = {
  idle: "Not connected",
  connecting: "Connecting…",
  ready: "Connected",
  waiting: "Connection lost",
  stopped: "Disconnected",
  closed: "Disconnected",
};
const NOTICE_AFTER = 1_500; // milliseconds: a short cut is nobody's business

export function showConnection(client) {
  const notice = byId("notice");
  const [text, button] = notice.children;
  let timer;

  button.addEventListener("click", () => {
    if (client.state === "waiting") client.wake();
    else client.connect().catch(() => {});
  });

  function show({ state, retryIn = 0, error }) {
    byId("connection").textContent = TEXTS[state];
    for (const id of ["connection", "dot"]) byId(id).dataset.state = state;
    clearTimeout(timer);
    if (state === "ready") notice.hidden = true;
    if (state === "stopped") tell(`Disconnected. ${error.message}`, "Connect again");
    if (state === "waiting") {
      const until = performance.now() + retryIn;
      const isSaid = error && !error.code.startsWith("client."); // by the server, not found here
      const why = isSaid ? `${error.message} What` : "Connection lost; what";
      timer = setTimeout(() => count(until, why), Math.min(NOTICE_AFTER, retryIn));
    }
  }

  function count(until, why) {
    const seconds = Math.max(1, Math.ceil((until - performance.now()) / 1_000));
    tell(`${why} you write is kept. Trying again in ${seconds} s.`, "Now");
    timer = setTimeout(() => count(until, why), 1_000);
  }

  function tell(message, action) {
    if (text.textContent !== message) text.textContent = message;
    button.textContent = action;
    notice.hidden = false;
  }

  client.on("state", show);
  show({ state: client.state });
}
