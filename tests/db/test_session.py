"""What a connection promises to the others."""

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from db.locks import Purpose, wait_for
from db.session import STALLED_SECONDS
from tests.db.conftest import Bench


@pytest.mark.slow
def test_a_process_that_stalls_in_a_transaction_does_not_hold_up_the_others_for_long(bench: Bench) -> None:
    went_on = 0

    def stall_once(stalled: Session) -> None:
        nonlocal went_on
        wait_for(stalled, Purpose.QUOTA, "name")
        while went_on == 0:
            with bench.database.transaction() as other:
                other.execute(text(f"SET LOCAL lock_timeout = '{2 * STALLED_SECONDS}s'"))
                wait_for(other, Purpose.QUOTA, "name")
                went_on += 1

    bench.database.run(stall_once)
    assert went_on == 1
