"""What `fewbits jobs` and `submit --wait` show on a real terminal of so many columns; a pipe gets all of it."""

import fcntl
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import Callable
from typing import Any

import pytest

from tests.client.fake_api import KEY, FakeApi, a_job, done_frame

PROGRAM = "from fewbits_client.cli import main; main()"
IDS = [f"job_01m8bw41ygtphg3bbf811dcw5{digit}" for digit in range(3)]
SOURCE = "file:///models/meta-llama/Llama-3.2-1B-Instruct"
RECIPES = ["gguf:Q4_K_M", "gptq:4bit-g128-desc_act-asym", '{"method": "gptq", "calibration_samples": 256}']
STATUSES = ["succeeded", "cancelling", "queued"]


def on_terminal(api: FakeApi, columns: int, *arguments: str) -> list[str]:
    """The lines that a command leaves on a terminal."""
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    environment |= {"FEWBITS_URL": api.url, "FEWBITS_API_KEY": KEY, "TERM": "xterm"}
    actions = [(os.POSIX_SPAWN_DUP2, terminal, descriptor) for descriptor in (0, 1, 2)]
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", PROGRAM, *arguments], environment, file_actions=actions)
    os.close(terminal)
    printed = b""
    while piece := _read(main):
        printed += piece
    os.close(main)
    _, status = os.waitpid(pid, 0)
    assert status == 0, printed
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", printed.decode()).splitlines()]


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # how Linux says that the last who had the terminal open has closed it
        return b""


@pytest.fixture
def jobs(api: FakeApi) -> list[dict[str, Any]]:
    jobs = [
        a_job(job_id, status, recipe=recipe, source=SOURCE)
        for job_id, status, recipe in zip(IDS, STATUSES, RECIPES, strict=True)
    ]
    api.answers("GET", "/v1/jobs", {"object": "list", "data": jobs, "has_more": False})
    return jobs


@pytest.mark.usefixtures("jobs")
@pytest.mark.parametrize(
    ("columns", "head", "last", "left_out"),
    [
        (60, "recipe", '{"method": "gpt…', "size, bits/weight, prose, code, seconds, source"),
        (80, "recipe source", '{"method": "gptq… …-3.2-1B-Instruct', "size, bits/weight, prose, code, seconds"),
        (
            *(120, "recipe size prose code source", '{"method": "gptq… - - - …-3.2-1B-Instruct'),
            "bits/weight, seconds",
        ),
        (210, "recipe size bits/weight prose code seconds source", f"{RECIPES[2]} - - - - - {SOURCE}", None),
    ],
)
def test_a_job_is_one_line_whatever_the_width(
    api: FakeApi, columns: int, head: str, last: str, left_out: str | None
) -> None:
    lines = on_terminal(api, columns, "jobs")
    assert max(map(len, lines[:5])) <= columns
    words = [" ".join(line.split()) for line in lines]
    assert words[0] == f"job status {head}"
    for line, job_id, status in zip(words[2:5], IDS, STATUSES, strict=True):
        assert line.startswith(f"{job_id} {status} ")
    assert words[4] == f"{IDS[2]} queued {last}"
    complaint = f"no room for {left_out}: `fewbits show JOB` has them, and so has a wider terminal"
    assert " ".join(words[5:]).strip() == ("" if left_out is None else complaint)


def test_who_waited_is_shown_what_was_measured_rather_than_the_source(api: FakeApi) -> None:
    job = a_job(IDS[0], recipe=RECIPES[0], source=SOURCE)
    api.answers("POST", "/v1/jobs", job, 201)
    api.streams(IDS[0], done_frame(job))
    lines = on_terminal(api, 80, "submit", SOURCE, RECIPES[0], "--wait")
    assert f"{IDS[0]} succeeded gguf:Q4_K_M 3.9 MB 24.405 (23.686)" in [" ".join(line.split()) for line in lines]


def test_a_pipe_gets_all_of_it(
    jobs: list[dict[str, Any]], fewbits: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert fewbits("jobs") == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.splitlines()[3].split("  ")[0] == IDS[2]
    for job, line in zip(jobs, captured.out.splitlines()[1:], strict=True):
        assert job["recipe"] in line
        assert line.endswith(job["source"])
