/** The panel of what is remembered. */

import { confirmed } from "./confirm.js";
import { button, byId, iconButton, make } from "./elements.js";
import { languageOf, whenWas } from "./words.js";

export class Memories {
  #client;
  #box = byId("memories");
  #items = [];
  #next;

  constructor(client) {
    this.#client = client;
  }

  refresh() {
    return this.#load();
  }

  async #load(before) {
    try {
      const { items, next } = await this.#client.memories({ before });
      this.#items = before ? [...this.#items, ...items] : items;
      this.#next = next;
    } catch {
      return; // the connection's own notice says why; `ready` loads again
    }
    this.#show();
  }

  #show() {
    if (!this.#items.length) {
      const hint = "Nothing yet. Try “Remember that …”.";
      this.#box.replaceChildren(make("p", { className: "empty" }, hint));
      return;
    }
    const rows = this.#items.map((item) => this.#row(item));
    this.#box.replaceChildren(make("ul", { className: "memories" }, ...rows));
    if (this.#next) this.#box.append(button("quiet-button", () => this.#load(this.#next), "Show more"));
  }

  #row(item) {
    const value = make("p", { lang: languageOf(item.value), dir: "auto" }, item.value);
    const forget = iconButton("trash", `Forget: ${item.value}`, () => this.#forget(item));
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
    const index = this.#items.indexOf(item);
    this.#items = this.#items.filter((other) => other !== item);
    this.#show();
    const rows = this.#box.querySelectorAll("li button");
    const next = rows[Math.min(index, rows.length - 1)];
    (next ?? document.querySelector("[data-close=memories-panel]")).focus();
  }
}
