// What was shown and may be in no log: after a crash of the server the log says what becomes of it.

import assert from "node:assert/strict";
import { test } from "node:test";

import { RunAssembly } from "../../../gateway/web/makoto.js";
import { accepted, delta, done, frame, makeWorld, payload, settle, shownBy, started, until } from "./fakes.mjs";

const volatile = (...given) => ({ ...frame(...given), volatile: true });

const types = (updates) => updates.map(({ type }) => type);

/** A run of which "kept" is in the log and " lost" perhaps is not. */
async function makeVolatile() {
  const world = makeWorld();
  const run = world.client.send("Hello");
  const told = [];
  run.on("update", (events) => told.push(...events));
  const socket = await world.welcome({ heartbeat_ms: 1e9 });
  socket.say(accepted(run.id, "R"));
  socket.say(frame("R", 1, [started(run.id), delta("kept")]));
  socket.say(volatile("R", 3, [delta(" lo"), delta("st")]));
  return { ...world, run, told, socket };
}

test("a frame counts as kept up to its end, unless it is volatile or lies beyond one that is", () => {
  const assembly = new RunAssembly();
  assert.equal(assembly.kept, 0);
  assembly.apply(frame("R", 1, [started("x"), delta("a")]));
  assert.equal(assembly.kept, 2);
  assembly.apply(volatile("R", 2, [delta("a"), delta("b")]));
  assert.equal(assembly.kept, 2);
  assembly.apply(frame("R", 4, [delta("c")]));
  assert.equal(assembly.kept, 2);
  assert.deepEqual(assembly.apply(frame("R", 3, [delta("b"), delta("c")])), []);
  assert.equal(assembly.kept, 4);
  assembly.apply(frame("R", 1, [started("x")]));
  assert.equal(assembly.kept, 4);
});

test("what comes again as it was is not told again", () => {
  const assembly = new RunAssembly();
  assembly.apply(volatile("R", 1, [started("x"), delta("a"), delta("b")]));
  assert.deepEqual(assembly.apply(volatile("R", 1, [started("x"), delta("a")])), []);
  assert.deepEqual(assembly.apply(volatile("R", 2, [delta("a"), delta("b"), delta("c")])), [delta("c")]);
  assert.equal(assembly.text, "abc");
});

test("what comes otherwise begins the whole anew, and nothing of before is left", () => {
  const assembly = new RunAssembly();
  const memory = { type: "memory", memory_id: "y1", value: "tea" };
  const marks = [{ type: "emotion", value: "joy" }, { type: "category", value: "chat" }, memory, { type: "usage" }];
  const first = [started("x"), delta("a")];
  assembly.apply(frame("R", 1, first));
  assembly.apply(volatile("R", 3, [delta("b"), ...marks]));
  const told = assembly.apply(frame("R", 3, [done("interrupted")]));
  assert.deepEqual(told, [{ type: "restarted" }, ...first, done("interrupted")]);
  assert.deepEqual([assembly.text, assembly.next, assembly.kept, assembly.volatile], ["a", 4, 3, false]);
  assert.deepEqual([assembly.emotion, assembly.category, assembly.usage], [null, null, null]);
  assert.deepEqual(assembly.memories, []);
  assert.equal(assembly.done.reason, "interrupted");
});

test("what is kept is never changed", () => {
  const assembly = new RunAssembly();
  assembly.apply(frame("R", 1, [started("x"), delta("a"), delta("b")]));
  assert.deepEqual(assembly.apply(frame("R", 2, [delta("X"), delta("Y"), delta("c")])), [delta("c")]);
  assert.equal(assembly.text, "abc");
});

test("wherever the log ended, the text is the log's in the end, once, and so is what was told", () => {
  const shown = [started("x"), ...[..."誠は今日も元気です"].map(delta)];
  for (let last = 0; last < shown.length; last++) {
    for (let cut = last; cut < shown.length; cut++) {
      for (const size of [1, 2, 5]) {
        const assembly = new RunAssembly();
        const told = [];
        const hear = (given) => told.push(...assembly.apply(given));
        if (last) hear(frame("R", 1, shown.slice(0, last)));
        for (let at = last; at < cut; at += size) hear(volatile("R", at + 1, shown.slice(at, Math.min(at + size, cut))));
        const log = [...shown.slice(0, last), ...(last ? [] : [started("x")]), done("interrupted")];
        for (let at = assembly.kept; at < log.length; at += size) hear(frame("R", at + 1, log.slice(at, at + size)));
        const text = shownBy(log);
        assert.deepEqual([assembly.text, shownBy(told), assembly.next], [text, text, log.length + 1]);
        assert.equal(types(told).filter((type) => type === "done").length, 1);
      }
    }
  }
});

test("after a cut the run is resumed from what is in the log, and what is the same is shown once", async () => {
  const world = await makeVolatile();
  const { run, told } = world;
  assert.deepEqual([run.text, run.volatile], ["kept lost", true]);
  const next = await world.reconnect();
  assert.deepEqual(next.of("resume"), [{ type: "resume", run_id: "R", after: 2 }]);
  next.say({ type: "resumed", run_id: "R", state: "running", last_seq: 4 });
  next.say(volatile("R", 3, [delta(" lo"), delta("st"), delta("!")]));
  next.say(volatile("R", 6, [{ ...done(), saved: false }]));
  await run.done;
  assert.deepEqual([run.text, shownBy(told)], ["kept lost!", "kept lost!"]);
  assert.ok(!types(told).includes("restarted"));
});

test("after a crash the end that the log got takes the place of what it has not", async () => {
  const world = await makeVolatile();
  const { run, told } = world;
  const read = [];
  const reading = (async () => {
    for await (const event of run) read.push(event);
  })();
  await settle();
  const next = await world.reconnect();
  assert.equal(run.text, "kept lost", "shown until it is known otherwise");
  next.say({ type: "resumed", run_id: "R", state: "ended", last_seq: 3 });
  next.say(frame("R", 3, [done("interrupted")]));
  await Promise.all([run.done, reading]);
  assert.deepEqual([run.text, shownBy(told), shownBy(read)], ["kept", "kept", "kept"]);
  assert.equal(run.end.reason, "interrupted");
  assert.deepEqual(types(read), [
    "started", "content.delta", "content.delta", "content.delta",
    "restarted", "started", "content.delta", "done",
  ]);
});

test("a gap, too, is asked for from what is in the log", async () => {
  const { run, socket } = await makeVolatile();
  socket.say(volatile("R", 7, [delta("!")]));
  assert.equal(socket.last("resume").after, 2);
  socket.say(volatile("R", 3, [delta(" lo"), delta("st"), delta(", ")]));
  socket.say(volatile("R", 6, [delta("found"), delta("!"), done()]));
  assert.equal((await run.done).text, "kept lost, found!");
});

test("the stored message takes the place of what was never logged", async () => {
  const world = await makeVolatile();
  const next = await world.reconnect();
  const fault = { type: "error", code: "not_resumable", message: "Gone.", retryable: false, run_id: "R" };
  next.say({ ...fault, stored: { message_id: "r1", content: "kept lost, and more", end: "stop" } });
  assert.equal((await world.run.done).text, "kept lost, and more");
});

test("a payload that is volatile can be replaced, and one that replaces is fetched", async () => {
  const { bodies, run, socket } = await makeVolatile();
  const at = { of: "events", run_id: "R", first_seq: 5, last_seq: 5 };
  const lost = payload("/p1", frame("R", 5, [delta(" for ever")]), at);
  const kept = payload("/p2", frame("R", 5, [delta(" and found")]), at);
  bodies.set("/p1", lost.bytes);
  bodies.set("/p2", kept.bytes);
  socket.say({ ...lost.frame, volatile: true });
  await until(() => run.text === "kept lost for ever");
  socket.say(frame("R", 3, [delta(" lo"), delta("st")]));
  socket.say(kept.frame);
  await until(() => run.text === "kept lost and found");
  socket.say(frame("R", 6, [done()]));
  assert.equal((await run.done).volatile, false);
});

for (const [name, resumed, log] of [
  ["has ended before", { state: "ended", last_seq: 3 }, [delta("a"), done("interrupted")]],
  ["has ended at the same number", { state: "ended", last_seq: 4 }, [delta("a"), delta("b"), done("interrupted")]],
  ["has not begun", { state: "queued", last_seq: 0 }, [delta("other "), delta("words"), done()]],
]) {
  test(`a run that ${name}, though more of it was seen, is asked for as a whole`, async () => {
    const world = makeWorld();
    const run = world.client.send("Hello");
    const told = [];
    run.on("update", (events) => told.push(...events));
    const socket = await world.welcome();
    socket.say(accepted(run.id, "R"));
    socket.say(frame("R", 1, [started(run.id), delta("a"), delta("b"), delta("c")]));
    const next = await world.reconnect();
    assert.equal(next.last("resume").after, 4);
    next.say({ type: "resumed", run_id: "R", ...resumed });
    assert.deepEqual(next.of("resume").map(({ after }) => after), [4, 0]);
    next.say({ type: "resumed", run_id: "R", ...resumed });
    assert.equal(next.of("resume").length, 2, "once is enough");
    next.say(frame("R", 1, [started(run.id), ...log]));
    await run.done;
    assert.deepEqual([run.text, shownBy(told)], [shownBy(log), shownBy(log)]);
  });
}

test("a run that goes on is not doubted, though its server counts behind", async () => {
  const world = await makeVolatile();
  const next = await world.reconnect();
  next.say({ type: "resumed", run_id: "R", state: "running", last_seq: 1 });
  assert.deepEqual(next.of("resume").map(({ after }) => after), [2]);
});
