"""A child as its supervisor sees it: start it, hear from it, end it and all that it started."""

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import psutil

from core import pid_file
from core.errors import ChildCrashed, DoesNotFit, ErrorDocument, FewbitsError
from db.room import Peaks
from engines.context import Measurement, Progress
from pipeline.kinds import KINDS
from pipeline.step_kind import Outcome
from workers.disk_use import DiskWatch
from workers.protocol import LINE_BYTES_MAX, ChildSpec, Failure, LastWord, Left, Message, Saved, Taken, decode

# All that a child may see of the worker's environment. Credentials are in none of these.
ENVIRONMENT_ALLOWED = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "CUDA_HOME",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
)
# Where engines keep what they compile at first use, beneath a folder that a machine's children share. Each sees to it
# that two may compile at once.
KERNEL_FOLDERS = {
    "GPTQMODEL_TORCH_EXTENSIONS_DIR": "gptqmodel",
    "TORCH_EXTENSIONS_DIR": "torch",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "CUDA_CACHE_PATH": "cuda",
    "MPLCONFIGDIR": "matplotlib",  # its list of fonts, which takes a second
}
GPTQMODEL_WORKERS_MIN = 2  # with fewer its loader of models refuses to start
POLL_SECONDS = 0.5
READ_BYTES = 1 << 16
PID_FILE = "child.pid"
VMSTAT = Path("/proc/vmstat")


class Child:
    """A running child.

    Args:
        spec: its work; the folders in it exist.
        on_progress: called with each progress it reports, in the thread that waits.
        on_measurement: called with each measurement, likewise.
        on_saved: called with the number of each checkpoint that it has saved, likewise.
    """

    def __init__(
        self,
        spec: ChildSpec,
        on_progress: Callable[[Progress], None],
        on_measurement: Callable[[Measurement], None],
        on_saved: Callable[[int], None],
    ) -> None:
        self._on_progress = on_progress
        self._on_measurement = on_measurement
        self._on_saved = on_saved
        self._last: LastWord | None = None
        self._garbled = False
        self._asked_to_leave = False
        self._peak_memory_bytes = 0
        self._peak_vram_bytes: int | None = None
        self._disk = DiskWatch(Path(spec.folder))
        self._messages, their_end = os.pipe()
        try:
            with spec.log.open("ab") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "workers.child", str(their_end), str(spec.write())],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    pass_fds=[their_end],
                    env=environment_of(spec),
                    start_new_session=True,
                )
        finally:
            os.close(their_end)
        pid_file.write(Path(spec.folder, PID_FILE), self._process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._process.wait()
        # As process 1 of a container we are the parent of the group's orphans, the guard among them: nobody else asks
        # how they ended. Elsewhere there are none.
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-self._process.pid, 0)
        os.close(self._messages)
        if self._process.stdin is not None:
            self._process.stdin.close()

    def ask_to_leave(self) -> None:
        """Have the child save its work and end, if it can; one that cannot ends at once. Again changes nothing."""
        if not self._asked_to_leave:
            self._asked_to_leave = True
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the child's whole group at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def memory_bytes(self) -> int:
        """Return what the child and all that it has started take of the memory, as far as they can be asked."""
        total = 0
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self._process.pid)
            for one in [process, *process.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    total += one.memory_info().rss
        return total

    def peaks(self) -> Peaks:
        """Return the most that was seen so far; what is between two looks, and of a GPU, the child says at its end."""
        return Peaks(self._peak_memory_bytes or None, self._peak_vram_bytes, self._disk.peak_bytes)

    def wait(self, on_tick: Callable[[], None]) -> Outcome | ErrorDocument | Left:
        """Wait for the child's result, end what is left of it, and return what came of it.

        Libraries leave threads behind that would keep a process for ever; once its result is in, there is nothing to
        wait for.

        Args:
            on_tick: called about twice a second.
        """
        killed_before = _out_of_memory_kills()

        def tick() -> None:
            self._note_memory(self.memory_bytes())
            self._disk.look_if_due()
            on_tick()

        self._listen(tick)
        if self._last is not None:
            self.kill()
        while self._process.poll() is None:
            tick()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(POLL_SECONDS)
        self._disk.look()  # what it has written since, and all that a short one has
        if self._garbled:
            return ChildCrashed("The step's process wrote what is no message. Its log has the details.").document()
        if self._last is None and self._asked_to_leave:
            return Left()
        if self._last is None:
            out_of_memory = _out_of_memory_kills() > killed_before
            return _explain_exit(self._process.returncode, out_of_memory=out_of_memory).document()
        return self._last.error if isinstance(self._last, Failure) else self._last

    def _listen(self, on_tick: Callable[[], None]) -> None:
        """Take messages until the last, or until the child closes its end."""
        rest = b""
        next_tick = time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(self._messages, selectors.EVENT_READ)
            while self._last is None:
                if time.monotonic() >= next_tick:
                    on_tick()
                    next_tick = time.monotonic() + POLL_SECONDS
                readable = selector.select(timeout=POLL_SECONDS)
                piece = os.read(self._messages, READ_BYTES) if readable else b""
                rest = self._take(rest + piece)
                # A grandchild may hold the pipe open after the child itself has ended.
                if not piece and (readable or self._process.poll() is not None):
                    return

    def _take(self, received: bytes) -> bytes:
        *lines, rest = received.split(b"\n")
        try:
            for message in map(decode, lines):
                self._hear(message)
        except ValueError:
            self._garbled = True
        if self._garbled or len(rest) > LINE_BYTES_MAX:
            self._garbled = True
            self.kill()
            return b""
        return rest

    def _note_memory(self, amount: int) -> None:
        self._peak_memory_bytes = max(self._peak_memory_bytes, amount)

    def _hear(self, message: Message) -> None:
        if isinstance(message, Progress):
            self._on_progress(message)
        elif isinstance(message, Measurement):
            self._on_measurement(message)
        elif isinstance(message, Saved):
            self._on_saved(message.number)
        elif isinstance(message, Taken):
            self._note_memory(message.peak_memory_bytes or 0)
            self._peak_vram_bytes = message.peak_vram_bytes
        else:
            self._last = message


def end_leftover(folder: Path) -> None:
    """Kill the child that a dead worker left in ``folder``, if it still runs."""
    if (process := pid_file.running(folder / PID_FILE)) is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def environment_of(spec: ChildSpec) -> dict[str, str]:
    """Return all the variables that a child is given."""
    allowed = {name: os.environ[name] for name in ENVIRONMENT_ALLOWED if name in os.environ}
    kernels = {name: str(Path(spec.kernels, folder)) for name, folder in KERNEL_FOLDERS.items()}
    # Children share cores; threads that spin take them from others.
    waiting = {} if KINDS[spec.kind].is_exclusive else {"OMP_WAIT_POLICY": "PASSIVE"}
    return {
        **allowed,
        **kernels,
        **waiting,
        "HOME": str(spec.scratch),
        "TMPDIR": str(spec.scratch),
        "OMP_NUM_THREADS": str(spec.threads),
        "GPTQMODEL_CPU_WORKERS": str(max(spec.threads, GPTQMODEL_WORKERS_MIN)),
        "LOGBAR_PROGRESS_OUTPUT_INTERVAL": "1000000",  # GPTQModel draws its progress bars into a log, too
        "HF_HOME": str(spec.scratch),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }


def _explain_exit(code: int, *, out_of_memory: bool) -> FewbitsError:
    if code == -signal.SIGKILL and out_of_memory:
        return DoesNotFit("The step was killed because the machine ran out of memory.")
    if code < 0:
        return ChildCrashed(f"The step's process was ended by {signal.Signals(-code).name}. Its log has the details.")
    return ChildCrashed(f"The step's process ended with exit code {code} and no result. Its log has the details.")


def _out_of_memory_kills() -> int:
    """Return how many processes this machine's kernel has killed for want of memory; 0 where it does not say."""
    with contextlib.suppress(OSError):
        for line in VMSTAT.read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0
