"""Which bytes of a file a request asks for (RFC 9110, chapter 14): all of them, or one range."""

from dataclasses import dataclass

from werkzeug.datastructures import Range


@dataclass(frozen=True)
class ByteRange:
    """Where to begin, and how many bytes; whether that is an answer to a range or the whole."""

    start: int
    length: int
    is_partial: bool


def wanted_range(asked: Range | None, if_range: str | None, etag: str, size_bytes: int) -> ByteRange | None:
    """Return what to send, None where the range begins behind the end.

    Several ranges at once, other units, and a range of another version of the file are answered with the whole, as
    the RFC allows.

    Args:
        asked: the header Range, parsed; None where there is none or it cannot be understood.
        if_range: the header If-Range: the version that the range is meant for.
        etag: the file's version, quoted.
        size_bytes: the file's size.
    """
    whole = ByteRange(0, size_bytes, is_partial=False)
    if asked is None or asked.units != "bytes" or len(asked.ranges) != 1:
        return whole
    if if_range is not None and if_range != etag:
        return whole
    first, end = asked.ranges[0]
    if first < 0:  # the last bytes
        first = max(0, size_bytes + first)
    end = size_bytes if end is None else min(end, size_bytes)
    return ByteRange(first, end - first, is_partial=True) if first < end else None
