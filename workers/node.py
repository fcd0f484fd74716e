"""A worker's loop: claims until nothing fits, runs each claim, looks by itself when no hint comes."""

import os
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy import event
from sqlalchemy.orm import Session

from core.heartbeat import beat
from core.logging import log
from db import workers
from db.claim import Claim, Claimer, claim
from db.session import UNAVAILABLE
from db.workers import Node as NodeRow
from pipeline.binding import bind_ready_steps
from workers.devices import Device
from workers.slots import Slots
from workers.supervisor import Workplace

JITTER = 0.3  # so that workers do not all look at once

Execute = Callable[[Workplace, Claim, str], None]
"""Does the work of a claim on the device of that name, and commits what came of it."""


def node_row(pool: str, slots: Slots, host: str) -> NodeRow:
    """Return what a worker of this process offers, on the machine of that name."""
    return NodeRow(
        pool=pool,
        host=host,
        pid=os.getpid(),
        device=slots.device_names,
        slots=slots.count,
        capacity=slots.largest(),
    )


@dataclass(frozen=True)
class Rhythm:
    """How often a worker looks for work without a hint, and the file that it touches each time."""

    poll_seconds: float
    heartbeat: Path | None


class Node:
    """The worker of one pool on one machine.

    The slots are taken by hints and by the node's own look-out alike, so there are never more children than slots.

    Args:
        workplace: what all children share.
        pool: ``cpu`` or ``gpu``.
        slots: for children.
        execute: does the work of a claim.
        rhythm: when it looks by itself.
    """

    def __init__(self, workplace: Workplace, pool: str, slots: Slots, execute: Execute, rhythm: Rhythm) -> None:
        self._at = workplace
        self._pool = pool
        self._slots = slots
        self._execute = execute
        self._rhythm = rhythm
        self._claiming = threading.Lock()  # two slots must not both count the same memory as free
        self._look_out_thread = threading.Thread(target=self._look_out, name="look-out", daemon=True)

    def start(self) -> None:
        """Begin to look for work, and to renew the leases of what is found."""
        self._at.leases.start()
        self._look_out_thread.start()

    def close(self) -> None:
        """Leave, and say that this worker is gone."""
        self._at.departure.begin()
        self._look_out_thread.join()
        self._at.leases.close()
        try:
            self._at.database.run(partial(workers.stopped, worker_id=self._at.worker_id))
        except UNAVAILABLE as error:
            log.warning("could not say that this worker is gone", error=str(error))

    def drain(self) -> int:
        """Claim and run, one after the other in one slot, until nothing fits; return how many were run."""
        device = self._slots.take()
        if device is None:
            return 0
        count = 0
        try:
            while (claimed := self._claim(device)) is not None:
                try:
                    self._execute(self._at, claimed, device.name)
                finally:
                    self._slots.unreserve(claimed.lease.execution_id)
                count += 1
        except UNAVAILABLE as error:
            log.warning("Postgres cannot be reached", error=str(error))
        finally:
            self._slots.give_back(device)
        return count

    def _claim(self, device: Device) -> Claim | None:
        """Claim what is ready, or else what can be made ready."""
        if (claimed := self._claim_ready(device)) is None and bind_ready_steps(self._at.database):
            claimed = self._claim_ready(device)
        return claimed

    def _claim_ready(self, device: Device) -> Claim | None:
        if self._at.departure.has_begun() or self._complains():
            return None
        return self._at.database.run(partial(self._claim_in, device=device))

    def _claim_in(self, session: Session, device: Device) -> Claim | None:
        """Claim in a transaction. Another slot may claim once what this one needs is counted, before its commit."""
        with self._claiming:
            claimer = Claimer(
                worker_id=self._at.worker_id,
                pool=self._pool,
                host=self._at.host,
                device=device.name,
                room=self._slots.room(device),
                capacity=self._slots.capacity(device),
                running_max=self._at.team_running_max,
                is_idle=self._slots.is_idle(),
                deaths_max=self._at.retry.deaths_max,
            )
            claimed = claim(session, claimer, self._at.leases.lease_seconds)
            if claimed is not None:
                execution_id = claimed.lease.execution_id
                self._slots.reserve(execution_id, device, claimed.need)
                event.listen(session, "after_rollback", lambda _: self._slots.unreserve(execution_id))
        return claimed

    def _complains(self) -> bool:
        """Return whether something keeps this worker from claiming; the operator can read what."""
        complaint = self._slots.disk.complaint()
        if complaint is not None and self._at.leases.complaint is None:
            log.warning(complaint)
        self._at.leases.complaint = complaint
        return complaint is not None

    def _look_out(self) -> None:
        """Fill the free slots every few seconds, without being told."""
        threads: list[threading.Thread] = []
        while not self._told_to_leave():
            threads = [thread for thread in threads if thread.is_alive()]
            for _ in range(self._slots.free_count()):
                thread = threading.Thread(target=self.drain, name="slot", daemon=True)
                thread.start()
                threads.append(thread)
        for thread in threads:
            thread.join()

    def _told_to_leave(self) -> bool:
        """Wait until it is time to look, and return whether to leave instead."""
        beat(self._rhythm.heartbeat)
        seconds = self._rhythm.poll_seconds * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311
        return self._at.departure.wait(seconds)
