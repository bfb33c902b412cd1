// From one connection to the next while both are there.

import assert from "node:assert/strict";
import { test } from "node:test";

import { READY, accepted, delta, done, frame, makeWorld, settle, started, until } from "./fakes.mjs";

const FOREVER = { heartbeat_ms: 1e9 };
const fatal = (code, more = {}) => ({ type: "error", code, message: "So.", retryable: false, fatal: true, ...more });

/** A connected world; its client goes to a new connection after `handOver()`. */
async function makeConnected(options = {}, ready = {}) {
  const world = makeWorld(options);
  world.client.connect();
  await world.welcome({ ...FOREVER, ...ready });
  return world;
}

/** The same with an answer under way, of which two events are there. */
async function makeStreaming() {
  const world = await makeConnected();
  const run = world.client.send("Hello");
  world.socket().say(accepted(run.id, "R"));
  world.socket().say(frame("R", 1, [started(run.id), delta("a")]));
  return { ...world, run };
}

for (const [random, expires, at] of [
  [1, 7_200_000, 6_900_000],
  [0, 7_200_000, 7_050_000],
  [1, 40_000, 30_000],
  [0, 40_000, 35_000],
]) {
  test(`a connection that ends at ${expires} ms is replaced at ${at} ms (random ${random})`, async () => {
    const world = await makeConnected({ random: () => random }, { connection_expires_at: expires, auth_expires_at: 1e9 });
    await world.clock.advance(at - 1);
    assert.equal(world.sockets.length, 1);
    await world.clock.advance(1);
    assert.equal(world.sockets.length, 2);
    assert.equal(world.sockets[0].closed, false);
  });
}

test("the time of the end is by the server's clock", async () => {
  const world = makeWorld({ random: () => 1 });
  await world.clock.advance(5_000_000);
  world.client.connect();
  await world.welcome({ ...FOREVER, server_time: 1_000_000, connection_expires_at: 1_040_000, auth_expires_at: 1e9 });
  await world.clock.advance(29_999);
  assert.equal(world.sockets.length, 1);
  await world.clock.advance(1);
  assert.equal(world.sockets.length, 2);
});

for (const [random, deadline, at] of [[1, 60_000, 2_000], [0.5, 60_000, 1_000], [1, 1_000, 500], [1, -5, 500], [0, 60_000, 0]]) {
  test(`goaway in ${deadline} ms is followed after ${at} ms (random ${random})`, async () => {
    const world = await makeConnected({ random: () => random });
    world.socket().say({ type: "goaway", reason: "deploy", deadline });
    if (at) await world.clock.advance(at - 1);
    assert.equal(world.sockets.length, 1);
    await world.clock.advance(1);
    assert.equal(world.sockets.length, 2);
  });
}

for (const [handshake, check] of Object.entries({
  subprotocol: ({ protocols }) => assert.deepEqual(protocols, ["makoto.v1", "bearer.token-2"]),
  hello: ({ sent }) => assert.equal(sent[0].token, "token-2"),
  ticket: ({ url }) => assert.equal(new URL(url).searchParams.get("ticket"), "T2"),
})) {
  test(`the next connection proves itself anew (${handshake})`, async () => {
    const world = makeWorld({ handshake });
    let sold = 0;
    world.bodies.set("/v1/tickets", () => JSON.stringify({ ticket: `T${++sold}`, expires_at: 1 }));
    world.client.connect();
    await world.welcome(FOREVER);
    const { socket } = await world.handOver({ connection_id: "c2" });
    check(socket);
    assert.equal(world.client.ready.connection_id, "c2");
    assert.deepEqual(world.tokens, [false, false]);
  });
}

test("nobody notices: no other state, connect resolves with the newer ready", async () => {
  const world = await makeConnected();
  const told = [];
  world.client.on("ready", ({ connection_id }) => told.push(connection_id));
  await world.handOver({ connection_id: "c2" });
  assert.deepEqual(world.states.map(({ state }) => state), ["connecting", "ready"]);
  assert.deepEqual(told, ["c2"]);
  assert.equal((await world.client.connect()).connection_id, "c2");
});

test("an answer is resumed on the next connection and heard on both, each event once", async () => {
  const world = await makeStreaming();
  const { old, socket } = await world.handOver();
  assert.deepEqual(socket.of("resume"), [{ type: "resume", run_id: "R", after: 2 }]);
  old.say(frame("R", 3, [delta("b")]));
  assert.equal(world.run.text, "ab");
  socket.say({ type: "resumed", run_id: "R", state: "running", last_seq: 3 });
  socket.say(frame("R", 3, [delta("b"), delta("c")]));
  old.say(frame("R", 4, [delta("c")]));
  old.say(frame("R", 5, [delta("d")]));
  socket.say(frame("R", 5, [delta("d"), done()]));
  assert.equal((await world.run.done).text, "abcd");
  assert.equal(socket.of("resume").length, 1);
});

test("the old connection is closed when the new one has all, not before", async () => {
  const world = await makeStreaming();
  const { old, socket } = await world.handOver();
  await world.clock.advance(3_000);
  assert.equal(old.closed, false, "its answer is not resumed yet");
  old.say(frame("R", 3, [delta("b")]));
  assert.equal(world.run.text, "ab");
  socket.say({ type: "resumed", run_id: "R", state: "running", last_seq: 3 });
  await world.clock.advance(1_000);
  assert.equal(old.closed, true);
  assert.equal(world.client.state, "ready");
});

test("of what has changed the old connection says nothing new", async () => {
  const world = await makeConnected();
  const told = [];
  world.client.on("notice", ({ session_id: id }) => id && told.push(id));
  const changed = (session_id) => ({ type: "notice", kind: "session.changed", session_id });
  world.sockets.at(-1).say(changed("s1"));
  const { old, socket } = await world.handOver();
  old.say(changed("s2"));
  socket.say(changed("s3"));
  assert.deepEqual(told, ["s1", "s3"]);
});

test("the two overlap for a second at least", async () => {
  const world = await makeConnected();
  const { old } = await world.handOver();
  await world.clock.advance(999);
  assert.equal(old.closed, false);
  await world.clock.advance(1);
  assert.equal(old.closed, true);
});

test("the old connection is closed in the end, whatever is lacking, and asked anew", async () => {
  const world = await makeConnected();
  const sessions = world.client.sessions();
  const { old, socket } = await world.handOver();
  await world.clock.advance(9_999);
  assert.equal(old.closed, false);
  assert.deepEqual(socket.of("sessions"), []);
  await world.clock.advance(1);
  assert.equal(old.closed, true);
  assert.deepEqual(socket.of("sessions"), old.of("sessions"));
  socket.say({ type: "page", id: old.last("sessions").id, items: [] });
  assert.deepEqual((await sessions).items, []);
});

test("a request under way is answered where it was asked", async () => {
  const world = await makeConnected();
  const sessions = world.client.sessions();
  const { old, socket } = await world.handOver();
  old.say({ type: "page", id: old.last("sessions").id, items: [] });
  await sessions;
  await world.clock.advance(20_000);
  assert.deepEqual(socket.of("sessions"), []);
});

test("a message under way is accepted where it was sent, and followed where it goes on", async () => {
  const world = await makeConnected();
  const run = world.client.send("Hello");
  const { old, socket } = await world.handOver();
  assert.deepEqual(socket.of("send"), []);
  old.say(accepted(run.id, "R"));
  assert.deepEqual(socket.of("resume"), [{ type: "resume", run_id: "R", after: 0 }]);
  old.say(frame("R", 1, [started(run.id), delta("a")]));
  socket.say({ type: "resumed", run_id: "R", state: "running", last_seq: 2 });
  await world.clock.advance(1_000);
  assert.equal(old.closed, true);
  socket.say(frame("R", 1, [started(run.id), delta("a"), done()]));
  assert.equal((await run.done).text, "a");
  assert.deepEqual(socket.of("send"), []);
});

test("a message under way that the old connection does not accept goes out once more, by the same id", async () => {
  const world = await makeConnected();
  const run = world.client.send("Hello");
  const { old, socket } = await world.handOver();
  old.end(1012);
  assert.deepEqual(socket.of("send").map(({ id }) => id), [run.id]);
  socket.say(accepted(run.id, "R", { duplicate: true }));
  assert.equal(socket.last("resume").run_id, "R");
});

test("what is sent meanwhile goes out once: before `ready` on the old, after it on the new connection", async () => {
  const world = await makeConnected();
  const coming = world.beside();
  world.socket().say({ type: "goaway", reason: "deploy", deadline: 60_000 });
  await world.clock.advance(1_000);
  const [old, socket] = [world.sockets[0], await coming];
  const first = world.client.send("one");
  socket.onopen();
  const second = world.client.send("two");
  socket.say({ ...READY, ...FOREVER });
  const third = world.client.send("three");
  await settle();
  assert.deepEqual(old.of("send").map(({ id }) => id), [first.id, second.id]);
  assert.deepEqual(socket.of("send").map(({ id }) => id), [third.id]);
});

test("an upload that was announced on the old connection is sent on the new one", async () => {
  const world = await makeConnected();
  const run = world.client.send("長い".repeat(10_000));
  await until(() => world.socket().of("upload").length);
  let put;
  world.bodies.set("/up", () => new Promise((resolve) => (put = () => resolve(""))));
  world.socket().say({
    type: "upload_ready", id: world.socket().last("upload").id, upload_id: "U", url: "/up", method: "PUT", fields: {}, expires_at: 1,
  });
  await until(() => put);
  const { old, socket } = await world.handOver();
  put();
  await world.clock.advance(10_000);
  assert.deepEqual(old.of("send"), []);
  assert.deepEqual(socket.of("send"), [{ type: "send", id: run.id, upload_id: "U" }]);
  assert.deepEqual(socket.of("upload"), []);
});

test("a next connection that fails leaves the old one, and is tried again with growing pauses", async () => {
  const world = await makeConnected({ random: () => 1 });
  world.socket().say({ type: "goaway", reason: "deploy", deadline: 60_000 });
  await world.clock.advance(2_000);
  const pauses = [];
  for (let failed = 0; failed < 5; failed++) {
    const made = world.sockets.length;
    const began = world.clock.now();
    world.socket().end(1006);
    await world.clock.advanceUntil(() => world.sockets.length > made);
    pauses.push(world.clock.now() - began);
  }
  assert.deepEqual(pauses, [1_000, 2_000, 4_000, 8_000, 16_000]);
  assert.equal(world.client.state, "ready");
  assert.equal(world.sockets[0].closed, false);
  world.client.sessions().catch(() => {});
  assert.equal(world.sockets[0].of("sessions").length, 1);
});

test("a next connection that never says ready is left and tried again", async () => {
  const world = await makeConnected();
  const coming = world.beside();
  world.socket().say({ type: "goaway", reason: "maintenance", deadline: 600_000 });
  await world.clock.advance(1_000);
  const socket = await coming;
  socket.onopen();
  await world.clock.advance(16_000);
  assert.equal(socket.closed, true);
  assert.equal(world.sockets.length, 3);
});

test("a refused token is replaced for the next attempt", async () => {
  const world = await makeConnected();
  world.socket().say({ type: "goaway", reason: "deploy", deadline: 60_000 });
  await world.clock.advance(1_000);
  world.socket().onopen();
  world.socket().say(fatal("auth.expired"));
  world.socket().end(4401);
  await world.clock.advance(1_000);
  assert.deepEqual(world.tokens, [false, false, true]);
  assert.equal(world.client.state, "ready");
});

test("a server that will not have this client again keeps it until the old connection ends", async () => {
  const world = await makeConnected();
  world.socket().say({ type: "goaway", reason: "deploy", deadline: 60_000 });
  await world.clock.advance(1_000);
  world.socket().onopen();
  world.socket().say(fatal("tenant.suspended"));
  world.socket().end(1006);
  await world.clock.advance(120_000);
  assert.equal(world.sockets.length, 2);
  assert.equal(world.client.state, "ready");
});

test("the end of the old connection while the next one waits to be tried again starts the waiting anew", async () => {
  const world = await makeConnected({ random: () => 1 });
  const [old] = world.sockets;
  await world.clock.advance(10_000);
  old.say({ type: "goaway", reason: "deploy", deadline: 60_000 });
  await world.clock.advance(2_000);
  for (let failed = 0; failed < 6; failed++) {
    const made = world.sockets.length;
    world.socket().end(1006);
    if (failed < 5) await world.clock.advanceUntil(() => world.sockets.length > made);
  }
  const made = world.sockets.length;
  old.end(1012);
  assert.equal(world.client.state, "waiting");
  assert.equal(world.states.at(-1).retryIn, 500);
  await world.clock.advance(500);
  await world.welcome();
  assert.equal(world.sockets.length, made + 1, "the attempt that waited is not made beside it");
});

test("the end of the old connection while the next one is being made waits for that one", async () => {
  const world = await makeStreaming();
  const [old] = world.sockets;
  const coming = world.beside();
  old.say({ type: "goaway", reason: "deploy", deadline: 60_000 });
  await world.clock.advance(1_000);
  const socket = await coming;
  old.end(1012);
  assert.equal(world.client.state, "connecting");
  const connecting = world.client.connect();
  socket.onopen();
  socket.say({ ...READY, connection_id: "c2" });
  assert.equal((await connecting).connection_id, "c2");
  assert.deepEqual(socket.of("resume"), [{ type: "resume", run_id: "R", after: 2 }]);
  await world.clock.advance(5_000);
  assert.equal(world.sockets.length, 2);
});

test("an end that says stop stops, though a next connection is being made", async () => {
  const world = await makeConnected();
  const [old] = world.sockets;
  old.say({ type: "goaway", reason: "deploy", deadline: 60_000 });
  await world.clock.advance(1_000);
  old.end(4409);
  assert.equal(world.client.state, "stopped");
  assert.equal(world.socket().closed, true);
  await world.clock.advance(120_000);
  assert.equal(world.sockets.length, 2);
});

test("a new connection that is lost at once leads back to the old one, and is made again", async () => {
  const world = await makeStreaming();
  const { old, socket } = await world.handOver({ connection_id: "c2" });
  const second = world.client.send("two");
  assert.equal(socket.of("send").length, 1);
  const coming = world.beside();
  socket.end(1006);
  assert.equal(world.client.state, "ready");
  assert.equal(world.client.ready.connection_id, "c1");
  assert.deepEqual(old.of("send").map(({ id }) => id), [world.run.id, second.id]);
  assert.equal(old.last("resume").after, 2);
  old.say(frame("R", 3, [delta("b")]));
  assert.equal(world.run.text, "ab");
  await world.clock.advance(1_000);
  const next = await coming;
  assert.equal(old.closed, false);
  next.onopen();
  next.say({ ...READY, ...FOREVER });
  assert.equal(next.last("resume").after, 3);
  next.say({ type: "resumed", run_id: "R", state: "running", last_seq: 3 });
  old.say(accepted(second.id, "R2"));
  next.say({ type: "resumed", run_id: "R2", state: "queued", last_seq: 0 });
  await world.clock.advance(2_000);
  assert.deepEqual(world.sockets.map(({ closed }) => closed), [true, true, false]);
  assert.deepEqual(world.states.map(({ state }) => state), ["connecting", "ready"]);
});

test("a new connection that says stop stops, though the old one is there", async () => {
  const world = await makeConnected();
  const { old, socket } = await world.handOver();
  socket.end(4409);
  assert.equal(world.client.state, "stopped");
  assert.equal(old.closed, true);
});

test("a second goaway behind the first changes nothing, one on the new connection hands over again", async () => {
  const world = await makeConnected();
  const first = await world.handOver();
  first.old.say({ type: "goaway", reason: "deploy", deadline: 60_000 });
  await world.clock.advance(5_000);
  assert.equal(world.sockets.length, 2);
  const second = await world.handOver();
  assert.equal(second.old, first.socket);
  await world.clock.advance(5_000);
  assert.deepEqual(world.sockets.map(({ closed }) => closed), [true, true, false]);
});

test("a server that sends every connection away is asked ever more slowly", async () => {
  const world = await makeConnected({ random: () => 1 });
  const waits = [];
  for (let sent = 0; sent < 6; sent++) {
    const began = world.clock.now();
    const coming = world.beside();
    world.socket().say({ type: "goaway", reason: "deploy", deadline: began + 600_000 });
    await world.clock.advanceUntil(() => world.sockets.length === sent + 2);
    waits.push(world.clock.now() - began);
    (await coming).onopen();
    world.socket().say({ ...READY, ...FOREVER, server_time: world.clock.now() });
  }
  assert.deepEqual(waits, [2_000, 2_000, 2_000, 4_000, 8_000, 16_000]);
  await world.clock.advance(10_000);
  world.socket().say({ type: "goaway", reason: "deploy", deadline: world.clock.now() + 600_000 });
  await world.clock.advance(2_000);
  assert.equal(world.sockets.length, 8);
});

test("a goaway while the next connection is being made does not make another one", async () => {
  const world = await makeConnected();
  const [old] = world.sockets;
  old.say({ type: "goaway", reason: "max_age", deadline: 60_000 });
  await world.clock.advance(1_000);
  old.say({ type: "goaway", reason: "deploy", deadline: 60_000 });
  await world.clock.advance(5_000);
  assert.equal(world.sockets.length, 2);
});

test("a hand-over in the middle of another leaves two connections, not three", async () => {
  const world = await makeConnected();
  const sessions = world.client.sessions();
  const first = await world.handOver();
  const second = await world.handOver();
  assert.deepEqual(world.sockets.map(({ closed }) => closed), [true, false, false]);
  assert.deepEqual(second.socket.of("sessions"), first.old.of("sessions"));
  second.socket.say({ type: "page", id: first.old.last("sessions").id, items: [] });
  await sessions;
  await world.clock.advance(1_000);
  assert.deepEqual(world.sockets.map(({ closed }) => closed), [true, true, false]);
});

test("after a hand-over the next one is due before the new connection ends", async () => {
  const world = await makeConnected({ random: () => 1 });
  const coming = world.beside();
  world.socket().say({ type: "goaway", reason: "max_age", deadline: 60_000 });
  await world.clock.advance(2_000);
  const socket = await coming;
  socket.onopen();
  socket.say({ ...READY, ...FOREVER, server_time: 2_000, connection_expires_at: 42_000, auth_expires_at: 1e9 });
  await world.clock.advance(29_999);
  assert.equal(world.sockets.length, 2);
  await world.clock.advance(1);
  assert.equal(world.sockets.length, 3);
});

test("a cancel is repeated on the next connection", async () => {
  const world = await makeStreaming();
  world.client.cancel(world.run);
  const { socket } = await world.handOver();
  assert.deepEqual(socket.of("cancel"), [{ type: "cancel", run_id: "R" }]);
});

test("close closes every connection there is", async () => {
  const world = await makeConnected();
  await world.handOver();
  world.socket().say({ type: "goaway", reason: "deploy", deadline: 60_000 });
  await world.clock.advance(900);
  world.client.close();
  assert.ok(world.sockets.every(({ closed }) => closed));
  assert.equal(world.clock.timers, 0);
  await world.clock.advance(600_000);
  assert.ok(world.sockets.every(({ closed }) => closed));
});
