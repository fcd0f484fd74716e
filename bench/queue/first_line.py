"""From a claim's commit to the first line of the step: what a real worker and a real child add to every step.

The worker is put together as always, but that its executor tells when it is called, which is when the claim has been
committed, and then does what it always does.
"""

import statistics
import time
from functools import partial
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.orm import Session

from bench.queue.contenders.contender import MARKS, marker
from bench.queue.contenders.fewbits import SOURCE, fewbitsd, make_teams, settings
from bench.queue.figures import Bound, Report, percentile
from bench.queue.marks import Marker, Marks
from bench.queue.place import Place
from core.ids import JobId, TeamId
from db import jobs
from db.claim import Claim
from db.jobs import NewJob, PlannedStep
from db.session import Database
from server.migrate import upgrade
from workers.supervisor import Workplace, supervise
from workers.worker import run_worker

SECTION = "first line"
METHOD_MODULE = "bench.queue.null_method"
WARM_UPS = 3
SAMPLES = 60
P95_MS_MAX = 400.0
STEP_SECONDS = 60.0
LOOK_SECONDS = 0.02

_FETCHED = text("""
    UPDATE steps SET status = 'succeeded', finished_at = clock_timestamp(), execution_id = (
        SELECT execution_id FROM steps AS first WHERE first.job_id = :fetched AND kind = 'fetch'
    ) WHERE job_id = :job AND kind = 'fetch'
""")
_READY = text("UPDATE steps SET status = 'ready' WHERE job_id = :job AND kind = 'quantize'")
_OVER = text("SELECT finished_at IS NOT NULL FROM jobs WHERE id = :job")


def run(at: Place, report: Report) -> None:
    """Measure and print."""
    url = at.create_database("first_line")
    upgrade(url)
    database = Database(url, connections_max=2)
    (team,) = make_teams(database, 1)
    marks = Marks(at.folder / "marks")
    environment = {**settings(at, url), MARKS: str(marks.path), "FEWBITS_METHOD_MODULES": METHOD_MODULE}
    commands = {"worker": ["-m", __name__], "dispatch": fewbitsd("dispatch")}
    with at.running(commands, environment):
        first = database.run(lambda session: jobs.submit(session, team, _job(marks.path, 0)))
        marks.next(STEP_SECONDS)  # the claim of the fetch, which does not tell its first line
        taken = [_first_line_ms(marks)]
        _wait_for_end(database, first)
        for number in range(1, WARM_UPS + SAMPLES):
            job = database.run(partial(_submit_fetched, team=team, new=_job(marks.path, number), fetched=first))
            taken.append(_first_line_ms(marks))
            _wait_for_end(database, job)
    marks.close()
    database.dispose()
    measured = taken[WARM_UPS:]
    report.say(
        f"From a claim's commit to the first line of its step, in ms: a real worker, {SAMPLES} real children, one at a "
        "time. What each does at its end is off the clock."
    )
    p95 = (percentile(measured, 95), Bound(at_most=P95_MS_MAX))
    report.table(SECTION, ["p50", "p95", "max"], {"a child": [statistics.median(measured), p95, max(measured)]})


def _first_line_ms(marks: Marks) -> float:
    claimed = marks.next(STEP_SECONDS)
    return (marks.next(STEP_SECONDS) - claimed) * 1e3


def _job(marks: Path, number: int) -> NewJob:
    """Return a fetch and a quantize whose method tells that it has begun; each has a number, so that none is reused."""
    recipe = {"method": "null", "number": number, "marks": str(marks)}
    return NewJob(
        source=SOURCE.as_uri(),
        method="null",
        recipe=recipe,
        evaluation={},
        metadata={},
        priority=0,
        max_runtime_seconds=None,
        max_pending_seconds=None,
        steps=(PlannedStep("fetch", "cpu", (), {}), PlannedStep("quantize", "cpu", ("fetch",), {"recipe": recipe})),
    )


def _submit_fetched(session: Session, team: TeamId, new: NewJob, fetched: JobId) -> JobId:
    """Submit a job whose fetch is that of another job."""
    job = jobs.submit(session, team, new)
    session.execute(_FETCHED, {"job": job, "fetched": fetched})
    session.execute(_READY, {"job": job})
    return job


def _wait_for_end(database: Database, job: JobId) -> None:
    deadline = time.monotonic() + STEP_SECONDS
    while not database.run(lambda session: session.scalar(_OVER, {"job": job})):
        if time.monotonic() > deadline:
            raise TimeoutError(f"a job that does nothing was not over within {STEP_SECONDS:g} s")
        time.sleep(LOOK_SECONDS)


def _tell_and_supervise(told: Marker, workplace: Workplace, claim: Claim, device: str) -> None:
    told.mark()
    supervise(workplace, claim, device)


def main() -> None:
    """Run the worker until SIGTERM."""
    run_worker("cpu", 1, execute=partial(_tell_and_supervise, marker()))


if __name__ == "__main__":
    main()
