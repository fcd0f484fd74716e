"""Memory and scratch disk: what work needs and took, what a worker has, and whether the one fits into the other."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Self

GPU = "an NVIDIA GPU"


@dataclass(frozen=True)
class Need:
    """What a piece of work will need: memory of the host and of a GPU, scratch disk, and whether a GPU at all."""

    memory_bytes: int
    vram_bytes: int
    scratch_bytes: int
    needs_gpu: bool = False

    @classmethod
    def of(cls, execution: Any) -> Self:
        """Return the need that the row of an execution says."""
        return cls(execution.memory_bytes, execution.vram_bytes, execution.scratch_bytes, execution.needs_gpu)

    def __str__(self) -> str:
        vram = f", {gigabytes(self.vram_bytes)} of GPU memory" if self.vram_bytes else ""
        room = f"{gigabytes(self.memory_bytes)} of memory{vram} and {gigabytes(self.scratch_bytes)} of scratch disk"
        return f"{GPU}, {room}" if self.needs_gpu else room


@dataclass(frozen=True)
class Peaks:
    """The most that an attempt was seen to take at once; None of what nobody measured.

    Attributes:
        memory_bytes: of the host, by the child and all that it started.
        vram_bytes: of one GPU, by torch in the child; None, too, where it used no GPU.
        scratch_bytes: on the disk, by the execution's folder.
    """

    memory_bytes: int | None = None
    vram_bytes: int | None = None
    scratch_bytes: int | None = None

    def __str__(self) -> str:
        amounts = (
            (self.memory_bytes, "memory"),
            (self.vram_bytes, "GPU memory"),
            (self.scratch_bytes, "scratch disk"),
        )
        return ", ".join(f"{gigabytes(amount)} of {of_what}" for amount, of_what in amounts if amount is not None)

    def parameters(self) -> dict[str, int | None]:
        """Return the values by the names of their columns."""
        return {f"peak_{name}": value for name, value in asdict(self).items()}


UNMEASURED = Peaks()


@dataclass(frozen=True)
class Room:
    """What a worker offers to a child on one device.

    ``vram_bytes`` is None where the device is the CPU: what work needs of a GPU's memory is then taken from the host's,
    but work that needs a GPU does not fit in at all.
    """

    memory_bytes: int
    vram_bytes: int | None
    scratch_bytes: int

    def fits(self, need: Need) -> bool:
        """Return whether work fits in."""
        on_host = need.memory_bytes + (need.vram_bytes if self.vram_bytes is None else 0)
        on_gpu = 0 if self.vram_bytes is None else need.vram_bytes
        return (
            not lacks_gpu(need, [self])
            and on_host <= self.memory_bytes
            and on_gpu <= (self.vram_bytes or 0)
            and need.scratch_bytes <= self.scratch_bytes
        )

    def grown(self, need: Need, growth: int) -> Need:
        """Return ``growth`` times a need that fits in, or as much of that as fits in."""
        memory_bytes = min(growth * need.memory_bytes, self.memory_bytes)
        vram_bytes = min(growth * need.vram_bytes, self.vram_bytes or 0)
        if self.vram_bytes is None:
            on_host = need.memory_bytes + need.vram_bytes
            vram_bytes = need.vram_bytes * min(growth * on_host, self.memory_bytes) // max(on_host, 1)
            memory_bytes = min(growth * need.memory_bytes, self.memory_bytes - vram_bytes)
        return Need(memory_bytes, vram_bytes, min(growth * need.scratch_bytes, self.scratch_bytes), need.needs_gpu)

    def whole(self) -> Need:
        """Return the need that leaves nothing of it."""
        return Need(self.memory_bytes, self.vram_bytes or 0, self.scratch_bytes)

    def parameters(self, prefix: str) -> dict[str, int | None]:
        """Return the parameters that ``fits`` in SQL names."""
        return {f"{prefix}_{name}": value for name, value in asdict(self).items()}


def fits(room: str) -> str:
    """Return the SQL condition that an execution fits into a room.

    Args:
        room: what the names of the room's columns, or of its parameters, begin with: ``rooms.`` or ``:room_``.
    """
    return f"""(
        executions.scratch_bytes <= {room}scratch_bytes
        AND CASE WHEN CAST({room}vram_bytes AS bigint) IS NULL
            THEN NOT executions.needs_gpu AND executions.memory_bytes + executions.vram_bytes <= {room}memory_bytes
            ELSE executions.memory_bytes <= {room}memory_bytes
                AND executions.vram_bytes <= CAST({room}vram_bytes AS bigint)
            END
    )"""


def lacks_gpu(need: Need, rooms: Iterable[Room]) -> bool:
    """Return whether work needs a GPU, and none of the rooms has one."""
    return need.needs_gpu and all(room.vram_bytes is None for room in rooms)


def gigabytes(amount_bytes: int) -> str:
    """Return an amount as people read it."""
    return f"{amount_bytes / 1e9:.1f} GB"
