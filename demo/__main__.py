"""`python -m demo`: start everything, quantize a real model three times, show what it cost, stop everything.

The last line of stdout is one JSON object with the numbers; the exit status is 0 only if every job succeeded.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demo.stack import Stack, StackFailed
from fewbits_client import Client, Done, FewbitsError, Job
from fewbits_client.cli.display import display_for
from fewbits_client.cli.output import Output, table
from fewbits_client.cli.wording import NOTHING, number, outcome, size

SOURCES = Path(__file__).resolve().parent
MODEL = SOURCES / "tiny-llama-6m"
RECIPES = ("gguf:Q8_0", "gguf:Q4_K_M", "gptq:4bit-g128")
DOMAINS = ("prose", "code")
_INTERRUPTED = 130
_LOG_LINES = 20


def main() -> int:
    """Run the demo and return its exit status."""
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="fewbits-demo-", ignore_cleanup_errors=True) as folder:
            if os.geteuid() == 0:
                # Postgres refuses to run as root, so its own user must be able to pass through this folder.
                Path(folder).chmod(0o711)
            say("Starting the stack (Postgres, broker, API, dispatch, rescue, two workers) …")
            with Stack(Path(folder), SOURCES) as stack:
                say(f"Ready at {stack.url} after {time.monotonic() - began:.1f} s.")
                jobs = quantize(stack)
            say("Stopped.")
    except KeyboardInterrupt:
        print("demo: interrupted; everything was stopped", file=sys.stderr)
        return _INTERRUPTED
    except (StackFailed, FewbitsError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    print(json.dumps(summary(jobs, time.monotonic() - began)), flush=True)
    return 0 if all(job["status"] == "succeeded" for job in jobs) else 1


def say(text: str) -> None:
    """Print a line at once, also into a pipe."""
    print(text, flush=True)


def quantize(stack: Stack) -> list[Job]:
    """Submit the jobs, show them until they are over, and print what came out.

    Returns:
        The jobs as they ended, in the order of `RECIPES`.
    """
    with Client(stack.url, stack.api_key) as client:
        jobs = [client.submit(MODEL.as_uri(), recipe, domains=DOMAINS) for recipe in RECIPES]
        ended: dict[str, Job] = {}
        with display_for(Output(as_json=False), jobs) as display:
            for job_id, update in client.stream_all([job["id"] for job in jobs]):
                display.show(job_id, update)
                if isinstance(update, Done):
                    ended[job_id] = update.job
        jobs = [ended[job["id"]] for job in jobs]
        print_table(jobs)
        for job in jobs:
            if job["status"] != "succeeded":
                explain(client, job)
        if any(job["status"] != "succeeded" for job in jobs):
            print(f"what the stack said:\n{stack.complaint()}", file=sys.stderr)
        return jobs


def explain(client: Client, job: Job) -> None:
    """Print why a job did not succeed, with the end of its log: its folder will be gone."""
    log = "".join(chunk["text"] for chunk in client.logs(job["id"]))
    print(f"{job['recipe']} {outcome(job)}", *log.splitlines()[-_LOG_LINES:], sep="\n", file=sys.stderr)


def print_table(jobs: Sequence[Job]) -> None:
    """Print each result beside full precision."""
    baseline = baseline_of(jobs)
    scores = baseline["perplexity"]
    full = [number(scores[domain], 3) for domain in DOMAINS]
    rows = [["full precision", size(baseline["size_bytes"]), NOTHING, *full, NOTHING]]
    for job in jobs:
        facts = facts_of(job)
        measured = [number(facts["perplexity"][domain], 3) for domain in DOMAINS]
        bits, seconds = number(facts["bits_per_weight"], 2), number(facts["seconds"], 1)
        rows.append([job["recipe"], size(facts["size_bytes"]), bits, *measured, seconds])
    print(flush=True)
    table(["recipe", "size", "bits/weight", *(f"perplexity {domain}" for domain in DOMAINS), "seconds"], rows)
    print(flush=True)


def summary(jobs: Sequence[Job], seconds: float) -> dict[str, Any]:
    """Return the numbers for a program."""
    return {"baseline": baseline_of(jobs), "jobs": [facts_of(job) for job in jobs], "seconds": round(seconds, 1)}


def baseline_of(jobs: Sequence[Job]) -> dict[str, Any]:
    """Return full precision's size and scores, from the first job that has them."""
    found: dict[str, Any] = {"perplexity": dict.fromkeys(DOMAINS), "size_bytes": None}
    for job in reversed(jobs):
        result = job["result"]
        if result is None:
            continue
        found["size_bytes"] = result["source_size_bytes"] or found["size_bytes"]
        if result["baseline"]:
            found["perplexity"] = {domain: result["baseline"]["perplexity"].get(domain) for domain in DOMAINS}
    return found


def facts_of(job: Job) -> dict[str, Any]:
    """Return one job's line of the summary; null stands where nothing was measured."""
    result: Any = job["result"] or {}
    perplexity = result.get("perplexity") or {}
    return {
        "id": job["id"],
        "recipe": job["recipe"],
        "status": job["status"],
        "size_bytes": result.get("size_bytes"),
        "bits_per_weight": result.get("bits_per_weight"),
        "perplexity": {domain: perplexity.get(domain) for domain in DOMAINS},
        "seconds": result.get("seconds"),
    }


if __name__ == "__main__":
    raise SystemExit(main())
