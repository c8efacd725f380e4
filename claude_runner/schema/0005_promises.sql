-- What keeps the promises: what a job's owner wants done when a slot comes at a bad time, what was tried again, what holds
-- all runs back, what has been spent by whom, who is to hear of what, and the transcripts that a run is resumed from.

-- NULL stands for the owner's default, which the settings give.
ALTER TABLE jobs ADD COLUMN overlap TEXT
    CHECK (overlap IN ('skip', 'queue_one', 'queue_all', 'cancel_running', 'allow'));
ALTER TABLE jobs ADD COLUMN catch_up TEXT CHECK (catch_up IN ('none', 'latest', 'all'));
ALTER TABLE jobs ADD COLUMN catch_up_minutes INTEGER CHECK (catch_up_minutes > 0);
ALTER TABLE jobs ADD COLUMN jitter_seconds INTEGER CHECK (jitter_seconds >= 0);
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
ALTER TABLE jobs ADD COLUMN paused_at TEXT
    CHECK (paused_at IS strftime('%Y-%m-%dT%H:%M:%f+00:00', paused_at, '+0 days'));
ALTER TABLE jobs ADD COLUMN paused_until TEXT
    CHECK (paused_until IS strftime('%Y-%m-%dT%H:%M:%f+00:00', paused_until, '+0 days'));
ALTER TABLE jobs ADD COLUMN paused_by TEXT CHECK (paused_by IN ('owner', 'failures', 'budget', 'cost_breaker'));
ALTER TABLE jobs ADD COLUMN paused_reason TEXT;
CREATE INDEX jobs_paused ON jobs (id, paused_until) WHERE paused_at IS NOT NULL;
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

-- Where many wait that may not start, the next that may is found without reading any of them.
DROP INDEX runs_open;
CREATE INDEX runs_open ON runs (state, created_at, id, not_before, trigger, rehearsal, alone, parent_run_id, job_id)
    WHERE state IN ('pending', 'running');

-- What holds all runs back that nobody started by hand: the owner, or an endpoint that would refuse each in turn.
CREATE TABLE holds (
    kind   TEXT PRIMARY KEY CHECK (kind IN ('paused', 'not_signed_in', 'billing', 'usage_limit')),
    since  TEXT NOT NULL CHECK (since IS strftime('%Y-%m-%dT%H:%M:%f+00:00', since, '+0 days')),
    until  TEXT CHECK (until IS strftime('%Y-%m-%dT%H:%M:%f+00:00', until, '+0 days')),
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
CREATE INDEX outbox_refused ON outbox (channel_id, next_attempt_at)
    WHERE state = 'waiting' AND ping_url IS NULL AND error IS NOT NULL;
CREATE INDEX outbox_pings ON outbox (job_id, next_attempt_at) WHERE state = 'waiting' AND ping_url IS NOT NULL;
CREATE INDEX outbox_newest ON outbox (created_at, id, state);
CREATE INDEX outbox_of_channel ON outbox (channel_id, created_at) WHERE ping_url IS NULL;
CREATE INDEX outbox_of_job ON outbox (job_id, event, created_at);

-- The sums of `usage_sums`, of one job, webhook or model each; rehearsals are in none. A run of several models is in the
-- sums of each with what that used. What runs of before came to that have been deleted since is in `usage_sums` alone.
CREATE TABLE usage_shares (
    span               TEXT NOT NULL CHECK (span IN ('quarter', 'day', 'month')),
    dimension          TEXT NOT NULL CHECK (dimension IN ('job', 'webhook', 'model')),
    key                TEXT NOT NULL,
    at                 TEXT NOT NULL,
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
    PRIMARY KEY (span, dimension, key, at)
) STRICT, WITHOUT ROWID;

-- What each model has used of a run that has ended, as Claude Code has told at its end. The price of a model is known
-- where that of the run is, or where it says so itself.
CREATE VIEW run_models AS SELECT
    runs.id, use.key AS model,
    CAST(coalesce(json_extract(use.value, '$.inputTokens'), 0) AS INTEGER) AS input_tokens,
    CAST(coalesce(json_extract(use.value, '$.outputTokens'), 0) AS INTEGER) AS output_tokens,
    CAST(coalesce(json_extract(use.value, '$.cacheReadInputTokens'), 0) AS INTEGER) AS cache_read_tokens,
    CAST(coalesce(json_extract(use.value, '$.cacheCreationInputTokens'), 0) AS INTEGER) AS cache_write_tokens,
    CAST(coalesce(json_extract(use.value, '$.costUSD'), 0) AS REAL) AS cost_usd,
    runs.cost_usd IS NOT NULL
        OR coalesce(json_extract(use.value, '$.costBasis') IN ('list', 'owner'), 0) AS has_price
FROM runs, json_each(CASE WHEN json_valid(runs.model_usage) THEN runs.model_usage ELSE '{}' END) AS use
WHERE use.type = 'object';

-- What a run that has ended adds to the shares. One that was ended before its models were told of is in the share of the
-- model that answered.
CREATE VIEW run_shares AS
    SELECT run_sums.id, 'job' AS dimension, runs.job_id AS key, day, quarter, finished, failed, cancelled,
        run_sums.input_tokens, run_sums.output_tokens, run_sums.cache_read_tokens, run_sums.cache_write_tokens,
        run_sums.cost_usd, unpriced, seconds
    FROM run_sums JOIN runs ON runs.id = run_sums.id
    WHERE run_sums.rehearsal = 0 AND runs.job_id IS NOT NULL
    UNION ALL
    SELECT run_sums.id, 'webhook', runs.webhook_id, day, quarter, finished, failed, cancelled,
        run_sums.input_tokens, run_sums.output_tokens, run_sums.cache_read_tokens, run_sums.cache_write_tokens,
        run_sums.cost_usd, unpriced, seconds
    FROM run_sums JOIN runs ON runs.id = run_sums.id
    WHERE run_sums.rehearsal = 0 AND runs.webhook_id IS NOT NULL
    UNION ALL
    SELECT run_sums.id, 'model', run_models.model, day, quarter, finished, failed, cancelled,
        run_models.input_tokens, run_models.output_tokens, run_models.cache_read_tokens,
        run_models.cache_write_tokens, iif(has_price, run_models.cost_usd, 0.0), NOT has_price, seconds
    FROM run_sums JOIN run_models ON run_models.id = run_sums.id
    WHERE run_sums.rehearsal = 0
    UNION ALL
    SELECT run_sums.id, 'model', runs.model, day, quarter, finished, failed, cancelled,
        run_sums.input_tokens, run_sums.output_tokens, run_sums.cache_read_tokens, run_sums.cache_write_tokens,
        run_sums.cost_usd, unpriced, seconds
    FROM run_sums JOIN runs ON runs.id = run_sums.id
    WHERE run_sums.rehearsal = 0 AND runs.model IS NOT NULL AND runs.started_at IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM run_models WHERE run_models.id = runs.id);

CREATE VIEW spans AS SELECT 'quarter' AS span UNION ALL SELECT 'day' UNION ALL SELECT 'month';

CREATE TRIGGER run_ends_shared AFTER INSERT ON run_ends WHEN NEW.rehearsal = 0 BEGIN
    INSERT INTO usage_shares SELECT span, dimension, key,
        CASE span WHEN 'quarter' THEN quarter WHEN 'day' THEN day ELSE substr(day, 1, 8) || '01' || substr(day, 11) END,
        finished, failed, cancelled, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_usd,
        unpriced, seconds
    FROM run_shares CROSS JOIN spans WHERE id = NEW.run_id
    ON CONFLICT DO UPDATE SET finished = finished + excluded.finished,
        failed = failed + excluded.failed, cancelled = cancelled + excluded.cancelled,
        input_tokens = input_tokens + excluded.input_tokens, output_tokens = output_tokens + excluded.output_tokens,
        cache_read_tokens = cache_read_tokens + excluded.cache_read_tokens,
        cache_write_tokens = cache_write_tokens + excluded.cache_write_tokens,
        cost_usd = cost_usd + excluded.cost_usd, unpriced = unpriced + excluded.unpriced,
        seconds = seconds + excluded.seconds;
END;

-- What there is already.
INSERT INTO usage_shares SELECT 'quarter', dimension, key, quarter, sum(finished), sum(failed), sum(cancelled),
    sum(input_tokens), sum(output_tokens), sum(cache_read_tokens), sum(cache_write_tokens), sum(cost_usd),
    sum(unpriced), sum(seconds)
FROM run_shares GROUP BY dimension, key, quarter;
INSERT INTO usage_shares SELECT 'day', dimension, key, substr(at, 1, 10) || 'T00:00:00.000+00:00', sum(finished),
    sum(failed), sum(cancelled), sum(input_tokens), sum(output_tokens), sum(cache_read_tokens),
    sum(cache_write_tokens), sum(cost_usd), sum(unpriced), sum(seconds)
FROM usage_shares WHERE span = 'quarter' GROUP BY dimension, key, substr(at, 1, 10);
INSERT INTO usage_shares SELECT 'month', dimension, key, substr(at, 1, 8) || '01' || substr(at, 11), sum(finished),
    sum(failed), sum(cancelled), sum(input_tokens), sum(output_tokens), sum(cache_read_tokens),
    sum(cache_write_tokens), sum(cost_usd), sum(unpriced), sum(seconds)
FROM usage_shares WHERE span = 'day' GROUP BY dimension, key, substr(at, 1, 8);

-- What runs that have not ended have cost up to now, which counts for the budgets as well.
CREATE INDEX runs_spending ON runs (state, job_id, webhook_id, cost_usd)
    WHERE state IN ('pending', 'running') AND cost_usd > 0;

-- Which budgets the owner has been told of: each once in its day or month, and again where it was made another.
CREATE TABLE budgets_told (
    scope     TEXT NOT NULL,
    key       TEXT NOT NULL,
    period    TEXT NOT NULL,
    bound_usd REAL NOT NULL,
    told_at   TEXT NOT NULL,
    PRIMARY KEY (scope, key, period, bound_usd)
) STRICT, WITHOUT ROWID;

-- A skip that goes on, as while a job is paused, is one row whose count grows.
CREATE TRIGGER occurrences_counted AFTER UPDATE OF count ON occurrences WHEN NEW.count > OLD.count BEGIN
    UPDATE slot_quarters SET
        skipped = skipped + iif(NEW.fate LIKE 'skipped_%', NEW.count - OLD.count, 0),
        missed = missed + iif(NEW.fate = 'missed', NEW.count - OLD.count, 0)
    WHERE at = (SELECT quarter FROM slot_sums WHERE n = NEW.rowid);
END;
