"""What the jobs of a sweep have in common is done once: counted under the real plans, binding and content keys."""

import hashlib
import json
from collections import Counter
from functools import partial
from typing import Any

from core.ids import SweepId
from core.manifest import StoredFile, manifest_digest
from db import sweeps
from db.artifacts import NewArtifact, intend
from db.jobs import NewJob
from db.lease import Result, finish
from db.sweeps import NewSweep
from engines.recipe import parse_recipe
from pipeline.binding import bind_ready_steps
from pipeline.kinds import KINDS
from pipeline.plan import plan
from tests.db.conftest import Bench, new_job
from tests.pipeline.record import CALIBRATED, CARD, CHECKS, EVALUATION, MADE_WITH, MODEL, WRITTEN

FACTS: dict[str, dict[str, Any]] = {
    "fetch": {"model": MODEL, "card": CARD},
    "calibrate": CALIBRATED,
    "quantize": {**WRITTEN, **MADE_WITH},
    "verify": {"checks": CHECKS},
}


def new(recipe: str) -> NewJob:
    parsed = parse_recipe(recipe)
    steps = plan(parsed, EVALUATION)
    return new_job(steps=steps, method=parsed.method.name, recipe=parsed.document(), evaluation=EVALUATION)


def submit(bench: Bench, *recipes: str) -> SweepId:
    asked = [new(recipe) for recipe in recipes]
    sweep = NewSweep("file:///m", None, {})
    return bench.database.run(partial(sweeps.submit, team_id=bench.team, new=sweep, asked=asked))


def work_off(bench: Bench) -> Counter[str]:
    """Do all that there is to do, as workers would, and return how many executions of each kind that took."""
    done: Counter[str] = Counter()
    while True:
        bind_ready_steps(bench.database)
        claimed = bench.claim() or bench.claim("gpu")
        if claimed is None:
            return done
        done[claimed.kind] += 1
        whose = ("job", "sweep")  # whoever fetches a source finds the same
        params = {name: value for name, value in claimed.params.items() if name not in whose}
        made = json.dumps([claimed.kind, params], sort_keys=True)
        file = StoredFile("file", hashlib.sha256(made.encode()).hexdigest(), 1)
        output = KINDS[claimed.kind].output(claimed.params)
        artifact = None
        if output is not None:
            artifact = NewArtifact(output.role, output.format, manifest_digest([file]), (file,))
        bench.database.run(lambda s, c=claimed, f=file: intend(s, c.lease, {f.sha256: 1}))  # type: ignore[misc]
        result = Result(FACTS.get(claimed.kind, {}), artifact)
        bench.database.run(lambda s, c=claimed, r=result: finish(s, c.lease, r))  # type: ignore[misc]


def test_a_sweep_fetches_converts_weighs_and_answers_once(bench: Bench) -> None:
    sweep_id = submit(
        bench,
        *("gguf:Q8_0", "gguf:Q4_K_M", "gguf:Q2_K", "gguf:Q4_K_M+imatrix", "gguf:IQ2_M+imatrix"),
        *("gptq:4bit-g128", "awq:4bit-g128", "fp8"),
    )
    done = work_off(bench)
    shared = {kind: done.pop(kind) for kind in ("fetch", "convert", "calibrate", "imatrix", "reference")}
    assert shared == {"fetch": 1, "convert": 1, "calibrate": 1, "imatrix": 1, "reference": 1}
    assert done == Counter(dict.fromkeys(("quantize", "verify", "evaluate", "document"), 8))
    sweep = bench.database.run(partial(sweeps.get, team_id=bench.team, sweep_id=sweep_id))
    assert sweep.job_counts == {"succeeded": 8}


def test_of_a_recipe_that_is_added_only_what_is_its_own_is_done(bench: Bench) -> None:
    sweep_id = submit(bench, "gguf:Q8_0", "gguf:Q4_K_M+imatrix")
    work_off(bench)
    added = [new("gguf:IQ3_M+imatrix"), new("gptq:4bit-g128")]
    bench.database.run(lambda s: sweeps.extend(s, bench.team, sweep_id, added))
    assert work_off(bench) == Counter(dict.fromkeys(("quantize", "verify", "evaluate", "document"), 2))


def test_a_job_by_itself_reads_the_source_anew(bench: Bench) -> None:
    submit(bench, "gguf:Q8_0")
    work_off(bench)
    bench.submit(steps=plan(parse_recipe("gguf:Q4_K_M"), EVALUATION), evaluation=EVALUATION)
    done = work_off(bench)
    assert done == Counter({"fetch": 1, "quantize": 1, "verify": 1, "evaluate": 1, "document": 1})
