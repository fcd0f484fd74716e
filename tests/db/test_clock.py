"""The clock that other tests move: it takes effect wherever a verb asks for the time."""

import datetime as dt

from db import expiry
from db.renewal import LeaseState
from tests.db.conftest import Bench
from tests.db.shifted_clock import ShiftedClock

DAY = 86400


def test_time_that_is_moved_passes_for_every_verb(bench: Bench, clock: ShiftedClock) -> None:
    before = bench.value("SELECT clock_timestamp()")
    clock.move(DAY)
    assert dt.timedelta(days=1) <= bench.value("SELECT clock_timestamp()") - before < dt.timedelta(days=1, minutes=5)
    job = bench.submit()
    bench.bind_all()
    claimed = bench.must_claim(lease_seconds=DAY)
    assert bench.job(job).created_at - before >= dt.timedelta(days=1)
    assert bench.renew(claimed) is LeaseState.HELD
    bench.watch()
    assert bench.database.run(expiry.expired) == []
    clock.move(DAY)
    bench.watch()
    assert bench.database.run(expiry.expired) == [claimed.lease.execution_id]
    assert bench.renew(claimed) is LeaseState.LOST
