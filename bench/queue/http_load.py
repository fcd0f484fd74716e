"""Requests over connections that stay open, as few instructions for each as possible: the server shares our cores.

Speaks as much HTTP/1.1 as the API's answers need. Refuses to know what is asked.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

IDLE_SECONDS = 1.0  # a half of what gunicorn keeps a connection that nobody uses

Requests = Callable[[int], bytes]
"""The whole request of that number, as it goes over the wire."""


@dataclass(frozen=True)
class Answered:
    """One answer: its status, the size of its body, and how long it took."""

    status: int
    size_bytes: int
    milliseconds: float


def request(method: str, path: str, key: str, body: bytes = b"") -> bytes:
    """Return a request as bytes."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {key}"]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True)
class _Connection:
    """A connection that is open, and free since a moment of the monotonic clock."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    since: float


class _Connections:
    """Open connections to one port; a new one is opened where none is free that the server still keeps."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: list[_Connection] = []

    async def ask(self, data: bytes, since: float) -> Answered:
        """Send a request, and return its answer and the time from ``since`` to its last byte."""
        reader, writer = await self._take()
        writer.write(data)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        size_bytes = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        await reader.readexactly(size_bytes)
        taken = (time.monotonic() - since) * 1e3
        if b"connection: close" in head:
            writer.close()
        else:
            self._free.append(_Connection(reader, writer, time.monotonic()))
        return Answered(int(head[9:12]), size_bytes, taken)

    def close(self) -> None:
        while self._free:
            self._free.pop().writer.close()

    async def _take(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._free and time.monotonic() - self._free[-1].since < IDLE_SECONDS:
            connection = self._free.pop()
            return connection.reader, connection.writer
        self.close()  # the last that became free is too old, and so are all
        return await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 24)


@contextlib.asynccontextmanager
async def _connections(port: int) -> AsyncIterator[_Connections]:
    connections = _Connections(port)
    try:
        yield connections
    finally:
        connections.close()


async def open_loop(port: int, requests: Requests, *, per_second: float, seconds: float) -> Sequence[Answered]:
    """Send requests at their times, answered or not; each one's time counts from when it was due."""

    async def one(number: int, due: float) -> Answered:
        return await connections.ask(requests(number), due)

    async with _connections(port) as connections, asyncio.TaskGroup() as group:
        began = time.monotonic()
        tasks = []
        for number in range(int(per_second * seconds)):
            due = began + number / per_second
            await asyncio.sleep(due - time.monotonic())
            tasks.append(group.create_task(one(number, due)))
    return [task.result() for task in tasks]


async def closed_loop(
    port: int, requests: Requests, *, clients: int, seconds: float = float("inf"), count: int | None = None
) -> Sequence[Answered]:
    """Have clients that each send the next request when the last is answered, for a time or up to a count."""
    answered: list[Answered] = []
    numbers = iter(range(count if count is not None else 1 << 62))
    ends = time.monotonic() + seconds

    async def client() -> None:
        for number in numbers:
            began = time.monotonic()
            if began > ends:
                return
            answered.append(await connections.ask(requests(number), began))

    async with _connections(port) as connections, asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return answered
