-- Every table that belongs to people starts its key with tenant and user.
-- Times are Unix seconds. Tables with large values keep their rowid (https://sqlite.org/withoutrowid.html).

CREATE TABLE sessions (
    tenant_id  TEXT NOT NULL,
    user_id    TEXT NOT NULL,
    session_id TEXT NOT NULL,
    title      TEXT NOT NULL,
    character  TEXT,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    PRIMARY KEY (tenant_id, user_id, session_id)
) WITHOUT ROWID;

CREATE INDEX sessions_by_update ON sessions (tenant_id, user_id, updated_at, session_id);

-- turn: the number of the user message in its session. version: 0 for that message, 1.. for its replies.
-- shown: 0 for a reply that a newer one has replaced.
CREATE TABLE messages (
    tenant_id  TEXT NOT NULL,
    user_id    TEXT NOT NULL,
    message_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    turn       INTEGER NOT NULL,
    version    INTEGER NOT NULL,
    shown      INTEGER NOT NULL DEFAULT 1,
    role       TEXT NOT NULL,
    content    TEXT NOT NULL,
    created_at REAL NOT NULL,
    run_id     TEXT NOT NULL,
    reply_to   TEXT,
    emotion    TEXT,
    category   TEXT,
    end_reason TEXT,
    PRIMARY KEY (tenant_id, user_id, message_id)
);

CREATE UNIQUE INDEX messages_in_order ON messages (tenant_id, user_id, session_id, turn, version);

CREATE TABLE memories (
    tenant_id  TEXT NOT NULL,
    user_id    TEXT NOT NULL,
    memory_id  TEXT NOT NULL,
    value      TEXT NOT NULL,
    created_at REAL NOT NULL,
    session_id TEXT NOT NULL,
    message_id TEXT NOT NULL,
    PRIMARY KEY (tenant_id, user_id, memory_id)
);

CREATE INDEX memories_by_age ON memories (tenant_id, user_id, created_at, memory_id);

-- position: the order in which the runs of a session were accepted, among those that have not ended.
CREATE TABLE runs (
    tenant_id    TEXT NOT NULL,
    user_id      TEXT NOT NULL,
    run_id       TEXT NOT NULL,
    send_id      TEXT NOT NULL,
    kind         TEXT NOT NULL,
    request_hash TEXT NOT NULL,
    session_id   TEXT NOT NULL,
    message_id   TEXT NOT NULL,
    reply_id     TEXT NOT NULL,
    created_at   REAL NOT NULL,
    log_until    REAL NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('queued', 'running', 'ended')),
    position     INTEGER NOT NULL,
    claimed_by   TEXT,
    lease_until  REAL NOT NULL,
    cancel_at    REAL,
    last_seq     INTEGER NOT NULL,
    end_reason   TEXT,
    PRIMARY KEY (tenant_id, user_id, run_id)
) WITHOUT ROWID;

CREATE INDEX runs_of_session ON runs (tenant_id, user_id, session_id);

CREATE INDEX runs_live ON runs (tenant_id, user_id, session_id, position)
    WHERE state IN ('queued', 'running');

-- The whole log of an ended run, in the form of storage/sqlite/log_format.py.
CREATE TABLE run_logs (
    tenant_id TEXT NOT NULL,
    user_id   TEXT NOT NULL,
    run_id    TEXT NOT NULL,
    log_until REAL NOT NULL,
    body      BLOB NOT NULL,
    PRIMARY KEY (tenant_id, user_id, run_id)
);

CREATE INDEX run_logs_by_expiry ON run_logs (log_until);

-- Cancels that came before the run they stop.
CREATE TABLE early_cancels (
    tenant_id  TEXT NOT NULL,
    user_id    TEXT NOT NULL,
    run_id     TEXT NOT NULL,
    cancel_at  REAL NOT NULL,
    expires_at REAL NOT NULL,
    PRIMARY KEY (tenant_id, user_id, run_id)
) WITHOUT ROWID;

CREATE INDEX early_cancels_by_expiry ON early_cancels (expires_at);

-- What each run cost. Kept when its session is forgotten: it is the tenant's account, not the talk.
CREATE TABLE usage (
    tenant_id         TEXT NOT NULL,
    user_id           TEXT NOT NULL,
    run_id            TEXT NOT NULL,
    finished_at       REAL NOT NULL,
    model             TEXT NOT NULL,
    prompt_tokens     INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    estimated         INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, user_id, finished_at, run_id)
) WITHOUT ROWID;

CREATE TABLE payloads (
    tenant_id  TEXT NOT NULL,
    user_id    TEXT NOT NULL,
    payload_id TEXT NOT NULL,
    kind       TEXT NOT NULL,
    blob_key   TEXT NOT NULL,
    bytes      INTEGER NOT NULL,
    sha256     TEXT NOT NULL,
    created_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    PRIMARY KEY (tenant_id, user_id, payload_id)
) WITHOUT ROWID;

CREATE INDEX payloads_by_expiry ON payloads (expires_at);

CREATE TABLE tickets (
    ticket_hash     TEXT NOT NULL PRIMARY KEY,
    tenant_id       TEXT NOT NULL,
    user_id         TEXT NOT NULL,
    issuer          TEXT NOT NULL,
    auth_expires_at REAL NOT NULL,
    expires_at      REAL NOT NULL
) WITHOUT ROWID;

CREATE INDEX tickets_by_expiry ON tickets (expires_at);
