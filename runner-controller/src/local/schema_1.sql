-- Times are RFC 3339 in UTC. `description`, `report` and `record` are JSON; mirror.rs says of what form.
CREATE TABLE jobs (
    source      TEXT NOT NULL,
    job_id      TEXT NOT NULL,
    attempt     INTEGER NOT NULL,
    stored_at   TEXT NOT NULL,
    description TEXT NOT NULL,
    report      TEXT NOT NULL,
    PRIMARY KEY (source, job_id, attempt)
) STRICT;

CREATE TABLE job_facts (
    number     INTEGER PRIMARY KEY,
    source     TEXT NOT NULL,
    job_id     TEXT NOT NULL,
    attempt    INTEGER NOT NULL,
    id         TEXT NOT NULL,
    action     TEXT NOT NULL,
    heard_at   TEXT NOT NULL,
    runner     TEXT,
    conclusion TEXT,
    UNIQUE (source, job_id, attempt, id),
    FOREIGN KEY (source, job_id, attempt) REFERENCES jobs ON DELETE CASCADE
) STRICT;

CREATE TABLE runners (
    name   TEXT PRIMARY KEY,
    record TEXT NOT NULL
) STRICT;

CREATE TABLE credentials (
    runner  TEXT NOT NULL REFERENCES runners (name) ON DELETE CASCADE,
    file    TEXT NOT NULL,
    content TEXT NOT NULL,
    PRIMARY KEY (runner, file)
) STRICT;

CREATE TABLE reservations (
    runner TEXT PRIMARY KEY
) STRICT;

-- Every change of the reservations raises this; who expects another number was not alone.
CREATE TABLE reservations_epoch (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    epoch    INTEGER NOT NULL,
    -- JSON: container groups that were made and deleted lately, by quota.
    changes  TEXT NOT NULL
) STRICT;
INSERT INTO reservations_epoch VALUES (1, 0, '{}');
