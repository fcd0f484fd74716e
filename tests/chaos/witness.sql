-- What the harness sees of its own: every change of a status, and every write by an attempt that does not hold its work.

CREATE SCHEMA witness;

CREATE TABLE witness.changes (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind text NOT NULL,
    row_id text NOT NULL,
    old_status text,
    new_status text,
    old_token bigint,
    new_token bigint,
    began timestamptz NOT NULL DEFAULT now(), -- the transaction that did it
    team_id text,
    pool text,
    worker_id text
);

-- What an operator has ordered, from after its command was done to before the one that ends it began.
CREATE TABLE witness.orders (
    id text PRIMARY KEY,
    what text NOT NULL, -- paused, drained, limited
    subject text NOT NULL, -- the pool, the worker, the team
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    until timestamptz NOT NULL DEFAULT 'infinity',
    pool text, -- of a limit on what runs; without one it is on what is queued
    maximum bigint
);

CREATE TABLE witness.violations (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    what text NOT NULL,
    execution_id text NOT NULL,
    detail text NOT NULL
);

CREATE FUNCTION witness.note_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    old_row jsonb := CASE WHEN TG_OP = 'INSERT' THEN NULL ELSE to_jsonb(OLD) END;
    new_row jsonb := CASE WHEN TG_OP = 'DELETE' THEN NULL ELSE to_jsonb(NEW) END;
BEGIN
    INSERT INTO witness.changes (
        kind, row_id, old_status, new_status, old_token, new_token, team_id, pool, worker_id
    )
    VALUES (
        TG_TABLE_NAME,
        coalesce(new_row, old_row) ->> 'id',
        old_row ->> 'status',
        new_row ->> 'status',
        (old_row ->> 'token')::bigint,
        (new_row ->> 'token')::bigint,
        coalesce(new_row, old_row) ->> 'team_id',
        coalesce(new_row, old_row) ->> 'pool',
        new_row ->> 'worker_id'
    );
    RETURN NULL;
END $$;

CREATE TRIGGER witness_change AFTER INSERT OR DELETE OR UPDATE OF status ON jobs
    FOR EACH ROW EXECUTE FUNCTION witness.note_change();
CREATE TRIGGER witness_change AFTER INSERT OR DELETE OR UPDATE OF status ON steps
    FOR EACH ROW EXECUTE FUNCTION witness.note_change();
CREATE TRIGGER witness_change AFTER INSERT OR DELETE OR UPDATE OF status, token ON executions
    FOR EACH ROW EXECUTE FUNCTION witness.note_change();

-- Written under a lease: NEW must name the attempt or the token that the execution has now, and it must be running.
CREATE FUNCTION witness.check_writer() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    new_row jsonb := to_jsonb(NEW);
    holder record;
BEGIN
    SELECT status, attempt, token INTO holder FROM executions WHERE id = NEW.execution_id;
    IF holder.status <> 'running'
        OR holder.attempt <> coalesce((new_row ->> 'attempt')::integer, holder.attempt)
        OR holder.token <> coalesce((new_row ->> 'token')::bigint, holder.token)
    THEN
        INSERT INTO witness.violations (what, execution_id, detail)
        VALUES (
            TG_TABLE_NAME,
            NEW.execution_id,
            format(
                'written by attempt %s, token %s, while it was %s under attempt %s, token %s',
                new_row ->> 'attempt', new_row ->> 'token', holder.status, holder.attempt, holder.token
            )
        );
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER witness_writer AFTER INSERT ON log_chunks
    FOR EACH ROW EXECUTE FUNCTION witness.check_writer();
CREATE TRIGGER witness_writer AFTER INSERT ON metrics
    FOR EACH ROW EXECUTE FUNCTION witness.check_writer();
CREATE TRIGGER witness_writer AFTER INSERT ON artifacts
    FOR EACH ROW EXECUTE FUNCTION witness.check_writer();
CREATE TRIGGER witness_writer AFTER INSERT ON evaluations
    FOR EACH ROW EXECUTE FUNCTION witness.check_writer();
CREATE TRIGGER witness_writer AFTER INSERT ON blob_intents
    FOR EACH ROW EXECUTE FUNCTION witness.check_writer();

-- An attempt ends once.
CREATE FUNCTION witness.check_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.outcome IS NOT NULL THEN
        INSERT INTO witness.violations (what, execution_id, detail)
        VALUES (
            TG_TABLE_NAME,
            NEW.execution_id,
            format('attempt %s has ended as %s, then as %s', NEW.number, OLD.outcome, NEW.outcome)
        );
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER witness_end AFTER UPDATE OF outcome ON attempts
    FOR EACH ROW EXECUTE FUNCTION witness.check_end();
