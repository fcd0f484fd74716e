"""Real worker, dispatch and rescue processes on a database of the test's own."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import select
from sqlalchemy.orm import selectinload

from core.ids import JobId, TeamId
from db import jobs, keys
from db.jobs import NewJob, PlannedStep
from db.session import Database
from db.tables import Artifact, Attempt, Execution, Job, Step
from engines import methods
from tests.conftest import REPOSITORY, TINY_LLAMA
from tests.synthetic import MODULE
from tests.waiting import wait_until

TERMINAL = ("succeeded", "failed", "cancelled")
LEASE_SECONDS = 3
FEWBITSD = (sys.executable, "-c", "from server.cli import main; main()")


class Service:
    """The processes behind the API, each started when a test asks for it."""

    def __init__(self, database: Database, database_url: str, broker_url: str, folder: Path) -> None:
        self.database = database
        self.folder = folder
        self.store = folder / "store"
        self.scratch = folder / "scratch"
        self.cache = folder / "cache"
        _, key = database.run(lambda s: keys.create_key(s, "one", ""))
        self.team: TeamId = database.run(lambda s: keys.authenticate(s, key))
        self.processes: list[subprocess.Popen[bytes]] = []
        self.environment = os.environ | {
            "PYTHONPATH": str(REPOSITORY),
            "FEWBITS_DATABASE_URL": database_url,
            "FEWBITS_BROKER_URL": broker_url,
            "FEWBITS_STORE_URL": self.store.as_uri(),
            "FEWBITS_SCRATCH_ROOT": str(self.scratch),
            "FEWBITS_CACHE_ROOT": str(self.cache),
            "FEWBITS_SOURCE_ROOTS": f"{TINY_LLAMA.parent}:{folder}",
            "FEWBITS_PUBLISH_ROOTS": str(folder / "published"),
            "FEWBITS_METHOD_MODULES": MODULE,
            "FEWBITS_LEASE_SECONDS": str(LEASE_SECONDS),
            "FEWBITS_RESCUE_SECONDS": "0.2",
            "FEWBITS_RETRY_BACKOFF_SECONDS": "0.1",
        }

    def run(self, *arguments: str) -> str:
        """Run ``fewbitsd`` with ``arguments`` to its end, and return what it prints."""
        return subprocess.run(
            [*FEWBITSD, *arguments], env=self.environment, capture_output=True, text=True, check=True, timeout=60
        ).stdout

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start ``fewbitsd`` with ``arguments``."""
        command = [*FEWBITSD, *arguments]
        with (self.folder / f"{len(self.processes)}-{arguments[0]}.log").open("wb") as log:
            process = subprocess.Popen(
                command, env=self.environment | environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.processes.append(process)
        return process

    def submit(
        self, *, steps: tuple[PlannedStep, ...] | None = None, source: Path = TINY_LLAMA, **params: Any
    ) -> JobId:
        """Submit a fetch and a synthetic quantize; ``params`` are the method's."""
        recipe = {"method": "synthetic", **params}
        planned = (
            PlannedStep("fetch", "cpu", (), {}),
            PlannedStep("quantize", "cpu", ("fetch",), {"recipe": recipe}),
        )
        new = NewJob(
            source=source.as_uri(),
            method="synthetic",
            recipe=recipe,
            evaluation={},
            metadata={},
            priority=0,
            max_runtime_seconds=None,
            max_pending_seconds=None,
            steps=steps or planned,
        )
        return self.database.run(lambda s: jobs.submit(s, self.team, new))

    def job(self, job_id: JobId) -> Job:
        """Return the rows of a job: of its steps, their executions, and the files of these."""
        execution = selectinload(Job.steps).selectinload(Step.execution)
        whole = execution.selectinload(Execution.artifact).selectinload(Artifact.files)
        return self.database.run(lambda s: s.scalars(select(Job).where(Job.id == job_id).options(whole)).one())

    def wait(self, job_id: JobId, *, seconds: float = 60) -> Job:
        """Wait for the end of a job and return it."""
        wait_until(lambda: self.job(job_id).status in TERMINAL, seconds=seconds)
        return self.job(job_id)

    def attempts(self, job_id: JobId, kind: str = "quantize") -> Sequence[Attempt]:
        """Return the attempts at a step of a job."""
        of_step = Attempt.execution_id == Step.execution_id
        statement = select(Attempt).join(Step, of_step).where(Step.job_id == job_id, Step.kind == kind)
        return self.database.run(lambda s: s.scalars(statement.order_by(Attempt.number)).all())

    def seen(self, job: Job) -> dict[str, Any]:
        """Return what the synthetic child of a job wrote."""
        artifact = job.steps[1].execution and job.steps[1].execution.artifact
        assert artifact
        digest = artifact.files[0].sha256
        seen: dict[str, Any] = json.loads((self.store / "blobs" / digest[:2] / digest).read_text())
        return seen

    def stop(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        for process in self.processes:
            process.wait(20)


@pytest.fixture
def service(database: Database, database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Service]:
    methods.load([MODULE])
    with Redis.from_url(broker_url) as broker:
        broker.flushall()
    service = Service(database, database_url, broker_url, tmp_path)
    yield service
    service.stop()
