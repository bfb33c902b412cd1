/** What a screen reader says by itself: whole sentences, never each piece of an answer as it arrives. */

import { languageOf } from "./words.js";

const KEPT = 5_000; // milliseconds: long enough to be noticed, too short to be met again in reading

/** Have something said when the person is not listening to anything else. */
export function announce(text) {
  const said = document.createElement("p");
  said.lang = languageOf(text);
  said.textContent = text;
  document.getElementById("spoken").append(said);
  setTimeout(() => said.remove(), KEPT);
}

/** Say of each answer in a box that it has begun, and the answer when it has ended. */
export function announceAnswers(box) {
  const live = new WeakSet();
  const writing = new WeakSet();
  const hear = (reply) => {
    const { state } = reply.dataset;
    if (state !== "ended") live.add(reply);
    if (state === "streaming" && !writing.has(reply)) {
      writing.add(reply);
      announce("Makoto is writing.");
    }
    if (state !== "ended" || !live.delete(reply)) return;
    writing.delete(reply);
    if (!reply.hidden) announce(wordsOf(reply));
  };
  new MutationObserver((records) => {
    for (const { target } of records) hear(target);
  }).observe(box, { subtree: true, attributeFilter: ["data-state"] });
}

function wordsOf(reply) {
  const text = [...reply.querySelector(".text").children].map((block) => {
    return block.matches("figure") ? block.querySelector("code").textContent : block.innerText;
  });
  const memories = [...reply.querySelectorAll(".chip.memory")].map((chip) => `Remembered: ${chip.textContent}`);
  const labels = [...reply.querySelectorAll(".label")].map((label) => label.textContent);
  return [...text, ...memories, ...labels].join("\n");
}
