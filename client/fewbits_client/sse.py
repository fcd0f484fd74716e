"""Server-Sent Events, read from bytes as the HTML standard defines them.

Written here rather than taken from a package: it is one short function, httpx's own line iterator also splits at
characters such as U+2028 that may stand inside JSON, and each dependency of an SDK is one more to agree with.
Refuses to know: HTTP, reconnection, and what the frames mean.
"""

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Frame:
    """One dispatched event.

    Args:
        event: its type, "message" where the stream named none.
        data: its data lines, joined by newlines.
        id: the id that this very frame carried, None where it carried none.
    """

    event: str
    data: str
    id: str | None


def frames(chunks: Iterable[bytes]) -> Iterator[Frame]:
    """Yield each complete frame of a stream; one that the stream's end cut off is dropped.

    Args:
        chunks: the body in pieces of any size, UTF-8.

    Yields:
        The frames that have data, in order; comments and unknown fields are passed over.
    """
    fields: dict[str, str] = {}
    data: list[str] = []
    for line in _lines(chunks):
        if not line:
            if data:
                yield Frame(fields.get("event") or "message", "\n".join(data), fields.get("id"))
            fields, data = {}, []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "event" or (name == "id" and "\0" not in value):
            fields[name] = value


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield complete lines, ended by LF, CR LF or CR and by nothing else."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
    rest = ""
    for chunk in chunks:
        text = rest + decoder.decode(chunk)
        # A CR at the end may be half of a CR LF: it waits for the next piece.
        held = "\r" if text.endswith("\r") else ""
        text = text.removesuffix("\r").replace("\r\n", "\n").replace("\r", "\n")
        *complete, rest = text.split("\n")
        rest += held
        yield from complete
