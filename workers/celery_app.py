"""Celery: how a hint travels from dispatch to a worker.

A hint carries nothing, is acknowledged before it is worked on, and expires: losing one costs seconds, never work.
"""

import os
import signal
import socket
from collections.abc import Callable
from functools import partial

from celery import Celery, signals
from celery.worker import WorkController, state

from core.logging import log
from workers.departure import Departure

HINT = "fewbits.hint"
HINT_EXPIRES_SECONDS = 10
BROKER_TIMEOUT_SECONDS = 5
CONSUMER_RESTART_SECONDS = 2.0
EXIT_MARGIN_SECONDS = 1.0


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


def depart_when_told(departure: Departure) -> None:
    """Have SIGTERM and SIGINT begin the departure, by whose end the process is gone.

    Celery takes the signals over as long as it consumes. It waits for running tasks before it ends, so they must end
    first; where it begins only after the signal, it ends at once.
    """

    def depart(*_: object, **__: object) -> None:
        departure.begin()
        state.should_stop = os.EX_OK  # type: ignore[assignment]  # its type is published as None

    # A store or a database that hangs may hold it up; its children end with it.
    departure.before_the_end(EXIT_MARGIN_SECONDS, partial(os._exit, os.EX_OK))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, depart)
    signals.worker_shutting_down.connect(depart, weak=False)


def consume(broker_url: str, pool: str, slots: int, on_hint: Callable[[], int], departure: Departure) -> None:
    """Take hints until the process is told to stop; reconnects to the broker for as long as that takes.

    Celery gives up on an error that the broker answers with, such as that its disk is full: it waits for its running
    tasks, so no child is ended, and returns. Then it is started anew.

    Args:
        broker_url: where the hints come from.
        pool: whose hints.
        slots: how many hints are acted on at once.
        on_hint: does what there is to do.
        departure: see ``depart_when_told``.
    """
    app = make_app(broker_url)
    app.task(name=HINT)(on_hint)

    @signals.setup_logging.connect(weak=False)
    def keep_logging(**_: object) -> None:
        """Celery sets up no logging where something is connected here."""

    while True:
        _consumer(app, pool, slots).start()
        if departure.wait(CONSUMER_RESTART_SECONDS):
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
