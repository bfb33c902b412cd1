// Types of the browser client; makoto.js says how it behaves. Durations are milliseconds.

import type {
  AnyEvent,
  Done,
  ErrorCode,
  Events,
  GoAway,
  LiveRun,
  MemoryItem,
  MessageItem,
  Notice,
  Ready,
  SessionItem,
  Started,
  UsageReported,
} from "./wire.js";

export type * from "./wire.js";

export declare const SUBPROTOCOL: "makoto.v1";

/** Errors that the client finds itself, beside those of the server. */
export type ClientErrorCode =
  | "client.cancelled"
  | "client.closed"
  | "client.insecure"
  | "client.network"
  | "client.payload"
  | "client.protocol"
  | "client.stopped"
  | "client.timeout"
  | "client.token"
  | "client.user";

export declare class MakotoError extends Error {
  constructor(
    code: ErrorCode | ClientErrorCode,
    message: string,
    more?: { retryable?: boolean | undefined; retryAfter?: number | undefined; cause?: unknown },
  );
  readonly code: ErrorCode | ClientErrorCode;
  /** Whether the same may succeed later. */
  readonly retryable: boolean;
  /** How long to wait before that; 0 if nobody knows. */
  readonly retryAfter: number;
}

/** Takes the place of all events before it: the log was gone, this is the answer as it was stored. */
export interface Replaced {
  type: "replaced";
  message: MessageItem;
}

/**
 * Takes the place of all events before it: the server has crashed and some of what was shown was in no log
 * (`volatile`). The events follow anew, from the first one on.
 */
export interface Restarted {
  type: "restarted";
}

/** What a run consists of. Ignore types that you do not know. */
export type Update = AnyEvent | Replaced | Restarted;

export interface MemoryValue {
  memory_id: string;
  value: string;
}

/** What the frames of one run add up to; pure. */
export declare class RunAssembly {
  readonly log: readonly Update[];
  readonly text: string;
  readonly emotion: string | null;
  readonly category: string | null;
  readonly memories: readonly MemoryValue[];
  readonly usage: UsageReported | null;
  readonly started: Started | null;
  readonly done: Done | null;
  readonly volatile: boolean;
  /** The sequence number that is needed next. */
  readonly next: number;
  /** The last number that is in the run's log for certain: a resume asks for what follows. */
  readonly kept: number;
  /**
   * Apply what is new and return it; `null`, and no change, beyond a gap. What differs from an event above
   * `kept` is right: then all comes again, after a `restarted`.
   */
  apply(frame: Pick<Events, "first_seq" | "events" | "volatile">): Update[] | null;
  /** None of it is certain any more: a resume asks for all. */
  doubt(): void;
  replace(message: MessageItem): Update[];
}

/**
 * - `sending`: in the outbox or on its way
 * - `waiting`: accepted, no text yet
 * - `streaming`: some text is there, more may come
 * - `ended`: `end` says how
 * - `failed`: `error` says why there will be no answer here
 */
export type RunState = "sending" | "waiting" | "streaming" | "ended" | "failed";

/** One answer, live. Iterating gives its events from the first one; it throws if the run fails. */
export declare class Run extends EventTarget implements AsyncIterable<Update> {
  private constructor();
  /** The id of the command that asked for it; `null` for a run that was started elsewhere. */
  readonly id: string | null;
  readonly kind: "send" | "regenerate" | "follow";
  /** What the user said, for a `send`; `null` also when it turns out to be another user's (`storage`). */
  readonly content: string | null;
  readonly state: RunState;
  /** `null` until it is accepted. */
  readonly runId: string | null;
  readonly sessionId: string | null;
  /** The user's message. */
  readonly messageId: string | null;
  /** The answer's own message. */
  readonly replyId: string | null;
  readonly text: string;
  readonly emotion: string | null;
  readonly category: string | null;
  readonly memories: readonly MemoryValue[];
  readonly usage: UsageReported | null;
  /** Some of it could not be logged, so it may not be replayable. */
  readonly volatile: boolean;
  /** Whether its cancelling was asked for. */
  readonly cancelling: boolean;
  /** The terminal event; `null` while the answer is incomplete. */
  readonly end: Done | null;
  readonly error: MakotoError | null;
  /**
   * Why it is being sent again: the server could not store it, as far as it knows. `null` before that, once it
   * is accepted, and when it is given up (`error`).
   */
  readonly refusal: MakotoError | null;
  /**
   * It has failed, and may be stored all the same: `client.retry(run)` finds out. A new message with its
   * content might be a second one.
   */
  readonly uncertain: boolean;
  /** Resolves when the server has stored the message; rejects when it refuses to. */
  readonly accepted: Promise<this>;
  /** Resolves when the answer has ended, in whatever way (`end.reason`); rejects when the run fails. */
  readonly done: Promise<this>;
  /** Listen; returns the function that stops it. The list is empty when only the state has changed. */
  on(type: "update", listener: (events: readonly Update[]) => void): () => void;
  [Symbol.asyncIterator](): AsyncIterator<Update>;
}

/**
 * - `idle`: not needed yet
 * - `connecting`: getting a token, or shaking hands
 * - `ready`: connected, also while the next connection is being made in good time
 * - `waiting`: the connection was lost; the next one is made in `retryIn`
 * - `stopped`: the server will not have this client; only `connect()` tries again
 * - `closed`: by `close()`
 */
export type ConnectionState = "idle" | "connecting" | "ready" | "waiting" | "stopped" | "closed";

export interface StateChange {
  state: ConnectionState;
  retryIn?: number;
  /**
   * Why it is `stopped`, `closed` or `waiting`; `null` for a mere cut. `client.network`: the server is out of
   * reach, or several handshakes in a row have failed, which may be the token's, the origin's or the address's
   * fault: browsers do not tell.
   */
  error?: MakotoError | null;
}

export interface ClientEvents {
  state: StateChange;
  /** A connection is made: the first one, one after a cut, or one that replaces another without a pause. */
  ready: Ready;
  /** A live run of this user that was not started here, in a session that is not followed. */
  live: LiveRun;
  /** A run that was not started here (in another tab, before a reload), in a session that is followed. */
  run: Run;
  /**
   * `session.changed`: elsewhere this user has begun, renamed or deleted that session, or asked what waits
   * in it. A hint that may be missing: read it again, and after each `ready` whatever is shown.
   */
  notice: Notice | ({ kind: "goaway" } & GoAway);
  /** Something that belongs to no run and no request. */
  error: MakotoError;
}

export interface MakotoClientOptions {
  /** The socket's address, such as `wss://chat.example/v1/ws`. */
  url: string;
  /**
   * Get a JWT. `fresh`: not one from before, it may be expired or refused. A thrown `MakotoError` that is
   * not retryable stops the client, as does what is no JWT (`client.token`: a prompt was cancelled); anything
   * else thrown is tried again later. So is what has not come in two minutes: a prompt that is still open then
   * should answer the next call, too.
   */
  token(need: { fresh: boolean }): Promise<string>;
  /**
   * How the token travels. A subprotocol longer than 4 KB becomes a ticket by itself. Choose `ticket` where
   * the platform answers no subprotocol, or takes no handshake without a credential that it knows.
   */
  handshake?: "subprotocol" | "ticket" | "hello" | undefined;
  /** Where tickets are sold: an absolute URL, or relative to the socket's host (`/v1/tickets`). */
  ticketUrl?: string | undefined;
  /**
   * Where unaccepted messages survive a reload, such as `sessionStorage`. Each has an item of its own, with its
   * text and whose it is. Clients may share a storage (tabs with one `localStorage`): a new one sends what the
   * others have not got accepted yet, too, by the same ids, so that it is stored and answered once; what has left
   * the storage before that was sent or withdrawn by another one, and fails (`client.cancelled`, `uncertain`).
   * For whoever signs in as another user it fails (`client.user`): it stays stored for who has written it, and its
   * run loses its `content`. What was written before anybody was known, and restored, fails likewise, but keeps
   * its `content` and is not stored any more.
   */
  storage?: Pick<Storage, "length" | "key" | "getItem" | "setItem" | "removeItem"> | null | undefined;
  /** The items' keys begin with it and a dot, the message's id follows: `makoto.outbox`. */
  storageKey?: string | undefined;
  /** Names the application in the server's log. */
  client?: string | undefined;
  WebSocket?: (new (url: string, protocols: string[]) => WebSocket) | undefined;
  fetch?: typeof fetch | undefined;
  /** `now` is monotonic. */
  clock?: {
    now(): number;
    setTimeout(then: () => void, ms: number): unknown;
    clearTimeout(timer: unknown): void;
  } | undefined;
  random?: (() => number) | undefined;
  makeId?: (() => string) | undefined;
}

export interface Paging {
  /** The `next` of the page before. */
  before?: string | undefined;
  limit?: number | undefined;
}

/** `next` is absent on the last page. A page may hold fewer items than were asked for. */
export interface PageOf<Item> {
  items: Item[];
  next?: string;
}

export interface Message {
  content: string;
  /** Without one a new session begins; the run knows its id once it is accepted. */
  sessionId?: string | null | undefined;
  character?: string | undefined;
  ifBusy?: "reject" | "queue" | "cancel" | undefined;
}

export declare class MakotoClient extends EventTarget {
  constructor(options: MakotoClientOptions);
  readonly state: ConnectionState;
  readonly error: MakotoError | null;
  readonly ready: Ready | null;
  readonly runs: Run[];
  /** Listen; returns the function that stops it. */
  on<Type extends keyof ClientEvents>(
    type: Type,
    listener: (detail: ClientEvents[Type]) => void,
  ): () => void;
  connect(): Promise<Ready>;
  close(): void;
  wake(): void;
  send(message: string | Message): Run;
  regenerate(messageId: string, more?: { sessionId?: string | null | undefined }): Run;
  /**
   * Ask again for a `send` or `regenerate` that has failed, whatever the reason but `client.user`, which stays.
   * The new run has the same `id` and content, so that what was stored all the same is followed and not stored
   * again. Returns the run itself if it has not failed, or is another user's.
   */
  retry(run: Run): Run;
  follow(runId: string, more?: { sessionId?: string | null | undefined }): Run;
  /**
   * Follow a session: each run that others start in it is told once, as `run`; the question is in the
   * history, under `run.messageId` (`null` until the run has started). A session that cannot be followed
   * is told as `error`. Returns the function that ends it.
   */
  subscribe(sessionId: string): () => void;
  cancel(run: Run): void;
  history(sessionId: string, paging?: Paging): Promise<PageOf<MessageItem>>;
  sessions(paging?: Paging): Promise<PageOf<SessionItem>>;
  session(sessionId: string): Promise<SessionItem>;
  renameSession(sessionId: string, title: string): Promise<SessionItem>;
  forgetSession(sessionId: string): Promise<void>;
  memories(paging?: Paging): Promise<PageOf<MemoryItem>>;
  forgetMemory(memoryId: string): Promise<void>;
}
