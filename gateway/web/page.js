/** The demo page: makes the client and ties the parts of the page together. */

import { MakotoClient } from "./makoto.js";
import { Composer } from "./page/composer.js";
import { showConnection } from "./page/connection.js";
import { Conversation } from "./page/conversation.js";
import { byId } from "./page/elements.js";
import { gatewayOfPage, isElsewhere } from "./page/gateway.js";
import { Memories } from "./page/memories.js";
import { enablePanels } from "./page/panels.js";
import { Sessions } from "./page/sessions.js";
import { makeTokenSource } from "./page/sign_in.js";
import { enableTheme } from "./page/theme.js";

const client = new MakotoClient({
  ...gatewayOfPage(),
  token: makeTokenSource({ demo: !isElsewhere() }),
  storage: sessionStorage,
  client: "makoto demo page",
});

enableTheme();
const panels = enablePanels();
const memories = new Memories(client, { onForgotten: (memoryId) => conversation.forget(memoryId) });
const composer = new Composer({
  onSend: (content) => conversation.send(content),
  onStop: () => conversation.stop(),
});
const conversation = new Conversation(client, {
  session: (sessionId) => sessions.select(sessionId),
  changed: () => void sessions.refresh(),
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

client.connect().catch(() => {}); // the page shows why
sessions.open(sessionInUrl());
