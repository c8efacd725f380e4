-- What gives runs their tools: servers and their credentials, what each call came to, and what a job remembers.

-- Whether a server is enabled; what it is stands in its files. No row: as its files say.
CREATE TABLE servers (
    name       TEXT PRIMARY KEY,
    enabled    INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    updated_at TEXT NOT NULL
) STRICT;

-- What a server listed when it was last started, so that jobs can be checked without starting it.
CREATE TABLE server_tools (
    server      TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    tools       TEXT NOT NULL,
    listed_at   TEXT NOT NULL
) STRICT;

-- Values are sealed under a key that is not in this file.
CREATE TABLE credentials (
    server     TEXT NOT NULL,
    key        TEXT NOT NULL,
    sealed     TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    UNIQUE (server, key)
) STRICT;

-- Every call of a tool: a run's is written before it is made, one of invoke_internal_mcp_tool has no run.
CREATE TABLE tool_calls (
    id            TEXT PRIMARY KEY,
    run_id        TEXT REFERENCES runs (id) ON DELETE CASCADE,
    tool_use_id   TEXT,
    server        TEXT,
    tool          TEXT NOT NULL,
    arguments     TEXT NOT NULL,
    verdict       TEXT NOT NULL DEFAULT 'open' CHECK (verdict IN ('open', 'ok', 'error', 'denied', 'abandoned')),
    result        TEXT,
    result_length INTEGER,
    started_at    TEXT NOT NULL,
    duration_ms   REAL
) STRICT;

CREATE INDEX tool_calls_newest ON tool_calls (started_at DESC, id DESC);
CREATE INDEX tool_calls_of_run ON tool_calls (run_id, started_at, id);
CREATE INDEX tool_calls_of_server ON tool_calls (server, started_at DESC, id DESC);
CREATE UNIQUE INDEX tool_calls_of_use ON tool_calls (run_id, tool_use_id) WHERE tool_use_id IS NOT NULL;

-- No profile: the one that the settings give.
ALTER TABLE jobs ADD COLUMN profile TEXT CHECK (profile IN ('contained', 'rules', 'full'));
ALTER TABLE jobs ADD COLUMN commands TEXT NOT NULL DEFAULT '[]';
ALTER TABLE jobs ADD COLUMN note TEXT;

ALTER TABLE runs ADD COLUMN profile TEXT CHECK (profile IN ('contained', 'rules', 'full'));
ALTER TABLE runs ADD COLUMN commands TEXT NOT NULL DEFAULT '[]';
ALTER TABLE runs ADD COLUMN denials INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN parent_run_id TEXT REFERENCES runs (id) ON DELETE SET NULL;
ALTER TABLE runs ADD COLUMN root_run_id TEXT;
ALTER TABLE runs ADD COLUMN depth INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN report_status TEXT
    CHECK (report_status IN ('done', 'partly', 'nothing_to_do', 'failed'));
ALTER TABLE runs ADD COLUMN report_summary TEXT;

CREATE INDEX runs_of_parent ON runs (parent_run_id) WHERE parent_run_id IS NOT NULL;
CREATE INDEX runs_of_root ON runs (root_run_id) WHERE root_run_id IS NOT NULL;
CREATE INDEX runs_parked ON runs (not_before) WHERE state = 'pending' AND not_before IS NOT NULL;
