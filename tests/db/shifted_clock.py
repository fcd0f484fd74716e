"""A database's clock that a test moves on, by seconds or by days.

A function of the same name stands before ``clock_timestamp()`` in the search path, and the columns that are filled in
take their time from it. Refuses to know what is timed by it; the clock never goes back.
"""

from sqlalchemy import text

from db.session import Database

_INSTALL = """
    CREATE SCHEMA test_clock;
    CREATE TABLE test_clock.shift (seconds double precision NOT NULL);
    INSERT INTO test_clock.shift VALUES (0);
    CREATE FUNCTION test_clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
        'SELECT pg_catalog.clock_timestamp() + make_interval(secs => seconds) FROM test_clock.shift';
    DO $$
    DECLARE filled record;
    BEGIN
        FOR filled IN
            SELECT table_name, column_name FROM information_schema.columns
            WHERE table_schema = 'public' AND column_default = 'now()'
        LOOP
            EXECUTE format('ALTER TABLE %%I ALTER COLUMN %%I SET DEFAULT test_clock.clock_timestamp()',
                filled.table_name, filled.column_name);
        END LOOP;
        EXECUTE format('ALTER DATABASE %%I SET search_path = test_clock, pg_catalog, public', current_database());
    END $$;
"""


class ShiftedClock:
    """The clock of one database, which stands right until it is moved.

    Args:
        database: gets the clock; its connections are opened anew.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.engine.begin() as connection:
            connection.exec_driver_sql(_INSTALL)
        database.dispose()

    def move(self, seconds: float) -> None:
        """Let so much time pass at once."""
        with self._database.transaction() as session:
            session.execute(text("UPDATE test_clock.shift SET seconds = seconds + :more"), {"more": seconds})
