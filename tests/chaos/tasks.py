"""Many things that wait for something, in one thread: each is a generator that yields as long as it waits."""

import time
from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

T = TypeVar("T")

Waiting = Generator[None, None, T]
Task = Waiting[None]


def until(condition: Callable[[], bool]) -> Task:
    """Wait until a condition holds."""
    while not condition():
        yield


def pause(seconds: float) -> Task:
    """Wait for some seconds."""
    end = time.monotonic() + seconds
    yield from until(lambda: time.monotonic() >= end)


def elsewhere(executor: Executor, work: Callable[..., T], *arguments: Any) -> Waiting[T]:
    """Do work that blocks in another thread, and wait for what it returns."""
    future: Future[T] = executor.submit(work, *arguments)
    yield from until(future.done)
    return future.result()


def step(tasks: list[Task]) -> list[Task]:
    """Let each task go on until it waits again; return those that are not done."""
    going = []
    for task in tasks:
        try:
            next(task)
        except StopIteration:
            continue
        going.append(task)
    return going
