"""The worker's process, put together: its database, store and devices, its loop, and the consumer of hints."""

import contextlib
import os
from collections.abc import Sequence
from functools import partial

from core.errors import WorkerLost
from core.ids import WorkerId
from core.logging import configure_logging, log
from core.settings import Settings, settings
from db import lease as leases
from db import workers
from db.ending import Mishap, Retry
from db.session import Database
from db.tokens import Lease, LeaseLost
from db.workers import Node as NodeRow
from engines import methods
from store.opening import open_store
from workers.celery_app import consume, depart_when_told
from workers.departure import Departure
from workers.devices import CPU, devices, memory_bytes
from workers.leases import LeaseBook
from workers.loop import when_reachable
from workers.node import Execute, Node, Rhythm, node_row
from workers.scratch import OwnFolder, own_folder
from workers.slots import ScratchDisk, Slots
from workers.supervisor import Workplace, supervise

KERNELS = "kernels"  # a folder beside the cache's own
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
    departure = Departure(here.shutdown_seconds)
    depart_when_told(departure)
    found = devices(pool)
    if pool == "gpu" and found[0].name == CPU:
        log.warning("no NVIDIA GPU was found: the work of the gpu pool runs on the CPU, slowly")
    methods.load(here.method_modules)
    with own_folder(here.scratch_root) as own:
        disk = ScratchDisk(own.path, here.scratch_bytes_max, here.scratch_free_bytes_min)
        taken = Slots([found[index % len(found)] for index in range(slots or len(found))], memory_bytes(), disk)
        workplace = _workplace(here, own, pool, taken, departure)
        if workplace is None:
            return
        node = Node(workplace, pool, taken, execute, Rhythm(here.poll_seconds, here.heartbeat_file))
        node.start()
        try:
            consume(here.broker_url.get_secret_value(), pool, taken.count, node.drain, departure)
        finally:
            node.close()
            workplace.database.dispose()


def _workplace(here: Settings, own: OwnFolder, pool: str, slots: Slots, departure: Departure) -> Workplace | None:
    """Return what the children share, once Postgres can be reached; None where the worker must leave before."""
    connections = CONNECTIONS_BESIDE + CONNECTIONS_PER_SLOT * slots.count
    database = Database(here.database_url.get_secret_value(), connections_max=connections)
    retry = Retry(here.attempts_max, here.retry_backoff_seconds, here.deaths_max)
    threads = here.child_threads or max(1, len(os.sched_getaffinity(0)) // slots.count)
    sign_on = partial(_sign_on, database, own.abandoned, retry, node_row(pool, slots, here.host_name))
    worker_id = when_reachable(sign_on, departure, here.heartbeat_file)
    if worker_id is None:
        return None
    return Workplace(
        worker_id=worker_id,
        host=here.host_name,
        database=database,
        store=open_store(here),
        folder=own.path,
        kernels=here.cache_root / KERNELS,
        leases=LeaseBook(database, worker_id, here.lease_seconds, departure),
        retry=retry,
        team_running_max=here.team_running_max,
        threads=threads,
        threads_alone=threads * slots.count,
        source_roots=here.source_roots,
        publish_roots=here.publish_roots,
        method_modules=here.method_modules,
        code_execution=here.code_execution,
        departure=departure,
    )


def _sign_on(database: Database, abandoned: Sequence[Lease], retry: Retry, node: NodeRow) -> WorkerId:
    """Let others have at once what dead workers held: their children are ended. Then say that this worker is there."""
    error = WorkerLost("The worker that ran the step has died.").document()
    fail = partial(leases.fail, mishap=Mishap(error, is_death=True), retry=retry)
    for lease in abandoned:
        with contextlib.suppress(LeaseLost):
            database.run(partial(fail, lease=lease))
    return database.run(partial(workers.register, node=node))
