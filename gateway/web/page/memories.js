/** The panel of what is remembered. */

import { confirmed } from "./confirm.js";
import { button, byId, iconButton, make } from "./elements.js";
import { Reading } from "./reading.js";
import { languageOf, whenWas } from "./words.js";

const PAGE = 50;
const MOST = 1_000; // memories that are read for the answers of an old conversation

/** The memories by the answer that noted them, read from the newest back as far as is asked for. */
export class NotedMemories {
  #client;
  #noted = new Map();
  #next;
  #oldest = Infinity;
  #left = MOST;
  #reading = Promise.resolve();

  constructor(client) {
    this.#client = client;
  }

  /** Get those since that time at least, as a map from the answer's id to its memories, oldest first. */
  since(time) {
    this.#reading = this.#reading.then(() => this.#read(time));
    return this.#reading;
  }

  async #read(time) {
    try {
      while (this.#oldest >= time && this.#left > 0) {
        const { items, next } = await this.#client.memories({ before: this.#next, limit: 100 });
        for (const item of items) this.#noted.set(item.message_id, [item, ...(this.#noted.get(item.message_id) ?? [])]);
        this.#next = next;
        this.#oldest = items.at(-1)?.created_at ?? -Infinity;
        this.#left = next ? this.#left - items.length : 0;
      }
    } catch { /* the conversation is there without them */ }
    return this.#noted;
  }
}

export class Memories {
  #client;
  #onForgotten;
  #box = byId("memories");
  #items = [];
  #next;
  #wanted = PAGE; // as many are shown
  #reading = new Reading(() => this.#read(), (found) => this.#take(found));
  #shown = ""; // the list as it is shown: what has not changed keeps its elements, focus and clicks

  constructor(client, { onForgotten }) {
    this.#client = client;
    this.#onForgotten = onForgotten;
  }

  /** Read the list anew, as far as it is shown. */
  refresh() {
    return this.#reading.now();
  }

  async #read() {
    const items = [];
    let next;
    do {
      const page = await this.#client.memories({ before: next, limit: PAGE });
      items.push(...page.items);
      next = page.next;
    } while (next && items.length < this.#wanted);
    return { items, next };
  }

  #take({ items, next }) {
    this.#items = items;
    this.#next = next;
    this.#show();
  }

  async #more() {
    const from = this.#items.length;
    this.#wanted = from + PAGE;
    await this.refresh();
    if (this.#items[from]) this.#focus(this.#items[from]);
  }

  #show() {
    const list = JSON.stringify([this.#items, this.#next]);
    if (list === this.#shown) return;
    this.#shown = list;
    const { activeElement } = document;
    const focused = this.#box.contains(activeElement) && activeElement.dataset.key;
    this.#lay();
    if (focused) this.#focus({ memory_id: focused });
  }

  #lay() {
    if (!this.#items.length) {
      const hint = "Nothing yet. Try “Remember that …”.";
      this.#box.replaceChildren(make("p", { className: "empty" }, hint));
      return;
    }
    const rows = this.#items.map((item) => this.#row(item));
    this.#box.replaceChildren(make("ul", { className: "memories" }, ...rows));
    if (this.#next) this.#box.append(button("quiet-button", () => this.#more(), "Show more"));
  }

  #row(item) {
    const value = make("p", { lang: languageOf(item.value), dir: "auto" }, item.value);
    const forget = iconButton("trash", `Forget: ${item.value}`, () => this.#forget(item));
    forget.dataset.key = item.memory_id;
    return make("li", {}, make("div", {}, value, make("small", {}, whenWas(item.created_at))), forget);
  }

  async #forget(item) {
    const text = `“${item.value}” will not be used in answers any more.`;
    if (!(await confirmed({ title: "Forget this?", text, action: "Forget" }))) return;
    try {
      await this.#client.forgetMemory(item.memory_id);
    } catch (error) {
      if (error.code !== "not_found") return;
    }
    const index = this.#items.findIndex((other) => other.memory_id === item.memory_id);
    this.#items = this.#items.filter((other) => other.memory_id !== item.memory_id);
    this.#onForgotten(item.memory_id);
    this.#show();
    this.#focus(this.#items[Math.min(Math.max(index, 0), this.#items.length - 1)]);
  }

  #focus(item) {
    const row = item && this.#box.querySelector(`[data-key="${CSS.escape(item.memory_id)}"]`);
    (row ?? document.querySelector("[data-close=memories-panel]")).focus();
  }
}
