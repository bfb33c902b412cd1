/** What the connection is doing: a line in the panel, a dot on narrow screens, a notice if it matters. */

import { announce } from "./announcer.js";
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
  let said = null; // a notice is read out once, without its countdown

  button.addEventListener("click", () => {
    if (client.state === "waiting") client.wake();
    else client.connect().catch(() => {});
  });

  function show({ state, retryIn = 0, error }) {
    byId("connection").textContent = TEXTS[state];
    for (const id of ["connection", "dot"]) byId(id).dataset.state = state;
    clearTimeout(timer);
    if (state === "ready") hide();
    if (state === "stopped") tell(`Disconnected. ${error.message}`, "", "Connect again");
    if (state === "waiting") {
      const until = performance.now() + retryIn;
      // What the server said; but of what is found here only why there never was a connection.
      const isSaid = error && (!client.ready || !error.code.startsWith("client."));
      const why = isSaid ? `${error.message} What you write is kept.` : "Connection lost; what you write is kept.";
      timer = setTimeout(() => count(until, why), Math.min(NOTICE_AFTER, retryIn));
    }
  }

  function count(until, why) {
    const seconds = Math.max(1, Math.ceil((until - performance.now()) / 1_000));
    tell(why, ` Trying again in ${seconds} s.`, "Now");
    timer = setTimeout(() => count(until, why), 1_000);
  }

  function tell(message, countdown, action) {
    text.textContent = message + countdown;
    button.textContent = action;
    notice.hidden = false;
    if (said !== message) announce(message);
    said = message;
  }

  function hide() {
    if (said) announce("Connected again.");
    said = null;
    if (notice.contains(document.activeElement)) byId("transcript").focus({ preventScroll: true });
    notice.hidden = true;
  }

  client.on("state", show);
  show({ state: client.state });
}
