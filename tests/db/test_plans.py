"""At a million finished and ten thousand open executions over twenty teams, whatever is asked uses its index."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
from sqlalchemy.orm import Session

from core.dataset_kinds import DatasetKind
from core.ids import ExecutionId
from db import (
    artifacts,
    bind,
    datasets,
    deadlines,
    demand,
    expiry,
    history,
    idempotency,
    jobs,
    lease,
    quotas,
    sweeps,
    watch,
    workers,
)
from db.claim import claim
from db.jobs import JobFilter
from db.renewal import Renewal, renew
from db.session import Database
from db.states import Quota
from db.tokens import Lease
from tests.conftest import TEMPLATE, _execute, _named
from tests.db.bulk import Bulk, fill
from tests.db.conftest import LEASE_SECONDS, NEED, RETRY, ROOM, Bench
from tests.db.plans import Plan, explain

TEAMS = 20
MONTHS_OF_USE = Bulk(finished=1_000_000, ready=10_000, unbound=500, running=200)
BUFFERS_MAX = 3000
QUEUE_BUFFERS_MAX = 25_000  # most of a queue, and the page of each row that was changed lately
PER_ROW = 12  # to find, join and delete one
DAY = 86400.0
HOUR = 3600.0
FULL = replace(ROOM, memory_bytes=0)
PLACES: Mapping[Quota, int | None] = {Quota.QUEUED_JOBS: 530}  # about as many as the team has
DATASET = datasets.NewDataset("", DatasetKind.TEXT, "f" * 60 + "0001", 1, 1)
TIGHT = replace(ROOM, memory_bytes=10)

pytestmark = pytest.mark.timeout(1800)


class Service:
    """A service that has been in use for months."""

    def __init__(self, url: str, bulk: Bulk) -> None:
        self.bench = Bench(Database(url))
        self.teams = [self.bench.team, *(self.bench.new_team(f"team {n}") for n in range(1, TEAMS))]
        fill(self.bench.database, self.teams, self.bench.worker, bulk)

    def claim(self, session: Session, **values: Any) -> None:
        claim(session, self.bench.claimer(**values), LEASE_SECONDS)

    def jobs(self, session: Session, after: str | None = None, **wanted: str) -> None:
        jobs.list_page(session, self.bench.team, JobFilter(**wanted), after, 50)  # type: ignore[arg-type]

    def lease(self, number: int = 1) -> Lease:
        return Lease(ExecutionId(f"exec_running{number}"), 1)

    def renew(self, session: Session) -> None:
        renewals = [Renewal(self.lease(number), {"done": 1}) for number in range(1, 9)]
        renew(session, self.bench.worker, renewals, LEASE_SECONDS, None)

    def bind(self, session: Session) -> None:
        (step,) = bind.unbound_steps(session, "", 1)
        bind.bind(session, step, bind.Work("0" * 64, {}, {}, NEED))


@dataclass(frozen=True)
class Case:
    """Something that is asked.

    Attributes:
        ask: asks it.
        before: statements that make what it shall find.
        buffers_max: pages that any of its statements may look at.
    """

    ask: Callable[[Service, Session], object]
    before: Sequence[str] = ()
    buffers_max: int = BUFFERS_MAX


_SEEN = "UPDATE workers SET seen_at = clock_timestamp()"
_RUN_OUT = "UPDATE executions SET lease_expires_at = now() - interval '1 hour' WHERE status = 'running'"
_WATCHED = "INSERT INTO rescue_watch VALUES (1, 1000, now() - interval '1 day', now())"
_RESERVED = """
    UPDATE executions SET reserved_device = 'cpu', reserved_by = (SELECT id FROM workers WHERE pool = 'cpu')
    WHERE id IN ('exec_ready7', 'exec_ready8')
"""
_ALONE = "UPDATE executions SET is_exclusive = true WHERE id IN ('exec_ready3', 'exec_ready7')"
_ELSEWHERE = "UPDATE workers SET host = 'there' WHERE id IN (SELECT worker_id FROM executions WHERE status = 'running')"
_TAKEN = "UPDATE executions SET is_exclusive = true WHERE id = 'exec_running1'"
_TOO_LARGE = "UPDATE executions SET memory_bytes = 1e15 WHERE status = 'ready' AND starts_with(id, 'exec_ready77')"
_UNUSED_BLOB = """
    INSERT INTO blobs SELECT repeat('f', 60) || lpad(CAST(n AS text), 4, '0'), 1, now() - interval '1 day', false
    FROM generate_series(1, 50) AS n
"""
_DATASETS = """
    INSERT INTO datasets (id, team_id, name, kind, sha256, size_bytes, document_count, announced_at, stored_at)
    SELECT 'dataset_' || n, teams.id, '', 'text', repeat('f', 60) || lpad(CAST(n AS text), 4, '0'), 1, 1,
        now() - interval '1 day', CASE WHEN n > 10 THEN now() END
    FROM teams, generate_series(1, 50) AS n WHERE teams.name = 'one'
"""
# Two hundred of the team's, of ten jobs each, of which one is being worked on.
_SWEEPS = """
    INSERT INTO sweeps (id, team_id, source, request, created_at)
    SELECT 'sweep_' || n, teams.id, 'file:///m', '{}', now() - make_interval(mins => n)
    FROM teams, generate_series(1, 200) AS n WHERE teams.name = 'one'
"""
_THEIR_JOBS = """
    UPDATE jobs SET sweep_id = 'sweep_' || n, sweep_position = place
    FROM generate_series(1, 200) AS n, generate_series(0, 9) AS place
    WHERE jobs.id = CASE WHEN n = 1 AND place = 9 THEN 'job_running20' ELSE 'job_finished' || 20 * (10 * n + place) END
"""
_INTENTS = """
    INSERT INTO blob_intents SELECT sha256, 'exec_running' || 1 + mod(n, 2), 1 + mod(n, 3)
    FROM (SELECT sha256, row_number() OVER () AS n FROM blobs LIMIT 500) AS numbered
"""


def old(table: str, older_than_seconds: float) -> Case:
    limit = history.ROWS_AT_ONCE * PER_ROW
    return Case(lambda _, s: history.forget(s, table, older_than_seconds), buffers_max=limit)


CASES = {
    "a claim": Case(Service.claim),
    "a claim of a team with a quota": Case(lambda service, s: service.claim(s, running_max=1000)),
    "a claim that passes over what does not fit": Case(lambda service, s: service.claim(s, room=FULL)),
    "a claim that finds nothing that fits": Case(lambda service, s: service.claim(s, room=FULL, capacity=FULL)),
    "a claim behind work that is waited out": Case(
        Service.claim,
        ["UPDATE executions SET ready_at = now() + interval '1 hour' WHERE status = 'ready' AND priority > 0"],
        buffers_max=QUEUE_BUFFERS_MAX,
    ),
    "a claim behind work that is too large": Case(
        lambda service, s: service.claim(s, capacity=TIGHT, room=TIGHT),
        ["UPDATE executions SET memory_bytes = 20 WHERE status = 'ready' AND priority > 0"],
        buffers_max=QUEUE_BUFFERS_MAX,
    ),
    "a claim of what is reserved": Case(Service.claim, [_RESERVED]),
    "a claim of what must be alone": Case(Service.claim, [_ALONE, _ELSEWHERE]),
    "a claim that passes over what must be alone": Case(Service.claim, [_ALONE]),
    "a claim on a host that is taken": Case(Service.claim, [_TAKEN]),
    "a claim on a host that is kept": Case(
        lambda service, s: service.claim(s, device="other", running_max=1000), [_RESERVED, _ALONE]
    ),
    "the first page of jobs": Case(Service.jobs),
    "a deep page of jobs": Case(lambda service, s: service.jobs(s, "job_finished500000")),
    "a page of jobs by status": Case(lambda service, s: service.jobs(s, status="running")),
    "a deep page of jobs by status": Case(lambda service, s: service.jobs(s, "job_finished500000", status="succeeded")),
    "a page of jobs of a status that none has": Case(lambda service, s: service.jobs(s, status="failed")),
    "a page of jobs by label": Case(lambda service, s: service.jobs(s, label="none")),
    "a page of jobs of a method that none has": Case(lambda service, s: service.jobs(s, method="gptq")),
    "a page of jobs of a sweep": Case(lambda service, s: service.jobs(s, sweep="sweep_7"), [_SWEEPS, _THEIR_JOBS]),
    "a page of jobs of a sweep that is not there": Case(lambda service, s: service.jobs(s, sweep="sweep_none")),
    "a page of sweeps": Case(
        lambda service, s: sweeps.list_page(s, service.bench.team, None, 50), [_SWEEPS, _THEIR_JOBS]
    ),
    "the jobs of a sweep": Case(lambda _, s: sweeps.jobs_of(s, "sweep_7"), [_SWEEPS, _THEIR_JOBS]),
    "the work for a sweep": Case(lambda _, s: sweeps.work(s, "sweep_7"), [_SWEEPS, _THEIR_JOBS]),
    "the cancel of a sweep": Case(
        lambda service, s: sweeps.request_cancel(s, service.bench.team, "sweep_1"), [_SWEEPS, _THEIR_JOBS]
    ),
    "the last fetch of a source": Case(
        lambda service, s: bind.last_fetched(s, service.bench.team, "file:///models/tiny")
    ),
    "the last fetch of a source that was never fetched": Case(
        lambda service, s: bind.last_fetched(s, service.bench.team, "file:///none")
    ),
    "whether work was done before": Case(lambda _, s: bind.done_before(s, "0" * 64)),
    "a job": Case(lambda service, s: jobs.get(s, service.teams[1], "job_finished1")),
    "a look at the leases": Case(lambda _, s: watch.look(s, LEASE_SECONDS)),
    "no lease that is over": Case(lambda _, s: expiry.expired(s), [_WATCHED]),
    "the leases that are over": Case(lambda _, s: expiry.expired(s), [_WATCHED, _RUN_OUT]),
    "the end of a lease": Case(lambda _, s: expiry.expire(s, "exec_running1", RETRY), [_WATCHED, _RUN_OUT]),
    "misfits": Case(lambda _, s: expiry.misfits(s, 60), [_SEEN], buffers_max=QUEUE_BUFFERS_MAX),
    "misfits where there are some": Case(
        lambda _, s: expiry.misfits(s, 60), [_SEEN, _TOO_LARGE], buffers_max=QUEUE_BUFFERS_MAX
    ),
    "overdue jobs": Case(lambda _, s: deadlines.overdue(s)),
    "reservations of dead workers": Case(
        lambda _, s: expiry.drop_reservations(s), ["UPDATE workers SET seen_at = now() - interval '1 hour'", _RESERVED]
    ),
    "demand": Case(lambda _, s: demand.ready(s)),
    "free slots": Case(lambda _, s: workers.free_slots(s), [_SEEN]),
    "the list of workers": Case(lambda _, s: workers.seen(s), [_SEEN]),
    "garbage where there is none": Case(lambda _, s: artifacts.lock_garbage(s, HOUR)),
    "garbage where there is some": Case(lambda _, s: artifacts.lock_garbage(s, HOUR), [_UNUSED_BLOB]),
    # A few pages for each intent: its own, and its execution's.
    "abandoned intents": Case(lambda _, s: history.forget_intents(s), [_INTENTS], buffers_max=8 * 500),
    "the deletion of a dataset": Case(
        lambda service, s: datasets.remove(s, service.bench.team, "dataset_11"), [_UNUSED_BLOB, _DATASETS]
    ),
    "no unfinished dataset": Case(lambda _, s: datasets.forget_unfinished(s, HOUR)),
    "unfinished datasets": Case(lambda _, s: datasets.forget_unfinished(s, HOUR), [_UNUSED_BLOB, _DATASETS]),
    "a page of datasets": Case(lambda service, s: datasets.list_page(s, service.bench.team, None, 50)),
    "no old idempotency key": Case(lambda _, s: idempotency.forget(s, 2 * DAY)),
    "old idempotency keys": Case(lambda _, s: idempotency.forget(s, DAY - 60)),
    "unbound steps": Case(lambda _, s: bind.unbound_steps(s, "", 100)),
    "a step that is bound": Case(Service.bind),
    "a team's shares": Case(lambda service, s: quotas.shares(s, service.bench.team, {})),
    "a place for a dataset": Case(
        lambda service, s: quotas.require_place_for_dataset(s, service.bench.team, DATASET, {Quota.DATASETS: 100}),
        [_UNUSED_BLOB, _DATASETS],
    ),
    "a place in the queue": Case(lambda service, s: quotas.require_place(s, service.bench.team, PLACES)),
    "renewal": Case(Service.renew),
    "a finish": Case(lambda service, s: lease.finish(s, service.lease(), lease.Result({}))),
    "a release": Case(lambda service, s: lease.release(s, service.lease())),
    "a cancel": Case(lambda service, s: jobs.request_cancel(s, service.bench.team, "job_running20")),
    **{f"old {table}": old(table, 79 * DAY) for table in history.TABLES},
    **{f"no old {table}": old(table, 90 * DAY) for table in history.TABLES},
}

OFTEN = ["a claim", "a claim of a team with a quota", "renewal", "a finish", "a step that is bound"]


@pytest.fixture(scope="module")
def service(postgres_url: str) -> Iterator[Service]:
    yield from _service(postgres_url, "plans", MONTHS_OF_USE)


@pytest.fixture
def small_service(postgres_url: str) -> Iterator[Service]:
    yield from _service(postgres_url, "small_plans", Bulk(finished=20_000, ready=1000, running=20))


def _service(postgres_url: str, name: str, bulk: Bulk) -> Iterator[Service]:
    _execute(postgres_url, "CREATE DATABASE {} TEMPLATE {}", name, TEMPLATE)
    service = Service(_named(postgres_url, name), bulk)
    yield service
    service.bench.database.dispose()
    _execute(postgres_url, "DROP DATABASE {} WITH (FORCE)", name)


def bad(plans: Sequence[Plan], buffers_max: int = BUFFERS_MAX) -> list[str]:
    """Return the plans that read a large table from end to end, or too much of anything."""
    return [str(plan) for plan in plans if plan.scanned or plan.buffers > buffers_max]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_whatever_is_asked_uses_its_index(service: Service, case: Case) -> None:
    plans = explain(service.bench.database, partial(case.ask, service), before=case.before)
    assert plans
    assert bad(plans, case.buffers_max) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", OFTEN)
def test_what_is_asked_often_uses_its_index_with_the_plan_for_any_values(service: Service, name: str) -> None:
    """Postgres may go over to such a plan after five times on one connection."""
    case = CASES[name]
    plans = explain(service.bench.database, partial(case.ask, service), before=case.before, generic=True)
    assert plans
    assert bad(plans, case.buffers_max) == []


def test_a_claim_uses_its_index(small_service: Service) -> None:
    for generic in (False, True):
        plans = explain(small_service.bench.database, small_service.claim, generic=generic)
        assert len(plans) == 3
        assert bad(plans) == []
        assert [plan.buffers < 300 for plan in plans] == [True] * 3
        assert all("ix_executions_claim" in plan.indexes for plan in plans[:2])
