/** The open conversation: its turns from the history and from live runs, in order. */

import { button, byId, make } from "./elements.js";
import { NotedMemories } from "./memories.js";
import { onNeighbours, tellNeighbours } from "./neighbours.js";
import { Reading } from "./reading.js";
import { EndFollower, whenInView } from "./scrolling.js";
import { Turn } from "./turn.js";
import { languageOf } from "./words.js";

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
  #loadOlder = () => {};
  #end = new EndFollower(byId("transcript"), byId("transcript").firstElementChild, byId("latest"));
  #opening = null; // what is being opened; answers for anything else come too late
  #loading = null; // settles when the history is shown, or cannot be
  #outbox = []; // what is being sent to it while it is opened
  #news = new Reading(() => this.#readNews(), (news) => void this.#showNews(news));
  #noted; // the memories of the history's answers
  #unfollow = () => {};

  /** `heard`: `session(id)`, `changed()`, `memories()`, `memoryChip()`, `live(isLive)`, `unsent(content)`. */
  constructor(client, heard) {
    this.#client = client;
    this.#heard = heard;
    this.#noted = new NotedMemories(client);
    const cards = SUGGESTIONS.map(([text, why]) => {
      const wish = make("span", { lang: languageOf(text) }, text);
      return button("suggestion", () => this.send(text), wish, make("small", {}, why));
    });
    byId("suggestions").append(...cards);
    client.on("run", (run) => void this.#showElsewhere(run));
    client.on("error", ({ code }) => void (code === "not_found" && this.#catchUp()));
    client.on("ready", () => void (this.#loading ?? this.#catchUp()));
    client.on("notice", ({ kind, session_id: sessionId }) => {
      if (kind === "session.changed") void this.#lookAgain(sessionId);
    });
    onNeighbours((sessionId) => void this.#lookAgain(sessionId));
    this.#older.addEventListener("click", () => this.#loadOlder());
    whenInView(this.#older, byId("transcript"), () => this.#loadOlder());
  }

  /** Show a stored conversation, or a new one. */
  async open(sessionId) {
    if (sessionId === this.#sessionId && this.#opening) return;
    const opening = (this.#opening = {});
    this.#sessionId = sessionId;
    this.#clear();
    this.#end.follow();
    this.#follow();
    this.#outbox = this.#client.runs.filter((run) => isUnsent(run) && run.sessionId === sessionId);
    this.#loading = sessionId && this.#load(opening);
    await this.#loading;
    if (opening !== this.#opening) return;
    this.#loading = null;
    for (const run of this.#outbox.filter(isUnsent)) this.#attach(this.#begin(run.content), run);
    this.#outbox = [];
    this.#end.follow();
  }

  /** Returns false, and sends nothing, while it is not known yet which conversation this becomes. */
  send(content) {
    if (this.#isBeginning) return false;
    if (this.#sessionId === null && !this.#turns.length) this.#box.replaceChildren();
    const run = this.#client.send({ content, sessionId: this.#sessionId ?? undefined, ifBusy: "queue" });
    this.#attach(this.#begin(content), run);
    this.#end.follow();
    return true;
  }

  /** Whether its first message is on its way: it is not known yet which conversation this becomes. */
  get #isBeginning() {
    return this.#sessionId === null && this.#turns.some((turn) => turn.run?.state === "sending");
  }

  /** Stop the answer that is being written. */
  stop() {
    const live = this.#turns.find((turn) => turn.isLive);
    if (!live) return;
    this.#client.cancel(live.run);
    if (!live.isLive) return;
    live.reply.paint();
    live.update();
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
      edit: (turn) => this.#edit(turn),
      memories: this.#heard.memoryChip,
    });
  }

  #again(turn) {
    const run = this.#retry(turn) ?? this.#client.regenerate(turn.messageId, { sessionId: this.#sessionId });
    this.#attach(turn, run);
  }

  #resend(turn) {
    if (this.#isBeginning) return;
    this.#drop(turn);
    const run = this.#retry(turn);
    if (!run) return void this.send(turn.content);
    if (run.sessionId === this.#sessionId) return this.#attach(this.#begin(turn.content), run);
    void this.open(null); // it may have begun another conversation, and would show itself there
    this.#heard.session(null);
  }

  /** What was refused and may be stored all the same is asked for by its own id; `null` if that is not so. */
  #retry({ refused }) {
    return refused?.uncertain ? this.#client.retry(refused) : null;
  }

  #edit(turn) {
    this.#drop(turn);
    this.#settle();
    this.#heard.unsent(turn.content);
  }

  #drop(turn) {
    turn.remove();
    this.#turns = this.#turns.filter((other) => other !== turn);
  }

  #attach(turn, run) {
    if (turn.run === run) return;
    turn.attach(run);
    this.#settle();
    run.accepted.then(() => this.#join(turn, run), () => {});
    run.done.catch(() => {}).then(() => {
      if (isOthers(run)) this.#drop(turn);
      this.#settle();
      this.#heard.changed();
      if (run.memories.length) this.#heard.memories();
      if (saysGone(run)) void this.#catchUp();
    });
  }

  /** A run was accepted: it has a session now, and perhaps the history has shown its message already. */
  #join(turn, run) {
    this.#heard.changed();
    tellNeighbours(run.sessionId);
    if (!this.#turns.includes(turn)) return;
    if (this.#sessionId === null) {
      this.#sessionId = run.sessionId;
      this.#follow();
      this.#heard.session(run.sessionId);
    }
    const stored = this.#turns.find((each) => each !== turn && each.messageId === run.messageId);
    if (!stored || !run.messageId) return;
    this.#drop(turn);
    stored.attach(run);
  }

  #turnOf(messageId) {
    return this.#turns.find((turn) => turn.messageId === messageId);
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
      const { items, next } = await this.#messages(sessionId, before);
      if (opening !== this.#opening) return;
      if (!before) this.#noted = new NotedMemories(this.#client);
      waiting.remove();
      this.#end.keeping(() => this.#merge(items));
      this.#loadOlder = () => this.#load(opening, next);
      this.#older.hidden = !next;
      await this.#followUnanswered();
    } catch (error) {
      waiting.remove();
      if (opening === this.#opening) this.#showFault(error, () => this.#load(opening, before));
    }
  }

  /** Get a page's worth of messages, newest first; a page of the wire is shorter where they are long. */
  async #messages(sessionId, before, isEnough = (messages) => messages.length >= PAGE / 2) {
    const messages = [];
    let next = before;
    do {
      const page = await this.#client.history(sessionId, { before: next, limit: PAGE });
      messages.push(...page.items);
      next = page.next;
    } while (next && (!isEnough(messages) || messages.at(-1).role === "assistant"));
    return { items: messages, next };
  }

  /** Put messages, newest first, where they belong: each turn behind the one before it. */
  #merge(items, isNews = () => false) {
    const stored = [];
    let before = null;
    for (const item of [...items].reverse()) {
      const messageId = item.role === "user" ? item.message_id : item.reply_to;
      const turn = this.#turnOf(messageId) ?? this.#makeTurn();
      turn.messageId = messageId;
      this.#place(turn, before);
      before = turn;
      if (item.role === "user") {
        turn.say(item.content);
        turn.runId = item.run_id;
      } else if (!turn.reply || isNews(turn, item)) {
        turn.store(item);
        stored.push(item);
      }
    }
    if (stored.length) void this.#recall(stored);
  }

  /** Show what was remembered from stored answers, oldest first, as live ones show it. */
  async #recall([oldest, ...others]) {
    const memories = await this.#noted.since(oldest.created_at);
    for (const { message_id: id } of [oldest, ...others]) {
      const turn = memories.has(id) && this.#turns.find((each) => each.replyId === id);
      if (turn) turn.reply.recall(memories.get(id));
    }
  }

  /** A memory is forgotten: what shows it is not there any more. */
  forget(memoryId) {
    this.#noted = new NotedMemories(this.#client);
    for (const chip of this.#box.querySelectorAll(`[data-memory="${CSS.escape(memoryId)}"]`)) chip.remove();
  }

  /** Have a turn stand somewhere behind another one, a new one directly behind it. */
  #place(turn, before) {
    const at = before ? this.#turns.indexOf(before) : -1;
    const found = this.#turns.indexOf(turn);
    if (found >= 0 && found >= at) return;
    if (found >= 0) this.#turns.splice(found, 1);
    this.#turns.splice(this.#turns.indexOf(before) + 1, 0, turn);
    if (before) before.element.after(turn.element);
    else this.#box.prepend(turn.element);
  }

  /** Follow what has no stored answer yet. */
  async #followUnanswered() {
    await Promise.allSettled(this.#client.runs.filter((run) => run.id).map((run) => run.accepted));
    for (const turn of this.#turns) {
      const isOpen = !turn.reply && turn.runId;
      if (isOpen) this.#attach(turn, this.#client.follow(turn.runId, { sessionId: this.#sessionId }));
    }
  }

  // What happens elsewhere: in another tab, on another device

  #follow() {
    this.#unfollow();
    this.#unfollow = this.#sessionId ? this.#client.subscribe(this.#sessionId) : () => {};
  }

  /**
   * A run was started elsewhere: its question is in the history, also while it waits for its turn. Only of
   * another answer to an older question its start has to say which.
   */
  async #showElsewhere(run) {
    if (run.sessionId !== this.#sessionId) return;
    const opening = this.#opening;
    await this.#loading;
    if (!this.#turnWith(run)) await this.#catchUp();
    if (!this.#turnWith(run)) await firstUpdate(run);
    if (!this.#turnWith(run)) await this.#catchUp();
    const turn = this.#turnWith(run);
    if (opening === this.#opening && turn) this.#attach(turn, run);
  }

  /** Something of a conversation has changed that no answer tells: its name, a question that waits, its being there. */
  async #lookAgain(sessionId) {
    this.#heard.changed();
    if (sessionId !== this.#sessionId) return;
    await this.#loading; // what that reads may be older
    if (sessionId === this.#sessionId) this.#news.within();
  }

  #turnWith({ runId, messageId }) {
    return this.#turns.find((turn) => turn.runId === runId) ?? (messageId && this.#turnOf(messageId));
  }

  /** Show what was said and answered since the last time. */
  #catchUp() {
    return this.#news.now();
  }

  async #readNews() {
    const opening = this.#opening;
    if (!this.#sessionId) return { opening, items: [] };
    const shown = new Map(this.#turns.map((turn) => [turn, turn.reply?.shown]));
    const isStored = this.#turns.some((turn) => turn.messageId);
    const isKnown = ({ message_id: id }) => this.#turnOf(id) !== undefined;
    try {
      const isEnough = (messages) => !isStored || messages.some(isKnown);
      const { items } = await this.#messages(this.#sessionId, undefined, isEnough);
      return { opening, items, shown };
    } catch (error) {
      if (error.code === "not_found" && opening === this.#opening) this.#leave();
      throw error;
    }
  }

  async #showNews({ opening, items, shown }) {
    if (opening !== this.#opening || !items.length) return;
    this.#noted = new NotedMemories(this.#client);
    // What has come while the history was being read is newer than what that says.
    const isOld = (turn) => !turn.isLive && turn.reply.shown === shown.get(turn);
    this.#merge(items, (turn, reply) => isOld(turn) && turn.replyId !== reply.message_id);
    await this.#followUnanswered();
    this.#settle();
  }

  /** The conversation was deleted: what is written now begins a new one, and what was not sent is kept. */
  #leave() {
    const shown = this.#turns.map((turn) => turn.run).filter((run) => run?.sessionId === this.#sessionId);
    const unsent = new Set([...this.#outbox, ...shown].filter(isUnsent));
    void this.open(null);
    this.#heard.session(null);
    this.#heard.changed();
    this.#box.prepend(make("p", { className: "empty" }, "This conversation does not exist any more."));
    for (const run of [...unsent].reverse()) {
      this.#client.cancel(run);
      this.#heard.unsent(run.content);
    }
  }

  #showFault(error, retry) {
    if (error.code === "not_found") return this.#leave();
    const again = button("quiet-button", () => {
      fault.remove();
      void retry();
    }, "Try again");
    const fault = make("p", { className: "empty" }, `It could not be loaded: ${error.message}`, again);
    this.#box.prepend(fault);
  }
}

/** A message that was not accepted, or not yet. */
function isUnsent(run) {
  return run.kind === "send" && !run.runId && !run.end && !isOthers(run);
}

/** Whether another user has written it, before he left this tab: it is his to read, and waits for him. */
const isOthers = ({ kind, content }) => kind === "send" && content === null;

/** Whether it ended as it does when its conversation is deleted: refused, or stopped by no one here. */
function saysGone({ error, end, cancelling }) {
  if (error) return error.code === "not_found";
  return end.reason === "cancelled" && !end.saved && !cancelling;
}

function firstUpdate(run) {
  if (run.messageId || run.error) return Promise.resolve();
  return new Promise((resolve) => run.addEventListener("update", resolve, { once: true }));
}
