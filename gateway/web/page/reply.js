/** One answer on the page: live from a run, or as it was stored. */

import { Run } from "../makoto.js";
import { MarkdownView } from "../markdown.js";
import { button, copyText, icon, iconButton, make } from "./elements.js";
import { languageOf } from "./words.js";

/** How an answer that did not end by itself is marked; `timeout` and `error` by what went wrong. */
const LABELS = {
  length: "Cut off at the length limit",
  filtered: "Stopped by the content filter",
  cancelled: "Stopped",
  interrupted: "Interrupted",
};

/** What went wrong, where nothing says it any more: in the history. */
const FAULTS = { timeout: "The model took too long.", error: "" };

const FACES = new Map(Object.entries({
  angry: "😠", calm: "😌", concerned: "😟", excited: "🤩", happy: "😊", joy: "😄",
  neutral: "🙂", sad: "😢", surprised: "😮", thoughtful: "🤔",
}));

export class Reply {
  element;
  run = null;
  /** What it shows: a run, or a message of the history. */
  shown = null;
  #text = make("div", { className: "text", dir: "auto" });
  #tools = make("div", { className: "tools" });
  #chips = make("div", { className: "chips" });
  #foot = make("div", { className: "reply-foot" });
  #markdown = new MarkdownView(this.#text);
  #length = 0; // characters of the run's text that are shown
  #frame = null;
  #unlisten = () => {};
  #actions;

  /** `actions`: `again()`, `memories()`, and `changed()` when the run has. */
  constructor(actions) {
    this.#actions = actions;
    const seal = make("span", { className: "seal", lang: "ja", ariaHidden: "true" }, "誠");
    const meta = make("div", { className: "meta" }, this.#chips, this.#foot);
    const body = make("div", { className: "reply-body" }, this.#text, this.#tools, meta);
    this.element = make("article", { className: "reply", ariaLabel: "Makoto" }, seal, body);
    this.#text.addEventListener("click", ({ target }) => {
      const code = target.closest(".copy-code")?.closest("figure").querySelector("code");
      if (code) void copyText(code.textContent, target.closest(".copy-code"));
    });
  }

  get isLive() {
    return this.run !== null && !this.run.end && !this.run.error;
  }

  show(answer) {
    if (answer instanceof Run) this.attach(answer);
    else this.store(answer);
  }

  /** Show a message of the history. */
  store(message) {
    this.#leave();
    this.run = null;
    this.shown = message;
    this.#tools.replaceChildren();
    this.#markdown.replace(message.content);
    this.#paint(message, message.end ?? "stop", message.content);
  }

  /** Show what was remembered from the message that is shown. */
  recall(memories) {
    if (this.run) return; // it has its own
    this.shown.memories = memories;
    this.#paint(this.shown, this.shown.end ?? "stop", this.shown.content);
  }

  /** Show a run, and follow it to its end. */
  attach(run) {
    this.#leave();
    this.run = this.shown = run;
    this.#markdown.replace("");
    this.#tools.replaceChildren();
    this.#length = 0;
    this.#unlisten = run.on("update", (events) => {
      for (const event of events) this.#take(event);
      this.#frame ??= requestAnimationFrame(() => this.paint());
      this.#actions.changed();
    });
    this.paint();
  }

  /** Show what is not painted from the run itself. */
  #take(event) {
    switch (event.type) {
      case "tool_call.delta": return this.#showCall(event);
      case "restarted": this.#tools.replaceChildren(); // and:
      case "replaced": this.#length = Infinity; // what is shown of the text is void
    }
  }

  /** Stop listening; the run itself goes on. */
  #leave() {
    this.#unlisten();
    cancelAnimationFrame(this.#frame);
    this.#frame = null;
  }

  remove() {
    this.#leave();
    this.element.remove();
  }

  paint() {
    this.#frame = null;
    const { run } = this;
    if (this.#length > run.text.length) this.#markdown.replace(run.text); // it was stored otherwise
    else if (this.#length < run.text.length) this.#markdown.append(run.text.slice(this.#length));
    this.#length = run.text.length;
    if (!this.isLive) this.#markdown.finish();
    this.#paint(run, run.end?.reason ?? (run.error ? "error" : null), run.text);
  }

  #paint({ emotion, category, memories = [] }, end, text) {
    this.#text.lang = languageOf(text.slice(0, 2_000));
    this.element.ariaBusy = String(end === null);
    this.element.dataset.state = end === null ? this.#liveState : "ended";
    this.#showChips([...this.#makeChips(emotion, category, memories)]);
    this.#foot.replaceChildren(...(end === null ? this.#liveFoot() : this.#endFoot(end, text)));
  }

  /** Add those that are new: one that is made again would appear again. */
  #showChips(chips) {
    const shown = [...this.#chips.children];
    const isMore = shown.every((chip, at) => chips[at] && chip.isEqualNode(chips[at]));
    if (isMore) this.#chips.append(...chips.slice(shown.length));
    else this.#chips.replaceChildren(...chips);
  }

  *#makeChips(emotion, category, memories) {
    const chip = (title, ...children) => make("span", { className: "chip", title }, ...children);
    const face = FACES.has(emotion) ? [make("span", { ariaHidden: "true" }, FACES.get(emotion))] : [];
    if (emotion) yield chip("Emotion", ...face, emotion);
    if (category) yield chip("Category", make("i", {}, "#"), category);
    for (const { memory_id: memory, value } of memories) {
      const text = make("span", { dir: "auto", lang: languageOf(value) }, value);
      const open = button("chip memory", () => this.#actions.memories(), icon("memory"), text);
      open.dataset.memory = memory;
      open.title = "Remembered";
      yield open;
    }
  }

  /** The run's state, or `queued` until its turn has come. */
  get #liveState() {
    const { state, replyId } = this.run;
    return state === "waiting" && !replyId ? "queued" : state;
  }

  *#liveFoot() {
    if (this.run.cancelling) yield make("span", { className: "label" }, "Stopping…");
    else if (this.#liveState === "queued") yield make("span", { className: "label queued" }, "Waiting…");
  }

  *#endFoot(end, text) {
    const { error } = this.run ?? {};
    const fault = this.run?.end?.error ?? error;
    const isWhole = end === "stop";
    if (!isWhole) {
      yield make("span", { className: `label ${end}` }, labelOf(end, text, fault?.message));
      yield button("quiet-button", () => this.#actions.again(), icon("again"), "Try again");
    }
    if (this.run?.end?.saved === false && end !== "cancelled") {
      yield make("span", { className: "label" }, "Could not be saved");
    }
    if (text && navigator.clipboard) {
      const copy = iconButton("copy", "Copy the answer", () => void copyText(text, copy));
      yield copy;
    }
    if (isWhole) yield iconButton("again", "Answer again", () => this.#actions.again());
  }

  /** A call of another function than the reply's own: passed on by the gateway, never carried out. */
  #showCall({ call, name, arguments: more = "" }) {
    const found = this.#tools.querySelector(`[data-call="${call}"]`);
    const box = found ?? make("details", { dataset: { call } },
      make("summary", {}, "Asked for ", make("code")), make("pre", {}, make("code")));
    if (!found) this.#tools.append(box);
    const [title, body] = box.querySelectorAll("code");
    if (name) title.textContent = name;
    body.append(more);
  }
}

function labelOf(end, text, message) {
  if (!(end in FAULTS)) return LABELS[end] ?? end;
  const what = text ? "The answer broke off" : "No answer";
  return [what, message ?? FAULTS[end]].filter(Boolean).join(": ");
}
