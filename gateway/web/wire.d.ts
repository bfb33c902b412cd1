// The wire protocol `makoto.v1`. Made from gateway/wire by `make generate`; do not edit.
//
// Times are Unix time in milliseconds, sizes are UTF-8 bytes. Later servers may add types, fields and
// values: ignore what you do not know.

/** What a client sends. */
export type AnyCommand =
  | Hello
  | Auth
  | Send
  | Regenerate
  | Cancel
  | Resume
  | Subscribe
  | Unsubscribe
  | History
  | Sessions
  | Session
  | Memories
  | Forget
  | Upload
  | Ping;

/** What the server sends. */
export type AnyAnswer =
  | Ready
  | Accepted
  | Events
  | Payload
  | Page
  | UploadReady
  | Resumed
  | Subscribed
  | Unsubscribed
  | Notice
  | Pong
  | Error
  | GoAway;

/** What a run's log holds. */
export type AnyEvent =
  | Started
  | ContentDelta
  | ContentDone
  | Emotion
  | Category
  | MemoryNoted
  | ToolCallDelta
  | UsageReported
  | Done;

/** What went wrong, for programs. */
export type ErrorCode =
  /** The identity was good and is over; renew it with `auth`. */
  | "auth.expired"
  /** A token or ticket that proves nothing. */
  | "auth.invalid"
  /** A command before the connection was identified. */
  | "auth.required"
  /** The page's origin is not on the list. */
  | "origin.denied"
  /** Too much at once. */
  | "rate.limited"
  /** What the plan allows is used up. */
  | "quota.exceeded"
  /** The tenant may not use the service at the moment; only its operator can change that. */
  | "tenant.suspended"
  /** The server takes nothing new at the moment. */
  | "maintenance"
  /** Text or upload beyond a limit that `ready.limits` states. */
  | "payload.too_large"
  /** The frame or a field of it is not what the protocol says. */
  | "bad_request"
  /** A type of command that this server does not know. */
  | "unsupported"
  /** An id that was used before, with other content. */
  | "conflict"
  /** The session already has an answer under way, or its queue is full. */
  | "busy"
  /** It does not exist, or belongs to somebody else: the two cannot be told apart. */
  | "not_found"
  /** The run's log has expired; the stored message replaces what is shown. */
  | "not_resumable"
  /** The model was silent for too long. */
  | "model.timeout"
  /** The provider turns requests away at the moment. */
  | "model.busy"
  /** The provider will not answer this request. */
  | "model.refused"
  /** The provider's stream broke its own rules. */
  | "model.protocol"
  /** The provider cannot be reached, or is not set up. */
  | "model.unavailable"
  /** What has to be kept cannot be kept at the moment. */
  | "storage.unavailable"
  /** Our fault; the log knows more. */
  | "internal";

/** Why the server closes the socket (4000-4999 are the application's, RFC 6455 section 7.4.2). */
export type CloseCode =
  /** The connection has reached its age. */
  | 1001
  /** A message or frame was larger than the transport takes. */
  | 1009
  /** The server is restarting. */
  | 1012
  /** Too many frames in a row were not of the protocol. */
  | 4400
  /** No identity in time, or it is over. */
  | 4401
  /** The page's origin is not on the list. */
  | 4403
  /** Nothing was heard from the client for too long. */
  | 4408
  /** Another connection has taken this one's place. */
  | 4409
  /** Too much at once, or too much that the client leaves unread. */
  | 4429
  /** The service is going down for a while. */
  | 4503;

/** How a run ended. */
export type DoneReason =
  | "stop"
  | "length"
  | "filtered"
  | "cancelled"
  | "timeout"
  | "interrupted"
  | "error";

/** The first command of every client; answered by `ready`. */
export interface Hello {
  type: "hello";
  /** A JWT, where the handshake proved nothing. */
  token?: string;
  /** Name and version of the program, for the server's log; at most 200 characters. */
  client?: string;
}

/** Renew the connection's identity in place; answered by `notice`. */
export interface Auth {
  type: "auth";
  /** Made by the client; comes back in the answer. */
  id: string;
  /** A JWT of the same user and tenant. */
  token: string;
}

/**
 * One user message; answered by `accepted` and the events of a run.
 *
 * Exactly one of `content` and `upload_id`.
 */
export interface Send {
  type: "send";
  /** Made by the client, never used before by this user: the idempotency key. */
  id: string;
  /** The session to go on with; a new one begins without it. */
  session_id?: string;
  /** The text; not blank, at most `limits.content_bytes`. */
  content?: string;
  /** From `upload_ready`, for a text too long for one frame. */
  upload_id?: string;
  /** Who answers; only with the first message of a session. */
  character?: string;
  /**
   * While a reply is under way in the session: refuse this with `busy`, let it wait behind the
   * others, or stop them first. Default: "reject".
   */
  if_busy?: "reject" | "queue" | "cancel";
}

/** Answer a stored message again; answered like `send`. */
export interface Regenerate {
  type: "regenerate";
  /** As in `send`, and from the same set: the idempotency key. */
  id: string;
  /** Of the reply to be replaced, or of the user's message. */
  message_id: string;
}

/**
 * Stop a run. Its `done` is the only answer.
 *
 * Exactly one of `run_id` and `id`.
 */
export interface Cancel {
  type: "cancel";
  /** From `accepted`. */
  run_id?: string;
  /** Of the `send` or `regenerate`, also of one that has not arrived yet. */
  id?: string;
}

/** Replay a run and follow it; answered by `resumed` and its events, or by `not_resumable`. */
export interface Resume {
  type: "resume";
  /** From `accepted`, `started` or `ready.runs`. */
  run_id: string;
  /** The number of the last event that was applied and is not `volatile`; 0 for none. */
  after: number;
}

/**
 * Follow a session: get the events of its runs, whichever connection asked for them.
 *
 * Answered by `subscribed`, then by the events of the runs that it names, from the first one on. It
 * holds until `unsubscribe` or the end of the connection, and is harmless when repeated.
 */
export interface Subscribe {
  type: "subscribe";
  /** The session to follow. */
  session_id: string;
}

/** Follow a session no more; runs that are followed already stay so. Answered by `unsubscribed`. */
export interface Unsubscribe {
  type: "unsubscribe";
  /** The session that was followed. */
  session_id: string;
}

/** Read a session's messages, newest first; answered by `page`. */
export interface History {
  type: "history";
  /** Made by the client; comes back in the answer. */
  id: string;
  /** `next` of the page before this one; the newest items without it. */
  before?: string;
  /** How many items at most, 1 to 100; a page may hold fewer though there are more. Default: 20. */
  limit?: number;
  /** The session to read. */
  session_id: string;
}

/** Read the user's sessions, the most recently used first; answered by `page`. */
export interface Sessions {
  type: "sessions";
  /** Made by the client; comes back in the answer. */
  id: string;
  /** `next` of the page before this one; the newest items without it. */
  before?: string;
  /** How many items at most, 1 to 100; a page may hold fewer though there are more. Default: 20. */
  limit?: number;
}

/** Read one session, or rename it; answered by a `page` with that session as it is now. */
export interface Session {
  type: "session";
  /** Made by the client; comes back in the answer. */
  id: string;
  /** The session. */
  session_id: string;
  /** The new title, 1 to 200 characters without the space around it. */
  title?: string;
}

/** Read what is remembered about the user, newest first; answered by `page`. */
export interface Memories {
  type: "memories";
  /** Made by the client; comes back in the answer. */
  id: string;
  /** `next` of the page before this one; the newest items without it. */
  before?: string;
  /** How many items at most, 1 to 100; a page may hold fewer though there are more. Default: 20. */
  limit?: number;
}

/**
 * Delete a memory, or a session with its messages; answered by an empty `page`.
 *
 * Exactly one of `memory_id` and `session_id`.
 */
export interface Forget {
  type: "forget";
  /** Made by the client; comes back in the answer. */
  id: string;
  /** The memory to delete. */
  memory_id?: string;
  /** The session to delete; memories that came from it stay. */
  session_id?: string;
}

/** Ask where to put a text too long for one frame; answered by `upload_ready`. */
export interface Upload {
  type: "upload";
  /** Made by the client; comes back in the answer. */
  id: string;
  /** The size of the body, the text in UTF-8; at most `limits.content_bytes`. */
  bytes: number;
  /** The body's digest, 64 lower-case hexadecimal digits. */
  sha256: string;
}

/** Heartbeat; answered by `pong`. */
export interface Ping {
  type: "ping";
  /** Any number; comes back in the answer. */
  t?: number;
}

/** The connection knows who it serves. It answers `hello`; nothing else brings it. */
export interface Ready {
  type: "ready";
  /** Names this connection in the server's logs. */
  connection_id: string;
  /** When the server will end the connection, whatever happens. */
  connection_expires_at: number;
  /** Who was recognised. */
  user_id: string;
  /** Whose user that is. */
  tenant_id: string;
  /** The name of the plan. */
  tier: string;
  /** What the plan allows. */
  limits: Limits;
  /** When the identity expires; renew it before with `auth`. */
  auth_expires_at: number;
  /** How often to `ping`, in milliseconds. */
  heartbeat_ms: number;
  /** The server's clock, to correct the other times by. */
  server_time: number;
  /** This user's runs that have not ended, oldest first. */
  runs: LiveRun[];
}

/** The message is stored and will be answered, whatever becomes of the connection. */
export interface Accepted {
  type: "accepted";
  /** Of the `send` or `regenerate`. */
  id: string;
  /** Names the run that answers. */
  run_id: string;
  /** The session, new or old. */
  session_id: string;
  /** Of the user's message. */
  message_id: string;
  /** True if this `id` was accepted before; nothing was done twice. */
  duplicate?: boolean;
}

/** Some events of a run, in order and whole. */
export interface Events {
  type: "events";
  /** Names the run. */
  run_id: string;
  /** The number of the first of `events`; a run's first event is number 1. */
  first_seq: number;
  /** The number of the last, `first_seq + events.length - 1`. */
  last_seq: number;
  /** At least one. */
  events: AnyEvent[];
  /**
   * True if they could not be logged: they cannot be replayed, and what is shown may not be stored.
   */
  volatile?: boolean;
}

/** Stands for a frame that was too large to send: the body behind `url` *is* that frame. */
export interface Payload {
  type: "payload";
  /** The `type` of that frame. */
  of: "events" | "page" | "error";
  /**
   * Where to `GET` the body: absolute, or a path on the socket's own host. It needs no credential
   * and works for minutes.
   */
  url: string;
  /** The size of the body. */
  bytes: number;
  /** The body's digest, 64 lower-case hexadecimal digits. */
  sha256: string;
  /** When `url` stops working. */
  expires_at: number;
  /** The run it belongs to, for `events` and `error`. */
  run_id?: string;
  /** As in the frame it stands for. */
  first_seq?: number;
  /** As in the frame it stands for. */
  last_seq?: number;
  /** The command it answers, for `page`. */
  id?: string;
  /** As in `events`; the body, which was stored before, does not say it. */
  volatile?: boolean;
}

/** Stored things: the answer to `history`, `sessions`, `session`, `memories` and `forget`. */
export interface Page {
  type: "page";
  /** Of the command. */
  id: string;
  /** Messages, sessions or memories, as asked; possibly none. */
  items: (MessageItem | SessionItem | MemoryItem)[];
  /** Give it as `before` to get the page after this one; absent with the last page. */
  next?: string;
}

/** Where to put the body: `PUT` it, or `POST` a form of `fields` and then the body, as `file`. */
export interface UploadReady {
  type: "upload_ready";
  /** Of the `upload`. */
  id: string;
  /** What the `send` names once the body is there. */
  upload_id: string;
  /** Absolute, or a path on the socket's own host. It needs no credential. */
  url: string;
  /** How to send the body. */
  method: "PUT" | "POST";
  /** For `POST`, the form's fields before `file`; empty for `PUT`. */
  fields: Record<string, string>;
  /** When `url` stops working. */
  expires_at: number;
}

/** Where a run stands; its events after `after` follow. The answer to `resume`. */
export interface Resumed {
  type: "resumed";
  /** Names the run. */
  run_id: string;
  /** Whether it waits for its turn, is being written, or has ended. */
  state: "queued" | "running" | "ended";
  /** The number of its latest event so far; 0 for none. */
  last_seq: number;
}

/** The session is followed: the events of every later run of it come here too. */
export interface Subscribed {
  type: "subscribed";
  /** The session. */
  session_id: string;
  /** Those of its runs that have not ended; their events follow. */
  runs: LiveRun[];
}

/** The session is followed no more. */
export interface Unsubscribed {
  type: "unsubscribed";
  /** The session. */
  session_id: string;
}

/** Something worth knowing. `auth.renewed` answers `auth`; `session.changed` is a hint, unasked. */
export interface Notice {
  type: "notice";
  /** What it is about; ignore one that you do not know. */
  kind: "auth.renewed" | "session.changed";
  /** Of the `auth`. */
  id?: string;
  /** When the new identity expires. */
  auth_expires_at?: number;
  /** With `session.changed`, the session to read again. */
  session_id?: string;
}

/** The answer to `ping`. */
export interface Pong {
  type: "pong";
  /** As it was sent; absent if it was. */
  t?: number;
  /** The server's clock; absent where the platform itself answers. */
  server_time?: number;
}

/** What went wrong with a command (`id`), a run, a session that is followed, or the connection. */
export interface Error {
  type: "error";
  /** For programs. */
  code: ErrorCode;
  /** A sentence for people, in English. */
  message: string;
  /** Whether the same command may succeed later. */
  retryable: boolean;
  /** How long to wait before that, if known. */
  retry_after_ms?: number;
  /** Of the command. */
  id?: string;
  /** Of the `cancel` or `resume`. */
  run_id?: string;
  /** Of the `subscribe` or `unsubscribe`. */
  session_id?: string;
  /** True if the server closes the connection after this. */
  fatal?: boolean;
  /** With `not_resumable`, the whole reply as it was stored, if it was. */
  stored?: MessageItem;
}

/** The server will end this connection; open the next one. */
export interface GoAway {
  type: "goaway";
  /** Its age, or the end of the server; `maintenance` is reserved, not sent yet. */
  reason: "max_age" | "deploy" | "maintenance";
  /** When the connection ends; with `deploy` it may be sooner, when no run is under way. */
  deadline: number;
}

/** The run's first event, number 1. */
export interface Started {
  type: "started";
  /** Of the `send` or `regenerate`. */
  id: string;
  /** Where it answers. */
  session_id: string;
  /** Of the user's message. */
  message_id: string;
  /** What the reply will be stored under. */
  reply_id: string;
  /** Who is asked for the reply, as the provider calls it; absent if nobody is. */
  model?: string;
}

/** Text to append to the reply. */
export interface ContentDelta {
  type: "content.delta";
  /** Never empty, never cut inside a code point. */
  text: string;
}

/** The reply's text is complete. */
export interface ContentDone {
  type: "content.done";
}

/** How the reply is meant. */
export interface Emotion {
  type: "emotion";
  /** One of the values that the server is configured with. */
  value: string;
}

/** What the reply is about. */
export interface Category {
  type: "category";
  /** One of the values that the server is configured with. */
  value: string;
}

/** A fact about the user that will be remembered once the run is saved. */
export interface MemoryNoted {
  type: "memory";
  /** What it will be stored under. */
  memory_id: string;
  /** The fact, a short sentence. */
  value: string;
}

/**
 * A fragment of a call that the model makes to another function than the reply's.
 *
 * It is passed on and never executed here.
 */
export interface ToolCallDelta {
  type: "tool_call.delta";
  /** Tells the calls of one run apart. */
  call: number;
  /** The function's name, with the first fragment. */
  name?: string;
  /** Text to append to the call's arguments, a JSON document when complete. */
  arguments: string;
}

/** What the run cost. */
export interface UsageReported {
  type: "usage";
  /** Who answered, as the provider calls it. */
  model: string;
  /** Tokens read. */
  prompt_tokens: number;
  /** Tokens written. */
  completion_tokens: number;
  /** True where the provider has not said. */
  estimated?: boolean;
}

/** The run's last event; nothing follows it. */
export interface Done {
  type: "done";
  /**
   * How it ended. `stop` is the only complete reply; `length` and `filtered` are the model's,
   * `cancelled` the user's, `timeout`, `interrupted` and `error` nobody's wish.
   */
  reason: DoneReason;
  /** Of the reply, the `reply_id` of `started`. */
  message_id: string;
  /** Whether the run's end is stored: the reply, if there is a word of it, and its memories. */
  saved: boolean;
  /** What went wrong, with `timeout` and `error`. */
  error?: RunError;
}

/** What this user may do. Sizes in UTF-8 bytes. */
export interface Limits {
  /** The longest frame that a client may send. */
  command_bytes: number;
  /** The longest text of one message, typed or uploaded. */
  content_bytes: number;
  /** How many runs of this user may be waiting or under way at once. */
  live_runs: number;
  /** How many messages may wait behind a session's run. */
  queued_per_session: number;
}

/** A run of this user that has not ended: resume it to follow it. */
export interface LiveRun {
  /** Names the run. */
  run_id: string;
  /** The session it answers in. */
  session_id: string;
  /** The number of its latest event so far; 0 for none. */
  last_seq: number;
  /** Whether its turn has come. */
  state: "queued" | "running";
}

/** A fact about the user that was worth remembering. */
export interface MemoryItem {
  /** Names the memory. */
  memory_id: string;
  /** The fact, a short sentence. */
  value: string;
  /** When it was stored. */
  created_at: number;
  /** Where it was said; that session may be gone. */
  session_id: string;
  /** Of the reply that noted it; that may be gone, or have given way to another. */
  message_id: string;
}

/** A stored message. */
export interface MessageItem {
  /** Names the message. */
  message_id: string;
  /** Where it was said. */
  session_id: string;
  /** Who said it. */
  role: "user" | "assistant";
  /** The whole text. */
  content: string;
  /** When it was stored. */
  created_at: number;
  /** The run that the message opened (`user`) or that wrote it (`assistant`). */
  run_id: string;
  /** Of a reply, the user's message that it answers. */
  reply_to?: string;
  /** Of a reply, if it got so far. */
  emotion?: string;
  /** Of a reply, if it got so far. */
  category?: string;
  /** Of a reply, the reason of its run's `done`: any but `stop` marks a text that broke off. */
  end?: DoneReason;
}

/** Why a run ended early. */
export interface RunError {
  /** For programs. */
  code: ErrorCode;
  /** A sentence for people, in English. */
  message: string;
  /** Whether `regenerate` may succeed. */
  retryable: boolean;
  /** How long to wait before that, if known. */
  retry_after_ms?: number;
  /** With `model.timeout`: what took too long. */
  phase?: "first_token" | "between_chunks" | "total";
}

/** A stored conversation. */
export interface SessionItem {
  /** Names the session. */
  session_id: string;
  /** Made from its first message until somebody renames it. */
  title: string;
  /** Who answers in it, if one was chosen. */
  character?: string;
  /** When its first message was accepted. */
  created_at: number;
  /** When its latest turn was accepted or finished. */
  updated_at: number;
  /** The run that is queued or running in it now, if any. */
  active_run?: string;
}
