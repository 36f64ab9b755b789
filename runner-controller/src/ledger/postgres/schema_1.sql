-- Times are RFC 3339 in UTC with nine decimals, so that they sort as text and none of Azure's digits is lost, as
-- timestamptz would; `stopped_at::timestamptz` is one. Texts sort by their bytes.
CREATE TABLE stint.schema_version (
    version bigint PRIMARY KEY
);

CREATE TABLE stint.identity (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    id     text NOT NULL
);
INSERT INTO stint.identity (id) VALUES (left(replace(gen_random_uuid()::text, '-', ''), 16));

CREATE SEQUENCE stint.ledger_number;

CREATE TABLE stint.ledger (
    number              bigint PRIMARY KEY,
    group_id            text NOT NULL,
    machine_uid         text NOT NULL,
    runner              text COLLATE "C" NOT NULL,
    started_for_source  text NOT NULL,
    started_for_id      text NOT NULL,
    started_for_attempt bigint NOT NULL,
    for_owner           text NOT NULL,
    for_repository      text NOT NULL,
    for_workflow        text NOT NULL,
    for_class           text COLLATE "C" NOT NULL,
    job_source          text,
    job_id              text,
    job_attempt         bigint,
    job_key             text GENERATED ALWAYS AS (job_source || '-' || job_id || '-' || job_attempt::text) STORED,
    repository          text NOT NULL,
    job_name            text NOT NULL,
    class               text NOT NULL,
    place               text NOT NULL,
    ended_because       text NOT NULL,
    conclusion          text,
    started_at          text COLLATE "C" NOT NULL,
    started_from        text NOT NULL,
    stopped_at          text COLLATE "C" NOT NULL,
    stopped_from        text NOT NULL,
    bound_seconds       bigint NOT NULL,
    seconds             bigint NOT NULL,
    vcpu                bigint NOT NULL,
    memory_gb           numeric NOT NULL,
    amount              numeric NOT NULL,
    currency            text NOT NULL,
    UNIQUE (group_id, machine_uid)
);
CREATE INDEX ledger_by_job_key ON stint.ledger (job_key);
CREATE INDEX ledger_by_job_id ON stint.ledger (job_id);
CREATE INDEX ledger_idle_by_started_for ON stint.ledger (started_for_id) WHERE job_id IS NULL;
CREATE INDEX ledger_by_stopped_at ON stint.ledger (stopped_at);
-- By an expression, so that no planner takes the primary key for the latest rows of a class that is rare.
CREATE INDEX ledger_by_for_class ON stint.ledger (for_class, (-number));

-- Numbers must grow in the order in which rows become visible, and a sequence by itself only tells in which order
-- transactions asked. The lock is held until the row is visible, so whoever is given a later number commits later.
CREATE FUNCTION stint.number_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(1400130661);
    NEW.number := nextval('stint.ledger_number');
    RETURN NEW;
END
$$;
CREATE TRIGGER ledger_is_numbered BEFORE INSERT ON stint.ledger
FOR EACH ROW EXECUTE FUNCTION stint.number_row();

CREATE FUNCTION stint.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only';
END
$$;
CREATE TRIGGER ledger_is_not_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON stint.ledger
FOR EACH STATEMENT EXECUTE FUNCTION stint.refuse_change();
CREATE TRIGGER identity_is_not_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON stint.identity
FOR EACH STATEMENT EXECUTE FUNCTION stint.refuse_change();
-- Not even a session that replicates, which leaves out other triggers.
ALTER TABLE stint.ledger ENABLE ALWAYS TRIGGER ledger_is_not_changed;
ALTER TABLE stint.identity ENABLE ALWAYS TRIGGER identity_is_not_changed;

CREATE TABLE stint.logs (
    runner      text COLLATE "C" PRIMARY KEY,
    job_source  text NOT NULL,
    job_id      text NOT NULL,
    job_attempt bigint NOT NULL,
    job_key     text GENERATED ALWAYS AS (job_source || '-' || job_id || '-' || job_attempt::text) STORED,
    kept_at     text COLLATE "C" NOT NULL,
    origin      text NOT NULL,
    text        text NOT NULL
);
CREATE INDEX logs_by_job_key ON stint.logs (job_key);
CREATE INDEX logs_by_job_id ON stint.logs (job_id);
CREATE INDEX logs_by_kept_at ON stint.logs (kept_at);
