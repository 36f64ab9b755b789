-- Times are RFC 3339 in UTC with nine decimals, so that they sort as text. Money and GB are decimals as text.
CREATE TABLE identity (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    id   TEXT NOT NULL
) STRICT;
INSERT INTO identity (only, id) VALUES (1, lower(hex(randomblob(8))));

CREATE TABLE ledger (
    number              INTEGER PRIMARY KEY,
    group_id            TEXT NOT NULL,
    machine_uid         TEXT NOT NULL,
    runner              TEXT NOT NULL,
    started_for_source  TEXT NOT NULL,
    started_for_id      TEXT NOT NULL,
    started_for_attempt INTEGER NOT NULL,
    for_owner           TEXT NOT NULL,
    for_repository      TEXT NOT NULL,
    for_workflow        TEXT NOT NULL,
    for_class           TEXT NOT NULL,
    job_source          TEXT,
    job_id              TEXT,
    job_attempt         INTEGER,
    job_key             TEXT GENERATED ALWAYS AS (job_source || '-' || job_id || '-' || job_attempt) VIRTUAL,
    repository          TEXT NOT NULL,
    job_name            TEXT NOT NULL,
    class               TEXT NOT NULL,
    place               TEXT NOT NULL,
    ended_because       TEXT NOT NULL,
    conclusion          TEXT,
    started_at          TEXT NOT NULL,
    started_from        TEXT NOT NULL,
    stopped_at          TEXT NOT NULL,
    stopped_from        TEXT NOT NULL,
    bound_seconds       INTEGER NOT NULL,
    seconds             INTEGER NOT NULL,
    vcpu                INTEGER NOT NULL,
    memory_gb           TEXT NOT NULL,
    amount              TEXT NOT NULL,
    -- The amount in units of 1e-8, of which SQLite makes exact sums.
    amount_e8           INTEGER NOT NULL,
    currency            TEXT NOT NULL,
    UNIQUE (group_id, machine_uid)
) STRICT;
CREATE INDEX ledger_by_job_key ON ledger (job_key);
CREATE INDEX ledger_by_job_id ON ledger (job_id);
CREATE INDEX ledger_by_stopped_at ON ledger (stopped_at);

-- INSERT OR REPLACE deletes without asking the trigger on DELETE; here it changes nothing either.
CREATE TRIGGER ledger_keeps_first BEFORE INSERT ON ledger
WHEN EXISTS (SELECT 1 FROM ledger
             WHERE (group_id = NEW.group_id AND machine_uid = NEW.machine_uid) OR number = NEW.number)
BEGIN
    SELECT RAISE(IGNORE);
END;
CREATE TRIGGER ledger_is_not_updated BEFORE UPDATE ON ledger
BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;
CREATE TRIGGER ledger_is_not_deleted BEFORE DELETE ON ledger
BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;

CREATE TABLE logs (
    runner      TEXT PRIMARY KEY,
    job_source  TEXT NOT NULL,
    job_id      TEXT NOT NULL,
    job_attempt INTEGER NOT NULL,
    job_key     TEXT GENERATED ALWAYS AS (job_source || '-' || job_id || '-' || job_attempt) VIRTUAL,
    kept_at     TEXT NOT NULL,
    origin      TEXT NOT NULL,
    text        TEXT NOT NULL
) STRICT;
CREATE INDEX logs_by_job_key ON logs (job_key);
CREATE INDEX logs_by_job_id ON logs (job_id);
CREATE INDEX logs_by_kept_at ON logs (kept_at);
