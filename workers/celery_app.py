"""Celery: how a hint travels from dispatch to a worker, and the worker's process.

A hint carries nothing, is acknowledged before it is worked on, and expires: losing one costs seconds, never work.
"""

import contextlib
import os
import socket
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from celery import Celery, signals
from celery.worker import WorkController

from core.errors import WorkerLost
from core.logging import configure_logging, log
from core.settings import Settings, settings
from db import lease as leases
from db.lease import Retry
from db.session import Database
from db.tokens import Lease, LeaseLost
from engines import methods
from store.opening import open_store
from workers.devices import CPU, Device, devices
from workers.node import Node
from workers.scratch import own_folder
from workers.supervisor import Workplace

HINT = "fewbits.hint"
HINT_EXPIRES_SECONDS = 10
BROKER_TIMEOUT_SECONDS = 5
CONSUMER_RESTART_SECONDS = 2.0
CONNECTIONS_PER_SLOT = 3  # its claims and commits, its lease, its log


def make_app(broker_url: str) -> Celery:
    """Return the Celery application; it has one task and keeps no results."""
    app = Celery("fewbits", broker=broker_url)
    app.conf.update(
        task_ignore_result=True,
        task_acks_late=False,
        worker_disable_prefetch=True,
        worker_hijack_root_logger=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "socket_connect_timeout": BROKER_TIMEOUT_SECONDS,
            "socket_timeout": BROKER_TIMEOUT_SECONDS,
        },
    )
    return app


def run_worker(pool: str, slots: int | None) -> None:
    """Run a worker until it is told to stop.

    Args:
        pool: ``cpu`` or ``gpu``.
        slots: children at once; None means one for each device.
    """
    here = settings("broker_url", "store_url")
    configure_logging(here.log_level)
    found = devices(pool)
    if pool == "gpu" and found[0].name == CPU:
        log.warning("no NVIDIA GPU was found: the work of the gpu pool runs on the CPU, slowly")
    taken = [found[index % len(found)] for index in range(slots or len(found))]
    methods.load(here.method_modules)
    with own_folder(here.scratch_root) as own:
        workplace = _workplace(here, own.path, len(taken))
        _give_back(workplace, own.abandoned)
        node = Node(workplace, pool, taken, here.poll_seconds, here.heartbeat_file)
        node.start()
        try:
            _consume(here.broker_url.get_secret_value(), pool, node, taken)
        finally:
            node.close()
            workplace.database.dispose()


def _give_back(workplace: Workplace, abandoned: Sequence[Lease]) -> None:
    """Let others have at once what dead workers held: their children are ended, so nobody needs to wait for a lease."""
    error = WorkerLost("The worker that ran the step has died.").document()
    for lease in abandoned:
        with contextlib.suppress(LeaseLost):
            workplace.database.run(partial(leases.fail, lease=lease, error=error, retry=workplace.retry))


def _workplace(here: Settings, folder: Path, slots: int) -> Workplace:
    return Workplace(
        database=Database(here.database_url.get_secret_value(), connections_max=2 + CONNECTIONS_PER_SLOT * slots),
        store=open_store(here),
        folder=folder,
        scratch_bytes_max=here.scratch_bytes_max,
        lease_seconds=here.lease_seconds,
        retry=Retry(here.attempts_max, here.retry_backoff_seconds),
        threads=here.child_threads or max(1, len(os.sched_getaffinity(0)) // slots),
        source_roots=here.source_roots,
        method_modules=here.method_modules,
        closing=threading.Event(),
    )


def _consume(broker_url: str, pool: str, node: Node, slots: list[Device]) -> None:
    """Take hints until the process is told to stop; reconnects to the broker for as long as that takes.

    Celery gives up on an error that the broker answers with, such as that its disk is full: it waits for its running
    tasks, so no child is ended, and returns. Then it is started anew.
    """
    app = make_app(broker_url)
    app.task(name=HINT)(node.drain)

    # Celery waits for running tasks before it ends, so they must end first.
    @signals.worker_shutting_down.connect(weak=False)
    def shutting_down(**_: object) -> None:
        node.leave()

    @signals.setup_logging.connect(weak=False)
    def keep_logging(**_: object) -> None:
        """Celery sets up no logging where something is connected here."""

    while True:
        _consumer(app, pool, len(slots)).start()
        if node.wait_to_leave(CONSUMER_RESTART_SECONDS):
            return
        log.warning("the consumer of hints has ended, and is started anew")


def _consumer(app: Celery, pool: str, slots: int) -> WorkController:
    return app.Worker(
        pool="threads",
        concurrency=slots,
        queues=[pool],
        hostname=f"{pool}-{os.getpid()}@{socket.gethostname()}",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
