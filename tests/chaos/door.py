"""How the harness asks the service for things: over HTTP with an idempotency key, or in a transaction as the API does.

Whatever is away, it asks again until there is an answer. It blocks, so it is used from threads of its own.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

import httpx
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.errors import QuotaExceeded
from core.ids import TeamId
from db import jobs, keys, quotas
from db.jobs import NewJob, PlannedStep
from db.session import UNAVAILABLE, Database
from db.tables import Job
from engines import methods
from engines.recipe import parse_recipe
from pipeline.plan import plan
from tests.chaos.plan import QUANTIZATION, TEAMS, PlannedJob

ASK_AGAIN_SECONDS = 0.2
ANSWER_SECONDS = 15.0
CONNECTIONS = 8
REQUEST = "request"  # the name in a job's metadata under which its request is known
EVALUATION = {"domains": ["prose"], "windows": 2}

T = TypeVar("T")


class Unanswered(Exception):
    """The harness has ended before there was an answer."""


class Refused(Exception):
    """The service refused what it should have taken."""


class Door:
    """Asks for jobs, cancels and retries.

    Args:
        api_url: where the API is.
        database_url: where its database is.
        models: the folder that holds the copies of the model.
    """

    def __init__(self, api_url: str, database_url: str, models: Path) -> None:
        self._url = api_url
        self._database = Database(database_url, connections_max=CONNECTIONS)
        self._models = models
        self._closing = threading.Event()
        self._keys: list[str] = []
        self._teams: list[TeamId] = []
        self.turned_away: list[int] = []  # the team of each request that was answered with 429

    def open(self) -> None:
        """Make the teams and their keys."""
        methods.load()
        for number in range(TEAMS):
            _, key = self._database.run(partial(keys.create_key, team_name=team_name(number), label=""))
            self._keys.append(key)
            self._teams.append(self._database.run(partial(keys.authenticate, key=key)))

    def team_id(self, number: int) -> TeamId:
        """Return the id of a team."""
        return self._teams[number]

    def submit(self, job: PlannedJob) -> set[str]:
        """Ask for a job as often as is planned, all at once; return the ids of the answers, which should be one."""
        if job.pool is not None:
            return {self._until_stored(partial(self._submit_once, job=job))}
        body = {
            "source": self._source(job),
            "recipe": dict(job.recipe),
            "evaluation": EVALUATION,
            "metadata": {REQUEST: job.name},
            "priority": job.priority,
        }
        return self._burst(job.sends, lambda: self._post(job.team, "/v1/jobs", job.name, body))

    def retry(self, job: PlannedJob, job_id: str) -> set[str]:
        """Ask for a job again that is over; return as ``submit`` does."""
        if job.pool is not None:
            return {self._until_stored(partial(self._retry_once, job=job, job_id=job_id))}
        path = f"/v1/jobs/{job_id}/retry"
        return self._burst(job.sends, lambda: self._post(job.team, path, f"again-{job_id}", None))

    def cancel(self, job: PlannedJob, job_id: str) -> bool:
        """Cancel a job; return whether it is cancelled, or was over already."""
        response = self._until_answered(job.team, f"/v1/jobs/{job_id}/cancel", {}, None)
        if response.status_code not in (HTTPStatus.OK, HTTPStatus.CONFLICT):
            raise Refused(f"cancel of {job.name}: {response.status_code} {response.text[:200]}")
        return response.status_code == HTTPStatus.OK

    def close(self) -> None:
        """Let go of whoever still waits for an answer."""
        self._closing.set()
        self._database.dispose()

    def _post(self, team: int, path: str, key: str, body: Any) -> str:
        response = self._until_answered(team, path, {"Idempotency-Key": key}, body)
        if response.status_code != HTTPStatus.CREATED:
            raise Refused(f"{path} under {key}: {response.status_code} {response.text[:200]}")
        return str(response.json()["id"])

    def _until_answered(self, team: int, path: str, headers: dict[str, str], body: Any) -> httpx.Response:
        headers = headers | {"Authorization": f"Bearer {self._keys[team]}"}
        while True:
            try:
                response = httpx.post(
                    self._url + path, headers=headers, json=body, timeout=ANSWER_SECONDS, trust_env=False
                )
            except httpx.TransportError:
                pass
            else:
                if response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
                    self.turned_away.append(team)
                elif not _asks_for_patience(response):
                    return response
            self._pause()

    def _until_stored(self, verb: Callable[[Session], str]) -> str:
        while True:
            try:
                return self._database.run(verb)
            # The commit may have been done all the same: the verb looks first.
            except (*UNAVAILABLE, QuotaExceeded):
                self._pause()

    def _pause(self) -> None:
        if self._closing.wait(ASK_AGAIN_SECONDS):
            raise Unanswered

    def _submit_once(self, session: Session, job: PlannedJob) -> str:
        known = _named(session, job.name, None)
        return known or jobs.submit(session, self._teams[job.team], self._new_job(session, job))

    def _retry_once(self, session: Session, job: PlannedJob, job_id: str) -> str:
        known = _named(session, job.name, job_id)
        return known or jobs.retry(session, self._teams[job.team], job_id, lambda _: self._new_job(session, job))

    def _new_job(self, session: Session, job: PlannedJob) -> NewJob:
        assert job.pool is not None
        quotas.require_place(session, self._teams[job.team], {})
        return NewJob(
            source=self._source(job),
            method=job.recipe["method"],
            recipe=job.recipe,
            evaluation=EVALUATION,
            metadata={REQUEST: job.name},
            priority=job.priority,
            max_runtime_seconds=job.max_runtime_seconds,
            max_pending_seconds=None,
            steps=_steps(job),
        )

    def _source(self, job: PlannedJob) -> str:
        return (self._models / ("missing" if job.model is None else str(job.model))).as_uri()

    @staticmethod
    def _burst(count: int, send: Callable[[], T]) -> set[T]:
        together = threading.Barrier(count)

        def one(_: int) -> T:
            together.wait()
            return send()

        with ThreadPoolExecutor(count) as threads:
            return set(threads.map(one, range(count)))


def _steps(job: PlannedJob) -> tuple[PlannedStep, ...]:
    """Return what a job that is stored by hand does; a real quantization is neither verified nor judged."""
    assert job.pool is not None
    if job.recipe["method"] == QUANTIZATION["method"]:
        whole = plan(parse_recipe(job.recipe), EVALUATION)
        return tuple(step for step in whole if step.kind in ("fetch", "calibrate", "quantize"))
    return (
        PlannedStep("fetch", "cpu", (), {}),
        PlannedStep("quantize", job.pool, ("fetch",), {"recipe": job.recipe}),
    )


def team_name(number: int) -> str:
    """Return what a team is called."""
    return f"team-{number}"


def _asks_for_patience(response: httpx.Response) -> bool:
    """Return whether the same request is to be sent again: something is away, or it is being acted on right now."""
    if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return True
    return response.status_code == HTTPStatus.CONFLICT and response.json()["code"] == "request_in_flight"


def _named(session: Session, name: str, retry_of: str | None) -> str | None:
    statement = select(Job.id).where(Job.job_metadata[REQUEST].as_string() == name)
    found: Sequence[str] = session.scalars(statement.where(Job.retry_of.is_not_distinct_from(retry_of))).all()
    return found[0] if found else None
