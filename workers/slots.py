"""A worker's slots, and the room in them: what is free beside the children at work, and what one child may have alone.

Refuses to know what the work is, and where it comes from.
"""

import shutil
import threading
from dataclasses import dataclass, replace
from pathlib import Path

from core.ids import ExecutionId
from db.room import Need, Room
from workers.devices import CPU, Device


@dataclass(frozen=True)
class ScratchDisk:
    """Where children write.

    Attributes:
        folder: on that disk.
        bytes_max: what of it the worker may fill; None for all that is free.
        free_bytes_min: with less free than this the worker takes nothing new.
    """

    folder: Path
    bytes_max: int | None
    free_bytes_min: int

    def free_bytes(self) -> int:
        """Return what may be written at the moment."""
        return self._allowed(shutil.disk_usage(self.folder).free)

    def total_bytes(self) -> int:
        """Return what could be written if the disk were empty."""
        return self._allowed(shutil.disk_usage(self.folder).total)

    def complaint(self) -> str | None:
        """Return what an operator should know, where too little is free."""
        free_bytes = shutil.disk_usage(self.folder).free
        if free_bytes >= self.free_bytes_min:
            return None
        return (
            f"claims nothing: {free_bytes / 1e6:,.0f} MB are free on the disk of {self.folder}, less than it keeps free"
        )

    def _allowed(self, size_bytes: int) -> int:
        return size_bytes if self.bytes_max is None else min(size_bytes, self.bytes_max)


class Slots:
    """The devices of a worker, one for each child that may run at once. Safe for many threads.

    Args:
        devices: one for each slot; the same one several times where children share it.
        memory_bytes: of the host, which all children share.
        disk: where they write.

    Attributes:
        disk: likewise.
    """

    def __init__(self, devices: list[Device], memory_bytes: int, disk: ScratchDisk) -> None:
        self._devices = devices
        self._free = list(devices)
        self._memory_bytes = memory_bytes
        self.disk = disk
        self._taken: dict[ExecutionId, tuple[Device, Need]] = {}
        self._lock = threading.Lock()  # held for moments, never over a look at Postgres

    @property
    def count(self) -> int:
        """How many children may run at once."""
        return len(self._devices)

    @property
    def device_names(self) -> str:
        """What children compute on, for people."""
        return ", ".join(sorted({device.name for device in self._devices}))

    def free_count(self) -> int:
        """Return how many slots are free."""
        with self._lock:
            return len(self._free)

    def take(self) -> Device | None:
        """Return the device of a free slot, which then is the caller's; None where all are taken."""
        with self._lock:
            return self._free.pop() if self._free else None

    def give_back(self, device: Device) -> None:
        """Let a slot be taken again."""
        with self._lock:
            self._free.append(device)

    def reserve(self, execution_id: ExecutionId, device: Device, need: Need) -> None:
        """Count what a piece of work needs as taken."""
        with self._lock:
            self._taken[execution_id] = (device, need)

    def unreserve(self, execution_id: ExecutionId) -> None:
        """Count it as free again."""
        with self._lock:
            self._taken.pop(execution_id, None)

    def is_idle(self) -> bool:
        """Return whether nothing is counted as taken."""
        with self._lock:
            return not self._taken

    def room(self, device: Device) -> Room:
        """Return what the work that goes on leaves free on a device."""
        with self._lock:
            taken = list(self._taken.values())
        on_host = sum(need.memory_bytes + (need.vram_bytes if where.name == CPU else 0) for where, need in taken)
        on_device = sum(need.vram_bytes for where, need in taken if where == device)
        scratch = sum(need.scratch_bytes for _, need in taken)
        return Room(
            memory_bytes=self._memory_bytes - on_host,
            vram_bytes=None if device.name == CPU else device.memory_bytes - on_device,
            scratch_bytes=self.disk.free_bytes() - scratch,
        )

    def capacity(self, device: Device) -> Room:
        """Return what would be free there if nothing else went on."""
        vram_bytes = None if device.name == CPU else device.memory_bytes
        return Room(self._memory_bytes, vram_bytes, self.disk.free_bytes())

    def largest(self) -> Room:
        """Return what one child may have at best, were the disk empty, too."""
        best = max(self._devices, key=lambda device: device.memory_bytes)
        return replace(self.capacity(best), scratch_bytes=self.disk.total_bytes())
