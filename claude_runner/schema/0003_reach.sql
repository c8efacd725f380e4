-- Who reaches the server from outside: webhooks with their deliveries, and the clients of OAuth with what they were given.
-- Secrets that must be shown again are sealed under a key that is not in this file; all others are kept as SHA-256 alone.

CREATE TABLE webhooks (
    id                TEXT PRIMARY KEY,
    name              TEXT NOT NULL CHECK (name <> ''),
    description       TEXT NOT NULL DEFAULT '',
    secret_token      TEXT NOT NULL,
    token_sha256      TEXT NOT NULL UNIQUE,
    prompt_template   TEXT NOT NULL CHECK (prompt_template <> ''),
    tools             TEXT NOT NULL DEFAULT '[]',
    profile           TEXT CHECK (profile IN ('contained', 'rules', 'full')),
    commands          TEXT NOT NULL DEFAULT '[]',
    timeout_minutes   INTEGER NOT NULL DEFAULT 30 CHECK (timeout_minutes BETWEEN 1 AND 1440),
    model             TEXT,
    enabled           INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    signature         TEXT CHECK (signature IN ('github', 'stripe', 'slack', 'gitlab', 'shopify', 'standard')),
    signing_secret    TEXT,
    filter            TEXT,
    plain_fields      TEXT NOT NULL DEFAULT '[]',
    max_per_minute    INTEGER NOT NULL DEFAULT 60 CHECK (max_per_minute BETWEEN 1 AND 1000000),
    max_wait_seconds  INTEGER NOT NULL DEFAULT 0 CHECK (max_wait_seconds BETWEEN 0 AND 300),
    trigger_count     INTEGER NOT NULL DEFAULT 0,
    last_triggered_at TEXT,
    created_at        TEXT NOT NULL,
    updated_at        TEXT NOT NULL,
    CHECK ((signature IS NULL) = (signing_secret IS NULL))
) STRICT;

-- Every delivery that was let in or turned away, but for those above the rate limit. The rendered prompt is its run's.
-- A body is kept for a while only; what tells that a delivery has come before is kept for longer.
CREATE TABLE webhook_deliveries (
    id           TEXT PRIMARY KEY,
    webhook_id   TEXT NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    delivery_key TEXT,
    received_at  TEXT NOT NULL,
    verdict      TEXT NOT NULL CHECK (verdict IN ('accepted', 'filtered', 'bad_signature', 'malformed', 'disabled')),
    reason       TEXT,
    headers      TEXT NOT NULL,
    body         BLOB,
    run_id       TEXT,
    replay_of    TEXT
) STRICT;

CREATE UNIQUE INDEX webhook_deliveries_once ON webhook_deliveries (webhook_id, delivery_key)
    WHERE delivery_key IS NOT NULL AND verdict = 'accepted';
-- Rows come in the order of time, and are cheapest to add at the end of an index. It is read from there as well.
CREATE INDEX webhook_deliveries_newest ON webhook_deliveries (webhook_id, received_at, id);
CREATE INDEX webhook_deliveries_refused ON webhook_deliveries (webhook_id, received_at, id)
    WHERE verdict IN ('bad_signature', 'malformed', 'disabled');

DROP INDEX runs_newest;
CREATE INDEX runs_newest ON runs (created_at, id);
-- Runs of webhooks have no job: they need not be in the indices of jobs' runs.
DROP INDEX runs_of_job;
DROP INDEX runs_open_of_job;
CREATE INDEX runs_of_job ON runs (job_id, created_at, id) WHERE job_id IS NOT NULL;
CREATE INDEX runs_open_of_job ON runs (job_id) WHERE job_id IS NOT NULL AND state IN ('pending', 'running');

-- A client without a secret is a public one (RFC 6749, section 2.1). `source`: made by the server itself, given by the
-- environment, registered over the network (RFC 7591), or known by its metadata document.
CREATE TABLE oauth_clients (
    client_id     TEXT PRIMARY KEY,
    client_name   TEXT NOT NULL,
    secret_sha256 TEXT,
    source        TEXT NOT NULL CHECK (source IN ('auto', 'environment', 'registered', 'document')),
    redirect_uris TEXT NOT NULL,
    created_at    TEXT NOT NULL,
    last_used_at  TEXT
) STRICT;

CREATE UNIQUE INDEX oauth_clients_one_auto ON oauth_clients (source) WHERE source = 'auto';

-- Requests for authorization that the owner has answered: each is answered once. Those that wait are with his browser.
CREATE TABLE oauth_answered (
    request_sha256 TEXT PRIMARY KEY,
    expires_at     TEXT NOT NULL
) STRICT;

-- What the owner consented to; everything that a client holds goes back to one.
CREATE TABLE oauth_grants (
    id             TEXT PRIMARY KEY,
    client_id      TEXT NOT NULL REFERENCES oauth_clients (client_id) ON DELETE CASCADE,
    subject        TEXT NOT NULL,
    scope          TEXT NOT NULL,
    issuer         TEXT NOT NULL,
    resource       TEXT NOT NULL,
    created_at     TEXT NOT NULL,
    revoked_at     TEXT,
    revoked_reason TEXT,
    CHECK ((revoked_at IS NULL) = (revoked_reason IS NULL))
) STRICT;

CREATE TABLE oauth_codes (
    code_sha256    TEXT PRIMARY KEY,
    grant_id       TEXT NOT NULL REFERENCES oauth_grants (id) ON DELETE CASCADE,
    redirect_uri   TEXT NOT NULL,
    code_challenge TEXT NOT NULL,
    expires_at     TEXT NOT NULL,
    used_at        TEXT
) STRICT;

CREATE TABLE oauth_refresh_tokens (
    token_sha256 TEXT PRIMARY KEY,
    grant_id     TEXT NOT NULL REFERENCES oauth_grants (id) ON DELETE CASCADE,
    created_at   TEXT NOT NULL,
    expires_at   TEXT NOT NULL,
    used_at      TEXT
) STRICT;

CREATE TABLE oauth_access_tokens (
    jti_sha256 TEXT PRIMARY KEY,
    grant_id   TEXT NOT NULL REFERENCES oauth_grants (id) ON DELETE CASCADE,
    expires_at TEXT NOT NULL
) STRICT;

CREATE INDEX oauth_grants_of_client ON oauth_grants (client_id);
CREATE INDEX oauth_codes_of_grant ON oauth_codes (grant_id);
CREATE INDEX oauth_refresh_tokens_of_grant ON oauth_refresh_tokens (grant_id);
CREATE INDEX oauth_access_tokens_of_grant ON oauth_access_tokens (grant_id);

-- A sqlite3 shell, where a person may delete a client, does not enforce foreign keys; nothing may be left behind there.
CREATE TRIGGER oauth_clients_deleted AFTER DELETE ON oauth_clients BEGIN
    DELETE FROM oauth_grants WHERE client_id = OLD.client_id;
END;

CREATE TRIGGER oauth_grants_deleted AFTER DELETE ON oauth_grants BEGIN
    DELETE FROM oauth_codes WHERE grant_id = OLD.id;
    DELETE FROM oauth_refresh_tokens WHERE grant_id = OLD.id;
    DELETE FROM oauth_access_tokens WHERE grant_id = OLD.id;
END;
