"""Pages of a list of jobs through the API, at every depth of a long history."""

import asyncio
import random
import statistics
from collections.abc import Sequence
from functools import partial

from bench.queue import history, seeding
from bench.queue.figures import Bound, Cell, Report, percentile
from bench.queue.http_load import Answered, closed_loop, request
from bench.queue.place import Place
from bench.queue.serving import serving
from db import keys

SECTION = "list"
JOBS = 1_000_000
SAMPLES = 300
WARM_UPS = 20
P99_MS_MAX = 30.0
OK = 200
PAGE = 50  # the API's default
FILTERS = {
    "status succeeded (98 %)": "status=succeeded",
    "status cancelled (2 %)": "status=cancelled",
    "status failed (none)": "status=failed",
    "label nightly (all)": "label=nightly",
    "label release (1 %)": "label=release",
    "label golden (10 jobs)": "label=golden",
}


def run(at: Place, report: Report) -> None:
    """Measure and print."""
    database = history.open_history(at)
    report.progress(f"{JOBS:,} jobs are written")
    history.grow(database, JOBS)
    _, key = database.run(partial(keys.create_key, team_name="team 00", label=""))
    database.dispose()
    rows: dict[str, list[Cell]] = {}
    with serving(at, database.url) as port:
        ask = partial(_measure, port, key)
        ask("", (JOBS, JOBS), count=WARM_UPS)
        rows["first page"] = ask("", None)
        rows["in the middle"] = ask("", (JOBS * 45 // 100, JOBS * 55 // 100))
        rows["at the end"] = ask("", (0, JOBS // 100))
        rows["at any depth"] = ask("", (0, JOBS))
        for name, condition in FILTERS.items():
            report.progress(name)
            rows[name] = ask(condition, (0, JOBS))
    report.say(
        f"GET /v1/jobs, pages of {PAGE}, {JOBS:,} jobs of eleven teams, as the team that has half of them; in ms, one "
        f"client, {SAMPLES} pages each.\nJobs on these pages have their six steps, with artifacts and scores. With a "
        "filter: at any depth."
    )
    report.table(SECTION, ["p50", "p99", "KB a page", "not answered"], rows)


def _measure(port: int, key: str, condition: str, depth: tuple[int, int] | None, count: int = SAMPLES) -> list[Cell]:
    """Read pages that begin after jobs whose numbers lie between two; the first page where there are none."""
    paths = [f"/v1/jobs?{condition}{'' if depth is None else f'&after={_job(*depth)}'}" for _ in range(count)]
    sent = [request("GET", path, key) for path in paths]
    answered = asyncio.run(closed_loop(port, sent.__getitem__, clients=1, count=count))
    taken = [answer.milliseconds for answer in answered]
    return [
        statistics.median(taken),
        (percentile(taken, 99), Bound(at_most=P99_MS_MAX)),
        statistics.fmean(answer.size_bytes / 1e3 for answer in answered),
        (float(_refused(answered)), Bound(at_most=0)),
    ]


def _refused(answered: Sequence[Answered]) -> int:
    return sum(answer.status != OK for answer in answered)


def _job(first: int, last: int) -> str:
    """Return a job of the large team, behind which a page of whole jobs follows."""
    block = random.randrange(first // history.BLOCK, max(first // history.BLOCK + 1, last // history.BLOCK))  # noqa: S311
    inside = random.randrange(history.BLOCK - history.WHOLE + 2 * (PAGE + 1), history.BLOCK, 2)  # noqa: S311
    return seeding.job_id(min(block * history.BLOCK + inside, JOBS - 2))
