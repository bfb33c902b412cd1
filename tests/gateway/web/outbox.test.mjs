import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";

import {
  FakeStorage, accepted, delta, done, frame, leaveUnsent, makeWorld, payload, settle, started, until,
} from "./fakes.mjs";

const fault = (id, code, more = {}) => ({ type: "error", id, code, message: "No.", retryable: false, ...more });

test("a send waits for the connection and goes out once", async () => {
  const world = makeWorld();
  const run = world.client.send({ content: "Hello", sessionId: "s9", ifBusy: "queue" });
  assert.equal(run.state, "sending");
  const socket = await world.welcome();
  const command = { type: "send", session_id: "s9", content: "Hello", if_busy: "queue", id: run.id };
  assert.deepEqual(socket.of("send"), [command]);
  assert.equal(run.sessionId, "s9");
});

test("without a session, whether null or undefined, a send names none", async () => {
  const world = makeWorld();
  for (const sessionId of [null, undefined]) world.client.send({ content: "Hello", sessionId });
  const socket = await world.welcome();
  assert.deepEqual(socket.of("send").map((command) => "session_id" in command), [false, false]);
});

test("type comes first in every command", async () => {
  const world = makeWorld();
  const texts = [];
  world.client.send("Hello");
  world.client.sessions().catch(() => {});
  const socket = await until(() => world.socket());
  const { send } = socket;
  socket.send = (text) => (texts.push(text), send.call(socket, text));
  await world.welcome();
  assert.ok(texts.length >= 3);
  for (const text of texts) assert.match(text, /^\{"type":/);
});

test("what was not accepted is sent again by the same id on the next connection", async () => {
  const world = makeWorld();
  const [first, second] = [world.client.send("one"), world.client.send("two")];
  const socket = await world.welcome();
  socket.say(accepted(first.id, "R1"));
  const next = await world.reconnect();
  assert.deepEqual(next.of("send"), [{ type: "send", content: "two", id: second.id }]);
  next.say(accepted(second.id, "R2", { duplicate: true }));
  assert.deepEqual(next.of("resume").map((command) => [command.run_id, command.after]), [["R1", 0], ["R2", 0]]);
});

test("what is not accepted on a living connection is sent again after 15 s", async () => {
  const world = makeWorld();
  const run = world.client.send("Hello");
  const socket = await world.welcome();
  await world.clock.advance(15_000);
  assert.equal(socket.of("send").length, 2);
  assert.equal(socket.of("send")[1].id, run.id);
  socket.say(accepted(run.id, "R"));
  await world.clock.advance(16_000);
  assert.equal(socket.of("send").length, 2);
});

test("a refused send fails its run, and only its own", async () => {
  const world = makeWorld();
  const [bad, good] = [world.client.send("bad"), world.client.send("good")];
  const socket = await world.welcome();
  socket.say(fault(bad.id, "busy", { retryable: true, retry_after_ms: 7 }));
  await assert.rejects(bad.done, { code: "busy", retryable: true, retryAfter: 7 });
  await assert.rejects(bad.accepted, { code: "busy" });
  assert.equal(bad.state, "failed");
  assert.equal(good.state, "sending");
});

const refusals = { "storage.unavailable": true, internal: true };

for (const [code, retryable] of Object.entries(refusals)) {
  test(`a send that is refused as ${code} may be stored: it goes on by its own id`, async () => {
    const storage = new FakeStorage();
    const world = makeWorld({ storage });
    const run = world.client.send({ content: "Hello", sessionId: "s1" });
    const socket = await world.welcome();
    const seen = [];
    run.on("update", () => seen.push(run.refusal?.code));
    socket.say(fault(run.id, code, { retryable, retry_after_ms: 500 }));
    assert.deepEqual([run.state, run.refusal.code, seen], ["sending", code, [code]]);
    await world.clock.advance(3_499);
    assert.equal(socket.of("send").length, 1);
    await world.clock.advance(1);
    assert.equal(socket.of("send").length, 2);
    assert.deepEqual(socket.of("send")[1], socket.of("send")[0]);
    assert.equal(storage.items.size, 1, "it would survive a reload");
    socket.say(accepted(run.id, "R", { duplicate: true }));
    assert.deepEqual([run.state, run.refusal, storage.items.size], ["waiting", null, 0]);
    await world.clock.advance(60_000);
    assert.equal(socket.of("send").length, 2);
  });
}

/** Answer each send with a refusal until it is given up; returns the moments at which they came. */
async function refuseAll(world, run, more) {
  const at = [];
  const hear = () => {
    const sends = world.socket().of(run.kind);
    if (sends.length === at.length) return;
    at.push(world.clock.now());
    world.socket().say(fault(run.id, "storage.unavailable", { retryable: true, ...more }));
  };
  await world.clock.advanceUntil(() => (hear(), run.error));
  return at;
}

test("the pauses grow, and after two minutes it is given up; retry goes on by the same id", async () => {
  const storage = new FakeStorage();
  const world = makeWorld({ storage });
  const run = world.client.send({ content: "Hello", sessionId: "s1", ifBusy: "queue" });
  const socket = await world.welcome({ heartbeat_ms: 1e9 });
  const at = await refuseAll(world, run);
  const pauses = at.slice(1).map((moment, sent) => Math.round((moment - at[sent]) / 500) / 2);
  assert.deepEqual(pauses, [3, 6, 12, 22.5, 22.5, 22.5, 22.5]);
  await assert.rejects(run.done, { code: "storage.unavailable" });
  assert.deepEqual([run.uncertain, run.refusal, storage.items.size], [true, null, 0]);

  const again = world.client.retry(run);
  assert.notEqual(again, run);
  assert.deepEqual([again.id, again.kind, again.content, again.sessionId], [run.id, "send", "Hello", "s1"]);
  assert.equal(world.client.retry(run), again, "asked twice, it is one");
  assert.equal(world.client.retry(again), again, "it has not failed");
  assert.equal(storage.items.size, 1);
  assert.deepEqual(socket.last("send"), socket.of("send")[0]);
  socket.say(accepted(run.id, "R", { duplicate: true }));
  socket.say(frame("R", 1, [started(run.id), delta("Hi"), done()]));
  assert.equal((await again.done).text, "Hi");
});

test("the pauses are left to chance in part", async () => {
  const [least, most] = await Promise.all([0, 0.999].map(async (chance) => {
    const world = makeWorld({ random: () => chance });
    const run = world.client.send("Hello");
    await world.welcome({ heartbeat_ms: 1e9 });
    const at = await refuseAll(world, run);
    return at.slice(1).map((moment, sent) => Math.round((moment - at[sent]) / 1_000));
  }));
  assert.deepEqual([least, most], [[2, 4, 8, 15, 15, 15, 15], [4, 8, 16, 30, 30, 30, 30]]);
});

test("a regenerate that is refused so goes on by its own id, too", async () => {
  const world = makeWorld();
  const run = world.client.regenerate("m1", { sessionId: "s1" });
  const socket = await world.welcome({ heartbeat_ms: 1e9 });
  await refuseAll(world, run);
  const again = world.client.retry(run);
  assert.deepEqual([again.kind, again.sessionId], ["regenerate", "s1"]);
  assert.equal(new Set(socket.of("regenerate").map(({ id }) => id)).size, 1);
  assert.deepEqual(socket.last("regenerate"), { type: "regenerate", message_id: "m1", id: run.id });
});

test("what is asked for again may be stored: its cancel is told to the server", async () => {
  const world = makeWorld();
  const run = world.client.send("Hello");
  const socket = await world.welcome();
  socket.say(fault(run.id, "internal"));
  socket.end();
  const again = world.client.retry(run);
  world.client.cancel(again);
  assert.deepEqual([again.state, again.cancelling], ["sending", true]);
  await world.clock.advance(world.states.at(-1).retryIn);
  const next = await world.welcome();
  assert.deepEqual([next.last("cancel").id, next.last("send").id], [run.id, run.id]);
});

test("while it waits to be sent again a new connection sends it at once, and only once", async () => {
  const world = makeWorld();
  const run = world.client.send("Hello");
  const socket = await world.welcome();
  socket.say(fault(run.id, "storage.unavailable", { retryable: true, retry_after_ms: 5_000, fatal: true }));
  const next = await world.reconnect();
  assert.equal(next.of("send").length, 1);
  next.say(fault(run.id, "storage.unavailable", { retryable: true }));
  world.client.close();
  assert.equal(world.clock.timers, 0);
});

test("while it waits to be sent again it can be cancelled: the server is told, also when it is accepted", async () => {
  const world = makeWorld();
  const run = world.client.send("Hello");
  const socket = await world.welcome();
  socket.say(fault(run.id, "storage.unavailable", { retryable: true }));
  world.client.cancel(run);
  assert.deepEqual(socket.of("cancel"), [{ type: "cancel", id: run.id }]);
  socket.say({ ...fault(undefined, "storage.unavailable", { retryable: true }), run_id: "R" });
  await world.clock.advance(3_000);
  socket.say(accepted(run.id, "R"));
  assert.deepEqual(socket.last("cancel"), { type: "cancel", run_id: "R" });
  socket.say(frame("R", 1, [started(run.id), done("cancelled")]));
  assert.equal((await run.done).end.reason, "cancelled");
});

test("an upload that cannot be stored is announced again", async () => {
  const { bodies, clock, ready, run, socket } = await makeUpload();
  bodies.set("/u", "ok");
  const { id } = await until(() => socket().last("upload"));
  socket().say(fault(id, "storage.unavailable", { retryable: true }));
  await until(() => run.refusal);
  await clock.advance(4_000);
  await until(() => socket().of("upload").length === 2);
  await ready("/u");
  assert.equal((await until(() => socket().last("send"))).id, run.id);
});

for (const [what, { code, retryable = false, copies, uncertain }] of Object.entries({
  "the server broke": { code: "internal", copies: 1, uncertain: true },
  "the first copy comes too fast": { code: "rate.limited", retryable: true, copies: 1, uncertain: false },
  "a second copy comes too fast": { code: "rate.limited", retryable: true, copies: 2, uncertain: true },
  "a second copy finds the session busy": { code: "busy", retryable: true, copies: 2, uncertain: false },
  "a second copy finds no session": { code: "not_found", copies: 2, uncertain: false },
  "a second copy finds something else": { code: "conflict", copies: 2, uncertain: false },
})) {
  test(`when ${what} (${code}), it ${uncertain ? "may be" : "is not"} stored`, async () => {
    const world = makeWorld();
    const run = world.client.send("Hello");
    const socket = await world.welcome();
    for (let sent = 1; sent < copies; sent++) await world.clock.advance(15_000);
    assert.equal(socket.of("send").length, copies);
    socket.say(fault(run.id, code, { retryable }));
    await assert.rejects(run.done, { code });
    assert.equal(run.uncertain, uncertain);
  });
}

test("unaccepted sends survive a reload of the page", async () => {
  const storage = new FakeStorage();
  const before = makeWorld({ storage });
  const run = before.client.send({ content: "言って", sessionId: "s1" });
  await before.welcome();
  assert.equal(storage.items.size, 1);

  const after = makeWorld({ storage });
  const [restored] = after.client.runs;
  assert.deepEqual([restored.id, restored.content, restored.sessionId], [run.id, "言って", "s1"]);
  after.client.connect();
  const socket = await after.welcome();
  assert.equal(socket.last("send").id, run.id);
  socket.say(accepted(run.id, "R", { duplicate: true }));
  assert.equal(storage.items.size, 0);
  socket.say(frame("R", 1, [started(run.id), delta("はい"), done()]));
  assert.equal((await restored.done).text, "はい");
});

test("a restored send may have left before: its cancel is told to the server", async () => {
  const storage = new FakeStorage();
  await leaveUnsent(storage, "Hello");
  const after = makeWorld({ storage });
  const [restored] = after.client.runs;
  after.client.cancel(restored);
  const socket = await (after.client.connect(), after.welcome());
  assert.deepEqual(socket.of("cancel"), [{ type: "cancel", id: restored.id }]);
  assert.equal(socket.last("send").id, restored.id);
});

test("the outbox of one user is not sent in another one's name", async () => {
  const storage = new FakeStorage();
  const before = makeWorld({ storage });
  before.client.connect();
  await before.welcome();
  before.client.send("private");

  const after = makeWorld({ storage });
  const [restored] = after.client.runs;
  after.client.connect();
  const socket = await after.welcome({ user_id: "u2" });
  await assert.rejects(restored.done, { code: "client.user" });
  assert.deepEqual([restored.content, after.client.runs], [null, []], "it is not for this one to read");
  assert.equal(after.client.retry(restored), restored);
  assert.deepEqual(socket.of("send"), []);

  const back = makeWorld({ storage });
  back.client.connect();
  assert.deepEqual((await back.welcome()).of("send").map(({ content }) => content), ["private"]);
});

for (const [what, end] of Object.entries({
  withdrawn: (client, run) => client.cancel(run),
  sent: (_client, run, socket) => socket.say(accepted(run.id, "R")),
})) {
  test(`what another client of the storage has ${what} meanwhile is not sent, unless it is asked for`, async () => {
    const storage = new FakeStorage();
    const left = makeWorld({ storage });
    left.client.connect();
    const line = await left.welcome();
    if (what === "withdrawn") line.end();
    const run = left.client.send("Hello");
    const right = makeWorld({ storage });
    const [restored] = right.client.runs;
    end(left.client, run, line);
    right.client.connect();
    const socket = await right.welcome();
    await assert.rejects(restored.done, { code: "client.cancelled" });
    assert.deepEqual([restored.uncertain, restored.content, socket.of("send")], [true, "Hello", []]);
    right.client.retry(restored);
    assert.equal(socket.last("send").id, run.id);
  });
}

test("what is sent again after another client has got it accepted goes on", async () => {
  const storage = new FakeStorage();
  const left = await leaveUnsent(storage, "Hello");
  const right = makeWorld({ storage });
  const [restored] = right.client.runs;
  right.client.connect();
  const socket = await right.welcome();
  left.socket().say(accepted(left.run.id, "R"));
  await right.clock.advance(15_000);
  assert.deepEqual([socket.of("send").length, restored.state], [2, "sending"]);
});

test("a broken item, or one that goes meanwhile, does not hide the others", () => {
  const storage = new FakeStorage();
  storage.items.set("makoto.outbox.", "null");
  const kept = { command: { type: "send", id: "i", content: "kept" }, user: "t1/u1", order: 1 };
  storage.items.set("makoto.outbox.i", JSON.stringify(kept));
  const { key } = storage;
  storage.key = (at) => (at === 0 ? key(at) : at === 1 ? null : key(at - 1));
  Object.defineProperty(storage, "length", { get: () => storage.items.size + 1 });
  assert.deepEqual(makeWorld({ storage }).client.runs.map(({ content }) => content), ["kept"]);
});

test("a cancel that was refused is told again once, and not after the end", async () => {
  const world = makeWorld();
  const run = world.client.send("Hello");
  const socket = await world.welcome({ heartbeat_ms: 1e9 });
  socket.say(accepted(run.id, "R"));
  const refuse = () => socket.say({ ...fault(undefined, "storage.unavailable", { retryable: true }), run_id: "R" });
  world.client.cancel(run);
  for (let times = 0; times < 3; times++) refuse();
  await world.clock.advance(1_000);
  socket.say(frame("R", 1, [started(run.id)])); // it goes on
  await world.clock.advance(60_000);
  assert.equal(socket.of("cancel").length, 2);
  refuse();
  world.client.close();
  assert.equal(world.clock.timers, 0);
});

test("what waits for a connection is not sent in the name of who signs in meanwhile", async () => {
  const world = makeWorld();
  world.client.connect();
  await world.welcome();
  world.socket().end();
  const run = world.client.send("private");
  await world.clock.advance(world.states.at(-1).retryIn);
  const socket = await world.welcome({ user_id: "u2" });
  await assert.rejects(run.done, { code: "client.user" });
  assert.deepEqual(socket.of("send"), []);
  const again = world.client.retry(run);
  assert.equal(again.error.code, "client.user");
  assert.deepEqual(socket.of("send"), []);
});

test("what has left for one user and was not accepted is not sent in another one's name", async () => {
  const world = makeWorld();
  const run = world.client.send("private");
  await world.welcome();
  const socket = await world.reconnect(4401, { user_id: "u2" });
  await assert.rejects(run.done, { code: "client.user" });
  assert.deepEqual(socket.of("send"), []);
});

test("nor is its cancel told", async () => {
  const world = makeWorld();
  const run = world.client.send("private");
  await world.welcome();
  world.socket().end(4401);
  world.client.cancel(run);
  await world.clock.advance(world.states.at(-1).retryIn);
  const socket = await world.welcome({ user_id: "u2" });
  await assert.rejects(run.done, { code: "client.user" });
  assert.deepEqual(socket.of("cancel"), []);
});

test("what was written before anybody was known goes out for the first one, and not after a reload", async () => {
  const storage = new FakeStorage();
  const before = makeWorld({ storage });
  before.client.send("whose?");
  const after = makeWorld({ storage });
  const [restored] = after.client.runs;
  assert.equal(restored.content, "whose?");
  after.client.connect();
  const socket = await after.welcome();
  await assert.rejects(restored.done, { code: "client.user", retryable: false });
  assert.deepEqual(socket.of("send"), []);
  assert.equal(storage.items.size, 0);
  assert.equal((await before.welcome()).of("send").length, 1);
});

test("clients with one storage keep each other's messages, and send them by the same ids", async () => {
  const storage = new FakeStorage();
  const [left, right] = ["left", "right"].map((name) => makeWorld({ storage, makeId: () => name }));
  left.client.send("from the left");
  const run = right.client.send("from the right");
  for (const world of [left, right]) await world.welcome();
  right.socket().say(accepted(run.id, "R"));
  assert.equal(storage.items.size, 1);
  const third = makeWorld({ storage });
  third.client.connect();
  const socket = await third.welcome();
  assert.deepEqual(socket.of("send"), left.socket().of("send"));
});

test("messages are restored in the order in which they were written, over several reloads", async () => {
  const storage = new FakeStorage();
  storage.key = (at) => [...storage.items.keys()].sort().reverse()[at] ?? null; // a browser's order is its own
  const ids = [..."vwxebda"];
  for (const contents of [["not kept", "not kept", "not kept", "1", "2"], ["3", "4"]]) {
    const world = makeWorld({ storage, makeId: () => ids.shift() });
    const runs = contents.map((content) => world.client.send(content));
    for (const run of runs.filter(({ content }) => content === "not kept")) world.client.cancel(run);
    await world.welcome();
  }
  const kept = makeWorld({ storage }).client.runs.map(({ content }) => content);
  assert.deepEqual(kept, ["1", "2", "3", "4"]);
});

test("what is withdrawn while the storage is full does not come back", async () => {
  const storage = new FakeStorage();
  const world = makeWorld({ storage });
  world.client.connect();
  await world.welcome();
  world.socket().end();
  const withdrawn = world.client.send("withdrawn");
  const kept = world.client.send("kept");
  storage.setItem = () => {
    throw new Error("QuotaExceededError");
  };
  world.client.send("too much");
  world.client.cancel(withdrawn);
  assert.deepEqual(makeWorld({ storage }).client.runs.map(({ content }) => content), [kept.content]);
});

for (const [name, storage] of Object.entries({
  "is forbidden": {
    get length() {
      throw new Error("SecurityError");
    },
  },
  "is full": Object.assign(new FakeStorage(), {
    setItem: () => {
      throw new Error("QuotaExceededError");
    },
  }),
})) {
  test(`storage that ${name} does no harm`, async () => {
    const world = makeWorld({ storage });
    const run = world.client.send("Hello");
    const socket = await world.welcome();
    assert.equal(socket.last("send").id, run.id);
  });
}

test("live runs that were not started here are told, the others are not", async () => {
  const storage = new FakeStorage();
  const before = makeWorld({ storage });
  const run = before.client.send("Hello");
  await before.welcome();

  const world = makeWorld({ storage });
  world.client.connect();
  const live = (run_id) => ({ run_id, session_id: "s1", last_seq: 2, state: "running" });
  const socket = await world.welcome({ runs: [live("R"), live("OTHER")] });
  assert.deepEqual(world.lives, []);
  socket.say(accepted(run.id, "R", { duplicate: true }));
  await settle();
  assert.deepEqual(world.lives.map(({ run_id }) => run_id), ["OTHER"]);
});

test("lone surrogates become U+FFFD, pairs stay", async () => {
  const world = makeWorld();
  world.client.send("a\ud83d b🍵 \udf75");
  const socket = await world.welcome();
  assert.equal(socket.last("send").content, "a\ufffd b🍵 \ufffd");
});

test("what has been answered leaves no clock running", async () => {
  const world = makeWorld();
  world.client.connect();
  const socket = await world.welcome();
  const idle = world.clock.timers;
  const run = world.client.send("Hello");
  const sessions = world.client.sessions();
  assert.ok(world.clock.timers > idle);
  socket.say(accepted(run.id, "R"));
  socket.say(frame("R", 1, [started(run.id), delta("a"), done()]));
  socket.say({ type: "page", id: socket.last("sessions").id, items: [] });
  await sessions;
  assert.equal(world.clock.timers, idle);
  world.client.close();
  assert.equal(world.clock.timers, 0);
});

// Requests

test("answers and errors reach the request they belong to, in any order", async () => {
  const world = makeWorld();
  const [sessions, memories, history] = [
    world.client.sessions({ limit: 5 }), world.client.memories(), world.client.history("s1", { before: "c" }),
  ];
  const socket = await world.welcome();
  assert.equal(socket.last("sessions").limit, 5);
  assert.deepEqual([socket.last("history").session_id, socket.last("history").before], ["s1", "c"]);
  socket.say(fault(socket.last("history").id, "not_found"));
  socket.say({ type: "page", id: socket.last("memories").id, items: [{ memory_id: "y1" }] });
  socket.say({ type: "page", id: socket.last("sessions").id, items: [], next: "n" });
  await assert.rejects(history, { code: "not_found" });
  assert.equal((await memories).items[0].memory_id, "y1");
  assert.equal((await sessions).next, "n");
});

test("renaming gives the renamed session, forgetting gives nothing", async () => {
  const world = makeWorld();
  world.client.connect();
  const socket = await world.welcome();
  const renamed = world.client.renameSession("s1", "茶");
  assert.deepEqual(socket.last("session").title, "茶");
  socket.say({ type: "page", id: socket.last("session").id, items: [{ session_id: "s1", title: "茶" }] });
  assert.equal((await renamed).title, "茶");
  for (const [forget, named] of [
    [() => world.client.forgetMemory("y1"), { memory_id: "y1" }],
    [() => world.client.forgetSession("s1"), { session_id: "s1" }],
  ]) {
    const forgotten = forget();
    const { id, type, ...rest } = socket.last("forget");
    assert.deepEqual(rest, named);
    socket.say({ type: "page", id, items: [] });
    assert.equal(await forgotten, undefined);
  }
  const read = world.client.session("s1");
  assert.equal(socket.last("session").title, undefined);
  socket.say({ type: "page", id: socket.last("session").id, items: [{ session_id: "s1" }] });
  assert.equal((await read).session_id, "s1");
});

test("an unanswered request is asked again on the next connection, and given up after 30 s", async () => {
  const world = makeWorld();
  world.client.connect();
  await world.welcome();
  const asked = world.client.sessions();
  world.socket().end();
  await world.clock.advance(1_000);
  const next = await world.welcome();
  assert.equal(next.of("sessions").length, 1);
  await world.clock.advance(29_000);
  await assert.rejects(asked, { code: "client.timeout", retryable: true });
});

test("what was forgotten before the connection was lost is forgotten", async () => {
  const world = makeWorld();
  world.client.connect();
  await world.welcome();
  const forgotten = world.client.forgetMemory("y1");
  const next = await world.reconnect();
  next.say(fault(next.last("forget").id, "not_found"));
  await forgotten;
  const unknown = world.client.forgetMemory("y1");
  next.say(fault(next.last("forget").id, "not_found"));
  await assert.rejects(unknown, { code: "not_found" });
});

test("a command refused for an expired identity goes out again when that is renewed", async () => {
  const world = makeWorld();
  world.client.connect();
  const socket = await world.welcome();
  const run = world.client.send("Hello");
  socket.say(fault(run.id, "auth.expired"));
  const auth = await until(() => socket.last("auth"));
  assert.equal(socket.of("send").length, 1);
  socket.say({ type: "notice", kind: "auth.renewed", id: auth.id, auth_expires_at: 7_200_000 });
  assert.equal(socket.of("send").length, 2);
  assert.equal(socket.last("send").id, run.id);
  socket.say(fault(run.id, "auth.expired"));
  await assert.rejects(run.done, { code: "auth.expired" });
});

test("it does not go out before that, whatever else is sent or answered", async () => {
  let sign;
  const token = ({ fresh }) => (fresh ? new Promise((resolve) => (sign = resolve)) : Promise.resolve("a.b.c"));
  const world = makeWorld({ token });
  world.client.connect();
  const socket = await world.welcome({ heartbeat_ms: 1e9 });
  const [run, other] = [world.client.send("Hello"), world.client.send("other")];
  socket.say(fault(run.id, "auth.expired"));
  socket.say(accepted(other.id, "R"));
  world.client.sessions().catch(() => {});
  await world.clock.advance(20_000); // a person is asked
  assert.equal(socket.of("send").length, 2);
  sign("d.e.f");
  const auth = await until(() => socket.last("auth"));
  socket.say({ type: "notice", kind: "auth.renewed", id: auth.id, auth_expires_at: 7_200_000 });
  assert.deepEqual(socket.of("send").map(({ id }) => id), [run.id, other.id, run.id]);
});

test("nor does what comes after it in its session, but on the next connection", async () => {
  const world = makeWorld();
  const one = world.client.send({ content: "one", sessionId: "s1" });
  const socket = await world.welcome();
  socket.say(fault(one.id, "auth.expired"));
  world.client.send({ content: "two", sessionId: "s1" });
  assert.deepEqual(contents(socket), ["one"]);
  const next = await world.reconnect();
  assert.deepEqual(contents(next), ["one", "two"]);
});

test("a command refused with the end of the connection goes out on the next one", async () => {
  const world = makeWorld();
  const run = world.client.send("Hello");
  const socket = await world.welcome();
  socket.say(fault(run.id, "auth.expired", { fatal: true }));
  const next = await world.reconnect(4401);
  assert.equal(next.last("send").id, run.id);
  assert.deepEqual(world.tokens, [false, true]);
});

test("a spilled page is fetched and checked", async () => {
  const world = makeWorld();
  world.client.connect();
  const socket = await world.welcome();
  const history = world.client.history("s1");
  const { id } = socket.last("history");
  const page = { type: "page", id, items: [{ message_id: "m1", content: "x".repeat(20_000) }] };
  const spilled = payload("/v1/payloads/p", page, { of: "page", id });
  world.bodies.set("/v1/payloads/p", spilled.bytes);
  socket.say(spilled.frame);
  assert.equal((await history).items[0].content.length, 20_000);
});

test("a page that belongs to another request is not taken", async () => {
  const world = makeWorld();
  world.client.connect();
  const socket = await world.welcome();
  const history = world.client.history("s1");
  const { id } = socket.last("history");
  const other = payload("/p", { type: "page", id: "other", items: [] }, { of: "page", id });
  world.bodies.set("/p", other.bytes);
  for (let tries = 1; tries <= 3; tries++) {
    await until(() => socket.of("history").length === tries);
    socket.say(other.frame);
  }
  await assert.rejects(history, { code: "client.payload" });
});

test("a page that cannot be fetched is asked for three times", async () => {
  const world = makeWorld();
  world.client.connect();
  const socket = await world.welcome();
  const history = world.client.history("s1");
  for (let tries = 1; tries <= 3; tries++) {
    await until(() => socket.of("history").length === tries);
    const { id } = socket.last("history");
    socket.say(payload("/gone", "{}", { of: "page", id }).frame);
  }
  await assert.rejects(history, { code: "client.network" });
  assert.equal(socket.of("history").length, 3);
});

// Uploads

/** A content whose encoded `send` (with a one-digit id) has exactly `bytes` bytes. */
function contentOf(bytes, unit) {
  const empty = Buffer.byteLength(JSON.stringify({ type: "send", content: "", id: "id-1" }));
  const size = Buffer.byteLength(JSON.stringify(unit)) - 2;
  const units = Math.floor((bytes - empty) / size);
  return unit.repeat(units) + "a".repeat(bytes - empty - units * size);
}

for (const [name, unit] of Object.entries({ ASCII: "a", Japanese: "誠", emoji: "🍵", escaped: '"\n' })) {
  test(`${name} text goes in one frame up to 32,768 bytes, and is uploaded beyond`, async () => {
    for (const [bytes, uploads] of [[32_768, false], [32_769, true]]) {
      const world = makeWorld();
      world.client.send(contentOf(bytes, unit));
      const socket = await world.welcome();
      await until(() => socket.sent.length === 2);
      assert.equal(socket.sent[1].type, uploads ? "upload" : "send");
      if (!uploads) assert.equal(Buffer.byteLength(JSON.stringify(socket.sent[1])), 32_768);
    }
  });
}

for (const method of ["PUT", "POST"]) {
  test(`an upload by ${method} says beforehand what it is, and is named by the send`, async () => {
    const content = "誠".repeat(20_000);
    const bytes = Buffer.from(content);
    const world = makeWorld();
    world.bodies.set("/u", "ok");
    const run = world.client.send(content);
    const socket = await world.welcome();
    const upload = await until(() => socket.last("upload"));
    assert.equal(upload.bytes, 60_000);
    assert.equal(upload.sha256, createHash("sha256").update(bytes).digest("hex"));
    const fields = method === "POST" ? { key: "k" } : {};
    socket.say({ type: "upload_ready", id: upload.id, upload_id: "U", url: "/u", method, fields, expires_at: 1 });
    const send = await until(() => socket.last("send"));
    assert.deepEqual(send, { type: "send", id: run.id, upload_id: "U" });
    const [request] = world.requests;
    assert.equal(request.method, method);
    const body = method === "PUT" ? request.body : request.body.get("file");
    assert.deepEqual(Buffer.from(await body.arrayBuffer()), bytes);
    if (method === "POST") assert.deepEqual([...request.body.keys()], ["key", "file"]);
    socket.say(accepted(run.id, "R"));
    assert.equal(run.state, "waiting");
  });
}

test("an upload to another host goes there as it was signed, without credentials, its fields first", async () => {
  const world = makeWorld();
  const url = "https://payloads.s3.eu-central-1.amazonaws.com/?X-Amz-Security-Token=a%2Bb%3D%3D&x=%7e";
  world.bodies.set("/", new Response(null, { status: 204 }));
  const run = world.client.send("x".repeat(40_000));
  const socket = await world.welcome();
  const { id } = await until(() => socket.last("upload"));
  const fields = { key: "t/u/p", "Content-Type": "text/plain", "x-amz-signature": "0f", policy: "e30=" };
  socket.say({ type: "upload_ready", id, upload_id: "U", url, method: "POST", fields, expires_at: 1 });
  assert.equal((await until(() => socket.last("send"))).id, run.id);
  const [request] = world.requests;
  assert.equal(request.url, url);
  assert.equal(request.credentials, "omit");
  assert.equal(request.headers, undefined, "no preflight, and no token");
  const entries = [...request.body.entries()];
  assert.deepEqual(Object.fromEntries(entries.slice(0, -1)), fields);
  assert.equal(entries.at(-1)[0], "file", "what follows it is not read");
});

/** A send that has to be uploaded, and the means to answer for it. */
async function makeUpload() {
  const world = makeWorld();
  const run = world.client.send("x".repeat(40_000));
  await world.welcome();
  const ready = async (url) => {
    const socket = world.socket();
    const upload = await until(() => socket.last("upload"));
    socket.say({ type: "upload_ready", id: upload.id, upload_id: `U${url}`, url, method: "PUT", fields: {}, expires_at: 1 });
  };
  return { ...world, run, ready };
}

test("a cut during the upload starts it anew", async () => {
  const { bodies, ready, reconnect, run } = await makeUpload();
  bodies.set("/u", "ok");
  const next = await reconnect();
  await ready("/u");
  assert.equal((await until(() => next.last("send"))).id, run.id);
  assert.equal(next.of("send").length, 1);
});

test("an upload whose body was lost with the connection starts anew", async () => {
  const { bodies, ready, reconnect, requests, run } = await makeUpload();
  let fail;
  bodies.set("/1", () => new Promise((_, reject) => (fail = reject)));
  await ready("/1");
  await until(() => fail);
  const next = await reconnect();
  fail(new TypeError("network changed"));
  await settle();
  assert.equal(run.state, "sending");
  const after = await reconnect();
  assert.deepEqual(next.of("send"), []);
  bodies.set("/2", "ok");
  await ready("/2");
  assert.equal((await until(() => after.last("send"))).upload_id, "U/2");
  assert.equal(requests.length, 2);
});

test("an upload that is refused fails its run", async () => {
  const { run, socket } = await makeUpload();
  const { id } = await until(() => socket().last("upload"));
  socket().say(fault(id, "payload.too_large"));
  await assert.rejects(run.done, { code: "payload.too_large" });
});

test("an upload whose body is refused fails its run with the server's word", async () => {
  const { bodies, ready, run } = await makeUpload();
  bodies.set("/u", () => {
    throw new TypeError("fetch failed");
  });
  await ready("/u");
  await assert.rejects(run.done, { code: "client.network", retryable: true });
});

for (const [status, body, expected] of [
  [503, "<html>", { code: "client.network", retryable: true }],
  [403, "<html>", { code: "client.network", retryable: false }],
  [413, JSON.stringify({ error: { code: "payload.too_large", message: "Too much.", retryable: false } }),
    { code: "payload.too_large", message: "Too much." }],
]) {
  test(`HTTP status ${status} for an upload fails its run with ${expected.code}`, async () => {
    const { bodies, ready, run } = await makeUpload();
    bodies.set("/u", () => new Response(body, { status }));
    await ready("/u");
    await assert.rejects(run.done, expected);
  });
}

test("an upload that has expired is made once more", async () => {
  const { bodies, ready, run, socket } = await makeUpload();
  bodies.set("/1", "ok");
  bodies.set("/2", "ok");
  await ready("/1");
  await until(() => socket().last("send"));
  socket().say(fault(run.id, "not_found"));
  await until(() => socket().of("upload").length === 2);
  await ready("/2");
  await until(() => socket().of("send").length === 2);
  assert.deepEqual(socket().of("send").map((send) => send.upload_id), ["U/1", "U/2"]);
  socket().say(fault(run.id, "not_found"));
  await assert.rejects(run.done, { code: "not_found" });
});

for (const [what, again] of Object.entries({
  "after a reload": async ({ client }, storage) => {
    client.close();
    const world = makeWorld({ storage, makeId: () => "other" });
    world.client.connect();
    await world.welcome();
    return [world, world.client.runs[0]];
  },
  "when it is asked for again": async (world, _, run) => {
    world.socket().say(fault(run.id, "internal"));
    return [world, world.client.retry(run)];
  },
})) {
  for (const code of [null, "bad_request"]) {
    const how = code ? `is refused (${code})` : "is lost";
    test(`an upload that ${how} ${what} says nothing of the copy that has left`, async () => {
      const storage = new FakeStorage();
      const before = makeWorld({ storage });
      before.bodies.set("/u", "ok");
      const sent = before.client.send("x".repeat(40_000));
      const ready = { type: "upload_ready", upload_id: "U", method: "PUT", fields: {}, expires_at: 1 };
      const socket = await before.welcome();
      const { id: first } = await until(() => socket.last("upload"));
      socket.say({ ...ready, id: first, url: "/u" });
      await until(() => socket.last("send"));

      const [world, run] = await again(before, storage, sent);
      const { id } = await until(() => world.socket().of("upload").find((upload) => upload.id !== first));
      world.socket().say(code ? fault(id, code) : { ...ready, id, url: "/lost" });
      await assert.rejects(run.done, { code: code ?? "client.network" });
      assert.deepEqual([run.id, run.uncertain], [sent.id, true]);
    });
  }
}

test("an upload that fails before anything has left: it is not stored", async () => {
  const { run, ready } = await makeUpload();
  await ready("/lost");
  await assert.rejects(run.done, { code: "client.network" });
  assert.equal(run.uncertain, false);
});

// The order within a session

const contents = (socket) => socket.of("send").map((send) => send.upload_id ?? send.content);

test("a message waits for the one before it that is being uploaded, other sessions' do not", async () => {
  const world = makeWorld();
  world.bodies.set("/u", "ok");
  world.client.send({ content: "x".repeat(40_000), sessionId: "s1" });
  for (const sessionId of ["s1", "s2", null, null]) world.client.send({ content: `to ${sessionId}`, sessionId });
  const socket = await world.welcome();
  assert.deepEqual(contents(socket), ["to s2", "to null", "to null"]);
  const { id } = await until(() => socket.last("upload"));
  socket.say({ type: "upload_ready", id, upload_id: "U", url: "/u", method: "PUT", fields: {}, expires_at: 1 });
  await until(() => socket.of("send").length === 5);
  assert.deepEqual(contents(socket).slice(3), ["U", "to s1"]);
});

/** Two messages to one session, of which the first was refused for now before the second was written. */
async function makeHeldUp() {
  const world = makeWorld();
  const one = world.client.send({ content: "one", sessionId: "s1" });
  const socket = await world.welcome({ heartbeat_ms: 1e9 });
  socket.say(fault(one.id, "storage.unavailable", { retryable: true }));
  const two = world.client.send({ content: "two", sessionId: "s1" });
  assert.deepEqual(contents(socket), ["one"]);
  return { world, socket, one, two };
}

test("a message waits for the one before it that is sent again, until that is accepted", async () => {
  const { world, socket, one } = await makeHeldUp();
  await world.clock.advance(3_000);
  assert.deepEqual(contents(socket), ["one", "one"]);
  socket.say(accepted(one.id, "R"));
  assert.deepEqual(contents(socket), ["one", "one", "two"]);
});

for (const [how, end] of Object.entries({
  "is refused for good": ({ socket, one }) => socket.say(fault(one.id, "not_found")),
  "is cancelled": ({ world, one }) => world.client.cancel(one),
})) {
  test(`a message does not wait for the one before it when that ${how}`, async () => {
    const heldUp = await makeHeldUp();
    end(heldUp);
    assert.equal(contents(heldUp.socket).at(-1), "two");
  });
}

test("a message does not wait for an upload that is withdrawn, nor is it sent twice", async () => {
  const world = makeWorld();
  const long = world.client.send({ content: "x".repeat(40_000), sessionId: "s1" });
  world.client.send({ content: "two", sessionId: "s1" });
  const socket = await world.welcome();
  world.client.cancel(long);
  await settle();
  assert.deepEqual(contents(socket), ["two"]);
});

test("on the next connection, too, they leave in order", async () => {
  const { world, one } = await makeHeldUp();
  const next = await world.reconnect();
  assert.deepEqual(contents(next), ["one"]);
  next.say(accepted(one.id, "R"));
  assert.deepEqual(contents(next), ["one", "two"]);
});
