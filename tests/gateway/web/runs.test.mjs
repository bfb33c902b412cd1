import assert from "node:assert/strict";
import { test } from "node:test";

import { accepted, delta, done, frame, makeWorld, payload, settle, started, until } from "./fakes.mjs";

/** A world in which a send was accepted as run R, and its socket, which needs no heartbeat. */
async function makeRun() {
  const world = makeWorld();
  const run = world.client.send("Hello");
  const socket = await world.welcome({ heartbeat_ms: 1e9 });
  socket.say(accepted(run.id, "R"));
  return { ...world, run, socket };
}

test("an answer streams into its run", async () => {
  const { run, socket } = await makeRun();
  const seen = [];
  const reading = (async () => {
    for await (const event of run) seen.push(event.type);
  })();
  assert.equal(run.state, "waiting");
  socket.say(frame("R", 1, [started(run.id), delta("Hel")]));
  assert.equal(run.state, "streaming");
  await settle();
  assert.deepEqual(seen, ["started", "content.delta"]);
  socket.say(frame("R", 3, [delta("lo"), { type: "emotion", value: "calm" }, done()]));
  assert.equal(await run.done, run);
  await reading;
  assert.equal(run.text, "Hello");
  assert.equal(run.emotion, "calm");
  assert.equal(run.state, "ended");
  assert.deepEqual([run.runId, run.sessionId, run.messageId, run.replyId], ["R", "s1", "m1", "r1"]);
  assert.deepEqual(seen, ["started", "content.delta", "content.delta", "emotion", "done"]);
});

test("accepted tells where the answer belongs before it begins, and that is an update", async () => {
  const world = makeWorld();
  const run = world.client.send({ content: "Hello", sessionId: "s1" });
  const states = [];
  run.on("update", (events) => states.push([run.state, events.length]));
  assert.deepEqual([run.kind, run.content, run.sessionId, run.messageId], ["send", "Hello", "s1", null]);
  assert.deepEqual([run.error, run.end, run.cancelling, run.replyId], [null, null, false, null]);
  const socket = await world.welcome();
  socket.say(accepted(run.id, "R"));
  assert.deepEqual([run.runId, run.sessionId, run.messageId], ["R", "s1", "m1"]);
  assert.deepEqual(states, [["waiting", 0]]);
  await world.clock.advance(15_000);
  assert.deepEqual(socket.of("resume"), [{ type: "resume", run_id: "R", after: 0 }]);
  await world.clock.advance(15_000);
  assert.equal(socket.of("resume").length, 2);
});

test("an iteration that starts late sees every event", async () => {
  const { run, socket } = await makeRun();
  socket.say(frame("R", 1, [started(run.id), delta("a"), done()]));
  const seen = [];
  for await (const event of run) seen.push(event.type);
  assert.deepEqual(seen, ["started", "content.delta", "done"]);
});

test("events may overtake accepted", async () => {
  const world = makeWorld();
  const run = world.client.send("Hello");
  const socket = await world.welcome();
  socket.say(frame("R", 1, [started(run.id), delta("first")]));
  assert.equal(run.text, "first");
  assert.equal(run.runId, "R");
  assert.equal((await run.accepted).messageId, "m1");
  socket.say(accepted(run.id, "R"));
  socket.say(frame("R", 3, [done()]));
  await run.done;
});

test("a gap is asked for at once, and at most every two seconds", async () => {
  const { clock, run, socket } = await makeRun();
  socket.say(frame("R", 1, [started(run.id), delta("a")]));
  socket.say(frame("R", 4, [delta("c")]));
  socket.say(frame("R", 5, [delta("d")]));
  assert.deepEqual(socket.of("resume"), [{ type: "resume", run_id: "R", after: 2 }]);
  await clock.advance(1_900);
  assert.equal(socket.of("resume").length, 1);
  await clock.advance(200);
  assert.equal(socket.of("resume").length, 2);
  assert.equal(run.text, "a");
  socket.say(frame("R", 3, [delta("b"), delta("c"), delta("d"), done()]));
  await run.done;
  assert.equal(run.text, "abcd");
  await clock.advance(60_000);
  assert.equal(socket.of("resume").length, 2);
});

test("a frame that is had already does not put off the resume", async () => {
  const { clock, run, socket } = await makeRun();
  const first = frame("R", 1, [started(run.id), delta("a")]);
  socket.say(first);
  socket.say(frame("R", 4, [delta("c")]));
  socket.say(frame("R", 5, [delta("d")]));
  socket.say(first);
  await clock.advance(2_000);
  assert.equal(socket.of("resume").length, 2);
});

test("a new connection asks at once, however short ago the last one was asked", async () => {
  const world = await makeRun();
  world.socket.say(frame("R", 3, [delta("b")]));
  assert.equal(world.socket.of("resume").length, 1);
  const next = await world.reconnect();
  assert.ok(world.clock.now() < 2_000);
  assert.equal(next.of("resume").length, 1);
});

test("a healed gap is not asked for again", async () => {
  const { clock, run, socket } = await makeRun();
  socket.say(frame("R", 3, [delta("b")]));
  socket.say(frame("R", 3, [delta("b")]));
  socket.say(frame("R", 1, [started(run.id), delta("a"), delta("b")]));
  await clock.advance(5_000);
  assert.equal(socket.of("resume").length, 1);
});

test("an incomplete answer is resumed after 15 s of silence", async () => {
  const { clock, run, socket } = await makeRun();
  socket.say(frame("R", 1, [started(run.id), delta("a")]));
  await clock.advance(14_000);
  assert.deepEqual(socket.of("resume"), []);
  await clock.advance(1_000);
  assert.deepEqual(socket.of("resume"), [{ type: "resume", run_id: "R", after: 2 }]);
  socket.say({ type: "resumed", run_id: "R", state: "running", last_seq: 2 });
  await clock.advance(15_000);
  assert.equal(socket.of("resume").length, 2);
});

test("an incomplete answer is resumed on the next connection", async () => {
  const world = await makeRun();
  world.socket.say(frame("R", 1, [started(world.run.id), delta("a")]));
  const next = await world.reconnect();
  assert.deepEqual(next.of("resume"), [{ type: "resume", run_id: "R", after: 2 }]);
  assert.deepEqual(next.of("send"), []);
  next.say({ type: "resumed", run_id: "R", state: "ended", last_seq: 4 });
  next.say(frame("R", 3, [delta("b"), done("interrupted")]));
  assert.equal((await world.run.done).end.reason, "interrupted");
  assert.equal(world.run.text, "ab");
});

test("a run that cannot be resumed shows the stored message", async () => {
  const { run, socket } = await makeRun();
  socket.say(frame("R", 1, [started(run.id), delta("par")]));
  const stored = { message_id: "r1", content: "partial", emotion: "calm", end: "interrupted" };
  const fault = { type: "error", code: "not_resumable", message: "Gone.", retryable: false };
  socket.say({ ...fault, run_id: "R", stored });
  await run.done;
  assert.equal(run.text, "partial");
  assert.equal(run.end.reason, "interrupted");
});

test("a run that cannot be resumed and was not stored fails", async () => {
  const { run, socket } = await makeRun();
  socket.say({ type: "error", code: "not_resumable", message: "Gone.", retryable: false, run_id: "R" });
  await assert.rejects(run.done, { code: "not_resumable" });
  assert.equal(run.state, "failed");
  await assert.rejects(async () => {
    for await (const _ of run);
  }, { code: "not_resumable" });
});

test("a refusal that passes leaves the run waiting", async () => {
  const { clock, run, socket } = await makeRun();
  const fault = { type: "error", code: "storage.unavailable", message: "Later.", retryable: true };
  socket.say({ ...fault, retry_after_ms: 5_000, run_id: "R" });
  assert.equal(run.state, "waiting");
  await clock.advance(5_000);
  assert.equal(socket.of("resume").length, 1);
});

test("a payload is fetched, checked and applied in its place", async () => {
  const { bodies, requests, run, socket } = await makeRun();
  const long = "長い".repeat(5_000);
  const spilled = payload("/v1/payloads/p1", frame("R", 2, [delta(long)]), {
    of: "events", run_id: "R", first_seq: 2, last_seq: 2,
  });
  let release;
  bodies.set("/v1/payloads/p1", () => new Promise((resolve) => (release = () => resolve(spilled.bytes))));
  socket.say(frame("R", 1, [started(run.id)]));
  socket.say(spilled.frame);
  socket.say(frame("R", 3, [delta("。"), done()]));
  await until(() => release);
  assert.equal(run.text, "");
  release();
  await run.done;
  assert.equal(run.text, `${long}。`);
  assert.equal(requests[0].url, "https://gateway.test/v1/payloads/p1");
  assert.deepEqual(socket.of("resume"), []);
});

test("a payload on another host is fetched as its URL was signed, without credentials", async () => {
  const { bodies, requests, run, socket } = await makeRun();
  const url = "https://payloads.s3.eu-central-1.amazonaws.com/t/u/p?X-Amz-Credential=A%2F2&X-Amz-Security-Token=a%2Bb%3D&x=%7e";
  const spilled = payload(url, frame("R", 2, [delta("spilled"), done()]), {
    of: "events", run_id: "R", first_seq: 2, last_seq: 3,
  });
  bodies.set("/t/u/p", spilled.bytes);
  socket.say(frame("R", 1, [started(run.id)]));
  socket.say(spilled.frame);
  await run.done;
  assert.equal(run.text, "spilled");
  const [{ url: asked, method = "GET", headers, credentials }] = requests;
  assert.deepEqual([asked, method, headers, credentials], [url, "GET", undefined, "omit"]);
});

for (const [name, body] of Object.entries({
  "of other bytes": "x".repeat(62),
  "of another length": "x",
  missing: undefined,
})) {
  test(`a payload ${name} is not shown but asked for again, three times in all`, async () => {
    const { bodies, clock, run, socket } = await makeRun();
    const { bytes, frame: announced } = payload("/p", frame("R", 2, [delta("spilled")]), {
      of: "events", run_id: "R", first_seq: 2, last_seq: 2,
    });
    bodies.set("/p", typeof body === "string" && body.length > 1 ? Buffer.alloc(bytes.length, "x") : body);
    socket.say(frame("R", 1, [started(run.id)]));
    for (let tries = 1; tries <= 2; tries++) {
      socket.say(announced);
      await clock.advanceUntil(() => socket.of("resume").length === tries);
      assert.equal(socket.last("resume").after, 1);
    }
    socket.say(announced);
    await assert.rejects(run.done, { name: "MakotoError" });
    assert.equal(run.text, "");
  });
}

test("while a payload is fetched nothing is asked for again, behind it silence counts as ever", async () => {
  const { bodies, clock, run, socket } = await makeRun();
  const { bytes, frame: announced } = payload("/p", frame("R", 2, [delta("spilled")]), {
    of: "events", run_id: "R", first_seq: 2, last_seq: 2,
  });
  let release;
  bodies.set("/p", () => new Promise((resolve) => (release = () => resolve(bytes))));
  socket.say(frame("R", 1, [started(run.id)]));
  socket.say(announced);
  await clock.advance(20_000);
  assert.deepEqual(socket.of("resume"), []);
  release();
  await until(() => run.text);
  await clock.advance(15_000);
  assert.equal(socket.last("resume").after, 2);
});

test("a body that never comes is given up after 30 s", async () => {
  const { bodies, clock, run, socket } = await makeRun();
  const aborted = (signal) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  bodies.set("/p", ({ signal }) => aborted(signal));
  const fields = { of: "events", run_id: "R", first_seq: 2, last_seq: 2 };
  socket.say(frame("R", 1, [started(run.id)]));
  socket.say(payload("/p", "{}", fields).frame);
  await clock.advance(29_000);
  assert.deepEqual(socket.of("resume"), []);
  await clock.advance(1_000);
  assert.equal(socket.last("resume").after, 1);
});

test("only payloads that fail in a row are given up", async () => {
  const { bodies, clock, run, socket } = await makeRun();
  socket.say(frame("R", 1, [started(run.id)]));
  for (let seq = 2; seq < 8; seq++) {
    const fields = { of: "events", run_id: "R", first_seq: seq, last_seq: seq };
    const { bytes, frame: announced } = payload("/p", frame("R", seq, [delta(`${seq} `)]), fields);
    bodies.delete("/p");
    socket.say(announced);
    await clock.advanceUntil(() => socket.last("resume")?.after === seq - 1);
    bodies.set("/p", bytes);
    socket.say(announced);
    await until(() => run.text.includes(seq));
  }
  assert.equal(run.text, "2 3 4 5 6 7 ");
});

test("a payload that is good at the second try is shown", async () => {
  const { bodies, run, socket } = await makeRun();
  const { bytes, frame: announced } = payload("/p", frame("R", 2, [delta("spilled"), done()]), {
    of: "events", run_id: "R", first_seq: 2, last_seq: 3,
  });
  socket.say(frame("R", 1, [started(run.id)]));
  socket.say(announced);
  await until(() => socket.of("resume").length);
  bodies.set("/p", bytes);
  socket.say(announced);
  await run.done;
  assert.equal(run.text, "spilled");
});

test("a payload of another run is not shown", async () => {
  const { bodies, run, socket } = await makeRun();
  const { bytes, frame: announced } = payload("/p", frame("OTHER", 1, [started("x"), delta("secret")]), {
    of: "events", run_id: "R", first_seq: 1, last_seq: 2,
  });
  bodies.set("/p", bytes);
  socket.say(announced);
  await until(() => socket.of("resume").length);
  assert.equal(run.text, "");
});

test("frames of runs that were not asked for are ignored", async () => {
  const { run, socket } = await makeRun();
  socket.say(frame("STRANGE", 1, [started("other"), delta("not mine")]));
  socket.say(frame("R", 1, [started(run.id), delta("mine"), done()]));
  assert.equal((await run.done).text, "mine");
});

test("cancel names the run, and again on the next connection until it has ended", async () => {
  const world = await makeRun();
  world.client.cancel(world.run);
  assert.deepEqual(world.socket.of("cancel"), [{ type: "cancel", run_id: "R" }]);
  const next = await world.reconnect();
  assert.deepEqual(next.of("cancel"), [{ type: "cancel", run_id: "R" }]);
  next.say(frame("R", 1, [started(world.run.id), delta("par"), done("cancelled")]));
  assert.equal((await world.run.done).end.reason, "cancelled");
  world.client.cancel(world.run);
  assert.equal(next.of("cancel").length, 1);
  const last = await world.reconnect();
  assert.deepEqual(last.of("cancel"), []);
});

test("cancel that is refused for now is asked for again", async () => {
  const world = await makeRun();
  world.client.cancel(world.run);
  world.socket.say({ type: "error", code: "rate.limited", message: "Too many.", retryable: true, retry_after_ms: 3000, run_id: "R" });
  await world.clock.advance(2900);
  assert.equal(world.socket.of("cancel").length, 1);
  await world.clock.advance(200);
  assert.deepEqual(world.socket.of("cancel"), [{ type: "cancel", run_id: "R" }, { type: "cancel", run_id: "R" }]);
});

test("cancel of a send that is on its way names the send", async () => {
  const world = makeWorld();
  const run = world.client.send("Hello");
  const socket = await world.welcome();
  world.client.cancel(run);
  assert.deepEqual(socket.of("cancel"), [{ type: "cancel", id: run.id }]);
  assert.equal(run.state, "sending");
});

test("cancel of a message that never left takes it out of the outbox", async () => {
  const world = makeWorld();
  const run = world.client.send("Hello");
  world.client.cancel(run);
  assert.equal((await run.done).end.reason, "cancelled");
  await assert.rejects(run.accepted, { code: "client.cancelled" });
  const socket = await world.welcome();
  assert.deepEqual(socket.sent.map(({ type }) => type), ["hello"]);
});

test("follow resumes from the start and learns what it follows", async () => {
  const world = makeWorld();
  const run = world.client.follow("R", { sessionId: "s1" });
  const socket = await world.welcome();
  assert.deepEqual(socket.of("resume"), [{ type: "resume", run_id: "R", after: 0 }]);
  assert.equal(world.client.follow("R"), run);
  socket.say(frame("R", 1, [started("elsewhere"), delta("a"), done()]));
  await run.done;
  assert.deepEqual([run.messageId, run.replyId, run.text], ["m1", "r1", "a"]);
});

test("follow on a living connection resumes at once", async () => {
  const world = makeWorld();
  world.client.connect();
  const socket = await world.welcome();
  world.client.follow("R");
  assert.deepEqual(socket.of("resume"), [{ type: "resume", run_id: "R", after: 0 }]);
});

test("regenerate is a run like any other", async () => {
  const world = makeWorld();
  const run = world.client.regenerate("m1", { sessionId: "s1" });
  const socket = await world.welcome();
  assert.deepEqual(socket.of("regenerate"), [{ type: "regenerate", message_id: "m1", id: run.id }]);
  socket.say(accepted(run.id, "R"));
  socket.say(frame("R", 1, [started(run.id), delta("again"), done()]));
  assert.equal((await run.done).text, "again");
});

test("a stored message that is too large for a frame is fetched and shown", async () => {
  const { bodies, run, socket } = await makeRun();
  const stored = { message_id: "r1", content: "long", end: "stop" };
  const fault = { type: "error", code: "not_resumable", message: "Gone.", retryable: false, run_id: "R", stored };
  const { bytes, frame: announced } = payload("/p", fault, { of: "error", run_id: "R" });
  bodies.set("/p", bytes);
  socket.say(frame("R", 1, [started(run.id), delta("lo")]));
  socket.say(announced);
  assert.equal((await run.done).text, "long");
  assert.deepEqual(socket.of("resume"), []);
});
