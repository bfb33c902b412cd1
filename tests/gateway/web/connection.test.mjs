import assert from "node:assert/strict";
import { test } from "node:test";

import { READY, makeWorld, settle, until } from "./fakes.mjs";

const fatal = (code, more = {}) => ({ type: "error", code, message: "So.", retryable: false, fatal: true, ...more });

test("nothing connects before it is needed", async () => {
  const { client, clock, sockets } = makeWorld();
  await clock.advance(60_000);
  assert.equal(client.state, "idle");
  assert.equal(sockets.length, 0);
});

test("the handshake carries the token, hello comes first, ready resolves connect", async () => {
  const world = makeWorld();
  const told = [];
  world.client.on("ready", ({ user_id }) => told.push(user_id));
  const connecting = world.client.connect();
  const socket = await world.welcome();
  assert.equal((await connecting).user_id, "u1");
  assert.deepEqual(told, ["u1"]);
  assert.equal(socket.url, "wss://gateway.test/v1/ws");
  assert.deepEqual(socket.protocols, ["makoto.v1", "bearer.token-1"]);
  assert.deepEqual(socket.sent, [{ type: "hello", client: "makoto.js" }]);
  assert.deepEqual(world.tokens, [false]);
  assert.deepEqual(world.states.map(({ state }) => state), ["connecting", "ready"]);
});

test("a token can travel in hello", async () => {
  const world = makeWorld({ handshake: "hello" });
  world.client.connect();
  const socket = await world.welcome();
  assert.deepEqual(socket.protocols, ["makoto.v1"]);
  assert.equal(socket.sent[0].token, "token-1");
});

for (const [name, options] of Object.entries({
  "a long token": { token: async () => "x".repeat(4_097) },
  "a token, if asked to,": { handshake: "ticket" },
})) {
  test(`${name} is exchanged for a ticket`, async () => {
    const world = makeWorld(options);
    world.bodies.set("/v1/tickets", JSON.stringify({ ticket: "T 1", expires_at: 1 }));
    world.client.connect();
    const socket = await world.welcome();
    assert.equal(socket.url, "wss://gateway.test/v1/ws?ticket=T+1");
    assert.deepEqual(socket.protocols, []); // not every platform would answer one
    const [{ url, method, headers, credentials }] = world.requests;
    assert.deepEqual([url, method, credentials], ["https://gateway.test/v1/tickets", "POST", "omit"]);
    assert.match(headers.authorization, /^Bearer (x{4097}|token-1)$/);
  });
}

const sellTickets = (world) => {
  let sold = 0;
  world.bodies.set("/v1/tickets", () => JSON.stringify({ ticket: `T${++sold}`, expires_at: 1 }));
};

const refusal = (status, code, more = {}) =>
  new Response(JSON.stringify({ error: { code, message: "So.", retryable: false, request_id: "r", ...more } }), { status });

test("tickets may be sold elsewhere", async () => {
  const world = makeWorld({ handshake: "ticket", ticketUrl: "https://tickets.test/dev/v1/tickets" });
  world.bodies.set("/dev/v1/tickets", JSON.stringify({ ticket: "T1", expires_at: 1 }));
  world.client.connect();
  const socket = await world.welcome();
  assert.equal(world.requests[0].url, "https://tickets.test/dev/v1/tickets");
  assert.equal(socket.url, "wss://gateway.test/v1/ws?ticket=T1");
});

test("what the socket's address has in its query stays beside the ticket", async () => {
  const world = makeWorld({ handshake: "ticket", url: "wss://gateway.test/dev?a=1" });
  sellTickets(world);
  world.client.connect();
  assert.equal((await world.welcome()).url, "wss://gateway.test/dev?a=1&ticket=T1");
});

test("every connection has a ticket of its own", async () => {
  const world = makeWorld({ handshake: "ticket" });
  sellTickets(world);
  world.client.connect();
  await world.welcome();
  await world.reconnect(1006);
  world.socket().end(1012);
  await world.clock.advance(world.states.at(-1).retryIn);
  (await world.dialled()).end(); // a handshake that fails has used up its ticket, too
  await world.clock.advance(world.states.at(-1).retryIn);
  await world.welcome();
  assert.deepEqual(world.sockets.map(({ url }) => new URL(url).searchParams.get("ticket")), ["T1", "T2", "T3", "T4"]);
});

for (const handshake of ["ticket", "hello"]) {
  test(`a failed handshake says nothing of a token that was not in it (${handshake})`, async () => {
    const world = makeWorld({ handshake });
    sellTickets(world);
    world.client.connect();
    for (let failed = 0; failed < 3; failed++) {
      (await world.dialled()).end();
      await world.clock.advance(world.states.at(-1).retryIn);
    }
    await world.welcome();
    assert.deepEqual(world.tokens, [false, false, false, false]);
  });
}

test("a token that buys no ticket is replaced at once, and in the end told", async () => {
  const world = makeWorld({ handshake: "ticket" });
  world.bodies.set("/v1/tickets", () => refusal(401, "auth.invalid"));
  const connecting = world.client.connect();
  await world.clock.advanceUntil(() => world.client.state === "stopped");
  assert.deepEqual(world.tokens, [false, true, true]);
  assert.equal(world.states.find(({ state }) => state === "waiting").retryIn, 0);
  assert.equal(world.states.at(-1).error.code, "auth.invalid");
  await assert.rejects(connecting, { code: "auth.invalid", message: "So." });
  assert.equal(world.sockets.length, 0);
});

for (const [name, answer, code] of [
  ["whose keys cannot be had", () => refusal(503, "internal", { retryable: true }), "internal"],
  ["whose storage is down", () => refusal(503, "storage.unavailable", { retryable: true }), "storage.unavailable"],
  ["that is overrun", () => new Response('{"message":"Too Many Requests"}', { status: 429 }), "client.network"],
  ["that broke", () => new Response("<html>", { status: 502 }), "client.network"],
  ["out of reach", () => { throw new TypeError("Failed to fetch"); }, "client.network"],
]) {
  test(`a seller of tickets ${name} is asked again later, and the page is told`, async () => {
    const world = makeWorld({ handshake: "ticket" });
    world.bodies.set("/v1/tickets", answer);
    world.client.connect();
    await until(() => world.client.state === "waiting");
    assert.ok(world.states.at(-1).retryIn > 0);
    assert.equal(world.states.at(-1).error.code, code);
    sellTickets(world);
    await world.clock.advance(world.states.at(-1).retryIn);
    await world.welcome();
    assert.equal(world.client.state, "ready");
    assert.deepEqual(world.tokens, [false, false]);
  });
}

for (const [name, answer, code] of [
  ["there is none", () => refusal(404, "not_found"), "not_found"],
  ["the platform forbids it", () => new Response('{"message":"Forbidden"}', { status: 403 }), "client.network"],
  ["somebody else answers", () => "<!doctype html>", "client.protocol"],
  ["no ticket comes", () => "{}", "client.protocol"],
  ["null comes", () => "null", "client.protocol"],
]) {
  test(`the client stops where tickets should be sold and ${name}`, async () => {
    const world = makeWorld({ handshake: "ticket" });
    world.bodies.set("/v1/tickets", answer);
    await assert.rejects(world.client.connect(), { code });
    assert.equal(world.client.state, "stopped");
    assert.equal(world.sockets.length, 0);
  });
}

test("lost connections are made again, each time after up to twice the time", async () => {
  const world = makeWorld({ random: () => 1 });
  world.client.connect();
  for (let lost = 0; lost < 9; lost++) {
    (await world.dialled()).end();
    await world.clock.advance(world.states.at(-1).retryIn);
  }
  const waits = world.states.flatMap(({ retryIn }) => retryIn ?? []);
  assert.deepEqual(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
});

const HANDSHAKE_FAILED = /token, origin or address/;

for (const [name, options] of Object.entries({
  "with a token in it": {},
  "with a ticket in it": { handshake: "ticket" },
  "with nothing in it": { handshake: "hello" },
})) {
  test(`a handshake ${name} that fails again and again is told as such`, async () => {
    const world = makeWorld(options);
    sellTickets(world);
    world.client.connect();
    for (let failed = 0; failed < 4; failed++) {
      const socket = await world.dialled();
      if (failed === 2) await world.clock.advance(15_000); // a firewall says nothing at all
      else socket.end();
      await world.clock.advance(world.states.at(-1).retryIn);
    }
    const errors = world.states.filter(({ state }) => state === "waiting").map(({ error }) => error);
    assert.deepEqual(errors.slice(0, 2), [null, null]);
    for (const error of errors.slice(2)) {
      assert.deepEqual([error.code, error.retryable], ["client.network", true]);
      assert.match(error.message, HANDSHAKE_FAILED);
    }
    assert.equal(world.client.state, "connecting", "it goes on trying");
  });
}

test("failed handshakes are told only in a row, and say nothing of a cut", async () => {
  const world = makeWorld();
  world.client.connect();
  for (let round = 0; round < 2; round++) {
    for (let failed = 0; failed < 2; failed++) {
      (await world.dialled()).end();
      await world.clock.advance(world.states.at(-1).retryIn);
    }
    (await world.welcome()).end();
    await world.clock.advance(world.states.at(-1).retryIn);
  }
  const errors = world.states.filter(({ state }) => state === "waiting").map(({ error }) => error);
  assert.deepEqual(errors, [null, null, null, null, null, null]);
});

test("a server that opens the socket and says why counts by its word", async () => {
  const world = makeWorld();
  world.client.connect();
  for (let refused = 0; refused < 4; refused++) {
    const socket = await world.dialled();
    socket.onopen();
    socket.say(fatal("maintenance", { retryable: true }));
    socket.end(1006);
    assert.equal(world.states.at(-1).error.code, "maintenance");
    await world.clock.advance(world.states.at(-1).retryIn);
  }
});

test("the wait is anything from nothing to its ceiling", async () => {
  for (const [random, wait] of [[0, 0], [0.25, 125], [0.999, 499.5]]) {
    const world = makeWorld({ random: () => random });
    world.client.connect();
    (await world.dialled()).end();
    assert.equal(world.states.at(-1).retryIn, wait);
  }
});

test("a connection that held starts the waiting anew, one that did not does not", async () => {
  const world = makeWorld({ random: () => 1 });
  world.client.connect();
  await world.welcome();
  await world.reconnect();
  world.socket().end();
  assert.equal(world.states.at(-1).retryIn, 1_000);
  await world.clock.advance(1_000);
  await world.welcome();
  await world.clock.advance(10_000);
  world.socket().end();
  assert.equal(world.states.at(-1).retryIn, 500);
});

test("a refused handshake asks for a fresh token the next time", async () => {
  const world = makeWorld();
  world.client.connect();
  (await world.dialled()).end(1006);
  await world.clock.advance(1_000);
  await world.welcome();
  world.socket().end(1006);
  await world.clock.advance(1_000);
  await world.welcome();
  assert.deepEqual(world.tokens, [false, true, false]);
});

for (const [name, end] of Object.entries({
  "close 4401": (socket) => socket.end(4401),
  "fatal auth.expired": (socket) => (socket.say(fatal("auth.expired")), socket.end(1006)),
  "fatal auth.required": (socket) => (socket.say(fatal("auth.required")), socket.end(1000)),
})) {
  test(`${name} asks for a fresh token at once, and gives up at the third in a row`, async () => {
    const world = makeWorld();
    const connecting = world.client.connect();
    for (let refusals = 1; refusals <= 3; refusals++) {
      const socket = await world.dialled();
      socket.onopen();
      end(socket);
      if (refusals < 3) assert.equal(world.states.at(-1).retryIn, refusals === 1 ? 0 : 250);
      await world.clock.advance(world.states.at(-1).retryIn ?? 0);
    }
    assert.equal(world.client.state, "stopped");
    assert.deepEqual(world.tokens, [false, true, true]);
    await assert.rejects(connecting);
    await world.clock.advance(600_000);
    assert.equal(world.sockets.length, 3);
  });
}

test("refused tokens count only in a row", async () => {
  const world = makeWorld();
  world.client.connect();
  for (let round = 0; round < 3; round++) {
    for (let refusals = 0; refusals < 2; refusals++) {
      (await world.dialled()).end(4401);
      await world.clock.advance(world.states.at(-1).retryIn);
    }
    (await world.welcome()).end();
    await world.clock.advance(world.states.at(-1).retryIn);
  }
  await world.welcome();
});

for (const [name, end, code] of [
  ["close 4403", (socket) => socket.end(4403), "client.stopped"],
  ["close 4409", (socket) => socket.end(4409), "client.stopped"],
  ["close 4400", (socket) => socket.end(4400), "client.stopped"],
  ["close 1009", (socket) => socket.end(1009), "client.stopped"],
  ["fatal origin.denied", (socket) => (socket.say(fatal("origin.denied")), socket.end(1006)), "origin.denied"],
  ["fatal tenant.suspended", (socket) => (socket.say(fatal("tenant.suspended")), socket.end(1006)), "tenant.suspended"],
]) {
  test(`${name} stops, until connect is called again`, async () => {
    const world = makeWorld();
    world.client.connect();
    end(await world.welcome());
    assert.equal(world.client.state, "stopped");
    assert.equal(world.client.error.code, code);
    await world.clock.advance(600_000);
    assert.equal(world.sockets.length, 1);
    await assert.rejects(world.client.sessions(), { code });
    const connecting = world.client.connect();
    await world.welcome();
    await connecting;
  });
}

test("connect after a stop begins with a clean slate", async () => {
  const world = makeWorld({ random: () => 1 });
  world.client.connect();
  for (let lost = 0; lost < 3; lost++) {
    (await world.dialled()).end();
    await world.clock.advance(world.states.at(-1).retryIn);
  }
  (await world.dialled()).end(4403);
  world.client.connect();
  (await world.dialled()).end();
  assert.equal(world.states.at(-1).retryIn, 500);
});

test("an error counts for the close behind it, not for the next one", async () => {
  const world = makeWorld({ random: () => 1 });
  world.client.connect();
  const socket = await world.welcome();
  socket.say(fatal("rate.limited", { retryable: true, retry_after_ms: 1_000 }));
  await world.reconnect();
  assert.equal(world.client.error, null);
  await world.clock.advance(10_000);
  world.socket().end();
  assert.equal(world.states.at(-1).retryIn, 500);
});

for (const [name, end] of Object.entries({
  "close 4429": (socket) => socket.end(4429),
  "close 4503": (socket) => socket.end(4503),
  "fatal rate.limited": (socket) => (socket.say(fatal("rate.limited", { retryable: true })), socket.end(1006)),
})) {
  test(`${name} is answered with patience`, async () => {
    const world = makeWorld({ random: () => 1 });
    world.client.connect();
    end(await world.welcome());
    assert.equal(world.states.at(-1).retryIn, 8_000);
  });
}

test("who is told before `ready` that there is too much keeps the token, and has patience", async () => {
  const world = makeWorld({ random: () => 1 });
  world.client.connect();
  const socket = await world.dialled();
  socket.onopen();
  socket.say(fatal("rate.limited", { retryable: true, retry_after_ms: 1_000 }));
  socket.end(4429);
  assert.equal(world.states.at(-1).retryIn, 9_000);
  await world.clock.advance(9_000);
  await world.welcome();
  assert.deepEqual(world.tokens, [false, false]);
});

test("the server's own wait is added to", async () => {
  const world = makeWorld({ random: () => 1 });
  world.client.connect();
  const socket = await world.welcome();
  socket.say(fatal("maintenance", { retryable: true, retry_after_ms: 60_000 }));
  socket.end(1006);
  assert.equal(world.states.at(-1).retryIn, 68_000);
});

for (const code of [1000, 1006, 1011, 1012, 4408]) {
  test(`close ${code} connects again`, async () => {
    const world = makeWorld();
    world.client.connect();
    await world.welcome();
    await world.reconnect(code);
    assert.equal(world.client.state, "ready");
  });
}

test("a heartbeat is sent in time and any frame answers it", async () => {
  const world = makeWorld();
  world.client.connect();
  const socket = await world.welcome();
  for (let beat = 1; beat <= 3; beat++) {
    await world.clock.advance(25_000);
    assert.equal(socket.of("ping").length, beat);
    socket.say(beat === 2 ? { type: "something.new" } : { type: "pong", t: 1 });
  }
  assert.equal(world.client.state, "ready");
});

test("a half-open connection is dropped when a heartbeat is not answered", async () => {
  const world = makeWorld();
  world.client.connect();
  const socket = await world.welcome();
  await world.clock.advance(25_000 + 10_000);
  assert.equal(world.client.state, "waiting");
  assert.equal(socket.closed, true);
  await world.clock.advance(1_000);
  await world.welcome();
  socket.onclose({ code: 4403 });
  socket.onmessage({ data: JSON.stringify(fatal("origin.denied")) });
  assert.equal(world.client.state, "ready", "the old socket is not heard any more");
});

test("a server that never says ready is left", async () => {
  const world = makeWorld();
  world.client.connect();
  const socket = await world.dialled();
  socket.onopen();
  await world.clock.advance(15_000);
  assert.equal(socket.closed, true);
  assert.equal(world.client.state, "waiting");
});

test("a token without a long life is renewed after three quarters of it at the latest", async () => {
  const world = makeWorld({ random: () => 1 });
  await world.clock.advance(5_000_000);
  world.client.connect();
  const socket = await world.welcome({ server_time: 1_000_000, auth_expires_at: 1_040_000, heartbeat_ms: 1e9 });
  await world.clock.advance(29_999);
  assert.deepEqual(socket.of("auth"), []);
  await world.clock.advance(1);
  assert.equal(socket.of("auth").length, 1);
});

test("the identity is renewed in place before it expires, again and again", async () => {
  const world = makeWorld({ random: () => 1 });
  world.client.connect();
  const socket = await world.welcome({ server_time: 1_000_000, auth_expires_at: 1_600_000, heartbeat_ms: 1e9 });
  await world.clock.advance(539_999);
  assert.deepEqual(socket.of("auth"), []);
  await world.clock.advance(1);
  const [{ id, token }] = socket.of("auth");
  assert.equal(token, "token-2");
  assert.deepEqual(world.tokens, [false, true]);
  socket.say({ type: "notice", kind: "auth.renewed", id, auth_expires_at: 2_200_000 });
  await world.clock.advance(599_999);
  assert.equal(socket.of("auth").length, 1);
  await world.clock.advance(1);
  assert.equal(socket.of("auth").length, 2);
  assert.equal(world.sockets.length, 1);
});

test("a renewal that fails is tried again", async () => {
  let fails = true;
  const world = makeWorld({
    random: () => 0,
    token: async ({ fresh }) => {
      if (fresh && fails) throw new Error("identity provider down");
      return "good";
    },
  });
  world.client.connect();
  const socket = await world.welcome({ auth_expires_at: 100_000, heartbeat_ms: 1e9 });
  await world.clock.advance(88_000);
  assert.deepEqual(world.errors.map(({ code }) => code), ["client.token"]);
  fails = false;
  await world.clock.advance(10_000);
  assert.equal(socket.of("auth").length, 1);
});

test("without a token the client waits and asks again", async () => {
  let tries = 0;
  const world = makeWorld({
    token: async () => {
      if (++tries < 3) throw new Error("down");
      return "good";
    },
  });
  world.client.connect();
  await settle();
  assert.equal(world.client.state, "waiting");
  assert.equal(world.states.at(-1).error.code, "client.token");
  await world.clock.advance(5_000);
  await world.welcome();
});

for (const [name, token] of Object.entries({
  "nothing, as of a prompt that was cancelled": null,
  "undefined": undefined,
  "an empty text": "",
  "a text with a line's end": "a.b.c\n",
  "the answer that the token is in": { token: "a.b.c" },
})) {
  for (const handshake of ["subprotocol", "ticket", "hello"]) {
    test(`a token that is ${name} stops the client, which says so (${handshake})`, async () => {
      const world = makeWorld({ handshake, token: async () => token });
      await assert.rejects(world.client.connect(), { code: "client.token", message: /^`token` returned no usable/ });
      assert.equal(world.client.state, "stopped");
      assert.equal(world.sockets.length, 0);
      assert.deepEqual(world.requests, []);
    });
  }
}

test("a new token that cannot be used is not sent", async () => {
  const world = makeWorld({ token: async ({ fresh }) => (fresh ? null : "good") });
  world.client.connect();
  const socket = await world.welcome({ auth_expires_at: 100_000, heartbeat_ms: 1e9 });
  await world.clock.advance(95_000);
  assert.deepEqual(socket.of("auth"), []);
  assert.equal(world.errors[0].code, "client.token");
});

test("a token that does not come is asked for again after two minutes and a pause", async () => {
  const asked = [];
  const world = makeWorld({
    token: ({ fresh }) => new Promise((resolve) => asked.push({ fresh, resolve })),
  });
  world.client.connect();
  await world.clock.advance(119_999);
  assert.equal(world.client.state, "connecting");
  await world.clock.advance(1);
  assert.equal(world.client.state, "waiting");
  assert.equal(world.states.at(-1).error.message, "No token came in time.");
  assert.equal(world.states.at(-1).error.code, "client.token");
  assert.equal(world.states.at(-1).retryIn, 250);
  await world.clock.advance(250);
  asked[0].resolve("late");
  await settle();
  assert.equal(world.sockets.length, 0, "what comes too late is not used");
  asked[1].resolve("good");
  const socket = await world.welcome();
  assert.deepEqual(socket.protocols, ["makoto.v1", "bearer.good"]);
});

test("a new token that does not come is asked for again on the same connection", async () => {
  let asked = 0;
  const world = makeWorld({
    token: ({ fresh }) => (fresh && ++asked === 1 ? new Promise(() => {}) : Promise.resolve(`good-${asked}`)),
  });
  world.client.connect();
  const socket = await world.welcome({ auth_expires_at: 400_000, heartbeat_ms: 1e9 });
  await world.clock.advance(400_000 + 120_000);
  assert.deepEqual(world.errors.map(({ code }) => code), ["client.token"]);
  assert.equal(socket.of("auth")[0].token, "good-2");
});

test("no clock of a token runs on once it has come, or the client is closed", async () => {
  const world = makeWorld({ token: () => new Promise(() => {}) });
  world.client.connect();
  await settle();
  assert.equal(world.clock.timers, 1);
  world.client.close();
  assert.equal(world.clock.timers, 0);
});

test("an address that cannot be used stops the client with a reason", async () => {
  const world = makeWorld({
    WebSocket: class {
      constructor() {
        throw new SyntaxError("invalid subprotocol");
      }
    },
  });
  await assert.rejects(world.client.connect(), { code: "client.stopped" });
  assert.equal(world.client.error.cause.name, "SyntaxError");
  assert.equal(world.client.state, "stopped");
});

test("close closes, and connect opens again", async () => {
  const world = makeWorld();
  world.client.connect();
  const socket = await world.welcome();
  const asked = world.client.sessions();
  world.client.close();
  await assert.rejects(asked, { code: "client.closed" });
  assert.equal(socket.closed, true);
  await world.clock.advance(600_000);
  assert.equal(world.sockets.length, 1);
  world.client.connect();
  await world.welcome();
  assert.equal(world.client.state, "ready");
});

test("close while the token is being fetched opens nothing", async () => {
  let give;
  const world = makeWorld({ token: () => new Promise((resolve) => (give = resolve)) });
  const connecting = world.client.connect();
  world.client.close();
  give("late");
  await assert.rejects(connecting, { code: "client.closed" });
  await settle();
  assert.equal(world.sockets.length, 0);
});

test("wake does not wait for the backoff, and looks whether an open connection lives", async () => {
  const world = makeWorld({ random: () => 1 });
  world.client.connect();
  (await world.welcome()).end();
  world.client.wake();
  const socket = await world.welcome();
  await world.clock.advance(5_000);
  assert.equal(world.sockets.length, 2, "the waiting is over");
  world.client.wake();
  assert.equal(socket.of("ping").length, 1);
  await world.clock.advance(10_000);
  assert.equal(world.client.state, "waiting");
});

test("connect resolves with the ready of the connection to come", async () => {
  const world = makeWorld();
  world.client.connect();
  (await world.welcome()).end();
  const connecting = world.client.connect();
  await world.clock.advance(1_000);
  await world.welcome({ connection_id: "c2" });
  assert.equal((await connecting).connection_id, "c2");
});

test("what cannot be read is reported and survived", async () => {
  const world = makeWorld();
  world.client.connect();
  const socket = await world.welcome();
  socket.say("{");
  socket.say("null");
  socket.say({ message: "Endpoint request timed out", connectionId: "x", requestId: "y" });
  socket.say({ type: "events", run_id: "R" });
  assert.deepEqual(world.errors.map(({ code }) => code), ["client.protocol"]);
  assert.equal(world.client.state, "ready");
});

test("goaway is told, and the close after it connects again", async () => {
  const world = makeWorld();
  const notices = [];
  world.client.on("notice", (notice) => notices.push(notice.kind));
  world.client.connect();
  const socket = await world.welcome();
  socket.say({ type: "goaway", reason: "deploy", deadline: 5 });
  assert.deepEqual(notices, ["goaway"]);
  await world.reconnect(1012);
  assert.equal(world.client.ready.connection_id, READY.connection_id);
});
