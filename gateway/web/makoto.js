/**
 * Client of the Makoto Gateway (protocol `makoto.v1`) for browsers and Node, without dependencies.
 *
 *     const client = new MakotoClient({ url: "wss://host/v1/ws", token: async () => jwt });
 *     const run = client.send("Hello");
 *     for await (const event of run) if (event.type === "content.delta") show(event.text);
 *
 * What it keeps, whatever the network does: a message is stored and answered once, an answer is shown
 * whole and in order, and every promise settles or waits for a connection that is being made.
 *
 *     RunAssembly    frames of a run -> its text and values (pure)
 *     Run            one answer: its assembly, and the asking again for what is missing
 *     Connection     one socket at a time: identity, heartbeat, connecting again
 *     MakotoClient   the outbox, the requests, the runs
 *
 * Types are in makoto.d.ts, the wire's own in wire.d.ts. Times are milliseconds.
 */

export const SUBPROTOCOL = "makoto.v1";

const RESUME_GAP = 2_000; // at most one resume per run in this time
const SILENCE = 15_000; // a live run that says nothing for so long is resumed
const RESEND = 15_000; // a send that is not accepted for so long is sent again
const REQUEST_TIMEOUT = 30_000; // from the call to its answer, reconnecting included
const HTTP_TIMEOUT = 30_000;
const CONNECT_TIMEOUT = 15_000; // from the handshake's start to `ready`
const PONG_TIMEOUT = 10_000;
const BACKOFF_FIRST = 500;
const BACKOFF_MAX = 30_000;
const SLOW_ATTEMPTS = 4; // where the backoff starts when the server asks for patience: at 8 s
const STABLE = 10_000; // a connection that held for so long starts the backoff anew
const RENEW_MARGIN = 60_000; // at most so long before it expires an identity is renewed
const RENEW_RETRY = 10_000;
const TRIES = 3; // for a payload, and for a token that is refused
const SUBPROTOCOL_TOKEN_MAX = 4_096; // a longer token travels as a ticket
const TIMER_MAX = 2 ** 31 - 1; // setTimeout fires at once beyond it

/** What a close means. Everything else, a cut included: connect again. */
const CLOSE_VERDICTS = {
  1009: "stop", 4400: "stop", 4403: "stop", 4409: "stop", 4401: "token", 4429: "slow", 4503: "slow",
};
/** The same for the error before it, which decides: not every platform can send close codes. */
const ERROR_VERDICTS = {
  "auth.expired": "token", "auth.invalid": "token", "auth.required": "token",
  "rate.limited": "slow", "maintenance": "slow", "internal": "slow",
};

const utf8 = new TextEncoder();

/** Encode a command. Lone surrogates, which UTF-8 cannot carry, become U+FFFD. */
const encode = (command) => JSON.stringify(command, (_, value) =>
  typeof value === "string" ? value.replace(/\p{Surrogate}/gu, "\uFFFD") : value);

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

async function sha256(bytes) {
  const message = "A secure context is needed: https or localhost.";
  if (!globalThis.crypto?.subtle) throw new MakotoError("client.insecure", message);
  return hex(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)));
}

/**
 * What went wrong, by the server's code or one of the client's own: `client.closed` (by `close()`),
 * `client.cancelled` (before it was sent), `client.stopped` (connecting again would not help),
 * `client.timeout`, `client.network`, `client.payload` (a fetched body is not what was announced),
 * `client.protocol` (a frame or a ticket cannot be read), `client.token` (there is none), `client.user` (it is another
 * one now), `client.insecure` (the page may not use `crypto.subtle`).
 */
export class MakotoError extends Error {
  name = "MakotoError";

  constructor(code, message, { retryable = false, retryAfter = 0, cause } = {}) {
    super(message, { cause });
    this.code = code;
    this.retryable = retryable;
    this.retryAfter = retryAfter;
  }

  /** Make one from an `error` frame, a run's `done.error` or the body of an HTTP error. */
  static from({ code, message, retryable, retry_after_ms: retryAfter }) {
    return new MakotoError(code, message, { retryable, retryAfter });
  }
}

/** Something to listen to. */
class Source extends EventTarget {
  on(type, listener) {
    const heard = (event) => listener(event.detail);
    this.addEventListener(type, heard);
    return () => this.removeEventListener(type, heard);
  }
}

const tell = (source, type, detail) => source.dispatchEvent(new CustomEvent(type, { detail }));

/** A promise with its settling functions; nobody has to handle its rejection. */
function deferred() {
  let settle;
  const promise = new Promise((resolve, reject) => (settle = { resolve, reject }));
  promise.catch(() => {});
  return { promise, ...settle };
}

/** What the frames of one run add up to. Pure: the same events give the same, however they were cut. */
export class RunAssembly {
  /** The applied events; the event at index n has sequence number n + 1. */
  log = [];
  text = "";
  emotion = null;
  category = null;
  memories = [];
  usage = null;
  started = null;
  done = null;
  /** Some events could not be logged: they cannot be replayed. */
  volatile = false;

  /** The sequence number that is needed next. */
  get next() {
    return this.log.length + 1;
  }

  /** Apply what is new in an `events` frame and return it; `null`, and no change, beyond a gap. */
  apply({ first_seq: first, events, volatile }) {
    if (!(first <= this.next)) return null;
    const fresh = this.done ? [] : events.slice(this.next - first);
    for (const event of fresh) this.#add(event);
    this.volatile ||= volatile === true;
    return fresh;
  }

  /** Let the stored message stand for everything, when the log cannot be replayed any more. */
  replace(message) {
    this.text = message.content;
    this.emotion = message.emotion ?? null;
    this.category = message.category ?? null;
    const { message_id, end } = message;
    const done = { type: "done", reason: end ?? "stop", message_id, saved: true };
    const events = [{ type: "replaced", message }, done];
    for (const event of events) this.#add(event);
    return events;
  }

  #add(event) {
    this.log.push(event);
    switch (event.type) {
      case "started": this.started = event; break;
      case "content.delta": this.text += event.text; break;
      case "emotion": this.emotion = event.value; break;
      case "category": this.category = event.value; break;
      case "memory": this.memories.push({ memory_id: event.memory_id, value: event.value }); break;
      case "usage": this.usage = event; break;
      case "done": this.done = event; break;
    }
  }
}

/**
 * One answer, live: read its fields at any time, listen to `update`, iterate over its events from the
 * first one, or await `accepted` and `done`. The client makes it; do not construct one.
 */
export class Run extends Source {
  #host;
  #assembly = new RunAssembly();
  #inbox = [];
  #reading = false;
  #timer = null;
  #resumedAt = -Infinity;
  #brokenPayloads = 0;
  #origin; // what `accepted` said of it
  #accepted = deferred();
  #done = deferred();

  constructor(host, { id = null, kind, content = null, runId = null, sessionId = null }) {
    super();
    this.#host = host;
    this.#origin = { session_id: sessionId };
    this.id = id;
    this.kind = kind;
    this.content = content;
    this.runId = runId;
    this.error = null;
    this.cancelling = false;
    if (runId) this.#accepted.resolve(this);
  }

  get text() { return this.#assembly.text; }
  get emotion() { return this.#assembly.emotion; }
  get category() { return this.#assembly.category; }
  get memories() { return this.#assembly.memories; }
  get usage() { return this.#assembly.usage; }
  get volatile() { return this.#assembly.volatile; }
  get sessionId() { return (this.#assembly.started ?? this.#origin).session_id ?? null; }
  get messageId() { return (this.#assembly.started ?? this.#origin).message_id ?? null; }
  get replyId() { return this.#assembly.started?.reply_id ?? null; }
  /** The terminal event; `null` while the answer is incomplete. */
  get end() { return this.#assembly.done; }
  get accepted() { return this.#accepted.promise; }
  get done() { return this.#done.promise; }

  get state() {
    if (this.error) return "failed";
    if (this.end) return "ended";
    if (this.text) return "streaming";
    return this.runId ? "waiting" : "sending";
  }

  async *[Symbol.asyncIterator]() {
    for (let at = 0; ;) {
      while (at < this.#assembly.log.length) yield this.#assembly.log[at++];
      if (this.error) throw this.error;
      if (this.end) return;
      await new Promise((resolve) => this.addEventListener("update", resolve, { once: true }));
    }
  }

  // From here on: for the client.

  /** The server has stored the message and will answer it (`accepted`, or `started` if that is first). */
  adopt(origin) {
    this.runId = origin.run_id;
    this.#origin = origin;
    this.#accepted.resolve(this);
    this.#watch(SILENCE);
    this.#tell([]);
  }

  /** Take a frame, `events` or `payload`; those behind a payload wait until it is fetched. */
  receive(frame) {
    this.#inbox.push(frame);
    if (!this.#reading) void this.#read();
  }

  /** Ask for what is missing: at once, or as soon as the last time is long enough ago. */
  resume() {
    if (!this.runId || this.end || this.error) return;
    const wait = this.#resumedAt + RESUME_GAP - this.#host.clock.now();
    if (wait > 0) return void this.#watch(wait);
    const asked = this.#host.post({ type: "resume", run_id: this.runId, after: this.#assembly.next - 1 });
    if (asked) this.#resumedAt = this.#host.clock.now();
    this.#watch(SILENCE);
  }

  /** On a new connection nothing has been asked for yet. */
  reconnected() {
    this.#resumedAt = -Infinity;
    this.resume();
  }

  /** The run is alive, though it has nothing to say: a `resumed`, or a refusal for the moment. */
  wait(ms = SILENCE) {
    if (!this.end && !this.error) this.#watch(ms);
  }

  /** `not_resumable`: the stored message replaces what is shown. */
  replace(message) {
    if (!this.end && !this.error) this.#tell(this.#assembly.replace(message));
  }

  /** It was cancelled before it left this machine. */
  withdraw() {
    this.#accepted.reject(new MakotoError("client.cancelled", "Cancelled before it was sent."));
    const done = { type: "done", reason: "cancelled", message_id: "", saved: false };
    this.#tell(this.#assembly.apply({ first_seq: 1, events: [done] }));
  }

  fail(error) {
    if (this.end || this.error) return;
    this.error = error;
    this.#accepted.reject(error);
    this.#tell([]);
  }

  async #read() {
    this.#reading = true;
    try {
      for (let frame; (frame = this.#inbox.shift());) {
        if (frame.type === "payload") frame = await this.#fetch(frame);
        if (frame) this.#apply(frame);
      }
    } finally {
      this.#reading = false;
    }
  }

  async #fetch(payload) {
    if (payload.first_seq > this.#assembly.next) return payload; // a gap: it will come again
    if (payload.last_seq < this.#assembly.next || this.end || this.error) return null;
    this.#watch(TIMER_MAX);
    try {
      const frame = await this.#host.fetchFrame(payload);
      if (frame.run_id !== this.runId || frame.first_seq !== payload.first_seq) {
        throw new MakotoError("client.payload", "The fetched part belongs to another answer.");
      }
      this.#brokenPayloads = 0;
      this.#watch(SILENCE);
      return frame;
    } catch (error) {
      this.#inbox.length = 0; // all beyond a gap now; the resume brings them again
      if (++this.#brokenPayloads >= TRIES) this.fail(error);
      else this.resume();
      return null;
    }
  }

  #apply(frame) {
    if (this.end || this.error) return;
    const fresh = frame.type === "events" ? this.#assembly.apply(frame) : null;
    if (!fresh) return this.resume();
    if (!fresh.length) return; // all had; the clock keeps running, perhaps towards a resume
    this.#watch(SILENCE);
    this.#tell(fresh);
  }

  #watch(ms) {
    this.#host.clock.clearTimeout(this.#timer);
    this.#timer = this.#host.clock.setTimeout(() => this.resume(), ms);
  }

  #tell(events) {
    if (this.end || this.error) {
      this.#host.clock.clearTimeout(this.#timer);
      this.#host.finished(this);
      if (this.error) this.#done.reject(this.error);
      else this.#done.resolve(this);
    }
    tell(this, "update", events);
  }
}

const CLOCK = {
  now: () => performance.now(), // monotonic: a corrected wall clock moves no deadline
  setTimeout: (then, ms) => setTimeout(then, ms),
  clearTimeout: (timer) => clearTimeout(timer),
};

/** `http(path, init)` fetches from the socket's own host, or an absolute URL, and gives the body's bytes. */
function httpBeside(socketUrl, { fetch, clock }) {
  const origin = new URL(socketUrl);
  origin.protocol = origin.protocol.replace("ws", "http");
  return async (path, init) => {
    const abort = new AbortController();
    const timer = clock.setTimeout(() => abort.abort(), HTTP_TIMEOUT);
    try {
      const { href } = new URL(path, origin);
      const response = await fetch(href, { credentials: "omit", signal: abort.signal, ...init });
      const body = new Uint8Array(await response.arrayBuffer());
      if (response.ok) return body;
      throw httpError(response.status, body);
    } catch (cause) {
      if (cause instanceof MakotoError) throw cause;
      const message = "The server could not be reached.";
      throw new MakotoError("client.network", message, { retryable: true, cause });
    } finally {
      clock.clearTimeout(timer);
    }
  };
}

const decode = (bytes) => JSON.parse(new TextDecoder().decode(bytes));

function httpError(status, body) {
  try {
    return MakotoError.from(decode(body).error);
  } catch {
    const retryable = status >= 500 || status === 429 || status === 408;
    return new MakotoError("client.network", `The server answered ${status}.`, { retryable });
  }
}

/**
 * One socket at a time, made anew when it is lost: identity, heartbeat, and what a close means.
 * Tells `heard.state`, `heard.ready`, `heard.error`, and gives every other frame to `heard.frame`.
 */
class Connection {
  state = "idle";
  ready = null;
  /** Why it stopped or was closed, or the error that announced the latest close. */
  error = null;

  #options;
  #clock;
  #http;
  #heard;
  #socket = null; // the one that counts; whatever an older one still says is not heard
  #opened = deferred();
  #readyAt = 0;
  #attempts = 0;
  #refusals = 0; // of tokens, in a row
  #freshToken = false;
  #timers = {};

  constructor(options, http, heard) {
    this.#options = options;
    this.#clock = options.clock;
    this.#http = http;
    this.#heard = heard;
  }

  /** Resolves with `ready` as soon as there is a connection; rejects when it stops or is closed. */
  connect() {
    if (["idle", "stopped", "closed"].includes(this.state)) {
      if (this.state !== "idle") this.#opened = deferred();
      this.#attempts = this.#refusals = 0;
      void this.#open();
    }
    return this.#opened.promise;
  }

  close() {
    this.#leave();
    this.#halt("closed", new MakotoError("client.closed", "The client was closed."));
  }

  wake() {
    if (this.state === "waiting") void this.#open();
    else if (this.state === "ready") this.#beat();
  }

  /** Send a command now; `false` if there is no connection to send it on. */
  post(command) {
    if (this.state !== "ready") return false;
    this.#socket.send(encode(command));
    return true;
  }

  /** A value that is another one on each connection. */
  get epoch() {
    return this.#socket;
  }

  /** Renew the identity in place, again and again until it is; once expired, the server closes. */
  async renew() {
    const socket = this.#socket;
    this.#clock.clearTimeout(this.#timers.renew);
    try {
      const token = await this.#token(true);
      if (socket === this.#socket) this.post({ type: "auth", id: this.#options.makeId(), token });
    } catch (error) {
      this.#heard.error(error);
    }
    if (socket !== this.#socket) return;
    this.#after("renew", RENEW_RETRY * (1 + this.#options.random()), () => void this.renew());
  }

  async #open() {
    this.#leave();
    const attempt = (this.#socket = {}); // a place holder until there is a socket
    this.error = null;
    this.#set("connecting");
    let socket;
    let hello;
    let showsToken;
    try {
      const { url, protocols, token } = await this.#address();
      if (attempt !== this.#socket) return;
      showsToken = protocols.length > 1;
      hello = encode({ type: "hello", token, client: this.#options.client });
      socket = this.#socket = new this.#options.WebSocket(url, protocols);
    } catch (cause) {
      if (attempt !== this.#socket) return;
      const stopped = new MakotoError("client.stopped", "The connection cannot be made.", { cause });
      return this.#lost(1006, cause instanceof MakotoError ? cause : stopped);
    }
    const current = (then) => (event) => void (socket === this.#socket && then(event));
    let opened = false;
    socket.onopen = current(() => {
      opened = true;
      socket.send(hello);
    });
    socket.onmessage = current(({ data }) => this.#receive(data));
    socket.onclose = current(({ code }) => {
      // A refused handshake looks like any failure: rule its token out. A ticket was sold for a good one.
      this.#freshToken ||= !opened && showsToken;
      this.#lost(code);
    });
    this.#after("connect", CONNECT_TIMEOUT, () => this.#lost(1006));
  }

  /** Where to connect, and what proves who it is: a subprotocol, a ticket, or `hello`. */
  async #address() {
    const { url, handshake, ticketUrl } = this.#options;
    const token = await this.#token(this.#freshToken);
    this.#freshToken = false;
    if (handshake === "hello") return { url, protocols: [SUBPROTOCOL], token };
    if (handshake === "subprotocol" && token.length <= SUBPROTOCOL_TOKEN_MAX) {
      return { url, protocols: [SUBPROTOCOL, `bearer.${token}`] };
    }
    const withTicket = new URL(url);
    withTicket.searchParams.set("ticket", await this.#buyTicket(ticketUrl, token));
    // Not every platform answers with a subprotocol, and a browser that has named one then closes.
    return { url: withTicket.href, protocols: [] };
  }

  /** A ticket opens one socket: each connection has its own. */
  async #buyTicket(ticketUrl, token) {
    const headers = { authorization: `Bearer ${token}` };
    const body = await this.#http(ticketUrl, { method: "POST", headers });
    try {
      const { ticket } = decode(body);
      if (typeof ticket === "string" && ticket) return ticket;
    } catch { /* not JSON */ }
    throw new MakotoError("client.protocol", "Where tickets should be sold are none.");
  }

  async #token(fresh) {
    try {
      return await this.#options.token({ fresh });
    } catch (cause) {
      if (cause instanceof MakotoError) throw cause;
      throw new MakotoError("client.token", "No token could be had.", { retryable: true, cause });
    }
  }

  #receive(data) {
    this.#clock.clearTimeout(this.#timers.pong); // whatever it says, it is alive
    let frame;
    try {
      frame = JSON.parse(data);
    } catch (cause) {
      const message = "A frame could not be read.";
      return this.#heard.error(new MakotoError("client.protocol", message, { cause }));
    }
    if (frame?.type === "ready") return this.#welcome(frame);
    if (frame?.type === "error" && frame.fatal) this.error = MakotoError.from(frame);
    if (frame?.kind === "auth.renewed") this.#renewBefore(frame.auth_expires_at);
    this.#heard.frame(frame);
  }

  #welcome(ready) {
    this.#clock.clearTimeout(this.#timers.connect);
    this.ready = ready;
    this.#readyAt = this.#clock.now();
    this.#refusals = 0;
    this.#renewBefore(ready.auth_expires_at);
    this.#after("beat", ready.heartbeat_ms, () => this.#beat());
    this.#set("ready");
    this.#opened.resolve(ready);
    this.#heard.ready(ready);
  }

  #beat() {
    this.post({ type: "ping", t: Math.round(this.#clock.now()) });
    this.#after("pong", PONG_TIMEOUT, () => this.#lost(1006)); // half-open
    this.#after("beat", this.ready.heartbeat_ms, () => this.#beat());
  }

  /** Renew in good time before `expiry`, which is by the server's clock. */
  #renewBefore(expiry) {
    const serverNow = this.ready.server_time + this.#clock.now() - this.#readyAt;
    const lifetime = expiry - serverNow;
    const margin = Math.min(RENEW_MARGIN, lifetime / 4) * (1 + this.#options.random()) / 2;
    this.#after("renew", Math.max(lifetime - margin, 1_000), () => void this.renew());
  }

  /** The connection is gone: decide from the error before it, or the close code, what comes next. */
  #lost(code, error = this.error) {
    const byError = ERROR_VERDICTS[error?.code] ?? (error?.retryable === false ? "stop" : undefined);
    const verdict = byError ?? CLOSE_VERDICTS[code] ?? "retry";
    if (this.state === "ready") {
      this.#opened = deferred();
      if (this.#clock.now() - this.#readyAt >= STABLE) this.#attempts = 0;
    }
    this.#leave();
    if (verdict === "token") this.#refusals++;
    if (verdict === "stop" || this.#refusals >= TRIES) {
      const message = `The server will not have this client (${code}).`;
      return this.#halt("stopped", error ?? new MakotoError("client.stopped", message));
    }
    this.#freshToken ||= verdict === "token";
    const delay = verdict === "token" && this.#refusals === 1 ? 0 : this.#backoff(verdict, error);
    this.#after("open", delay, () => void this.#open());
    this.#set("waiting", { retryIn: delay, error });
  }

  /** Full jitter: anything up to a ceiling that doubles, behind what the server has asked for. */
  #backoff(verdict, error) {
    if (verdict === "slow") this.#attempts = Math.max(this.#attempts, SLOW_ATTEMPTS);
    const ceiling = Math.min(BACKOFF_MAX, BACKOFF_FIRST * 2 ** this.#attempts++);
    return (error?.retryAfter ?? 0) + this.#options.random() * ceiling;
  }

  #halt(state, error) {
    this.error = error;
    this.#opened.reject(error);
    this.#set(state, { error });
  }

  /** Forget the socket and every clock of it; a half-open one may take minutes to close. */
  #leave() {
    const socket = this.#socket;
    this.#socket = null;
    for (const timer of Object.values(this.#timers)) this.#clock.clearTimeout(timer);
    socket?.close?.();
  }

  #set(state, detail = {}) {
    this.state = state;
    this.#heard.state({ state, ...detail });
  }

  #after(name, ms, then) {
    this.#clock.clearTimeout(this.#timers[name]);
    this.#timers[name] = this.#clock.setTimeout(then, Math.min(ms, TIMER_MAX));
  }
}

/**
 * The gateway, as an application sees it. It connects at the first use or by `connect()`, and mends itself.
 *
 * Everything with an `id` is kept until it is answered and sent again on a new connection. Sends have no
 * deadline (the server answers each id once, so sending one twice is safe); they also survive a reload of
 * the page if `storage` is given. Other requests give up after 30 s.
 */
export class MakotoClient extends Source {
  #options;
  #http;
  #connection;
  #waiting = new Map(); // id -> { command, run? or resolve and reject, ... }: what has not been answered
  #runs = new Map(); // run_id -> Run: accepted and not ended
  #host;

  constructor(options) {
    super();
    this.#options = {
      WebSocket: globalThis.WebSocket,
      fetch: (...request) => globalThis.fetch(...request),
      clock: CLOCK,
      random: Math.random,
      makeId: () => hex(crypto.getRandomValues(new Uint8Array(16))),
      handshake: "subprotocol",
      ticketUrl: "/v1/tickets",
      storage: null,
      storageKey: "makoto.outbox",
      client: "makoto.js",
      ...options,
    };
    this.#http = httpBeside(options.url, this.#options);
    this.#connection = new Connection(this.#options, this.#http, {
      state: (change) => {
        if (change.state === "stopped" || change.state === "closed") this.#rejectRequests();
        tell(this, "state", change);
      },
      ready: (ready) => this.#welcome(ready),
      frame: (frame) => this.#handle(frame),
      error: (error) => tell(this, "error", error),
    });
    this.#host = {
      clock: this.#options.clock,
      post: (command) => this.#connection.post(command),
      fetchFrame: (payload) => this.#fetchFrame(payload),
      finished: (run) => this.#runs.delete(run.runId),
    };
    this.#restore();
  }

  /** `idle`, `connecting`, `ready`, `waiting` (to connect again), `stopped` (for good), `closed`. */
  get state() { return this.#connection.state; }
  /** Why it is stopped or closed. */
  get error() { return this.#connection.error; }
  /** The latest `ready` of the server, or `null`. */
  get ready() { return this.#connection.ready; }
  /** Every run that has not ended, those restored from `storage` included. */
  get runs() {
    const sending = [...this.#waiting.values()].flatMap((entry) => entry.run ?? []);
    return [...new Set([...sending, ...this.#runs.values()])];
  }

  /** Connect, also after `stopped` or `closed`. Rejects when the server will not have this client. */
  connect() {
    return this.#connection.connect();
  }

  /** Close. Answers go on at the server, requests reject, unsent messages stay in the outbox. */
  close() {
    this.#connection.close();
  }

  /** Make sure of the connection now: call it when the network or the page comes back. */
  wake() {
    this.#connection.wake();
  }

  /** Send a message. It is in the outbox when this returns; see `Run` for what becomes of it. */
  send(message) {
    const { content, sessionId, character, ifBusy } =
      typeof message === "string" ? { content: message } : message;
    return this.#start({ type: "send", session_id: sessionId, content, character, if_busy: ifBusy });
  }

  /** Answer a stored message again; the older reply stays stored. */
  regenerate(messageId, { sessionId } = {}) {
    return this.#start({ type: "regenerate", message_id: messageId }, sessionId);
  }

  /** Follow a run of this user that is already under way, from its first event. */
  follow(runId, { sessionId } = {}) {
    const known = this.#runs.get(runId);
    if (known) return known;
    const run = new Run(this.#host, { kind: "follow", runId, sessionId });
    this.#runs.set(runId, run);
    this.#demand();
    run.resume();
    return run;
  }

  /** Stop a run, wherever it is: still in the outbox, on its way, queued or streaming. */
  cancel(run) {
    if (run.end || run.error) return undefined;
    const entry = this.#waiting.get(run.id);
    if (entry && !entry.sends) {
      this.#take(run.id);
      return run.withdraw();
    }
    run.cancelling = true;
    return this.#postCancel(run);
  }

  history(sessionId, { before, limit } = {}) {
    return this.#request({ type: "history", session_id: sessionId, before, limit });
  }

  sessions({ before, limit } = {}) {
    return this.#request({ type: "sessions", before, limit });
  }

  async session(sessionId) {
    return (await this.#request({ type: "session", session_id: sessionId })).items[0];
  }

  async renameSession(sessionId, title) {
    return (await this.#request({ type: "session", session_id: sessionId, title })).items[0];
  }

  async forgetSession(sessionId) {
    await this.#request({ type: "forget", session_id: sessionId });
  }

  memories({ before, limit } = {}) {
    return this.#request({ type: "memories", before, limit });
  }

  async forgetMemory(memoryId) {
    await this.#request({ type: "forget", memory_id: memoryId });
  }

  // Outbox and requests

  #start(fields, sessionId = fields.session_id) {
    const run = this.#enqueue({ ...fields, id: this.#options.makeId() }, sessionId);
    this.#save();
    this.#demand();
    this.#flush();
    return run;
  }

  #enqueue(command, sessionId, rest = {}) {
    const { id, type: kind, content } = command;
    const run = new Run(this.#host, { id, kind, content, sessionId });
    this.#waiting.set(id, { command, run, ...rest });
    return run;
  }

  #request(fields) {
    const command = { ...fields, id: this.#options.makeId() };
    const entry = { command, ...deferred() };
    const late = new MakotoError("client.timeout", "No answer came in time.", { retryable: true });
    entry.timer = this.#options.clock.setTimeout(() => this.#refuse(command.id, late), REQUEST_TIMEOUT);
    this.#waiting.set(command.id, entry);
    this.#demand();
    this.#flush();
    return entry.promise;
  }

  /** Connect because something has to be sent, unless the server or the user has ended that. */
  #demand() {
    if (this.state === "idle") void this.connect();
    else if (this.state === "stopped" || this.state === "closed") this.#rejectRequests();
  }

  /** Send what has not been sent on this connection. */
  #flush() {
    if (this.state !== "ready") return;
    for (const entry of this.#waiting.values()) {
      if (entry.epoch !== this.#connection.epoch) void this.#transmit(entry);
    }
  }

  async #transmit(entry) {
    const epoch = (entry.epoch = this.#connection.epoch);
    const command = this.#isTooLong(entry.command) ? await this.#uploaded(entry, epoch) : entry.command;
    if (!command || epoch !== this.#connection.epoch || !this.#waiting.has(command.id)) return;
    this.#connection.post(command);
    entry.sends = (entry.sends ?? 0) + 1;
    if (!entry.run) return;
    this.#options.clock.clearTimeout(entry.timer);
    entry.timer = this.#options.clock.setTimeout(() => this.#again(entry), RESEND);
  }

  #isTooLong(command) {
    return command.content && utf8.encode(encode(command)).length > this.ready.limits.command_bytes;
  }

  /** Upload the text of a command; returns the command that names it, or `null` when that failed. */
  async #uploaded(entry, epoch) {
    const { content, ...command } = entry.command;
    try {
      entry.upload ??= { epoch, id: this.#upload(content) };
      return { ...command, upload_id: await entry.upload.id };
    } catch (error) {
      const wasLost = entry.upload?.epoch !== epoch; // with the connection on which it began
      entry.upload = null;
      if (epoch !== this.#connection.epoch) return null; // the next connection begins it anew
      if (wasLost) return this.#uploaded(entry, epoch);
      this.#refuse(command.id, error);
      return null;
    }
  }

  #again(entry) {
    entry.epoch = null;
    this.#flush();
  }

  async #upload(content) {
    const body = utf8.encode(content);
    const digest = await sha256(body);
    const ready = await this.#request({ type: "upload", bytes: body.length, sha256: digest });
    const blob = new Blob([body], { type: "text/plain;charset=utf-8" });
    if (ready.method === "PUT") {
      await this.#http(ready.url, { method: "PUT", body: blob });
    } else {
      const form = new FormData();
      for (const [name, value] of Object.entries(ready.fields)) form.append(name, value);
      form.append("file", blob);
      await this.#http(ready.url, { method: "POST", body: form });
    }
    return ready.upload_id;
  }

  /** End the waiting of `id`; `undefined` if it does not wait (any more). */
  #take(id) {
    const entry = this.#waiting.get(id);
    if (!entry) return undefined;
    this.#waiting.delete(id);
    this.#options.clock.clearTimeout(entry.timer);
    if (entry.run) this.#save();
    return entry;
  }

  #refuse(id, error) {
    const entry = this.#take(id);
    if (entry?.run) entry.run.fail(error);
    else entry?.reject(error);
  }

  #rejectRequests() {
    for (const { command, run } of [...this.#waiting.values()]) {
      if (!run) this.#refuse(command.id, this.error);
    }
  }

  #save() {
    const { storage, storageKey } = this.#options;
    const sends = [...this.#waiting.values()].filter((entry) => entry.run)
      .map(({ command, run, user }) => ({ command, sessionId: run.sessionId, user: user ?? this.#user }));
    try {
      if (sends.length) storage?.setItem(storageKey, JSON.stringify(sends));
      else storage?.removeItem(storageKey);
    } catch { /* full or forbidden: the outbox then lives as long as the page */ }
  }

  #restore() {
    const { storage, storageKey } = this.#options;
    try {
      for (const { command, sessionId, user } of JSON.parse(storage?.getItem(storageKey) ?? "[]")) {
        this.#enqueue(command, sessionId, { user, sends: 1 });
      }
    } catch { /* not ours, or storage is forbidden */ }
  }

  get #user() {
    return this.ready && `${this.ready.tenant_id}/${this.ready.user_id}`;
  }

  // Frames

  #welcome(ready) {
    this.#disownStrangers();
    for (const run of this.runs) if (run.cancelling) this.#postCancel(run);
    for (const run of this.#runs.values()) run.reconnected();
    const answers = this.runs.map((run) => run.accepted);
    this.#flush();
    tell(this, "ready", ready);
    // Only when the outbox is answered is it known which of the live runs were not started here.
    void Promise.allSettled(answers).then(() => {
      for (const live of ready.runs) if (!this.#runs.has(live.run_id)) tell(this, "live", live);
    });
  }

  /** A message of another user, left in this browser's storage, is not sent in this one's name. */
  #disownStrangers() {
    const changed = new MakotoError("client.user", "The user has changed.");
    for (const entry of [...this.#waiting.values()]) {
      if (!entry.run) continue;
      entry.user ??= this.#user;
      if (entry.user !== this.#user) this.#refuse(entry.command.id, changed);
    }
  }

  #handle(frame) {
    switch (frame?.type) {
      case "accepted": return this.#accept(frame);
      case "events": return this.#deliver(frame);
      case "payload": return frame.of === "page" ? void this.#fetchPage(frame) : this.#deliver(frame);
      case "page":
      case "upload_ready": return this.#take(frame.id)?.resolve(frame);
      case "resumed": return this.#runs.get(frame.run_id)?.wait();
      case "goaway": return tell(this, "notice", { kind: "goaway", ...frame });
      case "notice": this.#flush(); return tell(this, "notice", frame);
      case "error": return this.#fault(frame);
    }
  }

  #accept(frame) {
    const run = this.#take(frame.id)?.run;
    if (!run) return;
    this.#runs.set(frame.run_id, run);
    run.adopt(frame);
    if (frame.duplicate) run.resume(); // this connection may not follow it yet
  }

  #deliver(frame) {
    const [first] = frame.events ?? [];
    if (first?.type === "started") this.#accept({ ...first, run_id: frame.run_id }); // it may be the first
    this.#runs.get(frame.run_id)?.receive(frame);
  }

  #fault(frame) {
    const error = MakotoError.from(frame);
    const entry = this.#waiting.get(frame.id);
    if (entry) return this.#faultOfRequest(entry, error, frame.fatal);
    const run = this.#runs.get(frame.run_id);
    if (!run) return tell(this, "error", error);
    const passes = error.retryable || ERROR_VERDICTS[error.code] === "token";
    if (frame.stored) run.replace(frame.stored);
    else if (passes) run.wait(Math.max(error.retryAfter, RESUME_GAP));
    else run.fail(error);
  }

  #faultOfRequest(entry, error, fatal) {
    if (ERROR_VERDICTS[error.code] === "token" && !entry.renewed) {
      entry.renewed = true; // it goes out again with the new identity, here or on the next connection
      entry.epoch = null;
      if (!fatal) void this.#connection.renew();
    } else if (error.code === "not_found" && entry.upload && !entry.uploadedAgain) {
      entry.uploadedAgain = true; // the upload has expired, most likely
      entry.upload = null;
      this.#again(entry);
    } else if (error.code === "not_found" && entry.command.type === "forget" && entry.sends > 1) {
      this.#take(entry.command.id).resolve(); // it was forgotten; only the answer got lost
    } else {
      this.#refuse(entry.command.id, error);
    }
  }

  #postCancel(run) {
    const name = run.runId ? { run_id: run.runId } : { id: run.id };
    this.#connection.post({ type: "cancel", ...name });
  }

  // Payloads: what was too large for a frame

  async #fetchFrame({ url, bytes, sha256: digest }) {
    const body = await this.#http(url);
    if (body.length !== bytes || (await sha256(body)) !== digest) {
      const message = "A part of the answer arrived damaged.";
      throw new MakotoError("client.payload", message, { retryable: true });
    }
    return decode(body);
  }

  async #fetchPage(payload) {
    const entry = this.#waiting.get(payload.id);
    if (!entry) return;
    try {
      const frame = await this.#fetchFrame(payload);
      if (frame.type === "page" && frame.id === payload.id) return this.#take(frame.id)?.resolve(frame);
      throw new MakotoError("client.payload", "The fetched page belongs to another request.");
    } catch (error) {
      entry.fetches = (entry.fetches ?? 0) + 1;
      if (entry.fetches >= TRIES) this.#refuse(payload.id, error);
      else this.#again(entry); // ask for the page again: its URL may have expired
    }
  }
}
