/** One turn on the page: what the person said, and the answer. */

import { button, make } from "./elements.js";
import { Reply } from "./reply.js";
import { languageOf } from "./words.js";

const LONG = 1_500; // characters; a longer message is folded

export class Turn {
  element = make("section", { className: "turn" });
  reply = null;
  /** The id of the user's message, once the server has given it one. */
  messageId = null;
  #said = null;
  #status = make("p", { className: "said-status" });
  #actions;
  #stored = null;

  /** `actions`: `again(turn)`, `resend(turn)`, `memories()`, `changed(run)`. */
  constructor(actions) {
    this.#actions = actions;
  }

  get run() {
    return this.reply?.run ?? null;
  }

  get isLive() {
    return this.reply?.isLive ?? false;
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

  /** Show a stored answer, unless a newer one is there. */
  store(message) {
    if (this.reply) return;
    this.#stored = message;
    this.#makeReply().store(message);
  }

  /** Show a run that answers this turn. */
  attach(run) {
    if (this.run === run) return;
    (this.reply ?? this.#makeReply()).attach(run);
    this.update();
  }

  /** The run has changed. */
  update() {
    const { run } = this;
    if (!run) return;
    this.messageId ??= run.messageId;
    const isSending = run.state === "sending" && run.kind === "send";
    const isRefused = run.state === "failed" && !run.runId;
    this.#status.textContent = isSending ? "Sending…" : "";
    this.element.classList.toggle("sending", isSending);
    this.reply.element.hidden = isSending || (isRefused && run.kind === "send");
    if (!isRefused) return;
    if (run.kind === "send") {
      const again = button("quiet-button", () => this.#actions.resend(this), "Send again");
      this.#status.replaceChildren(make("span", { className: "label error" }, `Not sent: ${run.error.message}`), again);
    } else if (this.#stored) {
      this.reply.store(this.#stored); // the older answer is still the answer
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
      changed: (run) => {
        this.update();
        this.#actions.changed(run);
      },
    });
    this.element.append(this.reply.element);
    return this.reply;
  }
}
