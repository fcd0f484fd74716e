"""Who gets the next execution: fair between teams, by priority within one, never two at once."""

import threading
from collections import Counter
from dataclasses import replace

from sqlalchemy import text

from db.jobs import PlannedStep
from tests.db.conftest import ROOM, Bench

ONE_STEP = (PlannedStep("fetch", "cpu", (), {}),)


def test_priority_goes_before_age_within_a_team(bench: Bench) -> None:
    for number, priority in enumerate((0, 5, -5, 5)):
        bench.submit(steps=ONE_STEP, priority=priority, source=f"file:///{number}")
    bench.bind_all()
    claimed = [bench.must_claim().lease.execution_id for _ in range(4)]
    with bench.database.transaction() as session:
        source_of = {
            row.execution_id: row.source
            for row in session.execute(text("SELECT execution_id, source FROM steps JOIN jobs ON jobs.id = job_id"))
        }
    assert [source_of[execution] for execution in claimed] == ["file:///1", "file:///3", "file:///0", "file:///2"]


def test_teams_take_turns_however_much_one_of_them_submits(bench: Bench) -> None:
    small = [bench.new_team(f"small {n}") for n in range(3)]
    for number in range(40):
        bench.submit(steps=ONE_STEP, source=f"file:///{number}")
    for team in small:
        for number in range(5):
            bench.submit(team, steps=ONE_STEP, source=f"file:///{number}")
    bench.bind_all()
    served: Counter[str] = Counter()
    for _ in range(20):
        claimed = bench.must_claim()
        with bench.database.transaction() as session:
            query = text("SELECT team_id FROM executions WHERE id = :id")
            served[session.execute(query, {"id": claimed.lease.execution_id}).scalar_one()] += 1
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
    assert len({bench.job(job).steps[0].execution_id for job in jobs}) == 1
    assert bench.claim() is not None
    assert bench.claim() is None
