"""How values are written for a person: sizes, numbers, and text that came from elsewhere."""

import datetime as dt
from collections.abc import Iterable, Sequence

from fewbits_client.objects import STEP_OVER, Job, Step
from fewbits_client.results import Estimate, GateOutcome, Result, TaskComparison

_KEPT = {"\n", "\t"}
NOTHING = "-"


def printable(text: str) -> str:
    """Return text that cannot steer a terminal: control characters are dropped, but for line ends and tabs.

    What a server sends, names, messages and logs alike, may hold what a model's author wrote.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c for c in text if c in _KEPT or not (c < " " or "\x7f" <= c < "\xa0"))


def one_line(text: str) -> str:
    """Return printable text without line ends."""
    return " ".join(printable(text).split())


def clock(seconds: float | None) -> str:
    """Return a duration as a clock would show it, such as 01:05 or 2:00:00."""
    return NOTHING if seconds is None else str(dt.timedelta(seconds=round(seconds))).removeprefix("0:")


def size(size_bytes: float | None) -> str:
    """Return a number of bytes in decimal units, as disks and hubs count."""
    if size_bytes is None:
        return NOTHING
    amount = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:  # noqa: PLR2004  # the step between decimal units
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def number(value: float | None, digits: int) -> str:
    """Return a number with so many digits after the point, or a dash where there is none."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def interval(estimate: Estimate | None, digits: int) -> str:
    """Return a figure with its interval in brackets, or a dash where it was not measured."""
    if estimate is None:
        return NOTHING
    low, high = estimate["low"], estimate["high"]
    ends = "" if low is None or high is None else f" [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{estimate['value']:.{digits}f}{ends}"


def verdict(job: Job) -> str:
    """Return what became of a job's gate: of one that was blocked, what kept it, and by how much."""
    result = job["result"]
    looks = f" after {result['looks']} looks" if result and (result.get("looks") or 1) > 1 else ""
    if job["verdict"] != "blocked" or result is None:
        return f"{job['verdict']}{looks}"
    missed = [_decided(one) for one in result["gate"] or [] if one["decision"] != "passed"]
    return f"blocked{looks}, nothing was published: {'; '.join(missed)}"


def _decided(one: GateOutcome) -> str:
    place = f" at {interval(one['measured'], 4)}" if one["measured"] else ""
    return f"{one['short']} {'is blocked' if one['decision'] == 'blocked' else 'could not be decided'}{place}"


def perplexity(result: Result | None, domain: str) -> str:
    """Return a domain's perplexity with full precision's in brackets."""
    if result is None:
        return NOTHING
    measured = (result.get("perplexity") or {}).get(domain)
    baseline = baseline_perplexity(result).get(domain)
    if measured is None and baseline is None:
        return NOTHING
    return f"{number(measured, 3)} ({number(baseline, 3)})"


def baseline_perplexity(result: Result) -> dict[str, float]:
    """Return full precision's perplexity by domain, empty before it was measured."""
    baseline = result.get("baseline")
    return baseline["perplexity"] if baseline else {}


def domains_of(jobs: Iterable[Job]) -> list[str]:
    """Return every domain that one of the jobs is judged on, in the order of first mention."""
    return list(dict.fromkeys(domain for job in jobs for domain in job["evaluation"]["domains"]))


def outcome(job: Job) -> str:
    """Return one line on how a job ended."""
    error, result = job["error"], job["result"]
    if error is not None:
        return f"{job['status']}: {one_line(error['message'])}"
    if result is None or result.get("size_bytes") is None:
        return job["status"]
    measured = [f"{domain} {perplexity(result, domain)}" for domain in job["evaluation"]["domains"]]
    parts = [size(result["size_bytes"]), f"{number(result.get('bits_per_weight'), 2)} bits per weight"]
    if result.get("perplexity"):
        parts.append(f"perplexity {', '.join(measured)}")
    if solved := [f"{task} {_accuracy(one)}" for task, one in (result.get("tasks") or {}).items()]:
        parts.append(f"accuracy {', '.join(solved)}")
    decided = f"; {verdict(job)}" if job.get("verdict") else ""
    return f"{job['status']}: {', '.join(parts)}{decided}"


def _accuracy(solved: TaskComparison) -> str:
    """Return the part of a task's answers that are right, with full precision's in brackets."""
    measured = solved["accuracy"]
    return f"{number(measured['value'] if measured else None, 3)} ({number(solved['baseline']['accuracy'], 3)})"


def completed(steps: Sequence[Step]) -> float:
    """Return how many steps' worth of a job is done, a running step counting by its fraction."""
    return sum(_fraction(step) for step in steps)


def _fraction(step: Step) -> float:
    if step["status"] in STEP_OVER:
        return 1.0
    progress = step["progress"]
    if progress is None or not progress.get("total"):
        return 0.0
    return min(1.0, max(0.0, progress["done"] / (progress["total"] or 1)))
