"""The demo around a stack that misbehaves; `make demo` itself shows the good case on the real stack."""

import os
import signal
import subprocess
import sys
from pathlib import Path

# Runs the demo as if its interpreter, and so `fewbitsd` beside it, lay in the folder given.
PROGRAM = (
    "import sys; sys.executable = sys.argv[1] + '/python'; from demo.__main__ import main; raise SystemExit(main())"
)


def start(folder: Path, stack: str) -> "subprocess.Popen[str]":
    fewbitsd = folder / "fewbitsd"
    fewbitsd.write_text(f"#!{sys.executable}\n{stack}")
    fewbitsd.chmod(0o755)
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )


def test_a_stack_that_dies_is_reported_with_what_it_said(tmp_path: Path) -> None:
    with start(tmp_path, "raise SystemExit('no room on the disk')") as demo:
        _, err = demo.communicate(timeout=30)
    assert demo.returncode == 1
    assert "the stack did not start (status 1):\nno room on the disk" in err
    assert list(tmp_path.glob("fewbits-demo-*")) == []


def test_ctrl_c_while_the_stack_starts_stops_it_in_order(tmp_path: Path) -> None:
    started, stopped = tmp_path / "started", tmp_path / "stopped"
    os.mkfifo(started)
    stack = f"""
import pathlib, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
pathlib.Path({str(started)!r}).write_text("yes")
signal.sigwait([signal.SIGTERM])
pathlib.Path({str(stopped)!r}).touch()
"""
    with start(tmp_path, stack) as demo:
        assert started.read_text() == "yes"
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=30)
    assert demo.returncode == 130
    assert stopped.exists()
