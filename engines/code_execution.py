"""Whether a program that a model wrote passes its tests: run alone, without network and with limits.

Bubblewrap makes the surroundings: namespaces of its own for users, processes, network, mounts and the rest. The program
sees Python and the system's libraries, read-only, an empty folder in memory, no environment and no other process; it
has no network. All that it has started ends with it, at the latest when its time is over.

It does not hold against a program that finds a fault in the kernel, nor against one that means to look as if it had
passed: the tests run in the same interpreter. Sockets to the host of a virtual machine (``AF_VSOCK``) are not parted by
namespaces. Memory is limited for each process; where the worker runs as root, the number of processes is not limited
until their time is over, and together they may take all that the worker has.
"""

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import ToolFailed

BWRAP = "bwrap"
# What an interpreter is loaded from; links where a system has merged its folders.
SYSTEM = ("/usr", "/lib", "/lib64", "/bin")
FOLDER = "/tmp"  # noqa: S108 - the program's own, in memory
NOBODY = "65534"
# Sets limits, says that it begins, runs what comes after a first line as the main program, and says that line once that
# has come to its end.
STARTED = "started"
RUN = r"""
import os, resource, sys, types

def main():
    for limit in sys.argv[1:]:
        name, _, value = limit.partition("=")
        resource.setrlimit(getattr(resource, "RLIMIT_" + name), (int(value), int(value)))
    token, _, program = sys.stdin.read().partition("\n")
    me, said, nowhere = os.getpid(), os.dup(1), os.open(os.devnull, os.O_RDWR)
    os.write(said, b"started")
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    sys.argv[1:] = []
    sys.modules["__main__"] = module = types.ModuleType("__main__")
    try:
        exec(compile(program, "program", "exec"), module.__dict__)
    except BaseException:
        os._exit(1)
    if os.getpid() == me:  # and no process that it has started
        os.write(said, token.encode())
    os._exit(0)

main()
"""
WHAT_TO_DO = (
    "Programs that a model has written are run by bubblewrap: install it on this worker, and allow it to make user "
    "namespaces there; or set FEWBITS_CODE_EXECUTION to false."
)


@dataclass(frozen=True)
class Limits:
    """What a program may take.

    Attributes:
        seconds: of time, and of each process's work.
        memory_bytes: of each process.
        file_bytes: of its folder, and of each file.
        processes: at once.
        open_files: of each process.
    """

    seconds: int = 10
    memory_bytes: int = 2**30
    file_bytes: int = 2**24
    processes: int = 64
    open_files: int = 64

    def arguments(self) -> Iterator[str]:
        """Yield each limit of a process, by the name that ``resource`` has for it."""
        yield f"CPU={self.seconds}"
        yield f"AS={self.memory_bytes}"
        yield f"FSIZE={self.file_bytes}"
        yield f"NPROC={self.processes}"
        yield f"NOFILE={self.open_files}"
        yield "CORE=0"


LIMITS = Limits()


def passes(program: str, limits: Limits = LIMITS) -> bool:
    """Return whether a Python program comes to its end within its limits, and raises nothing on the way.

    Args:
        program: with its tests.
        limits: what it may take.

    Raises:
        ToolFailed: this machine cannot run it alone, so it was not run.
    """
    token = secrets.token_hex(16)
    # Files, since what a program writes into a pipe has no limit.
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
        given.write(f"{token}\n{program}".encode("utf-8", "replace"))
        given.seek(0)
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(_command(limits), stdin=given, stdout=said, timeout=limits.seconds, check=False)
        said.seek(0)
        answer = said.read(2 * len(STARTED) + len(token)).decode(errors="replace")
    if not answer.startswith(STARTED):
        raise ToolFailed(f"A program was not started in surroundings of its own; the log says why. {WHAT_TO_DO}")
    return answer == STARTED + token


def require() -> None:
    """Run a program that does nothing, so that what is missing is known before a model is asked.

    Raises:
        ToolFailed: as ``passes`` does.
    """
    if not passes(""):
        raise ToolFailed(f"A program that does nothing did not come to its end. {WHAT_TO_DO}")


def _command(limits: Limits) -> Sequence[str]:
    python = os.path.realpath(sys.executable)
    return [
        _bwrap(),
        *("--unshare-all", "--unshare-user", "--disable-userns", "--new-session", "--die-with-parent", "--clearenv"),
        *("--cap-drop", "ALL", "--uid", NOBODY, "--gid", NOBODY, "--hostname", "nowhere"),
        *_read_only(),
        *("--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"),
        *("--size", str(limits.file_bytes), "--tmpfs", FOLDER, "--remount-ro", "/", "--chdir", FOLDER),
        *(python, "-I", "-S", "-c", RUN, *limits.arguments()),
    ]


def _bwrap() -> str:
    found = shutil.which(BWRAP)
    if found is None:
        raise ToolFailed(f"{BWRAP} is missing. {WHAT_TO_DO}")
    return found


def _read_only() -> Iterator[str]:
    """Yield the options by which Python and the system's libraries are seen."""
    for path in map(Path, SYSTEM):
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), str(path))
        elif path.exists():
            yield from ("--ro-bind", str(path), str(path))
    yield from ("--ro-bind", sys.base_prefix, sys.base_prefix, "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache")
