"""A worker's slots: claims until nothing fits, runs each claim in a child, looks by itself when no hint comes."""

import os
import random
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from core.heartbeat import beat
from core.logging import log
from db import workers
from db.claim import Claim, Room, claim
from db.session import UNAVAILABLE
from db.workers import Node as NodeRow
from pipeline.binding import bind_ready_steps
from workers.devices import Device
from workers.supervisor import Workplace, supervise

BEAT_SECONDS = 5.0  # how often a worker says that it is there
JITTER = 0.3  # so that workers do not all look at once


class Node:
    """The worker of one pool on one machine.

    A slot is a device and the right to run one child on it. The slots are taken by hints and by the node's own look-out
    alike, so there are never more children than slots.

    Args:
        workplace: what all children share.
        pool: ``cpu`` or ``gpu``.
        slots: one device for each child that may run at once.
        poll_seconds: how often to look for work without a hint.
        heartbeat: touched each time that it is time to look.
    """

    def __init__(
        self, workplace: Workplace, pool: str, slots: list[Device], poll_seconds: float, heartbeat: Path | None
    ) -> None:
        self._at = workplace
        self._pool = pool
        self._slots = slots
        self._free = list(slots)
        self._reserved: dict[str, tuple[str, Room]] = {}
        self._lock = threading.Lock()  # held for moments: the look-out takes it, and must not wait for Postgres
        self._claiming = threading.Lock()  # two slots must not both count the same memory as free
        self._poll_seconds = poll_seconds
        self._heartbeat = heartbeat
        self._worker_id = self._at.database.run(lambda s: workers.register(s, self._row()))
        self._threads = [
            threading.Thread(target=target, name=target.__name__, daemon=True)
            for target in (self._beat, self._look_out)
        ]

    def start(self) -> None:
        """Begin to look for work."""
        for thread in self._threads:
            thread.start()

    def wait_to_leave(self, timeout_seconds: float) -> bool:
        """Wait a while for this worker to begin to leave, and return whether it has."""
        return self._at.closing.wait(timeout_seconds)

    def leave(self) -> None:
        """Begin to leave: children are ended and their executions given back."""
        self._at.closing.set()

    def close(self) -> None:
        """Leave, and say that this worker is gone."""
        self.leave()
        for thread in self._threads:
            thread.join()
        try:
            self._at.database.run(lambda s: workers.stopped(s, self._worker_id))
        except UNAVAILABLE as error:
            log.warning("could not say that this worker is gone", error=str(error))

    def drain(self) -> int:
        """Claim and run, one after the other in one slot, until nothing fits; return how many were run."""
        count = 0
        with self._lock:
            if not self._free or self._at.closing.is_set():
                return count
            device = self._free.pop()
        try:
            while not self._at.closing.is_set() and (claimed := self._claim(device)) is not None:
                try:
                    supervise(self._at, claimed, device.name)
                finally:
                    self._unreserve(claimed)
                count += 1
        finally:
            with self._lock:
                self._free.append(device)
        return count

    def _claim(self, device: Device) -> Claim | None:
        bind_ready_steps(self._at.database)
        with self._claiming:
            with self._lock:
                room = self._room(device)
            claimed = self._at.database.run(
                lambda s: claim(s, self._worker_id, self._pool, room, self._at.lease_seconds)
            )
            if claimed is not None:
                with self._lock:
                    self._reserved[claimed.lease.execution_id] = (device.name, claimed.room)
        return claimed

    def _room(self, device: Device) -> Room:
        """Return what the claims at work leave free: of the device's memory, and of the disk that all share."""
        taken = [room for name, room in self._reserved.values() if name == device.name]
        scratch = sum(room.scratch_bytes for _, room in self._reserved.values())
        memory = sum(room.memory_bytes for room in taken)
        return Room(device.memory_bytes - memory, self._allowed(shutil.disk_usage(self._at.folder).free) - scratch)

    def _allowed(self, scratch_bytes: int) -> int:
        return min(scratch_bytes, self._at.scratch_bytes_max or scratch_bytes)

    def _unreserve(self, claimed: Claim) -> None:
        with self._lock:
            self._reserved.pop(claimed.lease.execution_id, None)

    def _look_out(self) -> None:
        """Fill the free slots every few seconds, without being told."""
        threads: list[threading.Thread] = []
        while not self._told_to_leave():
            threads = [thread for thread in threads if thread.is_alive()]
            with self._lock:
                free = len(self._free)
            for _ in range(free):
                thread = threading.Thread(target=_guarded(self.drain), name="slot", daemon=True)
                thread.start()
                threads.append(thread)
        for thread in threads:
            thread.join()

    def _told_to_leave(self) -> bool:
        """Wait until it is time to look, and return whether to leave instead."""
        beat(self._heartbeat)
        return self._at.closing.wait(self._poll_seconds * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311

    def _beat(self) -> None:
        while not self._at.closing.wait(BEAT_SECONDS):
            _guarded(lambda: self._at.database.run(lambda s: workers.seen(s, self._worker_id)))()

    def _row(self) -> NodeRow:
        return NodeRow(
            pool=self._pool,
            host=socket.gethostname(),
            pid=os.getpid(),
            device=", ".join(sorted({slot.name for slot in self._slots})),
            slots=len(self._slots),
            memory_bytes=self._slots[0].memory_bytes,
            scratch_bytes=self._allowed(shutil.disk_usage(self._at.folder).total),
        )


def _guarded(work: Callable[[], object]) -> Callable[[], None]:
    """Wrap work that is tried again soon: an outage of Postgres is logged, and ends nothing."""

    def guarded() -> None:
        try:
            work()
        except UNAVAILABLE as error:
            log.warning("Postgres cannot be reached", error=str(error))

    return guarded
