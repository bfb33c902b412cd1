import assert from "node:assert/strict";
import { test } from "node:test";

import { RunAssembly } from "../../../gateway/web/makoto.js";
import { delta, done, frame, started } from "./fakes.mjs";

const EVENTS = [
  started("id-1"),
  delta("誠は"),
  delta(" 🍵"),
  { type: "emotion", value: "happy" },
  { type: "memory", memory_id: "y1", value: "likes tea" },
  { type: "category", value: "chat" },
  delta("!"),
  { type: "content.done" },
  { type: "usage", model: "m", prompt_tokens: 1, completion_tokens: 2 },
  done(),
];

function assembled(frames) {
  const assembly = new RunAssembly();
  for (const each of frames) assembly.apply(each);
  return assembly;
}

function assertWhole(assembly) {
  assert.equal(assembly.text, "誠は 🍵!");
  assert.equal(assembly.emotion, "happy");
  assert.equal(assembly.category, "chat");
  assert.deepEqual(assembly.memories, [{ memory_id: "y1", value: "likes tea" }]);
  assert.equal(assembly.usage.completion_tokens, 2);
  assert.equal(assembly.done.reason, "stop");
  assert.equal(assembly.next, EVENTS.length + 1);
  assert.deepEqual(assembly.log, EVENTS);
  assert.equal(assembly.started, EVENTS[0]);
}

/** A small generator of its own, so that a failure can be run again by its seed. */
function makeRandom(seed) {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

test("one frame with everything", () => {
  assertWhole(assembled([frame("R", 1, EVENTS)]));
});

test("however the events are cut, repeated and overlapped, they add up to the same", () => {
  for (let seed = 1; seed <= 500; seed++) {
    const random = makeRandom(seed);
    const assembly = new RunAssembly();
    while (assembly.next <= EVENTS.length) {
      const first = Math.max(1, assembly.next - random(4)); // some of it is had already
      const last = Math.min(EVENTS.length, first + random(5));
      assembly.apply(frame("R", first, EVENTS.slice(first - 1, last)));
      if (random(3) === 0) assembly.apply(frame("R", 1, EVENTS.slice(0, random(EVENTS.length) + 1)));
    }
    assertWhole(assembly);
  }
});

test("nothing is applied beyond a gap", () => {
  const assembly = assembled([frame("R", 1, EVENTS.slice(0, 2))]);
  assert.equal(assembly.apply(frame("R", 4, EVENTS.slice(3))), null);
  assert.equal(assembly.text, "誠は");
  assert.equal(assembly.next, 3);
  assert.equal(assembly.emotion, null);
  assert.deepEqual(assembly.apply(frame("R", 2, EVENTS.slice(1, 3))), [EVENTS[2]]);
  assert.deepEqual(assembly.apply(frame("R", 4, EVENTS.slice(3))), EVENTS.slice(3));
  assertWhole(assembly);
});

test("a frame that is had already changes nothing", () => {
  const assembly = assembled([frame("R", 1, EVENTS.slice(0, 3))]);
  assert.deepEqual(assembly.apply(frame("R", 1, EVENTS.slice(0, 3))), []);
  assert.deepEqual(assembly.apply(frame("R", 2, EVENTS.slice(1, 2))), []);
  assert.equal(assembly.text, "誠は 🍵");
});

test("nothing follows the terminal event", () => {
  const assembly = assembled([frame("R", 1, EVENTS)]);
  assert.deepEqual(assembly.apply(frame("R", EVENTS.length + 1, [delta("more")])), []);
  assertWhole(assembly);
});

test("events of types to come are counted and kept, and change nothing else", () => {
  const unknown = { type: "mood.ring", colour: "blue" };
  const assembly = assembled([frame("R", 1, [EVENTS[0], unknown, EVENTS[1]])]);
  assert.equal(assembly.text, "誠は");
  assert.equal(assembly.next, 4);
  assert.equal(assembly.log[1].colour, "blue");
});

test("a frame without a number is not applied", () => {
  const assembly = new RunAssembly();
  assert.equal(assembly.apply({ type: "events", run_id: "R" }), null);
  assert.equal(assembly.next, 1);
});

test("the stored message replaces what was assembled", () => {
  const assembly = assembled([frame("R", 1, EVENTS.slice(0, 2))]);
  assembly.replace({ message_id: "r1", content: "誠は 🍵!", emotion: "sad", end: "interrupted" });
  assert.equal(assembly.text, "誠は 🍵!");
  assert.equal(assembly.emotion, "sad");
  assert.equal(assembly.category, null);
  assert.deepEqual(assembly.done, { type: "done", reason: "interrupted", message_id: "r1", saved: true });
});

test("nothing is known before the first event", () => {
  const { text, emotion, category, memories, usage, started, done, volatile, next } = new RunAssembly();
  assert.deepEqual([text, memories, volatile, next], ["", [], false, 1]);
  assert.deepEqual([emotion, category, usage, started, done], [null, null, null, null, null]);
});

test("the stored message brings the category too, and has ended well unless it says otherwise", () => {
  const assembly = new RunAssembly();
  assembly.replace({ message_id: "r1", content: "", category: "chat" });
  assert.deepEqual([assembly.category, assembly.done.reason], ["chat", "stop"]);
});

test("volatile sticks", () => {
  assert.equal(assembled([frame("R", 1, EVENTS)]).volatile, false);
  const assembly = assembled([{ ...frame("R", 1, EVENTS.slice(0, 1)), volatile: true }, frame("R", 2, EVENTS.slice(1))]);
  assert.equal(assembly.volatile, true);
  assertWhole(assembly);
});
