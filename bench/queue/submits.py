"""Submits through the API: at a steady rate, and as many as it takes."""

import asyncio
import json
import statistics
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial

from bench.queue.claims import NODE
from bench.queue.contenders.fewbits import SOURCE, fewbitsd
from bench.queue.figures import Bound, Cell, Report, percentile
from bench.queue.http_load import Answered, Requests, closed_loop, open_loop, request
from bench.queue.place import Place
from bench.queue.serving import serving
from db import keys, workers
from db.session import Database
from server.migrate import upgrade

SECTION = "submit"
TEAMS = 20
PER_SECOND = 100.0
STEADY_SECONDS = 30.0
SATURATED_SECONDS = 10.0
WARM_UPS = 200
P99_MS_MAX = 50.0
CREATED = 201
BODY = json.dumps({"source": SOURCE.as_uri(), "recipe": "gguf:Q4_K_M"}).encode()
Load = Callable[[int, Requests], Coroutine[None, None, Sequence[Answered]]]


def run(at: Place, report: Report) -> None:
    """Measure and print."""
    url = at.create_database("submits")
    upgrade(url)
    database = Database(url, connections_max=1)
    made = [database.run(partial(keys.create_key, team_name=f"team {n}", label="")) for n in range(TEAMS)]
    # Jobs are refused that no worker could ever run: one for each pool is on record, and does nothing.
    for pool in ("cpu", "gpu"):
        database.run(partial(workers.register, node=replace(NODE, pool=pool)))
    database.dispose()
    sent = [request("POST", "/v1/jobs", key, BODY) for _, key in made]
    steady: Load = partial(open_loop, per_second=PER_SECOND, seconds=STEADY_SECONDS)
    rows: dict[str, list[Cell]] = {}
    with serving(at, url, FEWBITS_TEAM_QUEUED_JOBS_MAX="1000000") as port:
        _ask(port, sent, partial(closed_loop, clients=1, count=WARM_UPS))
        rows[f"{PER_SECOND:g}/s steady"] = _row(_ask(port, sent, steady), is_steady=True)
        for clients in (8, 50):
            report.progress(f"{clients} clients submit")
            load: Load = partial(closed_loop, clients=clients, seconds=SATURATED_SECONDS)
            rows[f"{clients} clients"] = _row(_ask(port, sent, load), is_steady=False)
    with serving(at, url, {"dispatch": fewbitsd("dispatch")}, FEWBITS_TEAM_QUEUED_JOBS_MAX="1000000") as port:
        report.progress("submits while dispatch binds")
        _ask(port, sent, partial(closed_loop, clients=1, count=WARM_UPS))
        rows[f"{PER_SECOND:g}/s, dispatch binds"] = _row(_ask(port, sent, steady), is_steady=True)
    report.say(
        f"POST /v1/jobs, gguf:Q4_K_M on tiny-llama-6m, of {TEAMS} teams in turn, in ms. Steady: sent at their times "
        f"whether or not others are answered, for {STEADY_SECONDS:g} s;\nthe time counts from when each was due. "
        f"Clients: each sends the next when the last is answered, for {SATURATED_SECONDS:g} s. What sends them shares "
        "the cores."
    )
    report.table(SECTION, ["submits /s", "p50", "p99", "not accepted"], rows)


def _ask(port: int, sent: Sequence[bytes], load: Load) -> tuple[Sequence[Answered], float]:
    began = time.monotonic()
    answered = asyncio.run(load(port, lambda number: sent[number % len(sent)]))
    return answered, time.monotonic() - began


def _row(measured: tuple[Sequence[Answered], float], *, is_steady: bool) -> list[Cell]:
    answered, seconds = measured
    taken = [answer.milliseconds for answer in answered]
    p99 = percentile(taken, 99)
    refused = sum(answer.status != CREATED for answer in answered)
    return [
        len(answered) / seconds,
        statistics.median(taken),
        (p99, Bound(at_most=P99_MS_MAX)) if is_steady else p99,
        (float(refused), Bound(at_most=0)),
    ]
