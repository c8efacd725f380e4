-- Jobs, their slots, the runs and what happened in them. Instants are ISO 8601 texts in UTC, of one width, so that
-- their order as texts is their order in time. Lists and objects are JSON texts, ids are hexadecimal texts.

CREATE TABLE jobs (
    id               TEXT PRIMARY KEY,
    name             TEXT NOT NULL CHECK (name <> ''),
    cron             TEXT NOT NULL,
    timezone         TEXT NOT NULL,
    prompt           TEXT NOT NULL CHECK (prompt <> ''),
    tools            TEXT NOT NULL DEFAULT '[]',
    timeout_minutes  INTEGER NOT NULL DEFAULT 30 CHECK (timeout_minutes BETWEEN 1 AND 1440),
    model            TEXT,
    enabled          INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    created_at       TEXT NOT NULL,
    updated_at       TEXT NOT NULL,
    -- The scheduler compares it as a text: in another form it would be due too early, too late or never.
    next_run_at      TEXT CHECK (next_run_at IS strftime('%Y-%m-%dT%H:%M:%f+00:00', next_run_at, '+0 days')),
    last_executed_at TEXT,
    last_error       TEXT
) STRICT;

CREATE INDEX jobs_due ON jobs (next_run_at) WHERE enabled = 1 AND next_run_at IS NOT NULL;

CREATE TABLE runs (
    id                 TEXT PRIMARY KEY,
    attempt            INTEGER NOT NULL DEFAULT 0,
    worker             TEXT,
    not_before         TEXT,
    job_id             TEXT REFERENCES jobs (id) ON DELETE CASCADE,
    webhook_id         TEXT,
    trigger            TEXT NOT NULL
        CHECK (trigger IN ('schedule', 'manual', 'webhook', 'quick', 'retry', 'catch_up', 'run')),
    state              TEXT NOT NULL DEFAULT 'pending'
        CHECK (state IN ('pending', 'running', 'finished', 'error', 'cancelled')),
    prompt             TEXT NOT NULL,
    tools              TEXT NOT NULL DEFAULT '[]',
    timeout_minutes    INTEGER NOT NULL DEFAULT 30,
    warnings           TEXT NOT NULL DEFAULT '[]',
    rehearsal          INTEGER NOT NULL DEFAULT 0 CHECK (rehearsal IN (0, 1)),
    output             TEXT,
    error              TEXT,
    reason             TEXT,
    scheduled_for      TEXT,
    created_at         TEXT NOT NULL,
    started_at         TEXT,
    finished_at        TEXT,
    input_tokens       INTEGER NOT NULL DEFAULT 0,
    output_tokens      INTEGER NOT NULL DEFAULT 0,
    cache_read_tokens  INTEGER NOT NULL DEFAULT 0,
    cache_write_tokens INTEGER NOT NULL DEFAULT 0,
    total_tokens       INTEGER NOT NULL GENERATED ALWAYS AS
        (input_tokens + output_tokens + cache_read_tokens + cache_write_tokens) VIRTUAL,
    cost_usd           REAL,
    model              TEXT,
    model_usage        TEXT,
    session_id         TEXT,
    CHECK (state <> 'running' OR (started_at IS NOT NULL AND worker IS NOT NULL)),
    CHECK ((finished_at IS NOT NULL) = (state IN ('finished', 'error', 'cancelled'))),
    CHECK (state NOT IN ('error', 'cancelled') OR (error IS NOT NULL AND reason IS NOT NULL))
) STRICT;

CREATE INDEX runs_newest ON runs (created_at DESC, id DESC);
CREATE INDEX runs_of_job ON runs (job_id, created_at DESC, id DESC);
CREATE INDEX runs_open_of_job ON runs (job_id) WHERE state IN ('pending', 'running');
CREATE INDEX runs_open ON runs (state, created_at, id) WHERE state IN ('pending', 'running');

CREATE TABLE occurrences (
    job_id        TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    scheduled_for TEXT NOT NULL,
    fate          TEXT NOT NULL
        CHECK (fate IN ('ran', 'caught_up', 'skipped_overlap', 'skipped_budget', 'skipped_paused',
                        'skipped_blackout', 'missed')),
    reason        TEXT,
    run_id        TEXT REFERENCES runs (id) ON DELETE SET NULL,
    until         TEXT,
    count         INTEGER DEFAULT 1,
    UNIQUE (job_id, scheduled_for)
) STRICT;

CREATE INDEX occurrences_run ON occurrences (run_id);

CREATE TABLE run_events (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    seq    INTEGER NOT NULL,
    kind   TEXT NOT NULL,
    body   TEXT NOT NULL,
    at     TEXT NOT NULL,
    UNIQUE (run_id, seq)
) STRICT;

CREATE TABLE settings (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
