/** The message field with its two buttons. */

import { announce } from "./announcer.js";
import { byId } from "./elements.js";

export class Composer {
  #field = byId("message");
  #send = byId("send");
  #stop = byId("stop");
  #heldBack = byId("held-back");
  #onSend;
  #isLive = false;

  /** `onSend` returns false for a message that cannot be sent just now: it then stays in the field. */
  constructor({ onSend, onStop }) {
    this.#onSend = onSend;
    this.#field.addEventListener("input", () => {
      this.#heldBack.hidden = true;
      this.#fit();
    });
    this.#field.addEventListener("keydown", (event) => this.#key(event));
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#stop.addEventListener("click", () => {
      onStop();
      this.focus();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.defaultPrevented || isComposing(event)) return;
      if (this.#isLive && !document.querySelector("dialog[open]")) onStop();
    });
    addEventListener("resize", () => this.#fit());
    this.#fit();
  }

  /** An answer is under way, or not any more. */
  setLive(isLive) {
    this.#isLive = isLive;
    if (!isLive && document.activeElement === this.#stop) this.catchFocus();
    this.#stop.hidden = !isLive;
  }

  /** Not where it would bring up a keyboard that covers the conversation. */
  focus() {
    if (matchMedia("(hover: hover)").matches) this.#field.focus();
  }

  /** Have the focus somewhere when what had it is gone: here, or on the conversation. */
  catchFocus() {
    this.focus();
    if (document.activeElement !== this.#field) byId("transcript").focus({ preventScroll: true });
  }

  /** Have a text that was not sent in the field again, before what is being written there. */
  putBack(text) {
    this.#field.value = [text, this.#field.value].filter(Boolean).join("\n\n");
    this.#fit();
    this.#field.focus();
  }

  #key(event) {
    if (isComposing(event)) return;
    if (event.key !== "Enter" || event.shiftKey || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    this.#submit();
  }

  #submit() {
    const content = this.#field.value.trim();
    if (!content) return;
    this.#heldBack.hidden = this.#onSend(content) !== false;
    if (!this.#heldBack.hidden) return announce(this.#heldBack.textContent);
    this.#field.value = "";
    this.#fit();
    this.focus();
  }

  #fit() {
    this.#send.disabled = !this.#field.value.trim();
    this.#field.style.height = "auto";
    this.#field.style.height = `${this.#field.scrollHeight}px`;
  }
}

/** A key for the input method, as the Enter that ends a composition: Safari reports that afterwards, as 229. */
function isComposing(event) {
  return event.isComposing || event.keyCode === 229;
}
