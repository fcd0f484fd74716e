"""Sweeps: jobs that are written together, read together, cancelled together, and paid for together."""

import threading
from collections import Counter
from functools import partial
from typing import Any

import pytest

from core.errors import Conflict, InvalidRequest, NotFound, SourceInvalid
from core.ids import JobId, SweepId
from core.steps import UnboundStep
from db import jobs, sweeps
from db.jobs import JobFilter
from db.sweeps import NewSweep, ShownSweep
from pipeline.binding import describe
from tests.db.conftest import CHAIN, PUBLISH, Bench, new_job
from tests.waiting import wait_until

ASKED = NewSweep("file:///m", None, {"labels": ["a"]}, ["Mind the gap."])


def submit(bench: Bench, count: int = 3, **values: Any) -> SweepId:
    asked = [new_job(recipe={"method": "gguf", "type": f"Q{n}"}, **values) for n in range(count)]
    return bench.database.run(partial(sweeps.submit, team_id=bench.team, new=ASKED, asked=asked))


def get(bench: Bench, sweep_id: str) -> ShownSweep:
    return bench.database.run(partial(sweeps.get, team_id=bench.team, sweep_id=sweep_id))


def job_ids(bench: Bench, sweep_id: str) -> list[JobId]:
    return [JobId(job.id) for job in bench.database.run(partial(sweeps.jobs_of, sweep_id=sweep_id))]


def cancel(bench: Bench, sweep_id: str) -> None:
    bench.database.run(partial(sweeps.request_cancel, team_id=bench.team, sweep_id=sweep_id))


def retry(bench: Bench, job_id: str) -> JobId:
    return bench.database.run(lambda s: jobs.retry(s, bench.team, job_id, lambda old: new_job(recipe=old.recipe)))


def key_of(step: UnboundStep) -> str:
    """As the pipeline has it: a source is fetched once for a sweep; what is made of it differs by the recipe."""
    return describe(step).key if step.kind == "fetch" else f"{step.kind} {step.job_id}"


def test_a_sweep_is_its_jobs_in_their_order(bench: Bench) -> None:
    sweep_id = submit(bench, 12)
    found = bench.database.run(partial(sweeps.jobs_of, sweep_id=sweep_id))
    assert [job.recipe["type"] for job in found] == [f"Q{n}" for n in range(12)]
    assert {(job.sweep_id, job.sweep_position) for job in found} == {(sweep_id, n) for n in range(12)}
    sweep = get(bench, sweep_id)
    assert (sweep.source, sweep.request, sweep.warnings) == ("file:///m", {"labels": ["a"]}, ["Mind the gap."])
    assert (sweep.status, sweep.job_counts) == ("queued", {"queued": 12})
    bench.submit()
    wanted = JobFilter(sweep=sweep_id)
    listed, _ = bench.database.run(lambda s: jobs.list_page(s, bench.team, wanted, None, 100))
    assert {job.id for job in listed} == {job.id for job in found}


def test_its_status_is_that_of_its_jobs(bench: Bench) -> None:
    sweep_id = submit(bench, 2)
    first, second = job_ids(bench, sweep_id)
    bench.bind_all(key_of)
    fetch = bench.must_claim()
    assert get(bench, sweep_id).status == "running"
    bench.finish(fetch)
    bench.bind_all(key_of)
    bench.finish(bench.must_claim())
    assert get(bench, sweep_id).job_counts == {"succeeded": 1, "running": 1}
    assert get(bench, sweep_id).status == "running"
    bench.fail(bench.must_claim(), SourceInvalid("It has no config.json."))
    assert sorted([bench.status(first), bench.status(second)]) == ["failed", "succeeded"]
    assert get(bench, sweep_id).status == "failed"
    failed = first if bench.status(first) == "failed" else second
    again = retry(bench, failed)
    assert get(bench, sweep_id).status == "running"
    assert failed not in job_ids(bench, sweep_id)
    assert job_ids(bench, sweep_id)[(first, second).index(failed)] == again
    bench.bind_all(key_of)
    bench.finish(bench.must_claim())
    assert (get(bench, sweep_id).status, get(bench, sweep_id).job_counts) == ("succeeded", {"succeeded": 2})


def test_a_source_is_fetched_once_for_a_sweep_and_for_what_is_added_to_it(bench: Bench) -> None:
    sweep_id = submit(bench)
    submit(bench, 1)
    bench.submit()
    bench.bind_all(key_of)
    assert _fetches(bench) == Counter({"for one": 2, "for three": 1})
    while claimed := bench.claim():
        bench.finish(claimed)
        bench.bind_all(key_of)
    assert get(bench, sweep_id).status == "succeeded"
    added = [new_job(recipe={"method": "gguf", "type": "Q9"})]
    bench.database.run(lambda s: sweeps.extend(s, bench.team, sweep_id, added))
    assert get(bench, sweep_id).job_counts == {"succeeded": 3, "queued": 1}
    bench.bind_all(key_of)
    assert _fetches(bench) == Counter({"for one": 2, "for four": 1})
    assert bench.steps(job_ids(bench, sweep_id)[-1]) == {"fetch": "succeeded", "quantize": "ready"}
    found = bench.database.run(partial(sweeps.jobs_of, sweep_id=sweep_id))
    assert [(job.recipe["type"], job.sweep_position) for job in found][-1] == ("Q9", 3)


def _fetches(bench: Bench) -> Counter[str]:
    rows = bench.rows(
        "SELECT count(*) FROM steps WHERE kind = 'fetch' AND execution_id IS NOT NULL GROUP BY execution_id"
    )
    return Counter({1: "for one", 3: "for three", 4: "for four"}[count] for (count,) in rows)


def test_cancel_ends_what_is_not_over_and_what_it_shared(bench: Bench) -> None:
    sweep_id = submit(bench)
    bench.bind_all(key_of)
    fetch = bench.must_claim()
    cancel(bench, sweep_id)
    assert get(bench, sweep_id).status == "cancelling"
    cancel(bench, sweep_id)
    bench.stopped(fetch)
    assert (get(bench, sweep_id).status, get(bench, sweep_id).job_counts) == ("cancelled", {"cancelled": 3})
    cancel(bench, sweep_id)


def test_what_is_over_or_publishes_is_not_cancelled(bench: Bench) -> None:
    sweep_id = submit(bench, 1, steps=PUBLISH, publish_to="file:///published/m")
    bench.bind_all()
    publishing = bench.must_claim()
    with pytest.raises(Conflict, match="nothing can be cancelled"):
        cancel(bench, sweep_id)
    assert get(bench, sweep_id).status == "running"
    bench.finish(publishing)
    with pytest.raises(Conflict):
        cancel(bench, sweep_id)
    assert get(bench, sweep_id).status == "succeeded"


def test_another_team_sees_nothing_of_it(bench: Bench) -> None:
    sweep_id, other = submit(bench), bench.new_team("two")
    for verb in (sweeps.get, sweeps.get_locked, sweeps.request_cancel):
        with pytest.raises(NotFound):
            bench.database.run(partial(verb, team_id=other, sweep_id=sweep_id))
    assert bench.database.run(lambda s: sweeps.list_page(s, other, None, 10)) == ([], False)
    with pytest.raises(InvalidRequest):
        bench.database.run(lambda s: sweeps.list_page(s, other, sweep_id, 10))


def test_sweeps_are_listed_newest_first_page_by_page(bench: Bench) -> None:
    made = [submit(bench, 1) for _ in range(5)]
    seen: list[str] = []
    has_more = True
    while has_more:
        after = seen[-1] if seen else None
        page, has_more = bench.database.run(partial(sweeps.list_page, team_id=bench.team, after=after, limit=2))
        seen += [sweep.id for sweep in page]
    assert seen == made[::-1]


def test_who_adds_to_a_sweep_waits_for_who_does_already(bench: Bench) -> None:
    sweep_id = submit(bench, 1)
    added = threading.Event()

    def add() -> None:
        with bench.database.transaction() as session:
            sweeps.get_locked(session, bench.team, sweep_id)
            sweeps.extend(session, bench.team, sweep_id, [new_job()])
        added.set()

    other = threading.Thread(target=add)
    with bench.database.transaction() as session:
        sweeps.get_locked(session, bench.team, sweep_id)
        other.start()
        wait_until(lambda: bench.value("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"))
        sweeps.extend(session, bench.team, sweep_id, [new_job()])
        assert not added.is_set()
    other.join()
    found = bench.database.run(partial(sweeps.jobs_of, sweep_id=sweep_id))
    assert [job.sweep_position for job in found] == [0, 1, 2]


def test_work_counts_every_attempt_once_and_says_whose_it_is(bench: Bench) -> None:
    sweep_id = submit(bench, 2, steps=CHAIN)

    def key(step: UnboundStep) -> str:
        return f"{step.kind} {step.job_id}" if step.kind in ("quantize", "evaluate") else step.kind

    bench.bind_all(key)
    bench.fail(bench.must_claim(), SourceInvalid("No."))  # both jobs fail; both are tried again
    for job_id in job_ids(bench, sweep_id):
        retry_all = partial(jobs.retry, team_id=bench.team, job_id=job_id)
        bench.database.run(lambda s, retry_all=retry_all: retry_all(s, plan_anew=lambda _: new_job(steps=CHAIN)))  # type: ignore[misc]
    while bench.bind_all(key) or True:
        claimed = bench.claim() or bench.claim("gpu")
        if claimed is None:
            break
        bench.finish(claimed)
    bench.execute("UPDATE attempts SET ended_at = started_at + interval '10 s'")
    assert get(bench, sweep_id).status == "succeeded"
    found = bench.database.run(partial(sweeps.work, sweep_id=sweep_id))
    shares = {(share.position, share.pool): share.seconds for share in found}
    assert shares == {(None, "cpu"): 20.0, (None, "gpu"): 10.0, (0, "cpu"): 20.0, (1, "cpu"): 20.0}

    repeated = submit(bench, 1, steps=CHAIN[:1])
    bench.bind_all(key)
    assert get(bench, repeated).status == "succeeded"
    assert bench.database.run(partial(sweeps.work, sweep_id=repeated)) == []  # it was done, and paid, before

    bench.execute("DELETE FROM attempts")  # as history does after months: the last attempts are known still
    bench.execute("UPDATE executions SET finished_at = started_at + interval '7 s' WHERE started_at IS NOT NULL")
    found = bench.database.run(partial(sweeps.work, sweep_id=sweep_id))
    assert {share.seconds for share in found if share.position is not None} == {14.0}
