-- What keeps the promises: what a job's owner wants done when a slot comes at a bad time, what was tried again, what holds
-- all runs back, what has been spent by whom, who is to hear of what, and the transcripts that a run is resumed from.

-- NULL stands for the owner's default, which the settings give.
ALTER TABLE jobs ADD COLUMN overlap TEXT
    CHECK (overlap IN ('skip', 'queue_one', 'queue_all', 'cancel_running', 'allow'));
ALTER TABLE jobs ADD COLUMN catch_up TEXT CHECK (catch_up IN ('none', 'latest', 'all'));
ALTER TABLE jobs ADD COLUMN catch_up_minutes INTEGER CHECK (catch_up_minutes > 0);
ALTER TABLE jobs ADD COLUMN jitter_seconds INTEGER NOT NULL DEFAULT 0 CHECK (jitter_seconds >= 0);
ALTER TABLE jobs ADD COLUMN starts_at TEXT;
ALTER TABLE jobs ADD COLUMN ends_at TEXT;
ALTER TABLE jobs ADD COLUMN blackouts TEXT NOT NULL DEFAULT '[]';
ALTER TABLE jobs ADD COLUMN max_retries INTEGER CHECK (max_retries >= 0);
ALTER TABLE jobs ADD COLUMN on_crash TEXT CHECK (on_crash IN ('fail', 'retry', 'resume'));
ALTER TABLE jobs ADD COLUMN pause_after_failures INTEGER CHECK (pause_after_failures >= 0);
ALTER TABLE jobs ADD COLUMN max_cost_usd REAL CHECK (max_cost_usd > 0);
ALTER TABLE jobs ADD COLUMN max_cost_per_day_usd REAL CHECK (max_cost_per_day_usd > 0);
ALTER TABLE jobs ADD COLUMN cost_breaker REAL CHECK (cost_breaker = 0 OR cost_breaker > 1);
ALTER TABLE jobs ADD COLUMN notify_on TEXT;
ALTER TABLE jobs ADD COLUMN notify_after_failures INTEGER CHECK (notify_after_failures > 0);
ALTER TABLE jobs ADD COLUMN notify_channels TEXT;
ALTER TABLE jobs ADD COLUMN heartbeat_url TEXT;
-- A paused job keeps its slots, which are skipped; `paused_by` is who or what paused it.
ALTER TABLE jobs ADD COLUMN paused_at TEXT;
ALTER TABLE jobs ADD COLUMN paused_until TEXT;
ALTER TABLE jobs ADD COLUMN paused_by TEXT CHECK (paused_by IN ('owner', 'failures', 'budget', 'cost_breaker'));
ALTER TABLE jobs ADD COLUMN paused_reason TEXT;
-- Failures in a row that are the job's own.
ALTER TABLE jobs ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;

ALTER TABLE webhooks ADD COLUMN max_cost_usd REAL CHECK (max_cost_usd > 0);
ALTER TABLE webhooks ADD COLUMN max_cost_per_day_usd REAL CHECK (max_cost_per_day_usd > 0);

-- `alone`: does not start while another run of its job goes on. `superseded`: a newer slot of the job takes its place.
ALTER TABLE runs ADD COLUMN alone INTEGER NOT NULL DEFAULT 0 CHECK (alone IN (0, 1));
ALTER TABLE runs ADD COLUMN superseded INTEGER NOT NULL DEFAULT 0 CHECK (superseded IN (0, 1));
ALTER TABLE runs ADD COLUMN max_cost_usd REAL;
-- How often it was tried again after a failure; waits for a usage limit are not among them.
ALTER TABLE runs ADD COLUMN retries INTEGER NOT NULL DEFAULT 0;
-- Whether the next attempt goes on in the session of the last, and what that session had used by Claude Code's own count.
ALTER TABLE runs ADD COLUMN resumes INTEGER NOT NULL DEFAULT 0 CHECK (resumes IN (0, 1));
ALTER TABLE runs ADD COLUMN session_usage TEXT;

-- What holds all runs back that nobody started by hand: the owner, or an endpoint that would refuse each in turn.
CREATE TABLE holds (
    kind   TEXT PRIMARY KEY CHECK (kind IN ('paused', 'not_signed_in', 'billing', 'usage_limit')),
    since  TEXT NOT NULL,
    until  TEXT,
    reason TEXT NOT NULL,
    streak INTEGER NOT NULL DEFAULT 1
) STRICT;

-- Claude Code's own record of sessions, for runs that are resumed after a crash; `uuid` tells entries that come twice.
CREATE TABLE transcripts (
    n          INTEGER PRIMARY KEY,
    session_id TEXT NOT NULL,
    subpath    TEXT NOT NULL DEFAULT '',
    uuid       TEXT,
    entry      TEXT NOT NULL,
    at         TEXT NOT NULL
) STRICT;
CREATE INDEX transcripts_of_session ON transcripts (session_id, subpath, n);
CREATE UNIQUE INDEX transcripts_once ON transcripts (session_id, subpath, uuid) WHERE uuid IS NOT NULL;

-- Where notifications go. An address may hold secrets, so it is sealed; `shown` is what of it may be shown.
CREATE TABLE channels (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE CHECK (name <> ''),
    sealed     TEXT NOT NULL,
    shown      TEXT NOT NULL,
    enabled    INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
) STRICT;

-- What somebody is to hear of, written with what it tells of and sent afterwards. A ping has an address of its own; all
-- else goes to a channel.
CREATE TABLE outbox (
    id              TEXT PRIMARY KEY,
    channel_id      TEXT REFERENCES channels (id) ON DELETE SET NULL,
    ping_url        TEXT,
    event           TEXT NOT NULL CHECK (event IN ('failure', 'recovery', 'missed', 'paused', 'budget', 'success', 'test',
                                                   'held', 'started', 'ended')),
    job_id          TEXT,
    run_id          TEXT,
    title           TEXT NOT NULL,
    body            TEXT NOT NULL,
    state           TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent', 'failed')),
    attempts        INTEGER NOT NULL DEFAULT 0,
    next_attempt_at TEXT NOT NULL,
    expires_at      TEXT NOT NULL,
    error           TEXT,
    created_at      TEXT NOT NULL,
    finished_at     TEXT,
    CHECK ((finished_at IS NOT NULL) = (state <> 'waiting'))
) STRICT;
CREATE INDEX outbox_waiting ON outbox (channel_id, next_attempt_at) WHERE state = 'waiting' AND ping_url IS NULL;
CREATE INDEX outbox_pings ON outbox (job_id, next_attempt_at) WHERE state = 'waiting' AND ping_url IS NOT NULL;
CREATE INDEX outbox_newest ON outbox (created_at, id, state);
CREATE INDEX outbox_of_job ON outbox (job_id, event, created_at);

-- The sums of `usage_sums`, of one job, webhook or model each; rehearsals are in none. A run of several models is in the
-- sums of each with what that used.
CREATE TABLE usage_shares (
    span               TEXT NOT NULL CHECK (span IN ('quarter', 'day')),
    dimension          TEXT NOT NULL CHECK (dimension IN ('job', 'webhook', 'model')),
    at                 TEXT NOT NULL,
    key                TEXT NOT NULL,
    finished           INTEGER NOT NULL,
    failed             INTEGER NOT NULL,
    cancelled          INTEGER NOT NULL,
    input_tokens       INTEGER NOT NULL,
    output_tokens      INTEGER NOT NULL,
    cache_read_tokens  INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    cost_usd           REAL NOT NULL,
    unpriced           INTEGER NOT NULL,
    seconds            REAL NOT NULL,
    PRIMARY KEY (span, dimension, at, key)
) STRICT, WITHOUT ROWID;

-- A skip that goes on, as while a job is paused, is one row whose count grows.
CREATE TRIGGER occurrences_counted AFTER UPDATE OF count ON occurrences WHEN NEW.count > OLD.count BEGIN
    UPDATE slot_quarters SET
        skipped = skipped + iif(NEW.fate LIKE 'skipped_%', NEW.count - OLD.count, 0),
        missed = missed + iif(NEW.fate = 'missed', NEW.count - OLD.count, 0)
    WHERE at = (SELECT quarter FROM slot_sums WHERE n = NEW.rowid);
END;
