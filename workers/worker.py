"""The worker's process, put together: its database, store and devices, its loop, and the consumer of hints."""

import contextlib
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from core.errors import WorkerLost
from core.logging import configure_logging, log
from core.settings import Settings, settings
from db import lease as leases
from db import workers
from db.ending import Mishap, Retry
from db.session import Database
from db.tokens import Lease, LeaseLost
from engines import methods
from store.opening import open_store
from workers.celery_app import consume
from workers.departure import Departure
from workers.devices import CPU, devices, memory_bytes
from workers.leases import LeaseBook
from workers.node import Execute, Node, Rhythm, node_row
from workers.scratch import own_folder
from workers.slots import ScratchDisk, Slots
from workers.supervisor import Workplace, supervise

CONNECTIONS_PER_SLOT = 2  # its claims and commits, its log
CONNECTIONS_BESIDE = 3  # the renewal of all leases, and what looks for work


def run_worker(pool: str, slots: int | None, execute: Execute = supervise) -> None:
    """Run a worker until it is told to stop.

    Args:
        pool: ``cpu`` or ``gpu``.
        slots: children at once; None means one for each device.
        execute: does the work of a claim.
    """
    here = settings("broker_url", "store_url")
    configure_logging(here.log_level)
    found = devices(pool)
    if pool == "gpu" and found[0].name == CPU:
        log.warning("no NVIDIA GPU was found: the work of the gpu pool runs on the CPU, slowly")
    methods.load(here.method_modules)
    with own_folder(here.scratch_root) as own:
        disk = ScratchDisk(own.path, here.scratch_bytes_max, here.scratch_free_bytes_min)
        taken = Slots([found[index % len(found)] for index in range(slots or len(found))], memory_bytes(), disk)
        workplace = _workplace(here, own.path, pool, taken)
        _give_back(workplace, own.abandoned)
        node = Node(workplace, pool, taken, execute, Rhythm(here.poll_seconds, here.heartbeat_file))
        node.start()
        try:
            consume(here.broker_url.get_secret_value(), pool, taken.count, node.drain, workplace.departure)
        finally:
            node.close()
            workplace.database.dispose()


def _workplace(here: Settings, folder: Path, pool: str, slots: Slots) -> Workplace:
    connections = CONNECTIONS_BESIDE + CONNECTIONS_PER_SLOT * slots.count
    database = Database(here.database_url.get_secret_value(), connections_max=connections)
    worker_id = database.run(partial(workers.register, node=node_row(pool, slots)))
    departure = Departure(here.shutdown_seconds)
    return Workplace(
        worker_id=worker_id,
        database=database,
        store=open_store(here),
        folder=folder,
        leases=LeaseBook(database, worker_id, here.lease_seconds, departure),
        retry=Retry(here.attempts_max, here.retry_backoff_seconds, here.deaths_max),
        team_running_max=here.team_running_max,
        threads=here.child_threads or max(1, len(os.sched_getaffinity(0)) // slots.count),
        source_roots=here.source_roots,
        method_modules=here.method_modules,
        departure=departure,
    )


def _give_back(workplace: Workplace, abandoned: Sequence[Lease]) -> None:
    """Let others have at once what dead workers held: their children are ended, so nobody needs to wait for a lease."""
    error = WorkerLost("The worker that ran the step has died.").document()
    fail = partial(leases.fail, mishap=Mishap(error, is_death=True), retry=workplace.retry)
    for lease in abandoned:
        with contextlib.suppress(LeaseLost):
            workplace.database.run(partial(fail, lease=lease))
