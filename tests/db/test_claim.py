"""Who gets the next execution: fair between teams, by priority within one, never two at once."""

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import select, text

from core.ids import TeamId
from db import idempotency, quotas, workers
from db.claim import Claim, claim
from db.idempotency import Answer
from db.jobs import PlannedStep
from db.states import Quota
from db.tables import Step
from tests.db.at_once import together
from tests.db.bulk import Bulk, fill
from tests.db.conftest import LEASE_SECONDS, ROOM, Bench
from tests.db.shifted_clock import ShiftedClock

ONE_STEP = (PlannedStep("fetch", "cpu", (), {}),)
TWO_STEPS = (*ONE_STEP, PlannedStep("quantize", "cpu", ("fetch",), {}))
HOUR = 3600


def put(bench: Bench, team: TeamId, count: int) -> None:
    """Let a team have so much ready work more."""
    for number in range(count):
        bench.submit(team, steps=ONE_STEP, source=f"file:///{number}")
    bench.bind_all()


def claim_for(bench: Bench) -> str | None:
    """Claim, and return the team whose work that was."""
    claimed = bench.claim()
    if claimed is None:
        return None
    return str(bench.value("SELECT team_id FROM executions WHERE id = :id", id=claimed.lease.execution_id))


def sources(bench: Bench, execution_ids: Sequence[str]) -> list[str]:
    """Return the source of the job that each execution is for."""
    query = "SELECT execution_id, source FROM steps JOIN jobs ON jobs.id = job_id WHERE execution_id IS NOT NULL"
    source_of = {row.execution_id: row.source for row in bench.rows(query)}
    return [source_of[execution_id] for execution_id in execution_ids]


def test_priority_goes_before_age_within_a_team(bench: Bench) -> None:
    for number, priority in enumerate((0, 5, -5, 5)):
        bench.submit(steps=ONE_STEP, priority=priority, source=f"file:///{number}")
    bench.bind_all()
    claimed = [bench.must_claim().lease.execution_id for _ in range(4)]
    assert sources(bench, claimed) == ["file:///1", "file:///3", "file:///0", "file:///2"]


def test_an_early_job_goes_on_before_later_ones_begin(bench: Bench) -> None:
    for number in range(3):
        bench.submit(steps=TWO_STEPS, source=f"file:///{number}")
    claimed = []
    for _ in range(6):
        bench.bind_all()
        one = bench.must_claim()
        claimed.append(one.lease.execution_id)
        bench.finish(one)
    assert sources(bench, claimed) == [f"file:///{number}" for number in (0, 0, 1, 1, 2, 2)]


def test_work_that_an_earlier_job_joins_does_not_lose_its_place(bench: Bench) -> None:
    first, second = bench.submit(source="file:///a"), bench.submit(source="file:///b")
    bench.submit(source="file:///a")
    bench.bind_all()
    bench.cancel(first)  # what is left on its execution is younger than the second's
    assert sources(bench, [bench.must_claim().lease.execution_id]) == ["file:///b"]
    assert bench.status(second) == "running"


def test_teams_take_turns_however_much_one_of_them_submits(bench: Bench) -> None:
    small = [bench.new_team(f"small {n}") for n in range(3)]
    for number in range(40):
        bench.submit(steps=ONE_STEP, source=f"file:///{number}")
    for team in small:
        for number in range(5):
            bench.submit(team, steps=ONE_STEP, source=f"file:///{number}")
    bench.bind_all()
    served = Counter(claim_for(bench) for _ in range(20))
    assert served == Counter(dict.fromkeys([bench.team, *small], 5))


def test_a_held_row_hides_nothing_from_another_claimer(bench: Bench) -> None:
    """Rows that an open transaction has locked are passed over, within a team and between teams."""
    other = bench.new_team("two")
    bench.submit(steps=ONE_STEP, source="file:///a", priority=9)
    bench.submit(steps=ONE_STEP, source="file:///b", priority=1)
    bench.submit(other, steps=ONE_STEP)
    bench.bind_all()
    with bench.database.transaction() as first:
        one = first.execute(text("SELECT id FROM executions WHERE priority = 9 FOR UPDATE")).scalar_one()
        others = [bench.must_claim().lease.execution_id for _ in range(2)]
        assert one not in others
        assert len(set(others)) == 2
        assert bench.claim() is None
    assert bench.must_claim().lease.execution_id == one


def test_what_does_not_fit_is_passed_over(bench: Bench) -> None:
    bench.submit(steps=ONE_STEP)
    bench.bind_all()
    for room in (replace(ROOM, memory_bytes=0), replace(ROOM, scratch_bytes=0)):
        assert bench.claim(room=room) is None
    assert bench.claim("gpu") is None
    assert bench.claim() is not None


def test_many_claimers_at_once_get_each_execution_once(bench: Bench) -> None:
    teams = [bench.team, bench.new_team("two"), bench.new_team("three")]
    for number in range(60):
        bench.submit(teams[number % 3], steps=ONE_STEP, source=f"file:///{number}")
    bench.bind_all()
    claimed: list[str] = []

    def claim_all() -> None:
        while (got := bench.claim()) is not None:
            claimed.append(got.lease.execution_id)

    threads = [threading.Thread(target=claim_all) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == len(set(claimed)) == 60


def test_binding_at_once_starts_one_execution(bench: Bench) -> None:
    jobs = [bench.submit() for _ in range(12)]
    threads = [threading.Thread(target=bench.bind_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fetches = select(Step.execution_id).where(Step.job_id.in_(jobs), Step.kind == "fetch")
    assert len(set(bench.database.run(lambda s: s.scalars(fetches).all()))) == 1
    assert bench.claim() is not None
    assert bench.claim() is None


def test_a_team_that_queues_500_jobs_does_not_delay_anothers_next(bench: Bench) -> None:
    fill(bench.database, [bench.team], bench.worker, Bulk(ready=500))
    assert [claim_for(bench) for _ in range(4)] == [bench.team] * 4
    other = bench.new_team("two")
    put(bench, other, 1)
    assert claim_for(bench) == other


def test_what_a_team_is_running_counts(bench: Bench, clock: ShiftedClock) -> None:
    """A worker that joins the pool does not go to the team that has run on all the others for an hour."""
    other = bench.new_team("two")
    put(bench, other, 1)
    claimed = bench.must_claim()
    clock.move(60)
    bench.finish(claimed)
    put(bench, bench.team, 9)
    assert [claim_for(bench) for _ in range(4)] == [bench.team] * 4
    clock.move(HOUR)
    bench.submit(other, steps=ONE_STEP, source="file:///new")
    bench.bind_all()
    assert claim_for(bench) == other


def test_a_team_that_comes_back_after_months_is_served(bench: Bench, clock: ShiftedClock) -> None:
    put(bench, bench.team, 1)
    bench.work_off()
    clock.move(60 * 24 * HOUR)
    bench.submit(steps=ONE_STEP, source="file:///new")
    bench.bind_all()
    assert claim_for(bench) == bench.team


def test_a_quota_limits_what_a_team_runs_at_once(bench: Bench) -> None:
    other = bench.new_team("two")
    put(bench, bench.team, 5)
    put(bench, other, 3)
    bench.database.run(lambda s: quotas.set_quota(s, bench.team, Quota.RUNNING_CPU, 2))
    claimed = [one for one in (bench.claim() for _ in range(8)) if one is not None]
    assert len(claimed) == 2 + 3
    bench.finish(claimed[0])
    bench.finish(claimed[1])
    assert claim_for(bench) is not None
    bench.database.run(lambda s: quotas.set_quota(s, bench.team, Quota.RUNNING_CPU, None))
    assert claim_for(bench) == bench.team
    assert bench.claim(running_max=1) is None


def test_a_quota_of_one_pool_is_none_of_another(bench: Bench) -> None:
    bench.database.run(lambda s: quotas.set_quota(s, bench.team, Quota.RUNNING_CPU, 0))
    bench.submit(steps=(PlannedStep("reference", "gpu", (), {}),))
    put(bench, bench.team, 1)
    assert bench.claim() is None
    assert bench.claim("gpu") is not None


def test_a_claim_for_a_team_with_a_quota_hides_no_other_team(bench: Bench) -> None:
    other = bench.new_team("two")
    put(bench, bench.team, 2)
    put(bench, other, 1)
    with bench.database.transaction() as first:
        assert claim(first, bench.claimer(running_max=2), LEASE_SECONDS) is not None
        assert bench.claim(running_max=2) is not None


def test_claims_at_once_for_a_team_with_a_quota_all_find_work_up_to_it(bench: Bench) -> None:
    put(bench, bench.team, 5)
    claimed: list[Claim | None] = []
    together(*[lambda: claimed.append(bench.claim(running_max=3))] * 4)
    assert sorted(one is None for one in claimed) == [False, False, False, True]


def test_no_idempotency_key_keeps_a_team_from_its_quota(bench: Bench) -> None:
    put(bench, bench.team, 1)
    claimed = []

    def act() -> Answer:
        claimed.append(bench.claim(running_max=2))
        return Answer("", "")

    bench.database.run(lambda s: idempotency.act_once(s, bench.team, Quota.RUNNING_CPU.value, "0" * 64, act))
    assert claimed[0] is not None


def test_a_paused_pool_starts_nothing(bench: Bench) -> None:
    put(bench, bench.team, 2)
    bench.submit(steps=(PlannedStep("reference", "gpu", (), {}),))
    bench.bind_all()
    running = bench.must_claim()
    bench.database.run(lambda s: workers.pause(s, "cpu"))
    bench.database.run(lambda s: workers.pause(s, "cpu"))
    assert bench.database.run(workers.paused) == ["cpu"]
    assert bench.claim() is None
    assert bench.claim("gpu") is not None
    assert "cpu" not in bench.database.run(workers.free_slots)
    bench.finish(running)
    bench.database.run(lambda s: workers.resume(s, "cpu"))
    assert bench.claim() is not None


def test_a_drained_worker_starts_nothing(bench: Bench) -> None:
    put(bench, bench.team, 3)
    other = bench.new_worker("cpu")
    running = bench.must_claim()
    bench.database.run(lambda s: workers.drain(s, bench.worker))
    assert bench.claim() is None
    assert bench.claim(worker_id=other) is not None
    assert bench.database.run(workers.free_slots)["cpu"] == 0
    bench.finish(running)
    bench.database.run(lambda s: workers.drain(s, bench.worker, claims_again=True))
    assert bench.claim() is not None


def test_what_one_claimer_passes_over_hides_nothing_from_another(bench: Bench) -> None:
    other = bench.new_team("two")
    put(bench, bench.team, 1)
    put(bench, other, 1)
    with bench.database.transaction() as first, bench.database.transaction() as second:
        for _ in range(2):
            assert claim(first, bench.claimer(room=replace(ROOM, memory_bytes=0)), LEASE_SECONDS) is None
        assert first.execute(text("SELECT count(*) FROM executions WHERE passed_over_at IS NOT NULL")).scalar_one() == 2
        assert claim(second, bench.claimer(room=replace(ROOM, memory_bytes=0)), LEASE_SECONDS) is None
        put(bench, bench.new_team("three"), 1)
        assert claim(second, bench.claimer(), LEASE_SECONDS) is not None
    assert [bench.claim() is not None for _ in range(3)] == [True, True, False]
