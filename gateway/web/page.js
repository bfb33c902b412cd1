/** The demo page: makes the client and ties the parts of the page together. */

import { MakotoClient } from "./makoto.js";
import { announceAnswers } from "./page/announcer.js";
import { Composer } from "./page/composer.js";
import { showConnection } from "./page/connection.js";
import { Conversation } from "./page/conversation.js";
import { byId } from "./page/elements.js";
import { gatewayOfPage, isElsewhere } from "./page/gateway.js";
import { Memories } from "./page/memories.js";
import { enablePanels } from "./page/panels.js";
import { Sessions } from "./page/sessions.js";
import { makeTokenSource } from "./page/sign_in.js";
import { stored } from "./page/stored.js";
import { enableTheme } from "./page/theme.js";
import { fitVisibleHeight } from "./page/viewport.js";

const client = new MakotoClient({
  ...gatewayOfPage(),
  token: makeTokenSource({ demo: !isElsewhere() }),
  storage: stored("sessionStorage"),
  client: "makoto demo page",
});

enableTheme();
fitVisibleHeight();
announceAnswers(byId("turns"));
const panels = enablePanels();
const memories = new Memories(client, { onForgotten: (memoryId) => conversation.forget(memoryId) });
const composer = new Composer({
  onSend: (content) => conversation.send(content),
  onStop: () => conversation.stop(),
});
const conversation = new Conversation(client, {
  session: (sessionId) => sessions.select(sessionId),
  changed: () => sessions.refreshSoon(),
  memories: () => void memories.refresh(),
  memoryChip: () => panels.open("memories-panel"),
  live: (isLive) => composer.setLive(isLive),
  unsent: (content) => composer.putBack(content),
});
const sessions = new Sessions(client, {
  onOpen: (sessionId) => {
    panels.close("sessions-panel");
    void conversation.open(sessionId);
    composer.focus();
  },
});

const sessionInUrl = () => new URLSearchParams(location.hash.slice(1)).get("session");

showConnection(client);
client.on("ready", () => {
  void sessions.refresh();
  void memories.refresh();
});
addEventListener("popstate", () => sessions.open(sessionInUrl()));
addEventListener("online", () => client.wake());
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") client.wake();
});
byId("new-session").addEventListener("click", () => sessions.open(null));
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address says which conversation is open
  byId("message").focus();
});
byId("transcript").addEventListener("click", ({ target }) => {
  const isGone = !target.isConnected || target.closest("[hidden]");
  if (isGone && document.activeElement === document.body) composer.catchFocus();
});

client.connect().catch(() => {}); // the page shows why
sessions.open(sessionInUrl());
