"""Programs that a model might have written, and some that nobody should run."""

import contextlib
import os
import socket
import textwrap
import time
from pathlib import Path

import pytest

from core.errors import ToolFailed
from engines.code_execution import Limits, passes, require
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("namespaces")]

QUICK = Limits(seconds=3, memory_bytes=2**28, file_bytes=2**20)
ADD = "def add(a, b):\n    return a + b\n"
# Each must be stopped by something else than its own tests, of which it has none.
FORBIDDEN = {
    "reads the environment": "import os\nassert {*os.environ} & {'FEWBITS_SECRET', 'PATH', 'HOME'}",
    "sees other processes": "import os\nassert len([n for n in os.listdir('/proc') if n.isdigit()]) > 2",
    "reads the worker's secrets": f"open('/proc/{os.getpid()}/environ').read()",
    "reads files of the worker": f"open({__file__!r}).read()",
    "reads passwords": "open('/etc/shadow').read()",
    "writes to the system": "open('/usr/left', 'w').write('x')",
    "writes to the root": "open('/left', 'w').write('x')",
    "writes to a device folder": "open('/dev/shm/left', 'w').write('x')",
    "writes a huge file": "open('huge', 'wb').write(b'x' * 2**21)",
    "fills its folder": "for n in range(8):\n    open(str(n), 'wb').write(b'x' * 2**18)",
    "takes memory": "x = bytearray(2**29)",
    "never ends": "while True: pass",
    "sleeps": "import time\ntime.sleep(60)",
    "leaves early": "import sys\nsys.exit(0)",
    "leaves at once": "import os\nos._exit(0)",
    "kills its parent": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nimport time\ntime.sleep(60)",
    "makes a user namespace": ("import ctypes\nassert ctypes.CDLL(None, use_errno=True).unshare(0x10000000) == 0"),
    "becomes root": "import os\nos.setuid(0)",
    "opens many files": "x = [open('/dev/null') for _ in range(200)]",
    "fills its output": (
        "import os\nfor fd in range(3, 30):\n    try: os.write(fd, b'x' * 100)\n    except OSError: pass"
    ),
    "does not compile": "def (",
    "says what is said at the end": (
        "import __main__, os\nos.write(__main__.said, __main__.token.encode())\nos._exit(0)"
    ),
    "is wrong by its own examples": "def one():\n    '''\n    >>> one()\n    1\n    '''\n    return 2\n"
    "import doctest\nassert doctest.testmod().failed == 0",
}


def test_a_program_passes_by_its_tests() -> None:
    assert passes(f"{ADD}\nassert add(1, 2) == 3")
    assert not passes(f"{ADD}\nassert add(1, 2) == 4")
    assert passes("import collections, json, math, re\nprint('said to nobody')\nopen('own', 'w').write('x')")
    assert passes("import pickle\nclass One: pass\nassert isinstance(pickle.loads(pickle.dumps(One())), One)")
    assert passes("assert __name__ == '__main__'\nx = '\N{LATIN SMALL LETTER E WITH ACUTE}\ud800'")


@pytest.mark.parametrize("what", FORBIDDEN)
def test_it_is_not_let(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEWBITS_SECRET", "known to the worker")
    begin = time.monotonic()
    assert not passes(FORBIDDEN[what], QUICK)
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize("family", ["AF_INET", "AF_UNIX"])
def test_it_reaches_nobody(family: str, tmp_path: Path) -> None:
    with socket.socket(getattr(socket, family)) as server:
        server.bind(("127.0.0.1", 0) if family == "AF_INET" else str(tmp_path / "socket"))
        server.listen()
        address = server.getsockname()
        program = f"import socket\nwith socket.socket(socket.{family}) as one:\n    one.connect({address!r})"
        exec(compile(program, "program", "exec"), {})  # noqa: S102 - so that the program does what it says
        assert not passes(program, QUICK)


def test_what_it_has_started_ends_with_it() -> None:
    name = f"left-by-{os.getpid()}"
    program = f"""
        import os
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                open('/proc/self/comm', 'w').write({name[:15]!r})
                import time
                time.sleep(600)
        """
    assert passes(textwrap.dedent(program), QUICK)
    wait_until(lambda: name[:15] not in running())


def test_processes_without_end_end_with_its_time() -> None:
    program = "import os, time\nfor _ in range(200):\n    if os.fork() == 0:\n        time.sleep(600)\ntime.sleep(600)"
    before = len(running())
    assert not passes(program, QUICK)
    wait_until(lambda: len(running()) < before + 50)


def running() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            found.append(path.read_text().strip())
    return found


def test_without_bubblewrap_nothing_is_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolFailed, match="install it on this worker"):
        passes("pass")


def test_what_was_not_run_is_no_wrong_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    require()
    bwrap = tmp_path / "bwrap"
    bwrap.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    bwrap.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolFailed, match="allow it to make user namespaces"):
        passes("pass")
