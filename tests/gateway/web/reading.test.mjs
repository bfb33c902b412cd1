// What is read again: not more often than is needed, and in the end as it is.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Reading } from "../../../gateway/web/page/reading.js";
import { FakeClock, settle } from "./fakes.mjs";

/** A reading whose answers are given by the test; `asked` holds those that are awaited or were. */
function makeReading() {
  const clock = new FakeClock();
  const asked = [];
  const shown = [];
  const read = () => new Promise((resolve, reject) => asked.push({ resolve, reject }));
  const reading = new Reading(read, (found) => shown.push(found), clock);
  return { clock, asked, shown, reading };
}

const refusal = (more) => Object.assign(new Error("No."), { retryable: true, retryAfter: 0, ...more });

test("what is asked for while it is being read is read once more, and only that is shown", async () => {
  const { asked, shown, reading } = makeReading();
  const first = reading.now();
  const others = [reading.now(), reading.now()];
  assert.equal(asked.length, 1);
  asked[0].resolve("old");
  await settle();
  assert.deepEqual([asked.length, shown], [2, []]);
  asked[1].resolve("new");
  await Promise.all([first, ...others]);
  assert.deepEqual([asked.length, shown], [2, ["new"]]);
  void reading.now();
  assert.equal(asked.length, 3);
});

test("of many changes the first is read at once, the others together", async () => {
  const { clock, asked, reading } = makeReading();
  for (let at = 0; at < 60; at++) {
    reading.within();
    await clock.advance(50);
    asked.at(-1).resolve();
  }
  await clock.advance(60_000);
  assert.equal(asked.length, 4, "in three seconds; the last change is read, and nothing after it");
});

for (const [retryAfter, pause] of [[0, 10_000], [25_000, 25_000]]) {
  test(`what is refused for ${retryAfter} ms is read again after ${pause}, whatever changes`, async () => {
    const { clock, asked, shown, reading } = makeReading();
    const asking = reading.now();
    reading.now();
    asked[0].reject(refusal({ retryAfter }));
    await asking;
    reading.within();
    await clock.advance(pause - 1);
    assert.equal(asked.length, 1);
    await clock.advance(1);
    asked[1].resolve("all");
    await settle();
    assert.deepEqual([asked.length, shown, clock.timers], [2, ["all"], 0]);
  });
}

test("after a refusal it can be asked for at once", async () => {
  const { clock, asked, reading } = makeReading();
  const asking = reading.now();
  asked[0].reject(refusal());
  await asking;
  void reading.now();
  assert.deepEqual([asked.length, clock.timers], [2, 0]);
});

test("what fails for good is read again only when it is asked for", async () => {
  const { clock, asked, reading } = makeReading();
  const asking = reading.now();
  asked[0].reject(refusal({ retryable: false }));
  await asking;
  assert.equal(clock.timers, 0);
  void reading.now();
  assert.equal(asked.length, 2);
});

test("what is to be read later is read sooner when something changes, and then not again", async () => {
  const { clock, asked, reading } = makeReading();
  reading.within(10_000);
  reading.within();
  reading.within(20_000);
  await clock.advance(0);
  asked[0].resolve();
  await clock.advance(60_000);
  assert.equal(asked.length, 1);
});
