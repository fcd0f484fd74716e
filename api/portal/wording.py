"""Numbers, times and statuses in words, for the templates."""

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

from db.states import AttemptOutcome, JobStatus, StepStatus

NOTHING = "\N{EN DASH}"
KILO = 1000
MINUTE, HOUR, DAY = 60, 3600, 86_400
TENTHS_BELOW_SECONDS = 10

# Beside each status's or outcome's word; never the colour alone.
_SIGNS: Mapping[str, str] = {
    JobStatus.QUEUED.value: "○",
    StepStatus.WAITING.value: "○",
    StepStatus.READY.value: "◔",
    JobStatus.RUNNING.value: "●",
    JobStatus.CANCELLING.value: "◌",
    JobStatus.SUCCEEDED.value: "✓",
    JobStatus.FAILED.value: "✕",
    JobStatus.CANCELLED.value: "⊘",
    StepStatus.SKIPPED.value: "⊘",
    AttemptOutcome.LOST.value: "✕",
    AttemptOutcome.RELEASED.value: "◔",
}


def sign(status: str) -> str:
    """Return the sign that stands beside a status."""
    return _SIGNS[status]


def size(count: float | None) -> str:
    """Return bytes as ``12.3 MB``, in powers of 1000 as disks and downloads have them."""
    if count is None:
        return NOTHING
    if count < KILO:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB"):
        count /= KILO
        if count < KILO:
            return f"{count:.1f} {unit}"
    return f"{count / KILO:,.1f} TB"


def number(value: float | None, digits: int) -> str:
    """Return a number with so many digits after the point."""
    return NOTHING if value is None else f"{value:,.{digits}f}"


def money(amount: float) -> str:
    """Return an amount with two digits after the point; a small one with two that say something."""
    return f"{amount:,.2f}" if amount == 0 or amount >= 1 else f"{amount:.2g}"


def change(value: float | None, reference: float | None) -> str:
    """Return by how much ``value`` is more or less than ``reference``, as ``+3.04 %``."""
    if value is None or not reference:
        return NOTHING
    return f"{100 * (value / reference - 1):+.2f} %".replace("-", "\N{MINUS SIGN}")


def duration(seconds: float | None) -> str:
    """Return a length of time in its two largest units."""
    if seconds is None:
        return NOTHING
    if seconds < TENTHS_BELOW_SECONDS:
        return f"{max(seconds, 0):.1f} s"
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    whole = round(seconds)
    for unit, smaller, name, smaller_name in ((DAY, HOUR, "d", "h"), (HOUR, MINUTE, "h", "min")):
        if whole >= unit:
            return f"{whole // unit} {name} {whole % unit // smaller} {smaller_name}"
    return f"{whole // MINUTE} min {whole % MINUTE} s"


def ago(moment: dt.datetime, now: dt.datetime) -> str:
    """Return how long ago something was, in one unit."""
    seconds = (now - moment).total_seconds()
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= unit:
            return f"{seconds // unit:.0f} {name} ago"
    return "just now"


def left(seconds: float) -> str:
    """Return how long something will take, no more exactly than anyone can know."""
    if seconds >= HOUR:
        hours, minutes = divmod(round(seconds / MINUTE / 5) * 5, 60)
        return f"about {hours} h {minutes} min left" if minutes else f"about {hours} h left"
    if seconds >= MINUTE:
        return f"about {round(seconds / MINUTE)} min left"
    return "less than a minute left"


def stamp(moment: dt.datetime) -> str:
    """Return a moment in full."""
    return f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC"


FILTERS: Mapping[str, Callable[..., Any]] = {
    "sign": sign,
    "size": size,
    "number": number,
    "change": change,
    "money": money,
    "duration": duration,
    "ago": ago,
    "left": left,
    "stamp": stamp,
}
