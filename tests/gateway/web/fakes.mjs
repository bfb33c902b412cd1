// A world for the client in which nothing happens by itself: its clock, its sockets, its HTTP server.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";

import { MakotoClient } from "../../../gateway/web/makoto.js";

/** Let everything run that needs no clock (digests take real time), until `condition` holds. */
export async function until(condition, meanwhile = () => new Promise((resolve) => setImmediate(resolve))) {
  const deadline = Date.now() + 10_000;
  while (Date.now() < deadline) {
    const found = condition();
    if (found) return found;
    await meanwhile();
  }
  assert.fail(`never: ${condition}`);
}

export const settle = async () => {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
};

/** A clock that stands still until `advance` is called. */
export class FakeClock {
  #now = 0;
  #timers = new Map();
  #last = 0;

  now = () => this.#now;

  setTimeout = (then, ms) => {
    this.#timers.set(++this.#last, { at: this.#now + ms, then });
    return this.#last;
  };

  /** How many timers run. */
  get timers() {
    return this.#timers.size;
  }

  clearTimeout = (timer) => void this.#timers.delete(timer);

  async advance(ms) {
    const end = this.#now + ms;
    await settle();
    for (;;) {
      const due = [...this.#timers].filter(([, { at }]) => at <= end).sort(([, a], [, b]) => a.at - b.at)[0];
      if (!due) break;
      const [timer, { at, then }] = due;
      this.#timers.delete(timer);
      this.#now = at;
      then();
      await settle();
    }
    this.#now = end;
  }

  /** Let time pass until `condition` holds. */
  advanceUntil(condition) {
    return until(condition, () => this.advance(100));
  }
}

export class FakeSocket {
  sent = [];
  closed = false;

  constructor(url, protocols) {
    this.url = String(url);
    this.protocols = protocols;
  }

  send(text) {
    assert.ok(!this.closed, "sent on a closed socket");
    this.sent.push(JSON.parse(text));
  }

  close() {
    this.closed = true;
  }

  /** The server speaks. */
  say(frame) {
    this.onmessage({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
  }

  /** The server, or the network, ends it. */
  end(code = 1006) {
    this.closed = true;
    this.onclose({ code });
  }

  of(type) {
    return this.sent.filter((command) => command.type === type);
  }

  last(type) {
    return this.of(type).at(-1);
  }
}

export const READY = {
  type: "ready",
  connection_id: "c1",
  connection_expires_at: 7_200_000,
  user_id: "u1",
  tenant_id: "t1",
  tier: "free",
  limits: { command_bytes: 32_768, content_bytes: 1_000_000, live_runs: 4, queued_per_session: 4 },
  auth_expires_at: 3_600_000,
  heartbeat_ms: 25_000,
  server_time: 0,
  runs: [],
};

export class FakeStorage {
  items = new Map();
  get length() {
    return this.items.size;
  }

  key = (at) => [...this.items.keys()][at] ?? null;
  getItem = (key) => this.items.get(key) ?? null;
  setItem = (key, value) => void this.items.set(key, value);
  removeItem = (key) => void this.items.delete(key);
}

/** A client in such a world; `world.socket()` is its newest socket. */
export function makeWorld(options = {}) {
  const clock = new FakeClock();
  const sockets = [];
  const tokens = [];
  const requests = [];
  const world = {
    clock,
    sockets,
    tokens,
    requests,
    bodies: new Map(), // path -> bytes or text, or a function that makes them
    socket: () => sockets.at(-1),
    states: [],
    errors: [],
    lives: [],
    met: [],
  };
  let ids = 0;
  world.client = new MakotoClient({
    url: "wss://gateway.test/v1/ws",
    token: async ({ fresh }) => {
      tokens.push(fresh);
      return `token-${tokens.length}`;
    },
    WebSocket: class extends FakeSocket {
      constructor(...address) {
        super(...address);
        sockets.push(this);
      }
    },
    fetch: async (url, init) => {
      requests.push({ url, ...init });
      const found = world.bodies.get(new URL(url).pathname);
      const body = typeof found === "function" ? await found(init) : found;
      if (body instanceof Response) return body;
      return body === undefined ? new Response("", { status: 404 }) : new Response(body);
    },
    clock,
    random: () => 0.5,
    makeId: () => `id-${++ids}`,
    ...options,
  });
  world.client.on("state", (change) => world.states.push(change));
  world.client.on("error", (error) => world.errors.push(error));
  world.client.on("live", (live) => world.lives.push(live));
  world.client.on("run", (run) => world.met.push(run));
  /** The socket of a connection that is being made. */
  world.dialled = () =>
    until(() => world.client.state === "connecting" && !world.socket()?.closed && world.socket()?.onopen && world.socket());
  /** Bring the newest connection to `ready`. */
  world.welcome = async (ready = {}) => {
    const socket = await world.dialled();
    if (!socket.of("hello").length) socket.onopen();
    socket.say({ ...READY, ...ready });
    await settle();
    return socket;
  };
  /** Cut the connection and bring the next one to `ready`. */
  world.reconnect = async (code, ready) => {
    world.socket().end(code);
    await clock.advance(world.states.at(-1).retryIn);
    return world.welcome(ready);
  };
  /** The socket beside the one that is there, once the client has made it. */
  world.beside = async () => {
    const made = sockets.length;
    await until(() => sockets.length > made && world.socket().onopen);
    return world.socket();
  };
  /** Let the client go to a new connection while the old one is still there. */
  world.handOver = async (ready = {}) => {
    const [old, coming] = [world.socket(), world.beside()];
    old.say({ type: "goaway", reason: "deploy", deadline: clock.now() + 60_000 });
    await clock.advance(1_000);
    const socket = await coming;
    socket.onopen();
    socket.say({ ...READY, heartbeat_ms: 1e9, server_time: clock.now(), ...ready });
    await settle();
    return { old, socket };
  };
  return world;
}

/** Have a page, with a user, leave a message in `storage` before it is accepted; returns its world. */
export async function leaveUnsent(storage, message) {
  const world = makeWorld({ storage });
  world.run = world.client.send(message);
  await world.welcome();
  return world;
}

export function started(id, at = {}) {
  return { type: "started", id, session_id: "s1", message_id: "m1", reply_id: "r1", ...at };
}

export const delta = (text) => ({ type: "content.delta", text });
export const done = (reason = "stop") => ({ type: "done", reason, message_id: "r1", saved: true });

export function frame(runId, first, events) {
  return { type: "events", run_id: runId, first_seq: first, last_seq: first + events.length - 1, events };
}

/** The payload frame that stands for `body`, and its bytes under `path`. */
export function payload(path, body, fields) {
  const bytes = Buffer.from(typeof body === "string" ? body : JSON.stringify(body));
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  return { bytes, frame: { type: "payload", url: path, bytes: bytes.length, sha256, expires_at: 1, ...fields } };
}

export function accepted(id, runId, more = {}) {
  return { type: "accepted", id, run_id: runId, session_id: "s1", message_id: "m1", ...more };
}

/** What somebody shows who appends each delta and begins anew when told so. */
export function shownBy(updates) {
  let shown = "";
  for (const { type, text } of updates) {
    if (type === "restarted") shown = "";
    if (type === "content.delta") shown += text;
  }
  return shown;
}
