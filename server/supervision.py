"""Keeps processes running: starts again what ends, ever later if it keeps ending, and bounds their logs.

Refuses to know what the processes are, or what one needs from another.
"""

import shutil
import time
from collections.abc import Callable, Iterable, Sequence

from core.errors import FewbitsError
from server.embedded.child import Child, Pause, stop_children

BACKOFF_SECONDS_MIN = 0.5
BACKOFF_SECONDS_MAX = 30.0
SETTLED_SECONDS = 60.0  # one that ran this long starts again without delay, as if for the first time
STOP_SECONDS = 10.0
LOG_BYTES_MAX = 10_000_000


class Service:
    """One process that is to run, and what became of it.

    Args:
        name: what it is called.
        start: starts it; called again for each new start.
    """

    def __init__(self, name: str, start: Callable[[], Child]) -> None:
        self.name = name
        self.failures = 0
        self.child: Child = start()
        self._start = start
        self._started_at = time.monotonic()
        self._due_at: float | None = None

    def tend(self) -> str | None:
        """Do what is due: notice an end, or start again. Returns what was done, for a person to read."""
        now = time.monotonic()
        if self._due_at is not None:
            return self._restart(now) if now >= self._due_at else None
        status = self.child.status
        if status is None:
            _bound_log(self.child)
            return None
        self.child.end()  # what the dead leader left in its group
        if now - self._started_at >= SETTLED_SECONDS:
            self.failures = 0
        return self._postpone(now, f"ended with status {status}")

    @property
    def waiting(self) -> bool:
        """Whether the process is gone and is to start again later."""
        return self._due_at is not None

    def _restart(self, now: float) -> str:
        try:
            self.child = self._start()
        except FewbitsError as error:
            return self._postpone(now, f"could not be started: {error.message}")
        self._started_at, self._due_at = now, None
        return f"{self.name} started again (pid {self.child.pid})"

    def _postpone(self, now: float, what: str) -> str:
        seconds = min(BACKOFF_SECONDS_MAX, BACKOFF_SECONDS_MIN * 2**self.failures)
        self.failures += 1
        self._due_at = now + seconds
        return f"{self.name} {what}; it starts again in {seconds:g} s. Its log: {self.child.command.log}"


class Supervisor:
    """The services of one machine.

    Args:
        say: tells a person what happens.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.services: dict[str, Service] = {}
        self._say = say

    def add(self, name: str, start: Callable[[], Child]) -> Child:
        """Start a service, and keep it running from now on."""
        self.services[name] = Service(name, start)
        return self.services[name].child

    def run_once(self) -> list[str]:
        """Do what is due for each service, and return what was done."""
        done = [what for service in self.services.values() if (what := service.tend())]
        for what in done:
            self._say(what)
        return done

    def stop(self, order: Iterable[Sequence[str]], *, hurried: Callable[[], bool], pause: Pause) -> None:
        """Stop the services, group by group; each group has some seconds before it is killed, none if ``hurried()``."""
        for names in order:
            group = [self.services[name] for name in names if name in self.services]
            stop_children(
                [service.child for service in group if not service.waiting],
                seconds=STOP_SECONDS,
                hurried=hurried,
                pause=pause,
            )


def _bound_log(child: Child) -> None:
    """Keep a log under its size, with one older part.

    The child holds the file open, so it is copied and emptied; lines written in between are lost.
    """
    log = child.command.log
    try:
        if log.stat().st_size > LOG_BYTES_MAX:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            with log.open("r+b") as file:
                file.truncate()
    except OSError:  # no room or no file: nothing to keep small, and no reason to stop anything
        return
