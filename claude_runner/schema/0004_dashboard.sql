-- What the dashboard reads instead of counting every run there ever was: sums kept by triggers, so that any writer keeps
-- them true, and an index of words. What was used stays used: deleting a run or a job lowers no sum of its time.

-- A job in the trash: it is gone for everybody but for who takes it back. `enabled` stays as it was.
ALTER TABLE jobs ADD COLUMN removed_at TEXT;
CREATE INDEX jobs_removed ON jobs (removed_at) WHERE removed_at IS NOT NULL;

-- Lists are filtered without reading the runs themselves, whose texts are long.
DROP INDEX runs_newest;
CREATE INDEX runs_newest
    ON runs (created_at, id, state, trigger, reason, job_id, webhook_id, cost_usd, rehearsal);
-- These are written to at a run's end or by hand, never by a post to a webhook.
CREATE INDEX runs_failed
    ON runs (created_at, id, state, trigger, reason, job_id, webhook_id, cost_usd, rehearsal)
    WHERE state = 'error';
CREATE INDEX runs_by_hand
    ON runs (created_at, id, state, trigger, reason, job_id, webhook_id, cost_usd, rehearsal)
    WHERE trigger NOT IN ('schedule', 'webhook');
CREATE INDEX runs_of_webhook
    ON runs (webhook_id, created_at, id, state, trigger, reason, job_id, cost_usd, rehearsal)
    WHERE webhook_id IS NOT NULL AND state IN ('finished', 'error', 'cancelled');
DROP INDEX runs_of_job;
CREATE INDEX runs_of_job
    ON runs (job_id, created_at, id, state, trigger, reason, webhook_id, cost_usd, rehearsal)
    WHERE job_id IS NOT NULL;
-- What is asked of a job's open runs must be answered by this one, or every run of the job is looked at.
DROP INDEX runs_open_of_job;
CREATE INDEX runs_open_of_job ON runs (job_id, state, created_at, id, not_before)
    WHERE job_id IS NOT NULL AND state IN ('pending', 'running');

CREATE INDEX occurrences_by_time ON occurrences (scheduled_for);
CREATE INDEX occurrences_long ON occurrences (until) WHERE until IS NOT NULL;
CREATE INDEX occurrences_missed ON occurrences (scheduled_for) WHERE fate = 'missed';
CREATE INDEX tool_calls_failed ON tool_calls (verdict, started_at, id) WHERE verdict IN ('error', 'denied');

-- What ended in a quarter of an hour, which is a part of every hour of every zone, and in a day of UTC, so that many
-- years are few rows. `at` is the beginning. `unpriced` have run and have no known price; `seconds` is from start to end.
CREATE TABLE usage_sums (
    span               TEXT NOT NULL CHECK (span IN ('quarter', 'day')),
    rehearsal          INTEGER NOT NULL,
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
    PRIMARY KEY (span, rehearsal, at)
) STRICT, WITHOUT ROWID;

-- What became of planned slots, by the quarter of an hour they were planned for; of several in a row, by the first.
CREATE TABLE slot_quarters (
    at      TEXT PRIMARY KEY,
    ran     INTEGER NOT NULL,
    skipped INTEGER NOT NULL,
    missed  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- `recent` is a letter for each of the last 20 results, oldest first: ok, failed, cancelled, skipped, missed, rehearsed,
-- and x for a rehearsal that failed. `failing`: whether the last run that was not cancelled failed.
CREATE TABLE job_totals (
    job_id   TEXT PRIMARY KEY,
    runs     INTEGER NOT NULL DEFAULT 0,
    failed   INTEGER NOT NULL DEFAULT 0,
    cost_usd REAL NOT NULL DEFAULT 0,
    priced   INTEGER NOT NULL DEFAULT 0,
    seconds  REAL NOT NULL DEFAULT 0,
    failing  INTEGER NOT NULL DEFAULT 0,
    recent   TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;

-- What a run that has ended adds to the sums.
CREATE VIEW run_sums AS SELECT
    id, job_id, rehearsal, finished_at,
    substr(finished_at, 1, 10) || 'T00:00:00.000+00:00' AS day,
    substr(finished_at, 1, 14) || CASE
        WHEN substr(finished_at, 15, 2) < '15' THEN '00' WHEN substr(finished_at, 15, 2) < '30' THEN '15'
        WHEN substr(finished_at, 15, 2) < '45' THEN '30' ELSE '45' END || ':00.000+00:00' AS quarter,
    state = 'finished' AS finished, state = 'error' AS failed, state = 'cancelled' AS cancelled,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
    coalesce(cost_usd, 0.0) AS cost_usd,
    cost_usd IS NOT NULL AND NOT rehearsal AS priced,
    cost_usd IS NULL AND started_at IS NOT NULL AND NOT rehearsal AS unpriced,
    coalesce(round((julianday(finished_at) - julianday(started_at)) * 86400, 3), 0.0) AS seconds,
    CASE state WHEN 'cancelled' THEN 'c' WHEN 'finished' THEN iif(rehearsal, 'r', 'o')
        ELSE iif(rehearsal, 'x', 'f') END AS letter
FROM runs WHERE state IN ('finished', 'error', 'cancelled');

-- What a slot adds to them. More missed slots than were counted are at least 101.
CREATE VIEW slot_sums AS SELECT
    rowid AS n, job_id, scheduled_for,
    substr(scheduled_for, 1, 14) || CASE
        WHEN substr(scheduled_for, 15, 2) < '15' THEN '00' WHEN substr(scheduled_for, 15, 2) < '30' THEN '15'
        WHEN substr(scheduled_for, 15, 2) < '45' THEN '30' ELSE '45' END || ':00.000+00:00' AS quarter,
    iif(fate IN ('ran', 'caught_up'), coalesce(count, 101), 0) AS ran,
    iif(fate IN ('ran', 'caught_up', 'missed'), 0, coalesce(count, 101)) AS skipped,
    iif(fate = 'missed', coalesce(count, 101), 0) AS missed,
    CASE WHEN fate IN ('ran', 'caught_up') THEN NULL WHEN fate = 'missed' THEN 'm' ELSE 's' END AS letter
FROM occurrences;

-- The runs that have ended, numbered as they ended: whatever is kept of ended runs beside them hangs on this table, so
-- that each counts once. What may be asked about a run stands here as well, so that who looks through many of them need
-- not read their texts.
CREATE TABLE run_ends (
    n          INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id     TEXT NOT NULL UNIQUE,
    created_at TEXT NOT NULL,
    state      TEXT NOT NULL,
    trigger    TEXT NOT NULL,
    reason     TEXT,
    job_id     TEXT,
    webhook_id TEXT,
    cost_usd   REAL,
    rehearsal  INTEGER NOT NULL
) STRICT;

-- The texts whose words are looked for; of a long output its beginning.
CREATE VIEW run_texts AS
    SELECT n, prompt, substr(coalesce(output, ''), 1, 100000) AS output
    FROM run_ends JOIN runs ON runs.id = run_ends.run_id;

CREATE VIRTUAL TABLE run_words USING fts5 (
    prompt, output,
    content = 'run_texts', content_rowid = 'n', columnsize = 0, tokenize = 'unicode61 remove_diacritics 2'
);
-- Words are taken in by the server, many runs at a time and a moment after their ends, and merged by it: a trigger would
-- make the end of a run take many times as long, now and then a second. Those up to `until` have been.
INSERT INTO run_words (run_words, rank) VALUES ('automerge', 0);
INSERT INTO run_words (run_words, rank) VALUES ('crisismerge', 500);
CREATE TABLE run_words_taken (
    until INTEGER NOT NULL
) STRICT;
INSERT INTO run_words_taken (until) VALUES (0);
-- Nobody changes the texts of a run that has ended, but for a person in a sqlite3 shell. These are what its words were
-- taken of, until they are taken anew; a trigger that did so would make the end of each run take three times as long.
CREATE TABLE run_words_stale (
    n      INTEGER PRIMARY KEY,
    prompt TEXT NOT NULL,
    output TEXT NOT NULL
) STRICT;

-- Which words there are, one row for each place, read for those that begin alike.
CREATE VIRTUAL TABLE run_vocabulary USING fts5vocab (run_words, 'instance');

CREATE TRIGGER run_ends_inserted AFTER INSERT ON run_ends BEGIN
    INSERT INTO usage_sums SELECT 'quarter', rehearsal, quarter, finished, failed, cancelled, input_tokens, output_tokens,
        cache_read_tokens, cache_write_tokens, cost_usd, unpriced, seconds
    FROM run_sums WHERE id = NEW.run_id
    ON CONFLICT DO UPDATE SET finished = finished + excluded.finished,
        failed = failed + excluded.failed, cancelled = cancelled + excluded.cancelled,
        input_tokens = input_tokens + excluded.input_tokens, output_tokens = output_tokens + excluded.output_tokens,
        cache_read_tokens = cache_read_tokens + excluded.cache_read_tokens,
        cache_write_tokens = cache_write_tokens + excluded.cache_write_tokens,
        cost_usd = cost_usd + excluded.cost_usd, unpriced = unpriced + excluded.unpriced,
        seconds = seconds + excluded.seconds;
    INSERT INTO usage_sums SELECT 'day', rehearsal, day, finished, failed, cancelled, input_tokens, output_tokens,
        cache_read_tokens, cache_write_tokens, cost_usd, unpriced, seconds
    FROM run_sums WHERE id = NEW.run_id
    ON CONFLICT DO UPDATE SET finished = finished + excluded.finished,
        failed = failed + excluded.failed, cancelled = cancelled + excluded.cancelled,
        input_tokens = input_tokens + excluded.input_tokens, output_tokens = output_tokens + excluded.output_tokens,
        cache_read_tokens = cache_read_tokens + excluded.cache_read_tokens,
        cache_write_tokens = cache_write_tokens + excluded.cache_write_tokens,
        cost_usd = cost_usd + excluded.cost_usd, unpriced = unpriced + excluded.unpriced,
        seconds = seconds + excluded.seconds;
    INSERT INTO job_totals (job_id, runs, failed, cost_usd, priced, seconds, failing, recent) SELECT
        job_id, 1, failed, cost_usd, priced, seconds, failed, letter
    FROM run_sums WHERE id = NEW.run_id AND job_id IS NOT NULL
    ON CONFLICT DO UPDATE SET runs = runs + 1, failed = failed + excluded.failed,
        cost_usd = cost_usd + excluded.cost_usd, priced = priced + excluded.priced,
        seconds = seconds + excluded.seconds,
        failing = iif(excluded.recent = 'c', failing, excluded.failing),
        recent = substr(recent || excluded.recent, -20);
END;

CREATE TRIGGER run_ends_deleted BEFORE DELETE ON run_ends WHEN OLD.n <= (SELECT until FROM run_words_taken) BEGIN
    INSERT INTO run_words (run_words, rowid, prompt, output)
        SELECT 'delete', n, coalesce(run_words_stale.prompt, run_texts.prompt),
            coalesce(run_words_stale.output, run_texts.output)
        FROM run_texts LEFT JOIN run_words_stale USING (n) WHERE n = OLD.n;
    DELETE FROM run_words_stale WHERE n = OLD.n;
END;

CREATE TRIGGER runs_ended AFTER UPDATE OF state ON runs
WHEN NEW.state IN ('finished', 'error', 'cancelled') AND OLD.state NOT IN ('finished', 'error', 'cancelled') BEGIN
    INSERT INTO run_ends (run_id, created_at, state, trigger, reason, job_id, webhook_id, cost_usd, rehearsal)
    VALUES (NEW.id, NEW.created_at, NEW.state, NEW.trigger, NEW.reason, NEW.job_id, NEW.webhook_id, NEW.cost_usd,
        NEW.rehearsal)
    ON CONFLICT DO NOTHING;
END;

-- A run that comes in ended, from a copy, counts as well.
CREATE TRIGGER runs_inserted AFTER INSERT ON runs WHEN NEW.state IN ('finished', 'error', 'cancelled') BEGIN
    INSERT INTO run_ends (run_id, created_at, state, trigger, reason, job_id, webhook_id, cost_usd, rehearsal)
    VALUES (NEW.id, NEW.created_at, NEW.state, NEW.trigger, NEW.reason, NEW.job_id, NEW.webhook_id, NEW.cost_usd,
        NEW.rehearsal)
    ON CONFLICT DO NOTHING;
END;

CREATE TRIGGER runs_deleted BEFORE DELETE ON runs BEGIN
    DELETE FROM run_ends WHERE run_id = OLD.id;
END;

CREATE TRIGGER runs_edited AFTER UPDATE OF prompt, output ON runs
WHEN EXISTS (SELECT 1 FROM run_ends WHERE run_id = OLD.id AND n <= (SELECT until FROM run_words_taken)) BEGIN
    INSERT INTO run_words_stale SELECT n, OLD.prompt, substr(coalesce(OLD.output, ''), 1, 100000)
    FROM run_ends WHERE run_id = OLD.id
    ON CONFLICT DO NOTHING;
END;

CREATE TRIGGER occurrences_inserted AFTER INSERT ON occurrences BEGIN
    INSERT INTO slot_quarters SELECT quarter, ran, skipped, missed FROM slot_sums WHERE n = NEW.rowid
    ON CONFLICT DO UPDATE SET ran = ran + excluded.ran, skipped = skipped + excluded.skipped,
        missed = missed + excluded.missed;
    INSERT INTO job_totals (job_id, recent)
        SELECT job_id, letter FROM slot_sums WHERE n = NEW.rowid AND letter IS NOT NULL
    ON CONFLICT DO UPDATE SET recent = substr(recent || excluded.recent, -20);
END;

CREATE TRIGGER jobs_deleted AFTER DELETE ON jobs BEGIN
    DELETE FROM job_totals WHERE job_id = OLD.id;
END;

-- What there is already.
INSERT INTO run_ends (run_id, created_at, state, trigger, reason, job_id, webhook_id, cost_usd, rehearsal)
    SELECT id, created_at, state, trigger, reason, job_id, webhook_id, cost_usd, rehearsal
    FROM runs WHERE state IN ('finished', 'error', 'cancelled') ORDER BY finished_at, id;
INSERT INTO slot_quarters SELECT quarter, sum(ran), sum(skipped), sum(missed) FROM slot_sums GROUP BY quarter;
INSERT INTO job_totals (job_id, recent) SELECT job_id, group_concat(letter, '') FROM (
    SELECT job_id, letter FROM (
        SELECT job_id, letter, at, row_number() OVER (PARTITION BY job_id ORDER BY at DESC) AS place FROM (
            SELECT job_id, letter, finished_at AS at FROM run_sums WHERE job_id IS NOT NULL
            UNION ALL SELECT job_id, letter, scheduled_for FROM slot_sums WHERE letter IS NOT NULL
        )
    ) WHERE place <= 20 ORDER BY job_id, at
) WHERE true GROUP BY job_id
ON CONFLICT DO UPDATE SET recent = excluded.recent;
