"""What must be alone on its host: claimed while nothing runs there, and nothing is claimed there meanwhile."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from db import quotas, workers
from db.claim import PASSED_OVER_SECONDS, Claim, claim
from db.ending import Retry
from db.jobs import PlannedStep
from db.states import Quota
from tests.db.at_once import deadlocks, together
from tests.db.conftest import LEASE_SECONDS, ROOM, Bench

ALONE = (PlannedStep("benchmark", "cpu", (), {}),)
ALONE_ON_GPU = (PlannedStep("benchmark", "gpu", (), {}),)
ANY = (PlannedStep("fetch", "cpu", (), {}),)
ANY_ON_GPU = (PlannedStep("reference", "gpu", (), {}),)
DEATHS = Retry(attempts_max=9, backoff_seconds=0)


def put(bench: Bench, *jobs: tuple[PlannedStep, ...], priority: int = 0) -> None:
    known = bench.value("SELECT count(*) FROM jobs")
    for number, steps in enumerate(jobs, known):
        bench.submit(steps=steps, source=f"file:///{number}", priority=priority)
    bench.bind_all()


def kind_of(claimed: Claim | None) -> str | None:
    return None if claimed is None else claimed.kind


@contextmanager
def claiming(bench: Bench, pool: str = "cpu") -> Iterator[Claim | None]:
    """Claim in a transaction that stays open."""
    with bench.database.transaction() as session:
        yield claim(session, bench.claimer(pool), LEASE_SECONDS)


def wait_out(bench: Bench) -> None:
    """Let what was passed over have been so for long."""
    since = f"clock_timestamp() - make_interval(secs => {PASSED_OVER_SECONDS + 1})"
    bench.execute(f"UPDATE executions SET passed_over_at = {since} WHERE passed_over_at IS NOT NULL")  # noqa: S608


def test_an_idle_worker_takes_it_and_nothing_beside_it(bench: Bench) -> None:
    put(bench, ALONE, ANY)
    alone = bench.must_claim()
    assert alone.kind == "benchmark"
    assert alone.need == ROOM.whole()
    assert bench.claim() is None
    bench.finish(alone)
    assert kind_of(bench.claim()) == "fetch"


def test_a_busy_worker_takes_what_comes_behind_it(bench: Bench) -> None:
    put(bench, ALONE, ANY, priority=1)
    running = bench.must_claim(is_idle=False)
    assert running.kind == "fetch"
    assert bench.claim(is_idle=False) is None
    bench.finish(running)
    assert kind_of(bench.claim()) == "benchmark"


def test_what_runs_on_another_worker_of_the_host_counts(bench: Bench) -> None:
    put(bench, ALONE, ANY_ON_GPU)
    beside = bench.must_claim("gpu")
    assert bench.claim() is None
    bench.finish(beside)
    assert kind_of(bench.claim()) == "benchmark"


def test_another_worker_of_the_host_takes_nothing_beside_it(bench: Bench) -> None:
    put(bench, ALONE, ANY_ON_GPU, ALONE_ON_GPU)
    alone = bench.must_claim()
    assert bench.claim("gpu") is None
    bench.release(alone)
    assert kind_of(bench.claim("gpu")) == "reference"


def test_another_host_goes_on(bench: Bench) -> None:
    put(bench, ALONE, ANY_ON_GPU)
    there = bench.new_worker("gpu", host="there")
    beside = bench.must_claim("gpu", worker_id=there, host="there")
    alone = bench.must_claim()
    assert [beside.kind, alone.kind] == ["reference", "benchmark"]
    put(bench, ANY_ON_GPU)
    assert bench.claim("gpu") is None
    assert kind_of(bench.claim("gpu", worker_id=there, host="there")) == "reference"


def test_a_claim_that_is_under_way_keeps_it_from_being_taken(bench: Bench) -> None:
    """Two transactions are open: neither sees what the other is about to commit."""
    put(bench, ALONE, ANY_ON_GPU)
    with claiming(bench, "gpu") as beside:
        assert kind_of(beside) == "reference"
        assert bench.claim() is None
    assert bench.claim() is None
    bench.finish(beside)  # type: ignore[arg-type]
    assert kind_of(bench.claim()) == "benchmark"


def test_while_it_is_being_taken_others_wait_and_then_take_nothing(bench: Bench) -> None:
    put(bench, ALONE, ANY_ON_GPU)
    found: list[Claim | None] = []
    other = threading.Thread(target=lambda: found.append(bench.claim("gpu")))
    with claiming(bench) as alone:
        assert kind_of(alone) == "benchmark"
        other.start()
        waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)"
        while not bench.value(waits):
            assert other.is_alive()
    other.join()
    assert found == [None]


def test_a_claim_that_was_broken_off_keeps_nobody(bench: Bench) -> None:
    put(bench, ALONE, ANY_ON_GPU)
    with bench.database.transaction() as session:
        assert kind_of(claim(session, bench.claimer(), LEASE_SECONDS)) == "benchmark"
        session.rollback()
    assert kind_of(bench.claim("gpu")) == "reference"


def test_many_at_once_are_never_beside_it(bench: Bench) -> None:
    put(bench, *[ALONE, ANY, ANY_ON_GPU, ALONE_ON_GPU] * 5)
    together_with = """
        SELECT count(*) FROM executions WHERE status = 'running' HAVING bool_or(is_exclusive) AND count(*) > 1
    """

    def work(pool: str) -> None:
        for _ in range(15):
            claimed = bench.claim(pool)
            if claimed is not None:
                assert bench.rows(together_with) == []
                bench.finish(claimed, claimed.lease.execution_id)

    together(*[lambda: work("cpu"), lambda: work("gpu")] * 3)
    bench.work_off()
    assert bench.value("SELECT count(*) FROM executions WHERE status <> 'succeeded'") == 0
    assert deadlocks(bench) == 0


def test_after_long_the_whole_host_is_kept_for_it(bench: Bench) -> None:
    put(bench, ALONE, priority=9)
    put(bench, ANY, ANY, ANY, ANY_ON_GPU, ANY_ON_GPU)
    busy = [bench.must_claim(is_idle=False), bench.must_claim("gpu")]
    assert bench.value("SELECT count(*) FROM executions WHERE passed_over_at IS NOT NULL") == 1
    wait_out(bench)
    assert bench.claim(is_idle=False, device="first") is None  # this keeps it
    assert bench.claim(is_idle=False, device="second") is None
    assert bench.claim("gpu") is None
    for one in busy:
        assert bench.claim(device="first") is None
        bench.finish(one)
    alone = bench.must_claim(device="first")
    assert alone.kind == "benchmark"
    bench.finish(alone)
    assert kind_of(bench.claim("gpu")) == "reference"


def test_a_host_is_not_kept_for_what_may_not_run(bench: Bench) -> None:
    put(bench, ALONE, priority=9)
    put(bench, ANY, ANY_ON_GPU)
    bench.must_claim(is_idle=False)
    wait_out(bench)
    assert bench.claim(is_idle=False) is None
    assert bench.claim("gpu") is None
    bench.database.run(lambda s: workers.pause(s, "cpu"))
    with bench.database.transaction() as session:
        assert kind_of(claim(session, bench.claimer("gpu"), LEASE_SECONDS)) == "reference"
        session.rollback()
    bench.database.run(lambda s: workers.resume(s, "cpu"))
    assert bench.claim("gpu") is None
    bench.database.run(lambda s: quotas.set_quota(s, bench.team, Quota.RUNNING_CPU, 0))
    assert kind_of(bench.claim("gpu")) == "reference"


@pytest.mark.parametrize("is_own", [True, False])
def test_a_host_is_not_kept_while_its_team_has_its_quota_running_elsewhere(bench: Bench, is_own: bool) -> None:
    limit: dict[str, Any] = {"running_max": None if is_own else 2}  # of the team's own, else everybody's
    put(bench, ALONE, priority=9)
    put(bench, ANY, ANY, ANY_ON_GPU)
    bench.must_claim(is_idle=False)
    wait_out(bench)
    assert bench.claim(is_idle=False) is None  # this keeps it
    there = bench.new_worker("cpu", host="there")
    put(bench, ANY)
    elsewhere = [bench.must_claim(worker_id=there, host="there", is_idle=False) for _ in range(2)]
    if is_own:
        bench.database.run(lambda s: quotas.set_quota(s, bench.team, Quota.RUNNING_CPU, 2))
    with bench.database.transaction() as session:
        assert kind_of(claim(session, bench.claimer("gpu", **limit), LEASE_SECONDS)) == "reference"
        session.rollback()
    bench.finish(elsewhere[0])  # with what runs here it is still at its quota, but that is waited for
    assert bench.claim("gpu", **limit) is None


def test_two_that_are_kept_a_host_come_one_after_the_other(bench: Bench) -> None:
    put(bench, ALONE, ALONE_ON_GPU, priority=9)
    put(bench, ANY, ANY_ON_GPU)
    busy = [bench.must_claim(is_idle=False), bench.must_claim("gpu", is_idle=False)]
    wait_out(bench)
    assert bench.claim(is_idle=False) is None
    keep = "UPDATE executions SET reserved_by = :id, reserved_device = 'cpu' WHERE pool = 'gpu' AND is_exclusive"
    bench.execute(keep, id=bench.gpu_worker)  # as where both were passed over at the same moment
    for one in busy:
        bench.finish(one)
    first = bench.must_claim()
    assert bench.claim("gpu") is None
    bench.finish(first)
    second = bench.must_claim("gpu")
    assert [first.kind, second.kind] == ["benchmark"] * 2


def test_what_may_be_poison_is_alone_on_its_host_too(bench: Bench) -> None:
    put(bench, ANY)
    for _ in range(DEATHS.deaths_max - 1):
        bench.lose(bench.must_claim(), DEATHS)
    put(bench, ANY_ON_GPU, ANY_ON_GPU)
    beside = bench.must_claim("gpu")
    assert bench.claim() is None
    bench.finish(beside)
    suspect = bench.must_claim()
    assert suspect.attempt == DEATHS.deaths_max
    assert bench.claim("gpu") is None
    bench.finish(suspect)
    assert kind_of(bench.claim("gpu")) == "reference"
