"""Server-Sent Events as a client sees them."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Frame:
    event: str
    id: str | None
    data: dict[str, Any]


def frames_in(pieces: Iterable[bytes]) -> Iterator[Frame]:
    """Yield each complete frame; comments are passed over."""
    waiting = b""
    for piece in pieces:
        *complete, waiting = (waiting + piece).split(b"\n\n")
        for block in complete:
            fields = dict(line.split(": ", 1) for line in block.decode().split("\n") if not line.startswith(":"))
            if fields:
                yield Frame(fields["event"], fields.get("id"), json.loads(fields["data"]))
