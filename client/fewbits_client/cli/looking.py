"""`jobs`, `show`, `logs`, `metrics` and `methods`: what there is."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import click

from fewbits_client.cli.command import job_argument, talks_to_server
from fewbits_client.cli.exits import Exit
from fewbits_client.cli.fitting import Fitting
from fewbits_client.cli.following import say_how_to_go_on
from fewbits_client.cli.output import Output, table
from fewbits_client.cli.speed import show_benchmark, show_serving_memory
from fewbits_client.cli.wording import (
    NOTHING,
    baseline_perplexity,
    domains_of,
    interval,
    number,
    one_line,
    perplexity,
    printable,
    size,
    verdict,
)
from fewbits_client.client import Client
from fewbits_client.objects import Job, Step
from fewbits_client.results import Calibration, Comparison, Estimate, Result, Runtime, TaskComparison


def results_table(output: Output, jobs: Sequence[Job], *, which: Sequence[str] = ()) -> None:
    """Print jobs with what was measured, perplexity with full precision's in brackets.

    Args:
        output: is told of the columns that a narrow terminal has no room for.
        jobs: a row for each.
        which: columns that say which job it is; a narrow terminal shows them rather than what was measured.
    """
    domains = domains_of(jobs)
    columns = ["job", "status", "recipe", "size", "bits/weight", *domains, "seconds", "source"]
    rows = []
    for job in jobs:
        result: Any = job["result"] or {}
        measured = [perplexity(job["result"], domain) for domain in domains]
        facts = [size(result.get("size_bytes")), number(result.get("bits_per_weight"), 2), *measured]
        rows.append([job["id"], job["status"], job["recipe"], *facts, number(result.get("seconds"), 1), job["source"]])
    measured_columns = ("seconds", "bits/weight", *reversed(domains), "size")
    gives_way = [name for name in ("source", *measured_columns) if name not in which]
    fitting = Fitting((*gives_way, *which), cut_after=["recipe"], cut_before=["source"])
    if left_out := table(columns, rows, fitting):
        output.complain(f"no room for {', '.join(left_out)}: `fewbits show JOB` has them, and so has a wider terminal")


@click.command()
@click.option("--status", help="Only jobs of this status.")
@click.option("--method", help="Only jobs of this method.")
@click.option("--label", help="Only jobs that carry this label.")
@click.option("--sweep", metavar="SWEEP", help="Only jobs of this sweep.")
@click.option("--created-after", metavar="TIME", help="Only jobs made after this time, as 2026-01-31T12:00:00Z.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many, the newest.")
@talks_to_server
def jobs(client: Client, output: Output, *, limit: int, **filters: str | None) -> Exit:
    """List jobs, newest first; perplexity with full precision's in brackets."""
    output.newest(client.jobs(**filters), limit, partial(results_table, output, which=["source"]))
    return Exit.OK


@click.command()
@job_argument
@talks_to_server
def show(client: Client, output: Output, job_id: str) -> Exit:
    """Show one job: what was asked, its steps, what was measured."""
    job = client.job(job_id)
    if output.as_json:
        output.document(job)
        return Exit.OK
    for name, value in _fields(job).items():
        output.line(f"{name:<11} {one_line(str(value or NOTHING))}")
    output.line("")
    table(["step", "status", "attempt", "progress", "error"], [_step_row(step) for step in job["steps"]])
    if job["result"]:
        output.line("")
        _show_result(job, job["result"])
    return Exit.OK


def _fields(job: Job) -> dict[str, Any]:
    """Return what is said of a job before its steps."""
    fields: dict[str, Any] = {name: job[name] for name in ("id", "status", "recipe", "source")}
    fields |= {name.removesuffix("_at"): job[name] for name in ("created_at", "started_at", "finished_at")}
    fields["parameters"] = " ".join(f"{name}={json.dumps(value)}" for name, value in job["parameters"].items())
    fields |= {f"metadata {name}": value for name, value in job["metadata"].items()}
    if job.get("labels"):
        fields["labels"] = " ".join(job["labels"])
    if job.get("retry_of"):
        fields["retry of"] = job["retry_of"]
    if job.get("sweep"):
        fields["sweep"] = job["sweep"]
    if job.get("publish_to"):
        fields["published" if job["published"] else "publish to"] = job["publish_to"]
    if job.get("gate"):
        fields["gate"] = "; ".join(condition["short"] for condition in job["gate"])
    if job.get("verdict"):
        fields["verdict"] = verdict(job)
    if job["error"]:
        fields["error"] = job["error"]["message"]
    if job.get("waits_for"):
        fields["waits"] = " ".join(job["waits_for"])
    return fields


def _step_row(step: Step) -> list[str]:
    progress, error = step["progress"], step["error"]
    done = f"{progress['done']:g}/{progress['total']:g} {progress['unit']}" if progress and progress["total"] else ""
    status = f"{step['status']} (reused)" if step["reused"] else step["status"]
    return [step["kind"], status, str(step["attempt"]), done, error["message"] if error else ""]


def _show_result(job: Job, result: Result) -> None:
    """Print the measured result and full precision as two rows of one table."""
    domains = domains_of([job])
    scores, baseline = result.get("perplexity") or {}, baseline_perplexity(result)
    bits = number(result.get("bits_per_weight"), 2)
    rows = [
        ["full precision", size(result.get("source_size_bytes")), "", *(number(baseline.get(d), 3) for d in domains)],
        [job["recipe"], size(result.get("size_bytes")), bits, *(number(scores.get(d), 3) for d in domains)],
    ]
    table(["", "size", "bits/weight", *(f"perplexity {domain}" for domain in domains)], rows)
    if comparison := result.get("comparison"):
        click.echo("")
        _show_comparison(comparison)
    if tasks := result.get("tasks"):
        click.echo("")
        _show_tasks(tasks)
    if gate := result.get("gate"):
        click.echo("")
        rows = [[one["short"], interval(one["measured"], 4), one["decision"]] for one in gate]
        table(["gate", "measured", "decision"], rows)
    types = ", ".join(f"{count} {name}" for name, count in (result.get("tensor_types") or {}).items())
    if types:
        click.echo(f"tensors: {one_line(types)}")
    if calibration := result.get("calibration"):
        _show_calibration(calibration)
    checks = result.get("verification") or []
    if checks:
        click.echo("")
        rows = [[check["name"], "passed" if check["passed"] else "failed", check["detail"]] for check in checks]
        table(["verified", "outcome", "found"], rows)
    if runtimes := result.get("runtimes"):
        click.echo("")
        _show_runtimes(runtimes)
    if needed := result.get("serving_memory"):
        click.echo("")
        show_serving_memory(needed)
    if measured := result.get("benchmark"):
        click.echo("")
        show_benchmark(measured)


def _show_comparison(comparison: Mapping[str, Comparison]) -> None:
    rows = [
        [
            domain,
            interval(one["perplexity_ratio"], 4),
            interval(one["kl_divergence"], 4),
            interval(one["kl_divergence_p99"], 3),
            interval(one["agreement"], 3),
            f"{one['items']}, {one['tokens']} tokens",
        ]
        for domain, one in comparison.items()
    ]
    columns = ["perplexity ratio", "KL divergence", "99 of 100 below", "same token likeliest", "windows"]
    table(["text, 95 % interval", *columns], rows)


def _show_tasks(tasks: Mapping[str, TaskComparison]) -> None:
    rows = []
    for task, one in tasks.items():
        full = one["baseline"]
        rows.append(_score_row(task, "accuracy", full["accuracy"], one["accuracy"], one["accuracy_drop"]))
        if full["rouge_l"] is not None:
            rows.append(_score_row(task, "ROUGE-L", full["rouge_l"], one["rouge_l"], one["rouge_l_drop"]))
    table(["task, 95 % interval", "score", "full precision", "this", "lost"], rows)
    counts = ", ".join(f"{one['items']} of {task}" for task, one in tasks.items())
    click.echo(f"items: {one_line(counts)}")


def _score_row(task: str, name: str, full: float, scored: Estimate | None, lost: Estimate | None) -> list[str]:
    return [task, name, number(full, 3), interval(scored, 3), interval(lost, 3)]


def _show_runtimes(runtimes: Sequence[Runtime]) -> None:
    rows = [
        [
            f"{one['runtime']} {one['version']}",
            "yes" if one["serves"] else "no",
            one["gpus"] or NOTHING,
            one["how"] or one["why_not"] or NOTHING,
        ]
        for one in runtimes
    ]
    table(["runtime", "serves it", "on", "by, or why not"], rows)


def _show_calibration(calibration: Calibration) -> None:
    overlap = ", ".join(f"{share:.1%} of {name}" for name, share in calibration["overlap"].items())
    what = f"{calibration['text']}, {calibration['samples']} samples of {calibration['tokens']} tokens"
    found = f"{calibration['unknown_share']:.1%} unknown; it overlaps {overlap or 'nothing'}"
    click.echo(f"calibration: {one_line(what)}, sha256 {one_line(calibration['sha256'][:12])}; {one_line(found)}")
    for warning in calibration["warnings"]:
        click.echo(f"calibration: {one_line(warning)}")


@click.command()
@job_argument
@click.option("--step", help="Only this kind of step, such as quantize.")
@click.option("--attempt", type=click.IntRange(1), help="Only the attempt of this number.")
@click.option("--follow", is_flag=True, help="Go on until the job is over.")
@talks_to_server
def logs(client: Client, output: Output, job_id: str, *, follow: bool, **which: Any) -> Exit:
    """Print what a job's steps printed.

    With --json one list of pieces; with --follow as well, one piece a line.
    """
    pieces = client.logs(job_id, follow=follow, **which)
    try:
        if output.as_json and not follow:
            output.page(list(pieces))
            return Exit.OK
        printed, ends_line = None, True
        for piece in pieces:
            if output.as_json:
                output.document(piece)
                continue
            heading = f"== {piece['step']}, attempt {piece['attempt']} =="
            if heading != printed:
                output.line(heading if ends_line else f"\n{heading}")
                printed = heading
            click.echo(printable(piece["text"]), nl=False)
            ends_line = piece["text"].endswith("\n")
    except KeyboardInterrupt:
        say_how_to_go_on(output, job_id)
        return Exit.INTERRUPTED
    return Exit.OK


@click.command()
@job_argument
@talks_to_server
def metrics(client: Client, output: Output, job_id: str) -> Exit:
    """Show what a job's steps measured, one line for each module of each layer."""
    found = list(client.metrics(job_id))
    if output.as_json:
        output.page(found)
        return Exit.OK
    if not found:
        output.complain(f"{job_id} has measured nothing of its modules: not yet, or its method does not")
        return Exit.OK
    names = list(dict.fromkeys(name for metric in found for name in metric["values"]))
    rows = []
    for metric in found:
        values = [f"{metric['values'][name]:.6g}" if name in metric["values"] else NOTHING for name in names]
        rows.append([metric["step"], str(metric["attempt"]), str(metric["layer"]), metric["module"], *values])
    table(["step", "attempt", "layer", "module", *names], rows)
    return Exit.OK


@click.command()
@talks_to_server
def methods(client: Client, output: Output) -> Exit:
    """List the ways to quantize that the server knows."""
    found = client.methods()
    if output.as_json:
        output.page(found)
        return Exit.OK
    table(
        ["method", "pool", "writes", "summary"],
        [[method["name"], method["pool"], method["format"], method["summary"]] for method in found],
    )
    if presets := [preset for method in found for preset in method["presets"]]:
        output.line("")
        table(["recipe", "why"], [[preset["recipe"], preset["why"]] for preset in presets])
    return Exit.OK
