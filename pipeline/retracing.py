"""From what is on record of a job's steps to the provenance of its result.

What earlier versions have not kept is null. Refuses to know job and team: equal work has equal provenance in any job.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from core.steps import Done, UnboundStep
from engines import runtimes
from engines.methods.base import CalibratedParams
from engines.recipe import Recipe, parse_recipe
from pipeline import provenance
from pipeline.provenance import Provenance

# https://huggingface.co/docs/huggingface_hub/guides/manage-cache: models--owner--name/snapshots/commit
_HUB_CACHE = re.compile(
    r"/models--(?P<owner>[A-Za-z0-9._-]+?)--(?P<name>[A-Za-z0-9._-]+)/snapshots/(?P<revision>[0-9a-f]{40})/?$"
)
_HUB = re.compile(r"hf://(?P<owner>[A-Za-z0-9._-]+)/(?P<name>[A-Za-z0-9._-]+)(@(?P<revision>[A-Za-z0-9._/-]+))?")
_UNSHARED = frozenset({"fetch"})  # done anew for each job, so that what it took says nothing of the result


def retrace(step: UnboundStep) -> Provenance:
    """Return the provenance of the result that a job has made.

    Args:
        step: with all that is on record of those before it; its own parameters are the recipe and the evaluation.
    """
    recipe = parse_recipe(step.params["recipe"])
    done, looks_at_text = step.done, "samples" in recipe.method.material(recipe.params)
    facts = done["quantize"].facts
    written = recipe.method.writes(recipe.params)
    judged = {name: step.params[name] for name in ("domains", "windows")}
    return Provenance(
        schema=provenance.SCHEMA,
        source=_source(step.source, done["fetch"]),
        recipe=_recipe(recipe),
        evaluation=provenance.Evaluation(
            **judged,
            tasks=step.params.get("tasks", []),
            task_items=step.params.get("task_items"),
            datasets={
                name: provenance.Dataset(kind=one["kind"], sha256=one["sha256"])
                for name, one in step.params.get("datasets", {}).items()
            },
            gate=[_condition(one) for one in step.params.get("gate", ())],
        ),
        seed=recipe.params.seed if looks_at_text and isinstance(recipe.params, CalibratedParams) else None,
        calibration=_calibration(recipe, done.get("calibrate")),
        result=_result(written, done["quantize"]),
        software=provenance.Software(
            engine=facts.get("engine") or recipe.method.engine(recipe.params),
            judged_by=runtimes.ENGINES[written],
            baseline_by=runtimes.ENGINES["safetensors"],
            libraries=facts.get("libraries", {}),
        ),
        hardware=provenance.Hardware(**facts["hardware"]) if "hardware" in facts else None,
        losses=facts.get("losses"),
        verification=done["verify"].facts["checks"],
        report=[_comparison(domain, done) for domain in judged["domains"]],
        tasks=_tasks(step.params.get("tasks", ()), done["evaluate"].facts.get("tasks", {})),
        verdict=done["evaluate"].facts.get("verdict"),
        gate=[provenance.GateOutcome(**outcome) for outcome in done["evaluate"].facts.get("gate", ())],
        benchmark=_benchmark(step.params.get("benchmark"), done.get("benchmark")),
        generations=[provenance.Generation(**one) for one in done["verify"].facts.get("generations", ())],
        costs=[_cost(kind, one) for kind, one in sorted(done.items()) if kind not in _UNSHARED],
    )


def _recipe(recipe: Recipe) -> provenance.Recipe:
    parameters = {name: value for name, value in recipe.work().items() if name != "method"}
    return provenance.Recipe(method=recipe.method.name, short=recipe.short, parameters=parameters)


def _source(url: str, fetched: Done) -> provenance.Source:
    model, card = fetched.facts["model"], fetched.facts.get("card", {})
    named = _HUB.fullmatch(url) or _HUB_CACHE.search(url)
    return provenance.Source(
        url=url,
        hub_id=f"{named['owner']}/{named['name']}" if named else None,
        revision=fetched.facts.get("revision") or (named["revision"] if named else None),
        digest=f"sha256:{fetched.digest}",
        files=_files(fetched),
        **{name: model[name] for name in ("architecture", "parameter_count", "weight_bytes", "dtype")},
        licenses=card.get("licenses", []),
        **{name: card.get(name) for name in ("license_name", "license_link", "pipeline_tag")},
    )


def _calibration(recipe: Recipe, calibrated: Done | None) -> provenance.Calibration | None:
    """Return what was looked at, under the name by which the recipe asks for it."""
    if calibrated is None:
        return None
    found = {name: calibrated.facts[name] for name in provenance.Calibration.model_fields}
    return provenance.Calibration(**{**found, "text": recipe.parameters["calibration_text"]})


def _result(written: str, made: Done) -> provenance.Result:
    return provenance.Result(
        format=written,
        digest=f"sha256:{made.digest}",
        files=_files(made),
        size_bytes=made.facts.get("size_bytes"),
        bits_per_weight=made.facts.get("bits_per_weight"),
        tensor_types=made.facts.get("tensor_types", {}),
    )


def _comparison(domain: str, done: Mapping[str, Done]) -> provenance.Comparison:
    baseline, result = (done[kind].scores.get(domain) for kind in ("reference", "evaluate"))
    measures = (result or {}).get("measures") or {}
    same = done["evaluate"].facts.get("baseline_perplexity", {}).get(domain)  # which earlier versions have not kept
    if result is not None and same is not None:
        baseline = {**result, "perplexity": same}
    return provenance.Comparison(
        domain=domain,
        baseline=_score(baseline),
        result=_score(result),
        measures={metric: provenance.Estimate(**estimate) for metric, estimate in measures.items()},
    )


def _tasks(asked: Sequence[str], found: Mapping[str, Any]) -> list[provenance.TaskComparison]:
    return [
        provenance.TaskComparison(
            task=task,
            items=found[task]["items"],
            baseline=provenance.TaskScore(**{"rouge_l": None, **found[task]["baseline"]}),
            measures={metric: provenance.Estimate(**one) for metric, one in found[task]["measures"].items()},
        )
        for task in asked
        if task in found
    ]


def _score(score: Mapping[str, Any] | None) -> provenance.Score | None:
    return None if score is None else provenance.Score(**{name: score[name] for name in provenance.Score.model_fields})


def _condition(asked: Mapping[str, Any]) -> provenance.Condition:
    return provenance.Condition(**{name: asked.get(name) for name in provenance.Condition.model_fields})


def _benchmark(asked: Mapping[str, Any] | None, measured: Done | None) -> provenance.Benchmark | None:
    if asked is None or measured is None:
        return None
    known = {**asked, **measured.facts}
    return provenance.Benchmark(**{name: known[name] for name in provenance.Benchmark.model_fields})


def _cost(kind: str, one: Done) -> provenance.Cost:
    return provenance.Cost(step=kind, forecast=provenance.Room(**one.forecast), peak=provenance.Room(**one.peak))


def _files(made: Done) -> list[provenance.File]:
    return [provenance.File(name=file.name, size_bytes=file.size_bytes, sha256=file.sha256) for file in made.files]
