"""A sweep for a person: a row for each recipe, what is recommended, and what it has cost."""

from collections.abc import Iterable, Mapping, Sequence

from fewbits_client.cli.fitting import Fitting
from fewbits_client.cli.output import Output, table
from fewbits_client.cli.wording import NOTHING, number, one_line, size
from fewbits_client.results import Comparison, Estimate, TaskComparison
from fewbits_client.sweeps import Sweep, SweepCost, SweepRow

BEST, RECOMMENDED = "*", ">"
MARK, AGREEMENT, SPEED, COST = "", "agreement", "tokens/s", "cost"
LEGEND = f"{BEST} no other is as small and loses as little   {RECOMMENDED} recommended"


def counted(jobs: Mapping[str, int]) -> str:
    """Return how many jobs are in each status."""
    return ", ".join(f"{count} {status}" for status, count in jobs.items())


def show_sweep(output: Output, sweep: Sweep) -> None:
    """Print a sweep: what was asked, and the answer."""
    fields = {
        "id": sweep["id"],
        "status": sweep["status"],
        "jobs": counted(sweep["jobs"]),
        "source": sweep["source"],
        "created": sweep["created_at"],
        "preset": sweep["preset"],
        "publish to": sweep["publish_to"],
        "labels": " ".join(sweep["labels"]),
    }
    for name, value in fields.items():
        if value:
            output.line(f"{name:<11} {one_line(value)}")
    for warning in sweep["warnings"]:
        output.line(f"warning: {warning}")
    output.line("")
    show_answer(output, sweep)


def show_answer(output: Output, sweep: Sweep) -> None:
    """Print the table of a sweep, which of its results to ship, and what it has cost."""
    rows = sweep["rows"] or []
    _show_table(output, sweep, rows)
    for row in rows:
        if row["error"]:
            output.line(one_line(f"{row['recipe']}: {row['error']['message']}"))
    if recommendation := sweep["recommendation"]:
        output.line("")
        output.line(one_line(recommendation["reason"]))
        if recommendation["job"]:
            output.line(one_line(f"Fetch it: fewbits download {recommendation['job']}"))
    if cost := sweep["cost"]:
        output.line(f"cost in {cost['currency']}: {_costs(cost)}")


def _costs(cost: SweepCost) -> str:
    parts = []
    if cost["work"] is not None:
        parts.append(f"{cost['work']:.2f} of work so far, {cost['shared_work'] or 0:.2f} of it for several jobs")
    if cost["keeping_per_month"] is not None:
        parts.append(f"{cost['keeping_per_month']:.2f} a month for keeping the results")
    return "; ".join(parts) or NOTHING


def _show_table(output: Output, sweep: Sweep, rows: Sequence[SweepRow]) -> None:
    domains = list(dict.fromkeys(domain for row in rows for domain in row["comparison"] or {}))
    domains = domains or list(sweep["evaluation"]["domains"])
    tasks = list(sweep["evaluation"].get("tasks", ()))
    known = {SPEED: any(row["generation_tokens_per_second"] for row in rows), COST: sweep["cost"] is not None}
    further = [name for name in (SPEED, COST) if known[name]]
    columns = [MARK, "recipe", "status", "size", "bits", *domains, AGREEMENT, *tasks, *further, "job"]
    chosen = sweep["recommendation"]["job"] if sweep["recommendation"] else None
    cells = [_cells(row, (domains, tasks, further), is_chosen=row["job"] == chosen) for row in rows]
    gives_way = ("job", COST, SPEED, "bits", AGREEMENT, *reversed(tasks), *reversed(domains))
    left_out = table(columns, cells, Fitting(gives_way, cut_after=["recipe"]))
    output.line(LEGEND)
    output.line(f"{', '.join(domains)}: perplexity lost, in % (≤ the worse end of its 95 % interval)")
    output.line(f"{AGREEMENT}: tokens of which both find the same likeliest, in %, where they are fewest (≥ likewise)")
    if tasks:
        output.line(one_line(f"{', '.join(tasks)}: accuracy lost, in points (≤ likewise)"))
    if left_out:
        output.complain(f"no room for {', '.join(left_out)}: a wider terminal has, and so has --json")


def _cells(row: SweepRow, columns: tuple[Sequence[str], ...], *, is_chosen: bool) -> list[str]:
    domains, tasks, further = columns
    compared, solved = row["comparison"] or {}, row.get("tasks") or {}
    cost = row["cost"]
    optional = {
        SPEED: number(row["generation_tokens_per_second"], 1),
        COST: number(cost["work"] if cost else None, 2),
    }
    status = row["verdict"] if row["verdict"] == "blocked" else row["status"]
    return [
        (RECOMMENDED if is_chosen else " ") + (BEST if row["pareto"] else " "),
        row["recipe"],
        status or NOTHING,
        size(row["size_bytes"]),
        number(row["bits_per_weight"], 2),
        *(_loss(compared.get(domain)) for domain in domains),
        _agreement(compared.values()),
        *(_points(solved.get(task)) for task in tasks),
        *(optional[name] for name in further),
        row["job"],
    ]


def _loss(comparison: Comparison | None) -> str:
    ratio = comparison and comparison["perplexity_ratio"]
    if not ratio:
        return NOTHING
    worse = "" if ratio["high"] is None else f" (≤ {100 * (ratio['high'] - 1):+.1f})"
    return f"{100 * (ratio['value'] - 1):+.1f}{worse}"


def _points(solved: TaskComparison | None) -> str:
    drop = solved and solved["accuracy_drop"]
    if not drop:
        return NOTHING
    worse = "" if drop["high"] is None else f" (≤ {100 * drop['high']:+.1f})"
    return f"{100 * drop['value']:+.1f}{worse}"


def _agreement(comparisons: Iterable[Comparison]) -> str:
    found: list[Estimate] = [one["agreement"] for one in comparisons if one["agreement"]]
    if not found:
        return NOTHING
    least = min(found, key=lambda one: one["value"])
    return f"{100 * least['value']:.1f}" + ("" if least["low"] is None else f" (≥ {100 * least['low']:.1f})")
