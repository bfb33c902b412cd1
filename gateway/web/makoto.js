/**
 * Client of the Makoto Gateway (protocol `makoto.v1`) for browsers and Node, without dependencies.
 *
 *     const client = new MakotoClient({ url: "wss://host/v1/ws", token: async () => jwt });
 *     const run = client.send("Hello");
 *     for await (const event of run) show(run.text);
 *
 * Whoever appends each `content.delta` instead begins anew at `restarted` and `replaced`.
 *
 * What it keeps, whatever the network does: a message is stored and answered once, an answer is shown
 * whole and in order, and every promise settles or waits for a connection that is being made.
 *
 *     RunAssembly    frames of a run -> its text and values (pure)
 *     Run            one answer: its assembly, and the asking again for what is missing
 *     Line           one socket: identity, heartbeat
 *     Connection     one line after the other: handing over to the next, connecting again
 *     MakotoClient   the outbox, the requests, the runs, the sessions that are followed
 *
 * Types are in makoto.d.ts, the wire's own in wire.d.ts. Times are milliseconds.
 */

export const SUBPROTOCOL = "makoto.v1";

const RESUME_GAP = 2_000; // at most one resume per run in this time
const SILENCE = 15_000; // a live run that says nothing for so long is resumed
const RESEND = 15_000; // a send that is not accepted for so long is sent again
const REFUSALS = 8; // a send that could not be stored so often, in about two minutes, is given up
const REFUSAL_FIRST = 2_000; // the least pause before it is sent again; doubles,
const REFUSAL_MAX = 15_000; // up to this; as much again is left to chance
const REQUEST_TIMEOUT = 30_000; // from the call to its answer, reconnecting included
const HTTP_TIMEOUT = 30_000;
const CONNECT_TIMEOUT = 15_000; // from the handshake's start to `ready`
const TOKEN_TIMEOUT = 120_000; // it may be a person who is asked for it
const PONG_TIMEOUT = 10_000;
const FATAL_TIMEOUT = 2_000; // from a fatal error to the close that it announces; not every platform closes
const BACKOFF_FIRST = 500;
const BACKOFF_MAX = 30_000;
const SLOW_ATTEMPTS = 4; // where the backoff starts when the server asks for patience: at 8 s
const UNOPENED = 3; // the page is told of so many handshakes in a row that fail
const STABLE = 10_000; // a connection that held for so long starts the backoff anew
const RENEW_MARGIN = 60_000; // at most so long before it expires an identity is renewed
const RENEW_RETRY = 10_000;
const HANDOVER_MARGIN = 300_000; // at most so long before it expires a connection is replaced
const GOAWAY_SPREAD = 2_000; // after a `goaway`, so that not every client comes at once
const OVERLAP = 1_000; // two connections are heard so long, then until all is answered,
const OVERLAPS = 10; // or this many times as long
const ENDED_MAX = 256; // how many ended runs are known by their ids, so that none is met twice
const TRIES = 3; // for a payload, and for a token that is refused
const TOKEN = /^[\w.-]+$/; // what a JWT consists of (RFC 7515, section 7.1)
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

/** A `send` or `regenerate` that is refused so may be stored all the same. */
const OPEN_FATES = new Set(["storage.unavailable", "internal"]);
/** Refused so it is not stored, nor was an earlier copy of it. All other refusals say nothing of those. */
const NOT_STORED = new Set(["bad_request", "busy", "conflict", "not_found", "payload.too_large"]);

const utf8 = new TextEncoder();

/** Whose a message is that was written before anybody was known, in an earlier life of the page. */
const NOBODY = "";

/** Encode a command. Lone surrogates, which UTF-8 cannot carry, become U+FFFD. */
const encode = (command) => JSON.stringify(command, (_, value) =>
  typeof value === "string" ? value.replace(/\p{Surrogate}/gu, "\uFFFD") : value);

/** `null` for what is no JSON. */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

async function sha256(bytes) {
  const message = "A secure context is needed: https or localhost.";
  if (!globalThis.crypto?.subtle) throw new MakotoError("client.insecure", message);
  return hex(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)));
}

/**
 * What went wrong, by the server's code or one of the client's own: `client.closed` (by `close()`),
 * `client.cancelled` (before it was sent, or elsewhere), `client.stopped` (connecting again would not help),
 * `client.timeout`, `client.network`, `client.payload` (a fetched body is not what was announced),
 * `client.protocol` (a frame or a ticket cannot be read), `client.token` (there is none that can be used), `client.user` (it is another
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
  /** What was told, in order; event number n is the n-th one, or the n-th after the last `restarted`. */
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
  /** The last number that is in the run's log for certain: a resume asks for what follows. */
  kept = 0;
  #base = 0; // event number n is log[#base + n - 1]

  /** The sequence number that is needed next. */
  get next() {
    return this.log.length - this.#base + 1;
  }

  /**
   * Apply what is new in an `events` frame and return it; `null`, and no change, beyond a gap. Above `kept`
   * the latest frame is right: where it says something else than was told, all is told again, after a
   * `restarted`.
   */
  apply({ first_seq: first, events, volatile = false }) {
    if (!(first <= this.next) || !Array.isArray(events)) return null;
    if (this.done) return [];
    const end = first + events.length;
    let at = Math.max(first, this.kept + 1);
    while (at < end && this.#has(at, events[at - first])) at++;
    const fresh = events.slice(at - first);
    const again = fresh.length && at < this.next ? this.#restart(at) : [];
    for (const event of fresh) this.#add(event);
    this.volatile ||= volatile;
    if (!volatile && first <= this.kept + 1) this.kept = Math.max(this.kept, end - 1);
    return [...again, ...fresh];
  }

  /** The log has ended, or has not begun, below what was taken for kept: nothing of that is certain. */
  doubt() {
    this.kept = 0;
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

  #has(seq, event) {
    return seq < this.next && JSON.stringify(this.log[this.#base + seq - 1]) === JSON.stringify(event);
  }

  /** Begin anew with the events below `seq`; returns what is told of that. */
  #restart(seq) {
    const told = [{ type: "restarted" }, ...this.log.slice(this.#base, this.#base + seq - 1)];
    this.text = "";
    this.emotion = this.category = this.usage = this.started = null;
    this.memories = [];
    this.volatile = false;
    this.#base = this.log.length + 1;
    for (const event of told) this.#add(event);
    return told;
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
  #cancelTimer = null;
  #resumedAt = -Infinity;
  #brokenPayloads = 0;
  #heir = null; // the same run, to which its frames go now
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
    this.refusal = null;
    this.uncertain = false;
    this.cancelling = false;
    this.resuming = false;
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
    this.refusal = null;
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

  /** This is the run that `other` has followed so far: go on where it is, and take it along. */
  takeOver(other) {
    this.#assembly = other.#assembly;
    other.#heir = this;
    other.#inbox.length = 0; // the resume brings them again
    other.rest();
    this.addEventListener("update", ({ detail }) => {
      other.error = this.error;
      other.#settle();
      tell(other, "update", detail);
    });
  }

  /** Ask for what is missing: at once, or as soon as the last time is long enough ago. */
  resume() {
    if (!this.runId || this.end || this.error) return;
    const wait = this.#resumedAt + RESUME_GAP - this.#host.clock.now();
    if (wait > 0) return void this.#watch(wait);
    this.resuming = this.#host.post({ type: "resume", run_id: this.runId, after: this.#assembly.kept });
    if (!this.resuming) return this.rest(); // the next connection asks
    this.#resumedAt = this.#host.clock.now();
    this.#watch(SILENCE);
  }

  /** Ask for nothing until there is a connection. */
  rest() {
    this.#host.clock.clearTimeout(this.#timer);
    this.#host.clock.clearTimeout(this.#cancelTimer);
  }

  /** On a new connection nothing has been asked for yet. */
  reconnected() {
    this.#resumedAt = -Infinity;
    this.resume();
  }

  /** Where the run stands, by `resumed`: it may never have been where it was seen, after a power cut. */
  resumed({ state, last_seq: last }) {
    const { kept } = this.#assembly;
    if (kept > 0 && last <= kept && state !== "running" && !this.end) {
      this.#assembly.doubt();
      return this.reconnected();
    }
    return this.wait();
  }

  /** The run is alive, though it has nothing to say: a `resumed`, or a refusal for the moment. */
  wait(ms = SILENCE) {
    this.resuming = false;
    if (!this.end && !this.error) this.#watch(ms);
  }

  /** What was asked of it was refused for now; a cancel among that is asked for again. */
  refusedFor(ms) {
    this.wait(ms);
    if (!this.cancelling || this.end || this.error) return;
    const cancel = () => this.#host.post({ type: "cancel", run_id: this.runId });
    this.#host.clock.clearTimeout(this.#cancelTimer);
    this.#cancelTimer = this.#host.clock.setTimeout(cancel, ms);
  }

  /** `not_resumable`: the stored message replaces what is shown. */
  replace(message) {
    if (!this.end && !this.error) this.#tell(this.#assembly.replace(message));
  }

  /** It could not be stored just now, or not said to be; it is sent again. */
  delay(refusal) {
    this.refusal = refusal;
    this.#tell([]);
  }

  /** It was cancelled before it left this machine. */
  withdraw() {
    this.#accepted.reject(new MakotoError("client.cancelled", "Cancelled before it was sent."));
    const done = { type: "done", reason: "cancelled", message_id: "", saved: false };
    this.#tell(this.#assembly.apply({ first_seq: 1, events: [done] }));
  }

  /** It is of another user, who alone is to read it. */
  conceal() {
    this.content = null;
  }

  fail(error) {
    if (this.end || this.error) return;
    this.refusal = null;
    this.error = error;
    this.#accepted.reject(error);
    this.#tell([]);
  }

  async #read() {
    this.#reading = true;
    try {
      for (let frame; (frame = this.#inbox.shift());) {
        if (frame.type === "payload") frame = await this.#fetch(frame);
        if (frame) (this.#heir ?? this).#apply(frame);
      }
    } finally {
      this.#reading = false;
    }
  }

  async #fetch(payload) {
    if (payload.first_seq > this.#assembly.next) return payload; // a gap: it will come again
    if (payload.last_seq <= this.#assembly.kept || this.end || this.error) return null;
    this.#watch(TIMER_MAX);
    try {
      const frame = await this.#host.fetchFrame(payload);
      if (frame.run_id !== this.runId || frame.first_seq !== payload.first_seq) {
        throw new MakotoError("client.payload", "The fetched part belongs to another answer.");
      }
      this.#brokenPayloads = 0;
      this.#watch(SILENCE);
      return payload.volatile ? { ...frame, volatile: true } : frame;
    } catch (error) {
      this.#inbox.length = 0; // all beyond a gap now; the resume brings them again
      if (++this.#brokenPayloads >= TRIES) this.fail(error);
      else this.resume();
      return null;
    }
  }

  #apply(frame) {
    if (this.end || this.error) return;
    if (frame.stored) return this.replace(frame.stored); // an error that was too large for a frame
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
      this.rest();
      this.#host.finished(this);
    }
    this.#settle();
    tell(this, "update", events);
  }

  #settle() {
    if (this.error) this.#done.reject(this.error);
    else if (this.end) this.#done.resolve(this);
  }
}

/** Whether a message has yet to leave: its text is still uploaded, or it was refused and is to be sent again. */
const isHeldUp = ({ run, line, leftOn, needsIdentity }) =>
  !run.cancelling && (needsIdentity || run.refusal !== null || leftOn !== line);

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
    const { error } = decode(body);
    if (error.code) return MakotoError.from(error);
  } catch { /* not of this gateway, but of something before it */ }
  const retryable = status >= 500 || status === 429 || status === 408;
  return new MakotoError("client.network", `The server answered ${status}.`, { retryable });
}

/** Clocks by name; setting one again puts it off. */
class Timers {
  #clock;
  #running = new Map();

  constructor(clock) {
    this.#clock = clock;
  }

  after(name, ms, then) {
    this.stop(name);
    this.#running.set(name, this.#clock.setTimeout(then, Math.min(ms, TIMER_MAX)));
  }

  stop(name) {
    this.#clock.clearTimeout(this.#running.get(name));
  }

  stopAll() {
    for (const timer of this.#running.values()) this.#clock.clearTimeout(timer);
  }
}

/**
 * One socket, from the handshake to its end: identity and heartbeat. Tells `heard.ready`, `heard.frame`,
 * `heard.error` and, at the end, `heard.lost`; nothing after `close()`.
 */
class Line {
  ready = null;

  #options;
  #clock;
  #http;
  #heard;
  #timers;
  #socket = null;
  #readyAt = 0;
  #fault = null; // the error that announced its close
  #renewing = false; // a token is being got
  #closed = false;

  constructor(options, http, heard) {
    this.#options = options;
    this.#clock = options.clock;
    this.#timers = new Timers(options.clock);
    this.#http = http;
    this.#heard = heard;
  }

  /** Make the connection, with what `getToken` gives. */
  async open(getToken) {
    let address;
    try {
      address = await this.#address(await getToken());
      if (this.#closed) return;
      this.#socket = new this.#options.WebSocket(address.url, address.protocols);
    } catch (cause) {
      const stopped = new MakotoError("client.stopped", "The connection cannot be made.", { cause });
      return this.#lost(1006, { error: cause instanceof MakotoError ? cause : stopped });
    }
    const socket = this.#socket;
    const hello = encode({ type: "hello", token: address.token, client: this.#options.client });
    const current = (then) => (event) => void (this.#closed || then(event));
    let opened = false;
    socket.onopen = current(() => {
      opened = true;
      socket.send(hello);
    });
    socket.onmessage = current(({ data }) => this.#receive(data));
    socket.onerror = () => {}; // its close follows; some sockets outside of browsers throw what nobody hears
    socket.onclose = current(({ code }) => {
      // A refused handshake looks like any failure: rule its token out. A ticket was sold for a good one.
      this.#lost(code, { isUnopened: !opened, isTokenRefused: !opened && address.protocols.length > 1 });
    });
    this.#timers.after("connect", CONNECT_TIMEOUT, () => this.#lost(1006, { isUnopened: !opened }));
  }

  post(command) {
    this.#socket.send(encode(command));
  }

  /** Say something that has to be answered: a half-open connection shows itself. */
  beat() {
    this.post({ type: "ping", t: Math.round(this.#clock.now()) });
    this.#timers.after("pong", PONG_TIMEOUT, () => this.#lost(1006));
    this.#timers.after("beat", this.ready.heartbeat_ms, () => this.beat());
  }

  /** Get a token: in time, or not at all. */
  async token(fresh) {
    const { promise: timeout, reject } = deferred();
    const late = new MakotoError("client.token", "No token came in time.", { retryable: true });
    this.#timers.after("token", TOKEN_TIMEOUT, () => reject(late));
    try {
      return await Promise.race([tokenFrom(this.#options, fresh), timeout]);
    } finally {
      this.#timers.stop("token");
    }
  }

  /** Renew the identity in place, again and again until it is; once expired, the server closes. */
  async renew() {
    if (this.#renewing) return;
    this.#renewing = true; // one token for however many commands were refused
    this.#timers.stop("renew");
    try {
      const token = await this.token(true);
      if (!this.#closed) this.post({ type: "auth", id: this.#options.makeId(), token });
    } catch (error) {
      if (!this.#closed) this.#heard.error(error);
    }
    this.#renewing = false;
    if (this.#closed) return;
    this.#timers.after("renew", RENEW_RETRY * (1 + this.#options.random()), () => void this.renew());
  }

  /** How long it is until then, by the server's clock. */
  until(time) {
    return time - (this.ready.server_time + this.#clock.now() - this.#readyAt);
  }

  /** How long it is until shortly before then: at most `margin`, less where there is less, and jittered. */
  untilBefore(time, margin) {
    const left = this.until(time);
    const early = Math.min(margin, left / 4) * (1 + this.#options.random()) / 2;
    return Math.max(left - early, 1_000);
  }

  /** Forget the socket and every clock of it; a half-open one may take minutes to close. */
  close() {
    this.#closed = true;
    this.#timers.stopAll();
    this.#socket?.close();
  }

  #lost(code, { error = this.#fault, isUnopened = false, isTokenRefused = false } = {}) {
    if (this.#closed) return;
    this.close();
    this.#heard.lost({ code, error, isUnopened, isTokenRefused });
  }

  /** Where to connect, and what proves who it is: a subprotocol, a ticket, or `hello`. */
  async #address(token) {
    const { url, handshake, ticketUrl } = this.#options;
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

  #receive(data) {
    this.#timers.stop("pong"); // whatever it says, it is alive
    let frame;
    try {
      frame = JSON.parse(data);
    } catch (cause) {
      const message = "A frame could not be read.";
      return this.#heard.error(new MakotoError("client.protocol", message, { cause }));
    }
    if (frame?.type === "ready") return this.#welcome(frame);
    if (frame?.type === "error" && frame.fatal) this.#condemn(MakotoError.from(frame));
    if (frame?.kind === "auth.renewed") this.#renewBefore(frame.auth_expires_at);
    this.#heard.frame(frame);
  }

  #condemn(fault) {
    this.#fault = fault;
    this.#timers.after("fatal", FATAL_TIMEOUT, () => this.#lost(1006));
  }

  #welcome(ready) {
    this.#timers.stop("connect");
    this.ready = ready;
    this.#readyAt = this.#clock.now();
    this.#renewBefore(ready.auth_expires_at);
    this.#timers.after("beat", ready.heartbeat_ms, () => this.beat());
    this.#heard.ready();
  }

  #renewBefore(expiry) {
    this.#timers.after("renew", this.untilBefore(expiry, RENEW_MARGIN), () => void this.renew());
  }
}

async function tokenFrom(options, fresh) {
  let token;
  try {
    token = await options.token({ fresh });
  } catch (cause) {
    if (cause instanceof MakotoError) throw cause;
    throw new MakotoError("client.token", "No token could be had.", { retryable: true, cause });
  }
  if (typeof token === "string" && TOKEN.test(token)) return token;
  throw new MakotoError("client.token", "`token` returned no usable token: a JWT, without white space.");
}

/**
 * One line after the other. A line that is lost is made again; one whose end is near, or whose server asks
 * for it, is replaced while it still works: what was sent on it is answered on it, for a while.
 *
 * Tells `heard.state`; `heard.ready` for each new line; `heard.retired` when the line before it is gone, to
 * which end it asks `heard.isSettled`; and gives frames to `heard.frame`, each with the line it came on.
 */
class Connection {
  state = "idle";
  ready = null;
  /** Why it stopped or was closed. */
  error = null;

  #options;
  #clock;
  #http;
  #heard;
  #timers;
  #line = null; // what commands go out on; there is one while the state is `ready`
  #next = null; // the one that is being made
  #old = null; // the one before, which is still heard
  #opened = deferred();
  #readyAt = 0;
  #attempts = 0;
  #refusals = 0; // of tokens, in a row
  #unopened = 0; // handshakes that failed, in a row
  #freshToken = false;

  constructor(options, http, heard) {
    this.#options = options;
    this.#clock = options.clock;
    this.#timers = new Timers(options.clock);
    this.#http = http;
    this.#heard = heard;
  }

  /** Resolves with `ready` as soon as there is a connection; rejects when it stops or is closed. */
  connect() {
    if (["idle", "stopped", "closed"].includes(this.state)) {
      if (this.state !== "idle") this.#opened = deferred();
      this.#attempts = this.#refusals = this.#unopened = 0;
      this.#open();
    }
    return this.#opened.promise;
  }

  close() {
    this.#halt("closed", new MakotoError("client.closed", "The client was closed."));
  }

  wake() {
    if (this.state === "waiting") this.#open();
    else this.#line?.beat();
  }

  /** Send a command now; `false` if there is no connection to send it on. */
  post(command) {
    this.#line?.post(command);
    return this.#line !== null;
  }

  /** The line that commands go out on: another one after each cut and each hand-over. */
  get line() {
    return this.#line;
  }

  /** Whether what was sent on that line can still be answered there. */
  hears(line) {
    return Boolean(line) && (line === this.#line || line === this.#old);
  }

  renew() {
    return this.#line?.renew();
  }

  #open() {
    this.#timers.stop("open");
    const line = (this.#next = new Line(this.#options, this.#http, {
      ready: () => this.#welcome(line),
      frame: (frame) => this.#hear(line, frame),
      lost: (end) => this.#lost(line, end),
      error: this.#heard.error,
    }));
    this.error = null;
    if (!this.#line) this.#set("connecting");
    void line.open(async () => {
      const token = await line.token(this.#freshToken);
      this.#freshToken = false;
      return token;
    });
  }

  #welcome(line) {
    if (line !== this.#next) return;
    const before = this.#line;
    this.#line = line;
    this.#next = null;
    this.ready = line.ready;
    this.#readyAt = this.#clock.now();
    this.#refusals = 0;
    this.#timers.after("open", line.untilBefore(line.ready.connection_expires_at, HANDOVER_MARGIN), () => {
      this.#attempts = 0;
      this.#open();
    });
    if (before) this.#overlap(before);
    else this.#set("ready");
    this.#opened.resolve(line.ready);
    this.#heard.ready(line.ready);
  }

  #hear(line, frame) {
    if (frame?.type === "goaway" && line === this.#line && !this.#next) this.#goAway(frame.deadline);
    this.#heard.frame(frame, line);
  }

  // Handing over

  /** Hand over soon: jittered, and ever later if every connection is sent away at once. */
  #goAway(deadline) {
    this.#calm();
    const spread = Math.min(GOAWAY_SPREAD, this.#line.until(deadline) / 2);
    const wait = Math.max(this.#options.random() * spread, this.#backoff());
    this.#timers.after("open", wait, () => this.#open());
  }

  #overlap(before) {
    this.#retire(); // there may be one from a moment ago
    this.#old = before;
    this.#opened = deferred();
    this.#retireAfter(OVERLAPS);
  }

  #retireAfter(overlaps) {
    this.#timers.after("retire", OVERLAP, () => {
      if (overlaps > 1 && !this.#heard.isSettled(this.#old)) this.#retireAfter(overlaps - 1);
      else this.#retire();
    });
  }

  #retire() {
    this.#timers.stop("retire");
    const old = this.#old;
    this.#old = null;
    if (!old) return;
    old.close();
    this.#heard.retired();
  }

  /** The new line is lost while the one before it is still there. */
  #goBack() {
    this.#timers.stop("retire");
    this.#line = this.#old;
    this.#old = null;
    this.ready = this.#line.ready;
    this.#heard.ready(this.ready);
  }

  // Ends

  /** A line is gone, or was not made: the error before it, or the close code, decides what comes next. */
  #lost(line, { code, error, isUnopened, isTokenRefused }) {
    if (line === this.#old) return this.#retire();
    this.#unopened = isUnopened ? this.#unopened + 1 : 0;
    const verdict = verdictOn(code, error);
    this.#freshToken ||= isTokenRefused || verdict === "token";
    if (line === this.#next) this.#next = null;
    else if (this.#old && verdict !== "stop") this.#goBack();
    else this.#leave();
    if (this.#line) { // only the hand-over has failed
      if (verdict !== "stop") this.#timers.after("open", this.#backoff(verdict, error), () => this.#open());
      return;
    }
    if (verdict === "token") this.#refusals++;
    if (verdict === "stop" || this.#refusals >= TRIES) {
      const message = `The server will not have this client (${code}).`;
      return this.#halt("stopped", error ?? new MakotoError("client.stopped", message));
    }
    if (this.#next) return this.#set("connecting"); // the hand-over is all the sooner
    const delay = verdict === "token" && this.#refusals === 1 ? 0 : this.#backoff(verdict, error);
    this.#timers.after("open", delay, () => this.#open());
    this.#set("waiting", { retryIn: delay, error: error ?? this.#whyUnopened() });
  }

  /** A browser does not say why a handshake failed; often the network will be back in a moment. */
  #whyUnopened() {
    if (this.#unopened < UNOPENED) return null;
    const message = "The handshake failed again: the server is out of reach, or token, origin or address are wrong.";
    return new MakotoError("client.network", message, { retryable: true });
  }

  #leave() {
    this.#line = null;
    this.#opened = deferred();
    this.#calm();
  }

  /** A connection that has held for a while starts the backoff anew. */
  #calm() {
    if (this.#clock.now() - this.#readyAt >= STABLE) this.#attempts = 0;
  }

  /** Full jitter: anything up to a ceiling that doubles, behind what the server has asked for. */
  #backoff(verdict, error) {
    if (verdict === "slow") this.#attempts = Math.max(this.#attempts, SLOW_ATTEMPTS);
    const ceiling = Math.min(BACKOFF_MAX, BACKOFF_FIRST * 2 ** this.#attempts++);
    return (error?.retryAfter ?? 0) + this.#options.random() * ceiling;
  }

  #halt(state, error) {
    for (const line of [this.#line, this.#next, this.#old]) line?.close();
    this.#line = this.#next = this.#old = null;
    this.#timers.stopAll();
    this.error = error;
    this.#opened.reject(error);
    this.#set(state, { error });
  }

  #set(state, detail = {}) {
    this.state = state;
    this.#heard.state({ state, ...detail });
  }
}

function verdictOn(code, error) {
  const byError = ERROR_VERDICTS[error?.code] ?? (error?.retryable === false ? "stop" : undefined);
  return byError ?? CLOSE_VERDICTS[code] ?? "retry";
}

/**
 * The gateway, as an application sees it. It connects at the first use or by `connect()`, and mends itself.
 *
 * Everything with an `id` is kept until it is answered and sent again on a new connection. Sends have no
 * deadline (the server answers each id once, so sending one twice is safe); they also survive a reload of
 * the page if `storage` is given. One that the server could not store, as far as it knows, is sent again for
 * two minutes. Other requests give up after 30 s. Runs are resumed and sessions followed on every new
 * connection.
 */
export class MakotoClient extends Source {
  #options;
  #http;
  #connection;
  #waiting = new Map(); // id -> { command, run? or resolve and reject, ... }: what has not been answered
  #refused = new WeakMap(); // Run that failed -> its entry in #waiting, for `retry`
  #order = 0; // of the latest message in the outbox
  #runs = new Map(); // run_id -> Run: accepted and not ended
  #ended = new Set(); // run_ids, oldest first
  #subscriptions = new Map(); // session_id -> { subscribers, isConfirmed, timer }
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
      ...Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)),
    };
    this.#http = httpBeside(options.url, this.#options);
    this.#connection = new Connection(this.#options, this.#http, {
      state: (change) => {
        if (change.state === "stopped" || change.state === "closed") this.#rest();
        tell(this, "state", change);
      },
      ready: (ready) => this.#welcome(ready),
      frame: (frame, line) => this.#handle(frame, line),
      error: (error) => tell(this, "error", error),
      isSettled: (line) => this.#isSettled(line),
      retired: () => this.#flush(),
    });
    this.#host = {
      clock: this.#options.clock,
      post: (command) => this.#connection.post(command),
      fetchFrame: (payload) => this.#fetchFrame(payload),
      finished: (run) => this.#forget(run),
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
    const command = { type: "send", session_id: sessionId ?? undefined, content, character, if_busy: ifBusy };
    return this.#start({ ...command, id: this.#options.makeId() }, sessionId);
  }

  /** Answer a stored message again; the older reply stays stored. */
  regenerate(messageId, { sessionId } = {}) {
    return this.#start({ type: "regenerate", message_id: messageId, id: this.#options.makeId() }, sessionId);
  }

  /**
   * Ask again for what has failed, as a new `Run`. It has the `id` of the one that failed: if that is stored all
   * the same, this follows it, and nothing is stored or answered twice. What another user has written fails again.
   */
  retry(run) {
    const refused = this.#refused.get(run);
    if (!refused) return run;
    const { command, user } = refused;
    const going = this.#waiting.get(command.id)?.run;
    return going ?? this.#start(command, run.sessionId, { user, sends: 1 });
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

  /** Be told of the runs that others start in a session, as `run`. Returns the function that ends it. */
  subscribe(sessionId) {
    const followed = this.#subscriptions.get(sessionId) ?? { subscribers: 0 };
    this.#subscriptions.set(sessionId, followed);
    if (++followed.subscribers === 1) {
      this.#demand();
      this.#postSubscribe(sessionId);
    }
    let isOver = false;
    return () => {
      if (!isOver && --followed.subscribers === 0) this.#unsubscribe(sessionId, followed);
      isOver = true;
    };
  }

  /** Stop a run, wherever it is: still in the outbox, on its way, queued or streaming. */
  cancel(run) {
    if (run.end || run.error) return;
    const entry = this.#waiting.get(run.id);
    if (entry && !entry.sends) {
      this.#take(run.id);
      run.withdraw();
    } else {
      run.cancelling = true;
      this.#postCancel(run);
    }
    this.#flush(); // what came after it in its session
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

  #start(command, sessionId, rest) {
    const entry = this.#enqueue(command, sessionId, rest);
    this.#store(entry);
    this.#demand();
    this.#flush();
    return entry.run;
  }

  /** Its `user` is `null` if it is of this page's life, and nobody is known yet. */
  #enqueue(command, sessionId, rest) {
    const { id, type: kind, content } = command;
    const run = new Run(this.#host, { id, kind, content, sessionId });
    const entry = { command, run, user: this.#user, order: ++this.#order, ...rest };
    this.#waiting.set(id, entry);
    return entry;
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

  /**
   * Send what has not been sent, or not on a connection on which an answer may still come. What belongs to one
   * session leaves in the order in which it was written.
   */
  #flush() {
    if (this.state !== "ready") return;
    this.#disownStrangers();
    const heldUp = new Set(); // sessions
    for (const entry of this.#waiting.values()) {
      const sessionId = entry.run?.sessionId;
      if (heldUp.has(sessionId)) continue;
      if (!this.#connection.hears(entry.line)) void this.#transmit(entry);
      if (sessionId && isHeldUp(entry)) heldUp.add(sessionId);
    }
  }

  async #transmit(entry) {
    const line = (entry.line = this.#connection.line);
    const command = this.#isTooLong(entry.command) ? await this.#uploaded(entry, line) : entry.command;
    if (!command || line !== this.#connection.line || !this.#waiting.has(command.id)) return;
    this.#connection.post(command);
    entry.leftOn = line;
    entry.sends = (entry.sends ?? 0) + 1;
    if (!entry.run) return;
    this.#options.clock.clearTimeout(entry.timer);
    entry.timer = this.#options.clock.setTimeout(() => this.#again(entry), RESEND);
    if (entry.upload) this.#flush(); // what came after it in its session
  }

  #isTooLong(command) {
    return command.content && utf8.encode(encode(command)).length > this.ready.limits.command_bytes;
  }

  /** Upload the text of a command; returns the command that names it, or `null` when that failed. */
  async #uploaded(entry, line) {
    const { content, ...command } = entry.command;
    try {
      entry.upload ??= { line, id: this.#upload(content) };
      return { ...command, upload_id: await entry.upload.id };
    } catch (error) {
      const wasLost = entry.upload?.line !== line; // with the connection on which it began
      entry.upload = null;
      if (line !== this.#connection.line) return null; // the next connection begins it anew
      if (wasLost) return this.#uploaded(entry, line);
      this.#faultOfSend(entry, error, { hasLeft: false });
      return null;
    }
  }

  #again(entry) {
    entry.line = null;
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
    if (entry.run) this.#unstore(entry);
    return entry;
  }

  #refuse(id, error) {
    const entry = this.#take(id);
    if (entry?.run) this.#refused.set(entry.run, entry);
    if (entry?.run) entry.run.fail(error);
    else entry?.reject(error);
  }

  /** Nothing more is asked for, and no clock runs, until somebody connects again. */
  #rest() {
    this.#rejectRequests();
    for (const { timer } of [...this.#waiting.values(), ...this.#subscriptions.values()]) {
      this.#options.clock.clearTimeout(timer);
    }
    for (const run of this.#runs.values()) run.rest();
  }

  #rejectRequests() {
    for (const { command, run } of [...this.#waiting.values()]) {
      if (!run) this.#refuse(command.id, this.error);
    }
  }

  /** Each message has an item of its own: other clients have theirs there, and a full storage spoils none. */
  #store({ command, run: { sessionId }, user, order }) {
    const { storage, storageKey } = this.#options;
    try {
      storage?.setItem(`${storageKey}.${command.id}`, JSON.stringify({ command, sessionId, user, order }));
    } catch { /* full or forbidden: the message then lives as long as the page */ }
  }

  #unstore({ command }) {
    const { storage, storageKey } = this.#options;
    try {
      storage?.removeItem(`${storageKey}.${command.id}`);
    } catch { /* forbidden: it is not there */ }
  }

  /** What nobody is known to have written is nobody's: it may be another one's who signs in next. */
  #restore() {
    const found = this.#stored().sort((one, other) => one.order - other.order);
    for (const { command, sessionId, user, order } of found) {
      this.#order = Math.max(this.#order, order);
      this.#enqueue(command, sessionId, { user: user ?? NOBODY, order, sends: 1, isRestored: true });
    }
  }

  #stored() {
    const { storage, storageKey } = this.#options;
    const found = [];
    try {
      for (let at = 0; at < (storage?.length ?? 0); at++) {
        const key = storage.key(at);
        if (!key?.startsWith(`${storageKey}.`)) continue; // null: another client has just removed one
        const kept = parsed(storage.getItem(key));
        const id = kept?.command?.id ?? "";
        if (key === `${storageKey}.${id}` && Number.isInteger(kept?.order)) found.push(kept);
      }
    } catch { /* storage is forbidden */ }
    return found;
  }

  get #user() {
    return this.ready && `${this.ready.tenant_id}/${this.ready.user_id}`;
  }

  // Frames

  #welcome(ready) {
    this.#disownStrangers();
    for (const run of this.runs) if (run.cancelling) this.#postCancel(run);
    for (const run of this.#runs.values()) run.reconnected();
    for (const sessionId of this.#subscriptions.keys()) this.#postSubscribe(sessionId);
    const answered = this.#outboxAnswered();
    this.#identified();
    this.#flush();
    tell(this, "ready", ready);
    void answered.then(() => {
      for (const live of ready.runs) {
        const isKnown = this.#knows(live.run_id) || this.#subscriptions.has(live.session_id);
        if (!isKnown) tell(this, "live", live);
      }
    });
  }

  /** Only then is it known which of the live runs were not started here. */
  #outboxAnswered() {
    return Promise.allSettled(this.runs.map((run) => run.accepted));
  }

  /** Whether nothing is awaited on the connection before this one, nor lacking on this one. */
  #isSettled(before) {
    const isIn = (map, fits) => [...map.values()].some(fits);
    return !isIn(this.#waiting, (entry) => entry.line === before)
      && !isIn(this.#runs, (run) => run.resuming)
      && !isIn(this.#subscriptions, (followed) => !followed.isConfirmed);
  }

  /**
   * A message of another user, or one that may be, is not sent in this one's name; nor is what another client
   * of this storage has sent or withdrawn since it was read there.
   */
  #disownStrangers() {
    for (const entry of [...this.#waiting.values()]) {
      if (!entry.run) continue;
      if (entry.user === null) {
        entry.user = this.#user;
        this.#store(entry);
      } else if (entry.user !== this.#user) {
        this.#disown(entry);
      } else if (entry.isRestored && !entry.leftOn && this.#isGone(entry)) {
        entry.run.uncertain = true;
        const why = "It was sent or withdrawn elsewhere.";
        this.#refuse(entry.command.id, new MakotoError("client.cancelled", why));
      }
    }
  }

  /** What was restored and is of a known other user stays where it is stored, and is only for him to read. */
  #disown(entry) {
    const { command, run, user, isRestored } = entry;
    const why = user === NOBODY ? "It is not known who has written this." : "The user has changed.";
    const error = new MakotoError("client.user", why);
    if (!isRestored || user === NOBODY) return this.#refuse(command.id, error);
    this.#waiting.delete(command.id);
    this.#options.clock.clearTimeout(entry.timer);
    run.conceal();
    run.fail(error);
  }

  #isGone({ command }) {
    const { storage, storageKey } = this.#options;
    try {
      return storage.getItem(`${storageKey}.${command.id}`) === null;
    } catch {
      return false; // forbidden by now: nobody can tell
    }
  }

  #handle(frame, line) {
    switch (frame?.type) {
      case "accepted": return this.#accept(frame, line);
      case "events": return this.#deliver(frame, line);
      case "payload": return frame.of === "page" ? void this.#fetchPage(frame) : this.#deliver(frame, line);
      case "page":
      case "upload_ready": return this.#take(frame.id)?.resolve(frame);
      case "resumed": return this.#runs.get(frame.run_id)?.resumed(frame);
      case "subscribed": return this.#confirm(frame);
      case "goaway": return tell(this, "notice", { kind: "goaway", ...frame });
      case "notice": return this.#hearNotice(frame, line);
      case "error": return this.#fault(frame);
    }
  }

  /** What has changed by the word of a connection that is being left was read at the `ready` of the next. */
  #hearNotice(frame, line) {
    if (frame.kind === "session.changed" && line !== this.#connection.line) return;
    if (frame.kind === "auth.renewed") this.#identified();
    this.#flush();
    tell(this, "notice", frame);
  }

  /** What was refused for its identity may go out again. */
  #identified() {
    for (const entry of this.#waiting.values()) {
      if (entry.needsIdentity) entry.line = null;
      entry.needsIdentity = false;
    }
  }

  #accept(frame, line) {
    const run = this.#take(frame.id)?.run;
    if (!run) return;
    const followed = this.#runs.get(frame.run_id);
    if (followed) run.takeOver(followed);
    this.#runs.set(frame.run_id, run);
    run.adopt(frame);
    if (run.cancelling) this.#postCancel(run); // the first may have been refused, when nothing named the run
    // This connection may not follow it yet.
    if (frame.duplicate || followed || line !== this.#connection.line) run.resume();
    this.#flush(); // what came after it in its session
  }

  #deliver(frame, line) {
    const [first] = frame.events ?? [];
    let met = null;
    if (first?.type === "started") {
      this.#accept({ ...first, run_id: frame.run_id }, line); // it may be the first to come
      met = this.#meet(frame.run_id, first.session_id);
    }
    this.#runs.get(frame.run_id)?.receive(frame);
    if (met) tell(this, "run", met);
  }

  #fault(frame) {
    const error = MakotoError.from(frame);
    const entry = this.#waiting.get(frame.id);
    if (entry) return this.#faultOfRequest(entry, error, frame.fatal);
    const run = this.#runs.get(frame.run_id);
    const passes = error.retryable || ERROR_VERDICTS[error.code] === "token";
    const wait = Math.max(error.retryAfter, RESUME_GAP);
    if (run && frame.stored) run.replace(frame.stored);
    else if (run && passes) run.refusedFor(wait);
    else if (run) run.fail(error);
    else if (passes && this.#subscriptions.has(frame.session_id)) this.#subscribeIn(frame.session_id, wait);
    else this.#tellFault(frame, error);
  }

  #tellFault(frame, error) {
    this.#dropSubscription(frame.session_id);
    tell(this, "error", error);
  }

  #faultOfRequest(entry, error, fatal) {
    if (ERROR_VERDICTS[error.code] === "token" && !entry.renewed) {
      entry.renewed = entry.needsIdentity = true; // with that it goes out again, here or on the next connection
      if (entry.run) this.#options.clock.clearTimeout(entry.timer);
      if (!fatal) void this.#connection.renew();
    } else if (error.code === "not_found" && entry.upload && !entry.uploadedAgain) {
      entry.uploadedAgain = true; // the upload has expired, most likely
      entry.upload = null;
      this.#again(entry);
    } else if (error.code === "not_found" && entry.command.type === "forget" && entry.sends > 1) {
      this.#take(entry.command.id).resolve(); // it was forgotten; only the answer got lost
    } else if (entry.run) {
      this.#faultOfSend(entry, error);
    } else {
      this.#refuse(entry.command.id, error);
    }
  }

  /**
   * It may be stored all the same. Only its own id tells, so it is sent again for a while. `hasLeft`: the refusal
   * is of the command itself, not of the upload of its text, which says nothing of the copies before.
   */
  #faultOfSend(entry, error, { hasLeft = true } = {}) {
    const isOpen = OPEN_FATES.has(error.code);
    entry.refusals = (entry.refusals ?? 0) + 1;
    if (isOpen && error.retryable && entry.refusals < REFUSALS) return this.#sendLater(entry, error);
    const copies = (entry.sends ?? 0) - (hasLeft && !isOpen ? 1 : 0); // that may be stored
    entry.run.uncertain = copies > 0 && !(hasLeft && NOT_STORED.has(error.code));
    this.#refuse(entry.command.id, error);
    this.#flush(); // what came after it in its session
  }

  #sendLater(entry, refusal) {
    const { clock, random } = this.#options;
    const least = Math.min(REFUSAL_MAX, REFUSAL_FIRST * 2 ** (entry.refusals - 1));
    clock.clearTimeout(entry.timer);
    entry.timer = clock.setTimeout(() => this.#again(entry), refusal.retryAfter + least * (1 + random()));
    entry.run.delay(refusal);
  }

  #postCancel(run) {
    const name = run.runId ? { run_id: run.runId } : { id: run.id };
    this.#connection.post({ type: "cancel", ...name });
  }

  // Runs that were started elsewhere, in sessions that are followed

  #knows(runId) {
    return this.#runs.has(runId) || this.#ended.has(runId);
  }

  /** Make a `Run` of one that is new here, if its session is followed; else `null`. */
  #meet(runId, sessionId) {
    if (this.#knows(runId) || !this.#subscriptions.has(sessionId)) return null;
    const run = new Run(this.#host, { kind: "follow", runId, sessionId });
    this.#runs.set(runId, run);
    run.wait();
    return run;
  }

  #forget(run) {
    if (!run.runId) return;
    this.#runs.delete(run.runId);
    this.#ended.add(run.runId);
    if (this.#ended.size > ENDED_MAX) this.#ended.delete(this.#ended.values().next().value);
  }

  #postSubscribe(sessionId) {
    this.#subscriptions.get(sessionId).isConfirmed = false;
    const isPosted = this.#connection.post({ type: "subscribe", session_id: sessionId });
    if (isPosted) this.#subscribeIn(sessionId, RESEND); // unless it is confirmed before
  }

  #subscribeIn(sessionId, ms) {
    const followed = this.#subscriptions.get(sessionId);
    this.#options.clock.clearTimeout(followed.timer);
    followed.timer = this.#options.clock.setTimeout(() => this.#postSubscribe(sessionId), ms);
  }

  #confirm({ session_id: sessionId, runs }) {
    const followed = this.#subscriptions.get(sessionId);
    if (!followed) return;
    followed.isConfirmed = true;
    this.#options.clock.clearTimeout(followed.timer);
    void this.#outboxAnswered().then(() => {
      for (const live of runs) {
        const met = this.#meet(live.run_id, sessionId);
        if (met) tell(this, "run", met);
      }
    });
  }

  #unsubscribe(sessionId, followed) {
    if (this.#subscriptions.get(sessionId) !== followed) return; // it was refused
    this.#dropSubscription(sessionId);
    this.#connection.post({ type: "unsubscribe", session_id: sessionId });
  }

  #dropSubscription(sessionId) {
    this.#options.clock.clearTimeout(this.#subscriptions.get(sessionId)?.timer);
    this.#subscriptions.delete(sessionId);
  }

  // Payloads: what was too large for a frame

  async #fetchFrame({ url, bytes, sha256: digest }) {
    const body = await this.#http(url);
    if (body.length !== bytes || (await sha256(body)) !== digest) {
      const message = "A part of the answer arrived damaged.";
      throw new MakotoError("client.payload", message, { retryable: true });
    }
    try {
      return { ...decode(body) };
    } catch (cause) {
      throw new MakotoError("client.payload", "A part of the answer cannot be read.", { cause });
    }
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
