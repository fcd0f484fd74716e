"""What each team has used of a pool lately: pool-seconds that decay with a half-life. Decides fair share."""

HALF_LIFE_SECONDS = 3600.0
HALVINGS_MAX = 1000  # Postgres refuses a power that is too small to be told from nothing
CLAIM_SECONDS = 1.0  # counted for each claim, so that teams take turns also with what is done in no time

# What an execution that runs has used of its pool so far; the table's own name is in scope.
USED_SECONDS = f"""
    {CLAIM_SECONDS} + CAST(extract(epoch FROM clock_timestamp() - executions.started_at) AS double precision)
"""
# A team's pool-seconds as of now, of what has ended; the row is called ``usage``.
DECAYED = f"""
    usage.pool_seconds * power(0.5, least({HALVINGS_MAX},
        CAST(extract(epoch FROM clock_timestamp() - usage.updated_at) AS double precision) / {HALF_LIFE_SECONDS}
    ))
"""
# Adds the rows (team_id, pool, seconds) of the query ``charges``; takes the lock of each team's usage.
CHARGE = f"""
    INSERT INTO team_usage AS usage (team_id, pool, pool_seconds, updated_at)
    SELECT team_id, pool, seconds, clock_timestamp() FROM charges
    ON CONFLICT (team_id, pool) DO UPDATE
    SET pool_seconds = excluded.pool_seconds + {DECAYED}, updated_at = clock_timestamp()
"""
