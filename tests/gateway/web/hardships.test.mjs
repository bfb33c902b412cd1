// What applications, platforms and broken servers do to a client.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  FakeStorage, accepted, delta, done, frame, leaveUnsent, makeWorld, payload, settle, shownBy, started, until,
} from "./fakes.mjs";

const fatal = { type: "error", code: "auth.required", message: "Who are you?", retryable: false, fatal: true };

test("a socket whose errors throw when nobody listens has a listener", async () => {
  const world = makeWorld();
  world.client.connect();
  const socket = await world.dialled();
  socket.onerror({ type: "error", message: "ECONNREFUSED" });
  assert.equal(world.client.state, "connecting");
});

test("a fatal error ends the connection though no close follows", async () => {
  const world = makeWorld();
  world.client.connect();
  const socket = await world.welcome();
  socket.say(fatal);
  await world.clock.advance(1_900);
  assert.equal(socket.closed, false, "its close may still tell more");
  await world.clock.advance(100);
  assert.equal(socket.closed, true);
  await world.welcome();
  assert.deepEqual(world.tokens, [false, true]);
});

test("a close that follows a fatal error is the only end", async () => {
  const world = makeWorld();
  world.client.connect();
  const socket = await world.welcome();
  socket.say(fatal);
  socket.end(4401);
  await world.clock.advance(0);
  await world.welcome();
  await world.clock.advance(5_000);
  assert.equal(world.sockets.length, 2);
  assert.equal(world.client.state, "ready");
});

test("one token is got for however many commands were refused", async () => {
  const world = makeWorld();
  const asking = [world.client.sessions(), world.client.memories(), world.client.history("s1")];
  const socket = await world.welcome();
  for (const { id } of socket.sent.filter((command) => command.id)) {
    socket.say({ type: "error", code: "auth.expired", message: "Expired.", retryable: false, id });
  }
  await until(() => socket.of("auth").length);
  assert.deepEqual([world.tokens, socket.of("auth").length], [[false, true], 1]);
  socket.say({ type: "notice", kind: "auth.renewed", id: socket.last("auth").id, auth_expires_at: 7_200_000 });
  for (const type of ["sessions", "memories", "history"]) {
    assert.equal(socket.of(type).length, 2);
    socket.say({ type: "page", id: socket.last(type).id, items: [] });
  }
  await Promise.all(asking);
});

test("an option that is given as undefined is as one that is not given", async () => {
  const world = makeWorld({ storage: undefined, handshake: undefined, ticketUrl: undefined, client: undefined });
  world.client.connect();
  const socket = await world.welcome();
  assert.deepEqual([socket.protocols.length, socket.last("hello").client], [2, "makoto.js"]);
});

for (const [name, end] of [
  ["closed", (world) => world.client.close()],
  ["stopped", (world) => world.socket().end(4409)],
]) {
  test(`no clock runs in a client that is ${name}, and connecting again brings everything back`, async () => {
    const world = makeWorld();
    const run = world.client.send("Hello");
    world.client.subscribe("s1");
    const socket = await world.welcome();
    socket.say(accepted(run.id, "R"));
    socket.say(frame("R", 1, [started(run.id), delta("a")]));
    const waiting = world.client.send("And this?");
    world.client.follow("OTHER");
    end(world);
    assert.equal(world.client.state, name);
    assert.equal(world.clock.timers, 0);
    world.client.subscribe("s2");
    await world.clock.advance(60_000);
    assert.equal(world.clock.timers, 0);
    world.client.connect();
    const next = await world.welcome({ heartbeat_ms: 1e9 });
    assert.deepEqual(next.of("resume").map(({ run_id: id, after }) => [id, after]), [["R", 2], ["OTHER", 0]]);
    assert.deepEqual(next.of("subscribe").map(({ session_id: id }) => id), ["s1", "s2"]);
    assert.deepEqual(next.of("send").map(({ id }) => id), [waiting.id]);
    await world.clock.advance(15_000);
    assert.equal(next.of("subscribe").length, 4, "neither was confirmed");
  });
}

test("a run without a connection asks for nothing", async () => {
  const world = makeWorld();
  const run = world.client.send("Hello");
  const socket = await world.welcome({ heartbeat_ms: 1e9 });
  socket.say(accepted(run.id, "R"));
  socket.end();
  await world.clock.advance(world.states.at(-1).retryIn);
  await world.dialled();
  await world.clock.advance(14_700); // of silence; the attempt has not been given up
  assert.deepEqual([world.client.state, world.clock.timers], ["connecting", 2]);
  await world.clock.advance(100); // the run's own clock is over
  assert.deepEqual([world.client.state, world.clock.timers], ["connecting", 1]);
});

test("a run that was followed before its own send was accepted is the same one", async () => {
  const storage = new FakeStorage();
  await leaveUnsent(storage, { content: "Hello", sessionId: "s1" });
  const world = makeWorld({ storage });
  const [restored] = world.client.runs;
  const followed = world.client.follow("R", { sessionId: "s1" });
  const told = [];
  followed.on("update", (events) => told.push(...events));
  const socket = await world.welcome({ heartbeat_ms: 1e9 });
  // Nobody has said yet of which send this is: the start comes when the follower has it already.
  socket.say({ ...frame("R", 1, [{ ...started("?"), id: "other" }, delta("a")]) });
  socket.say(accepted(restored.id, "R", { duplicate: true }));
  assert.equal(restored.text, "a");
  assert.deepEqual(socket.last("resume"), { type: "resume", run_id: "R", after: 2 });
  socket.say(frame("R", 3, [delta("b"), done()]));
  assert.deepEqual(await Promise.all([restored.done, followed.done]), [restored, followed]);
  assert.deepEqual([restored.text, followed.text, shownBy(told)], ["ab", "ab", "ab"]);
  assert.deepEqual(world.client.runs, []);
  assert.equal(await followed.accepted, followed);
});

test("a payload that the follower was fetching goes to the run that took over", async () => {
  const storage = new FakeStorage();
  await leaveUnsent(storage, { content: "Hello", sessionId: "s1" });
  const world = makeWorld({ storage });
  const [restored] = world.client.runs;
  const followed = world.client.follow("R", { sessionId: "s1" });
  const socket = await world.welcome({ heartbeat_ms: 1e9 });
  const at = { of: "events", run_id: "R", first_seq: 2, last_seq: 2 };
  const spilled = payload("/p", frame("R", 2, [delta("long")]), at);
  let release;
  world.bodies.set("/p", () => new Promise((resolve) => (release = () => resolve(spilled.bytes))));
  socket.say(frame("R", 1, [started("other")]));
  socket.say(spilled.frame);
  await until(() => release);
  socket.say(accepted(restored.id, "R", { duplicate: true }));
  release();
  await until(() => restored.text === "long");
  socket.say(frame("R", 3, [done()]));
  await Promise.all([restored.done, followed.done]);
});

test("a failure of a run that took over is the follower's too", async () => {
  const storage = new FakeStorage();
  await leaveUnsent(storage, { content: "Hello", sessionId: "s1" });
  const world = makeWorld({ storage });
  const [restored] = world.client.runs;
  const followed = world.client.follow("R", { sessionId: "s1" });
  const socket = await world.welcome();
  socket.say(accepted(restored.id, "R", { duplicate: true }));
  socket.say({ type: "error", code: "not_found", message: "No.", retryable: false, run_id: "R" });
  await assert.rejects(restored.done, { code: "not_found" });
  await assert.rejects(followed.done, { code: "not_found" });
  assert.equal(followed.state, "failed");
});

for (const [name, bad] of Object.entries({
  "without events": { type: "events", run_id: "R", first_seq: 1, last_seq: 1 },
  "with events that are none": { type: "events", run_id: "R", first_seq: 1, last_seq: 1, events: "many" },
  "without a number": { type: "events", run_id: "R", events: [] },
})) {
  test(`a frame ${name} is a gap, and the answer comes through`, async () => {
    const world = makeWorld();
    const run = world.client.send("Hello");
    const socket = await world.welcome();
    socket.say(accepted(run.id, "R"));
    socket.say(bad);
    await settle();
    assert.equal(socket.last("resume").after, 0);
    socket.say(frame("R", 1, [started(run.id), delta("a"), done()]));
    assert.equal((await run.done).text, "a");
  });
}

for (const [name, body] of Object.entries({ "is no JSON": "no JSON", "is null": "null", "is a number": "7" })) {
  test(`a payload that ${name} fails in the client's own words`, async () => {
    const world = makeWorld();
    const run = world.client.send("Hello");
    const socket = await world.welcome({ heartbeat_ms: 1e9 });
    socket.say(accepted(run.id, "R"));
    const spilled = payload("/p", body, { of: "events", run_id: "R", first_seq: 1, last_seq: 1 });
    world.bodies.set("/p", spilled.bytes);
    for (let tries = 1; tries <= 3; tries++) {
      socket.say(spilled.frame);
      await world.clock.advanceUntil(() => run.error || socket.of("resume").length === tries);
    }
    await assert.rejects(run.done, { name: "MakotoError", code: "client.payload" });
  });
}

test("an HTTP error that is not this gateway's is told by its status", async () => {
  const world = makeWorld({ handshake: "ticket" });
  world.bodies.set("/v1/tickets", () => new Response('{"error": {"reason": "other"}}', { status: 502 }));
  world.client.connect();
  await until(() => world.states.at(-1)?.error);
  const { code, message, retryable } = world.states.at(-1).error;
  assert.deepEqual([code, message, retryable], ["client.network", "The server answered 502.", true]);
});

test("an outbox that something else has written to does no harm", async () => {
  const storage = new FakeStorage();
  const command = { type: "send", id: "other", content: "Hello" };
  const foreign = {
    "makoto.outbox": [null, { command }],
    "makoto.outbox.null": null,
    "makoto.outbox.text": "text",
    "makoto.outbox.empty": {},
    "makoto.outbox.": { command: { ...command, id: "" } },
    "makoto.outbox.undefined": { command: { ...command, id: undefined }, order: 1 },
    "makoto.outbox.elsewhere": { command, order: 1 },
    "makoto.outbox.other": { command },
    "makoto.outboxes.other": { command, order: 1 },
  };
  for (const [key, value] of Object.entries(foreign)) storage.setItem(key, JSON.stringify(value));
  storage.setItem("makoto.outbox.html", "<");
  const { run } = await leaveUnsent(storage, "mine");
  const world = makeWorld({ storage });
  assert.deepEqual(world.client.runs.map(({ id }) => id), [run.id]);
  world.client.connect();
  const socket = await world.welcome();
  assert.deepEqual(socket.of("send").map(({ id }) => id), [run.id]);
  assert.deepEqual(Object.keys(foreign).filter((key) => storage.getItem(key) === null), []);
});
