/** The open conversation: its turns from the history and from live runs, in order. */

import { button, byId, make } from "./elements.js";
import { EndFollower } from "./scrolling.js";
import { Turn } from "./turn.js";

const PAGE = 20;

/** Each does what it says, with the scripted model too. */
const SUGGESTIONS = [
  ["Tell me something long", "and stop me half-way"],
  ["日本語で話して", "in Japanese"],
  ["Remember that I like green tea", "then look at Memories"],
  ["Show me Markdown", "lists, a table, code"],
];

export class Conversation {
  #client;
  #heard;
  #sessionId = null;
  #turns = [];
  #box = byId("turns");
  #older = byId("older");
  #end = new EndFollower(byId("transcript"), byId("transcript").firstElementChild, byId("latest"));
  #opening = null; // what is being opened; answers for anything else come too late

  /** `heard`: `session(id)`, `changed()`, `memories()`, `memoryChip()`, `live(isLive)`. */
  constructor(client, heard) {
    this.#client = client;
    this.#heard = heard;
    const cards = SUGGESTIONS.map(([text, why]) =>
      button("suggestion", () => this.send(text), make("span", {}, text), make("small", {}, why)));
    byId("suggestions").append(...cards);
  }

  /** Show a stored conversation, or a new one. */
  async open(sessionId) {
    if (sessionId === this.#sessionId && this.#opening) return;
    const opening = (this.#opening = {});
    this.#sessionId = sessionId;
    this.#clear();
    if (sessionId) await this.#load(opening);
    if (opening !== this.#opening) return;
    for (const run of this.#client.runs) {
      const isHere = run.state === "sending" && run.kind === "send" && run.sessionId === sessionId;
      if (isHere) this.#attach(this.#begin(run.content), run);
    }
    this.#end.follow();
  }

  /** Returns false, and sends nothing, while it is not known yet which conversation this becomes. */
  send(content) {
    const isSending = this.#turns.some((turn) => turn.run?.state === "sending");
    if (this.#sessionId === null && isSending) return false;
    const run = this.#client.send({ content, sessionId: this.#sessionId ?? undefined, ifBusy: "queue" });
    this.#attach(this.#begin(content), run);
    this.#end.follow();
    return true;
  }

  /** Stop the answer that is being written. */
  stop() {
    const live = this.#turns.find((turn) => turn.isLive);
    if (!live) return;
    this.#client.cancel(live.run);
    if (live.isLive) live.reply.paint();
  }

  // What is shown

  #clear() {
    for (const turn of this.#turns) turn.remove();
    this.#turns = [];
    this.#box.replaceChildren();
    this.#older.hidden = true;
    this.#settle();
  }

  #begin(content) {
    const turn = this.#makeTurn();
    turn.say(content);
    this.#turns.push(turn);
    this.#box.append(turn.element);
    return turn;
  }

  #makeTurn() {
    return new Turn({
      again: (turn) => (turn.messageId ? this.#again(turn) : this.#resend(turn)),
      resend: (turn) => this.#resend(turn),
      memories: this.#heard.memoryChip,
    });
  }

  #again(turn) {
    this.#attach(turn, this.#client.regenerate(turn.messageId, { sessionId: this.#sessionId }));
  }

  #resend(turn) {
    this.#drop(turn);
    this.send(turn.content);
  }

  #drop(turn) {
    turn.remove();
    this.#turns = this.#turns.filter((other) => other !== turn);
  }

  #attach(turn, run) {
    turn.attach(run);
    this.#settle();
    run.accepted.then(() => this.#join(turn, run), () => {});
    run.done.catch(() => {}).then(() => {
      this.#settle();
      this.#heard.changed();
      if (run.memories.length) this.#heard.memories();
    });
  }

  /** A run was accepted: it has a session now, and perhaps the history has shown its message already. */
  #join(turn, run) {
    this.#heard.changed();
    if (!this.#turns.includes(turn)) return;
    if (this.#sessionId === null) {
      this.#sessionId = run.sessionId;
      this.#heard.session(run.sessionId);
    }
    const stored = this.#turns.find((each) => each !== turn && each.messageId === run.messageId);
    if (!stored || !run.messageId) return;
    this.#drop(turn);
    stored.attach(run);
  }

  #settle() {
    byId("welcome").hidden = this.#turns.length > 0 || this.#sessionId !== null;
    this.#heard.live(this.#turns.some((turn) => turn.isLive));
  }

  // History

  async #load(opening, before) {
    const sessionId = this.#sessionId;
    this.#older.hidden = true;
    const waiting = make("p", { className: "empty loading" }, "Loading…");
    if (!before) this.#box.append(waiting);
    try {
      const [{ items, next }, session] = await Promise.all([
        this.#messages(sessionId, before),
        before ? null : this.#client.session(sessionId),
      ]);
      if (opening !== this.#opening) return;
      waiting.remove();
      this.#end.keeping(() => this.#prepend(items));
      this.#older.hidden = !next;
      this.#older.onclick = () => this.#load(opening, next);
      if (session) await this.#followLive(session.active_run);
    } catch (error) {
      waiting.remove();
      if (opening === this.#opening) this.#showFault(error, () => this.#load(opening, before));
    }
  }

  /** Get a page's worth of messages, newest first; a page of the wire is shorter where they are long. */
  async #messages(sessionId, before) {
    const messages = [];
    let next = before;
    do {
      const page = await this.#client.history(sessionId, { before: next, limit: PAGE });
      messages.push(...page.items);
      next = page.next;
    } while (next && (messages.length < PAGE / 2 || messages.at(-1).role === "assistant"));
    return { items: messages, next };
  }

  /** Put older messages, newest first, before the turns. */
  #prepend(items) {
    for (const item of items) {
      const messageId = item.role === "user" ? item.message_id : item.reply_to;
      let turn = this.#turns.find((each) => each.messageId === messageId);
      if (!turn) {
        turn = this.#makeTurn();
        turn.messageId = messageId;
        this.#turns.unshift(turn);
        this.#box.prepend(turn.element);
      }
      if (item.role === "assistant") {
        turn.store(item);
      } else {
        turn.say(item.content);
        turn.runId = item.run_id;
      }
    }
  }

  /** Follow what has no stored answer yet, and the answer that is being written again. */
  async #followLive(activeRun) {
    await Promise.allSettled(this.#client.runs.filter((run) => run.id).map((run) => run.accepted));
    const follow = (runId) => this.#client.follow(runId, { sessionId: this.#sessionId });
    for (const turn of this.#turns) if (!turn.reply && turn.runId) this.#attach(turn, follow(turn.runId));
    if (!activeRun || this.#turns.some((turn) => turn.run?.runId === activeRun)) return;
    const run = follow(activeRun);
    await firstUpdate(run);
    const turn = this.#turns.find((each) => each.messageId === run.messageId);
    if (turn) this.#attach(turn, run);
  }

  #showFault(error, retry) {
    const isGone = error.code === "not_found";
    if (isGone) {
      this.#sessionId = null; // what is written now begins a new one
      this.#heard.session(null);
      this.#settle();
    }
    const text = isGone
      ? "This conversation does not exist any more."
      : `It could not be loaded: ${error.message}`;
    const again = isGone ? [] : [button("quiet-button", () => {
      fault.remove();
      void retry();
    }, "Try again")];
    const fault = make("p", { className: "empty" }, text, ...again);
    this.#box.prepend(fault);
  }
}

function firstUpdate(run) {
  if (run.messageId || run.error) return Promise.resolve();
  return new Promise((resolve) => run.addEventListener("update", resolve, { once: true }));
}
