// Following a session: what is asked elsewhere appears here.

import assert from "node:assert/strict";
import { test } from "node:test";

import { accepted, delta, done, frame, makeWorld, payload, settle, started } from "./fakes.mjs";

const subscribed = (runs = []) => ({
  type: "subscribed",
  session_id: "s1",
  runs: runs.map((run_id) => ({ run_id, session_id: "s1", last_seq: 2, state: "running" })),
});
const refusal = (code, more = {}) => ({ type: "error", code, message: "No.", retryable: false, session_id: "s1", ...more });

/** A connected world that follows session s1. */
async function makeFollowing(options) {
  const world = makeWorld(options);
  const unfollow = world.client.subscribe("s1");
  const socket = await world.welcome({ heartbeat_ms: 1e9 });
  return { ...world, unfollow, socket };
}

test("a session is followed on each connection, and until it is confirmed", async () => {
  const world = await makeFollowing();
  assert.deepEqual(world.socket.of("subscribe"), [{ type: "subscribe", session_id: "s1" }]);
  await world.clock.advance(15_000);
  assert.equal(world.socket.of("subscribe").length, 2);
  world.socket.say(subscribed());
  await world.clock.advance(60_000);
  assert.equal(world.socket.of("subscribe").length, 2);
  const next = await world.reconnect(1006, { heartbeat_ms: 1e9 });
  assert.equal(next.of("subscribe").length, 1);
  next.say(subscribed());
  const { old, socket } = await world.handOver();
  await world.clock.advance(5_000);
  assert.equal(socket.of("subscribe").length, 1);
  assert.equal(old.closed, false, "it is followed on the old connection until it is on the new one");
  socket.say(subscribed());
  await world.clock.advance(1_000);
  assert.equal(old.closed, true);
});

test("a run that was started elsewhere is told once, with what is known of it", async () => {
  const { met, socket } = await makeFollowing();
  socket.say(subscribed());
  socket.say(frame("R", 1, [started("theirs"), delta("a")]));
  assert.equal(met.length, 1);
  const [run] = met;
  assert.deepEqual([run.id, run.kind, run.runId, run.sessionId, run.messageId, run.text], [null, "follow", "R", "s1", "m1", "a"]);
  socket.say(frame("R", 3, [delta("b"), done()]));
  assert.equal((await run.done).text, "ab");
  assert.equal(met.length, 1);
});

test("what is under way when following begins is told, too", async () => {
  const { client, met, socket } = await makeFollowing();
  socket.say(subscribed(["R"]));
  await settle();
  assert.deepEqual(met.map(({ runId, messageId }) => [runId, messageId]), [["R", null]]);
  assert.deepEqual(client.runs, met);
  socket.say(frame("R", 1, [started("theirs"), delta("a")]));
  assert.equal(met.length, 1);
  assert.equal(met[0].messageId, "m1");
});

test("its gaps are asked for, its payloads fetched", async () => {
  const { bodies, met, socket } = await makeFollowing();
  const spilled = payload("/p", frame("R", 3, [delta("large")]), { of: "events", run_id: "R", first_seq: 3, last_seq: 3 });
  bodies.set("/p", spilled.bytes);
  socket.say(frame("R", 1, [started("theirs")]));
  socket.say(spilled.frame);
  await settle();
  assert.deepEqual(socket.of("resume"), [{ type: "resume", run_id: "R", after: 1 }]);
  socket.say(frame("R", 2, [delta("some ")]));
  socket.say(spilled.frame);
  socket.say(frame("R", 4, [done()]));
  assert.equal((await met[0].done).text, "some large");
});

test("it is resumed where it stands on the next connection, and after silence", async () => {
  const world = await makeFollowing();
  world.socket.say(subscribed(["R"]));
  await world.clock.advance(15_000);
  assert.deepEqual(world.socket.of("resume"), [{ type: "resume", run_id: "R", after: 0 }]);
  world.socket.say(frame("R", 1, [started("theirs"), delta("a")]));
  const next = await world.reconnect();
  assert.deepEqual(next.sent.slice(1).map(({ type, after }) => [type, after]), [["resume", 2], ["subscribe", undefined]]);
  next.say(subscribed(["R"]));
  next.say(frame("R", 1, [started("theirs"), delta("a"), delta("b"), done()]));
  await settle();
  assert.deepEqual(world.met.map(({ text }) => text), ["ab"]);
});

test("a run that has ended leaves memory, and does not come back", async () => {
  const { client, met, socket } = await makeFollowing();
  const whole = frame("R", 1, [started("theirs"), delta("a"), done()]);
  socket.say(whole);
  assert.deepEqual(client.runs, []);
  socket.say(whole);
  socket.say(subscribed(["R"]));
  await settle();
  assert.equal(met.length, 1);
});

test("only the ids of the latest ended runs are kept", async () => {
  const { met, socket } = await makeFollowing();
  for (let n = 0; n < 257; n++) socket.say(frame(`R${n}`, 1, [started("theirs"), done()]));
  socket.say(frame("R1", 1, [started("theirs"), done()]));
  assert.equal(met.length, 257);
  socket.say(frame("R0", 1, [started("theirs"), done()]));
  assert.equal(met.length, 258);
});

test("what was started here is not told, whatever comes first", async () => {
  const { client, met, socket } = await makeFollowing();
  const runs = ["one", "two", "three"].map((content) => client.send({ content, sessionId: "s1" }));
  socket.say(accepted(runs[0].id, "R0"));
  socket.say(subscribed(["R0", "R1", "R2"]));
  socket.say(frame("R0", 1, [started(runs[0].id), done()]));
  socket.say(frame("R1", 1, [started(runs[1].id), done()]));
  await settle();
  socket.say(accepted(runs[2].id, "R2"));
  socket.say(frame("R2", 1, [started(runs[2].id), done()]));
  await Promise.all(runs.map((run) => run.done));
  assert.deepEqual(met, []);
});

test("runs of other sessions are not told, and a followed session's not as `live`", async () => {
  const world = makeWorld();
  world.client.subscribe("s1");
  const live = ["s1", "s2"].map((session_id) => ({ run_id: `R-${session_id}`, session_id, last_seq: 0, state: "running" }));
  const socket = await world.welcome({ runs: live });
  socket.say(frame("R", 1, [started("theirs", { session_id: "s2" }), done()]));
  assert.deepEqual(world.met, []);
  assert.deepEqual(world.lives.map(({ run_id }) => run_id), ["R-s2"]);
});

test("a run that is followed by its id is not told", async () => {
  const { client, met, socket } = await makeFollowing();
  const run = client.follow("R", { sessionId: "s1" });
  socket.say(subscribed(["R"]));
  socket.say(frame("R", 1, [started("theirs"), delta("a"), done()]));
  await settle();
  assert.equal(run.text, "a");
  assert.deepEqual(met, []);
});

test("following ends with the last who follows; what is under way comes to its end", async () => {
  const { client, met, socket, unfollow } = await makeFollowing();
  const another = client.subscribe("s1");
  assert.equal(socket.of("subscribe").length, 1);
  socket.say(frame("R1", 1, [started("theirs")]));
  unfollow();
  unfollow();
  assert.deepEqual(socket.of("unsubscribe"), []);
  another();
  assert.deepEqual(socket.of("unsubscribe"), [{ type: "unsubscribe", session_id: "s1" }]);
  socket.say(subscribed(["R3"]));
  socket.say({ type: "unsubscribed", session_id: "s1" });
  socket.say(frame("R2", 1, [started("theirs")]));
  socket.say(frame("R1", 2, [delta("a"), done()]));
  await settle();
  assert.deepEqual(met.map(({ text }) => text), ["a"]);
});

test("what is not followed any more is not asked for again", async () => {
  const world = await makeFollowing();
  world.unfollow();
  await world.clock.advance(20_000);
  const next = await world.reconnect();
  assert.equal(world.socket.of("subscribe").length, 1);
  assert.deepEqual(next.of("subscribe"), []);
});

test("a refusal that passes is asked again when it has", async () => {
  for (const [code, more, wait] of [
    ["storage.unavailable", { retryable: true }, 2_000],
    ["rate.limited", { retryable: true, retry_after_ms: 5_000 }, 5_000],
    ["auth.expired", {}, 2_000],
  ]) {
    const { clock, errors, socket } = await makeFollowing();
    socket.say(refusal(code, more));
    await clock.advance(wait - 1);
    assert.equal(socket.of("subscribe").length, 1, code);
    await clock.advance(1);
    assert.equal(socket.of("subscribe").length, 2, code);
    assert.deepEqual(errors, []);
  }
});

test("a session that does not exist is told and not asked for again", async () => {
  const world = await makeFollowing();
  world.socket.say(refusal("not_found"));
  assert.deepEqual(world.errors.map(({ code }) => code), ["not_found"]);
  await world.clock.advance(60_000);
  const next = await world.reconnect();
  assert.equal(world.socket.of("subscribe").length, 1);
  assert.deepEqual(next.of("subscribe"), []);
  world.unfollow();
  assert.deepEqual(next.of("unsubscribe"), []);
});

test("during a hand-over a run that ends on the old connection is not told anew by the new one", async () => {
  const world = await makeFollowing();
  world.socket.say(subscribed());
  world.socket.say(frame("R", 1, [started("theirs"), delta("a")]));
  const { old, socket } = await world.handOver();
  old.say(frame("R", 3, [done()]));
  socket.say({ type: "resumed", run_id: "R", state: "running", last_seq: 2 });
  socket.say(subscribed(["R"]));
  socket.say(frame("R", 1, [started("theirs"), delta("a"), done()]));
  await settle();
  assert.deepEqual(world.met.map(({ text }) => text), ["a"]);
});
