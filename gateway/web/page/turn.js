/** One turn on the page: what the person said, and the answer. */

import { announce } from "./announcer.js";
import { button, make } from "./elements.js";
import { Reply } from "./reply.js";
import { languageOf } from "./words.js";

const LONG = 1_500; // characters; a longer message is folded

export class Turn {
  element = make("section", { className: "turn" });
  reply = null;
  /** The id of the user's message, once the server has given it one; of a stored one also its run's. */
  messageId = null;
  runId = null;
  /** The run that was asked for last, if that was refused. */
  refused = null;
  #said = null;
  #status = make("p", { className: "said-status" });
  #spoken = ""; // the latest trouble of the run
  #actions;
  #before = null; // the answer that a new one is to replace

  /** `actions`: `again(turn)`, `resend(turn)`, `edit(turn)`, `memories()`. */
  constructor(actions) {
    this.#actions = actions;
  }

  get run() {
    return this.reply?.run ?? null;
  }

  get isLive() {
    return this.reply?.isLive ?? false;
  }

  /** The id of the answer that is shown, once it has one. */
  get replyId() {
    const shown = this.reply?.shown;
    return shown?.replyId ?? shown?.message_id ?? null;
  }

  /** Show what the person said. */
  say(content) {
    if (this.#said !== null) return;
    this.#said = content;
    const text = make("div", { className: "said-text", dir: "auto", lang: languageOf(content) }, content);
    const said = make("article", { className: "said", ariaLabel: "You" }, text, this.#status);
    if (content.length > LONG) {
      text.classList.add("folded");
      const unfold = button("quiet-button", () => {
        text.classList.remove("folded");
        unfold.remove();
      }, "Show all of it");
      text.after(unfold);
    }
    this.element.prepend(said);
  }

  get content() {
    return this.#said;
  }

  /** Show a stored answer. */
  store(message) {
    (this.reply ?? this.#makeReply()).store(message);
  }

  /** Show a run that answers this turn. */
  attach(run) {
    if (this.run === run) return;
    this.refused = null;
    this.#spoken = "";
    this.#before = this.reply?.shown ?? null;
    (this.reply ?? this.#makeReply()).attach(run);
    this.update();
  }

  /** The run has changed. */
  update() {
    const { run } = this;
    if (!run) return;
    this.messageId ??= run.messageId;
    const isUnsent = run.kind === "send" && !run.runId;
    this.element.classList.toggle("sending", isUnsent && run.state === "sending");
    this.reply.element.hidden = isUnsent && !run.end;
    this.#status.replaceChildren();
    if (run.state === "sending") this.#showSending(run);
    if (!run.runId && run.error) this.#refused(run);
    else if (run.end && !run.text && saysSomething(this.#before)) this.#keep(run);
  }

  /** Sending is the rule and not said aloud; that it does not succeed is. */
  #showSending(run) {
    const text = sendingText(run);
    this.#status.textContent = text;
    if (run.refusal && !run.cancelling) this.#speak(text);
  }

  #showFault(text) {
    this.#status.append(make("span", { className: "label error" }, text));
    this.#speak(text);
  }

  /** Have it said aloud, once. */
  #speak(text) {
    if (text !== this.#spoken) announce(text);
    this.#spoken = text;
  }

  /** There is no word of another answer, so nothing of it is stored: the one before it is still the answer. */
  #keep({ end }) {
    this.reply.show(this.#before);
    if (end.reason === "cancelled") return;
    this.#showFault(["Not answered again", end.error?.message].filter(Boolean).join(": "));
  }

  #refused(run) {
    this.refused = run;
    const what = run.kind === "send" ? "Not sent" : "Not answered again";
    this.#showFault(`${what}: ${run.error.message}`);
    if (run.kind === "send") {
      const { resend, edit } = this.#actions;
      const [act, name] = run.error.retryable || run.uncertain ? [resend, "Send again"] : [edit, "Edit"];
      this.#status.append(button("quiet-button", () => act(this), name));
    } else if (this.#before) {
      this.reply.show(this.#before); // it is still the answer
    }
  }

  remove() {
    this.reply?.remove();
    this.element.remove();
  }

  #makeReply() {
    this.reply = new Reply({
      again: () => this.#actions.again(this),
      memories: this.#actions.memories,
      changed: () => this.update(),
    });
    this.element.append(this.reply.element);
    return this.reply;
  }
}

const saysSomething = (answer) => Boolean(answer?.text ?? answer?.content);

/** What is said of a run until it is accepted. */
function sendingText({ kind, refusal, cancelling }) {
  if (refusal && !cancelling) return `Sending again… ${refusal.message}`;
  if (kind !== "send") return ""; // its answer says it
  return cancelling ? "Stopping…" : "Sending…";
}
