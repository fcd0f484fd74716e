"""A claim by itself: how long one takes, with its commit, beside more and more work that is over."""

import statistics
import time
from functools import partial

from bench.queue import history, seeding
from bench.queue.contenders.fewbits import vacuum
from bench.queue.figures import Bound, Cell, Report, percentile
from bench.queue.place import Place
from bench.queue.seeding import Jobs
from core.ids import WorkerId
from db import workers
from db.claim import Claimer, claim
from db.lease import Result, finish
from db.room import Room
from db.session import Database
from db.workers import Node

SECTION = "claim"
FINISHED = (1_000, 100_000, 1_000_000)
READY = 10_000
READY_TEAMS = "20 + n % 20"  # twenty without a past
WARM_UPS = 50
SAMPLES = 1000
LEASE_SECONDS = 30.0
P99_MS_MAX = 5.0
FLAT = 1.5  # of the time beside the least history: more is no longer flat
ROOM = Room(memory_bytes=2**40, vram_bytes=None, scratch_bytes=2**40)
NODE = Node(pool="cpu", host="host", pid=1, device="cpu", slots=1, capacity=ROOM)


def run(at: Place, report: Report) -> None:
    """Measure and print."""
    rows: dict[str, list[Cell]] = {}
    database = history.open_history(at)
    worker_id = database.run(partial(workers.register, node=NODE))
    number, first_median = seeding.NOW - len(FINISHED) * (READY + WARM_UPS + SAMPLES), 0.0
    for finished in FINISHED:
        report.progress(f"claims beside {finished:,} that are over")
        history.grow(database, finished)
        number = _make_ready(database, number, READY if not rows else WARM_UPS + SAMPLES)
        taken = [_claim_ms(database, worker_id) for _ in range(WARM_UPS + SAMPLES)][WARM_UPS:]
        median = statistics.median(taken)
        first_median = first_median or median
        p99: Cell = (percentile(taken, 99), Bound(at_most=P99_MS_MAX))
        rows[f"{finished:,} over"] = [median, p99, (median / first_median, Bound(at_most=FLAT))]
    database.dispose()
    report.say(
        f"One claim with its commit, in ms, by one claimer: {READY:,} executions ready, of 20 teams in turn, beside "
        f"more and more that are over.\n{SAMPLES:,} claims each; what is claimed is finished, off the clock."
    )
    report.table(SECTION, ["p50", "p99", "p50 to the first"], rows)


def _make_ready(database: Database, number: int, count: int) -> int:
    """Make jobs ready, and return the next number."""
    with database.engine.begin() as connection:
        seeding.ready(connection, Jobs(number, count, READY_TEAMS))
    vacuum(database)
    return number + count


def _claim_ms(database: Database, worker_id: WorkerId) -> float:
    claimer = Claimer(worker_id, pool="cpu", host="host", device="cpu", room=ROOM, capacity=ROOM)
    began = time.monotonic()
    claimed = database.run(partial(claim, claimer=claimer, lease_seconds=LEASE_SECONDS))
    seconds = time.monotonic() - began
    if claimed is None:
        raise RuntimeError("nothing was ready")
    database.run(partial(finish, lease=claimed.lease, result=Result({})))
    return seconds * 1e3
