/** The list of conversations: which one is open, renaming, deleting. */

import { confirmed } from "./confirm.js";
import { button, byId, iconButton, make } from "./elements.js";
import { Reading } from "./reading.js";
import { daysAgo, languageOf } from "./words.js";

const PAGE = 30;
const MOST = 100; // of one page, by the protocol
const LOOK_AGAIN = 10_000; // milliseconds: nobody tells when an answer ends in a conversation that is not open

export class Sessions {
  #client;
  #onOpen;
  #box = byId("sessions");
  #items = [];
  #wanted = PAGE; // so many are shown if there are
  #next;
  #reading = new Reading(() => this.#read(), (found) => this.#take(found));
  #current = null;
  #renaming = null;
  #shown = ""; // the list as it is shown: what has not changed keeps its elements, focus and clicks

  constructor(client, { onOpen }) {
    this.#client = client;
    this.#onOpen = onOpen;
  }

  /** Show this conversation; `null` begins a new one. */
  open(sessionId) {
    this.select(sessionId);
    this.#onOpen(sessionId);
  }

  /** Mark a conversation as the open one: in the list, the title and the address. */
  select(sessionId) {
    this.#current = sessionId;
    const hash = sessionId ? `#session=${encodeURIComponent(sessionId)}` : "";
    if (location.hash !== hash) history.pushState(null, "", hash || location.pathname);
    this.#show();
  }

  /** Read the list anew, as far as it is shown. */
  refresh() {
    return this.#reading.now();
  }

  /** Something in it has changed, and more may at once. */
  refreshSoon() {
    this.#reading.within();
  }

  async #read() {
    const items = [];
    let next;
    do {
      const limit = Math.min(this.#wanted - items.length, MOST);
      const page = await this.#client.sessions({ before: next, limit });
      items.push(...page.items);
      next = page.next;
    } while (next && items.length < this.#wanted);
    return { items, next };
  }

  #take({ items, next }) {
    this.#items = items;
    this.#next = next;
    if (items.some(isLive)) this.#reading.within(LOOK_AGAIN);
    this.#show();
  }

  async #more() {
    const from = this.#items.length;
    this.#wanted = from + PAGE;
    await this.refresh();
    if (this.#items[from]) this.#focus(this.#items[from].session_id);
  }

  #show() {
    this.#showTitle();
    const list = JSON.stringify([this.#items, this.#next, this.#current]);
    if (this.#renaming || list === this.#shown) return;
    this.#shown = list;
    const { activeElement } = document;
    const focused = this.#box.contains(activeElement) ? activeElement.dataset.key : null;
    this.#box.replaceChildren(...this.#groups());
    if (!this.#items.length) this.#box.append(make("p", { className: "empty" }, "No conversations yet."));
    if (this.#next) this.#box.append(button("quiet-button", () => this.#more(), "Show more"));
    if (focused) this.#focus(focused);
  }

  #showTitle() {
    const title = this.#items.find((item) => item.session_id === this.#current)?.title;
    byId("title").textContent = title ?? "New conversation";
    byId("title").title = title ?? ""; // where it is cut off
    byId("title").lang = languageOf(title ?? "");
    document.title = title ? `${title} · Makoto` : "Makoto";
  }

  *#groups() {
    let list;
    let last;
    for (const item of this.#items) {
      const group = groupOf(item);
      if (group !== last) {
        last = group;
        list = make("ul", { className: "sessions" });
        yield make("h2", {}, group);
        yield list;
      }
      list.append(this.#row(item));
    }
  }

  #row(item) {
    const isCurrent = item.session_id === this.#current;
    const title = make("span", { className: "session-title", dir: "auto", title: item.title }, item.title);
    title.lang = languageOf(item.title);
    const open = button("session", () => this.open(item.session_id), title);
    open.dataset.key = item.session_id;
    if (isCurrent) open.ariaCurrent = "page";
    if (isLive(item)) open.append(make("span", { className: "pulse", title: "An answer is being written" }));
    const row = make("li", { className: isCurrent ? "current" : "" }, open);
    const rename = iconButton("edit", `Rename: ${item.title}`, () => this.#rename(item, row));
    const remove = iconButton("trash", `Delete: ${item.title}`, () => this.#delete(item));
    rename.dataset.key = `rename ${item.session_id}`;
    remove.dataset.key = `delete ${item.session_id}`;
    row.append(make("span", { className: "row-actions" }, rename, remove));
    return row;
  }

  #rename(item, row) {
    const input = make("input", { value: item.title, maxLength: 200, ariaLabel: "Title", dir: "auto" });
    const form = (this.#renaming = make("form", { className: "rename" }, input));
    const end = (isKept) => {
      if (this.#renaming !== form) return;
      this.#renaming = null;
      this.#shown = "";
      const title = input.value.trim();
      if (isKept && title && title !== item.title) {
        for (const each of [item, ...this.#items]) if (each.session_id === item.session_id) each.title = title;
        this.#client.renameSession(item.session_id, title).catch(() => {}).then(() => this.refresh());
      }
      this.#show();
      this.#focus(item.session_id);
    };
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      end(true);
    });
    input.addEventListener("blur", () => end(true));
    input.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.isComposing) return;
      event.preventDefault();
      end(false);
    });
    row.replaceChildren(form);
    input.select();
  }

  async #delete(item) {
    const text = `“${item.title}” and its messages will be gone for good.`;
    if (!(await confirmed({ title: "Delete this conversation?", text, action: "Delete" }))) return;
    try {
      await this.#client.forgetSession(item.session_id);
    } catch (error) {
      if (error.code !== "not_found") return;
    }
    const index = this.#items.findIndex((other) => other.session_id === item.session_id);
    this.#items = this.#items.filter((other) => other.session_id !== item.session_id);
    if (item.session_id === this.#current) {
      this.open(null);
    } else {
      this.#show();
      const next = this.#items[index] ?? this.#items.at(-1);
      if (next) this.#focus(next.session_id);
    }
    void this.refresh(); // what was asked for before knows it still
  }

  #focus(key) {
    this.#box.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
  }
}

const isLive = (item) => item.active_run !== undefined;

function groupOf({ updated_at: updated }) {
  const days = daysAgo(updated);
  if (days === 0) return "Today";
  if (days === 1) return "Yesterday";
  return days < 8 ? "This week" : "Earlier";
}
