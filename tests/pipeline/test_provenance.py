"""``fewbits.json``: what stands in it, that it is what its schema says, and that equal work has equal bytes."""

import dataclasses
import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from engines.recipe import parse_recipe
from pipeline.binding import describe
from pipeline.document import Document
from pipeline.provenance import SCHEMA, Provenance, json_schema
from pipeline.retracing import retrace
from tests.api.benchmarks import MEASURED
from tests.conftest import REPOSITORY
from tests.pipeline.record import (
    BENCHMARK,
    CALIBRATED,
    DROP,
    LOSSES,
    MODEL,
    TASK,
    WRITTEN,
    documenting,
    done,
    judged_by_a_task,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def document(*asked: Any, **changes: Any) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(retrace(documenting(*asked, **changes)).text())
    return loaded


def test_the_published_schema_is_that_of_this_version() -> None:
    published = json.loads((REPOSITORY / "docs" / "fewbits.schema.json").read_text())
    assert published == json_schema()
    Draft202012Validator.check_schema(published)
    assert published["$id"] == SCHEMA


@pytest.mark.parametrize("recipe", ["gguf:Q4_K_M", "gptq:4bit-g128"])
def test_a_document_is_what_the_schema_says(recipe: str) -> None:
    validator = Draft202012Validator(json_schema())
    written = document(recipe, "model.gguf")
    assert not list(validator.iter_errors(written))
    assert list(validator.iter_errors({**written, "schema": "urn:fewbits:provenance:2"}))
    assert list(validator.iter_errors({**written, "password": ""}))
    assert all(list(validator.iter_errors({k: v for k, v in written.items() if k != name})) for name in written)


def test_everything_that_made_a_difference_stands_in_it() -> None:
    written = document("gptq:4bit-g128", "config.json", "model.safetensors")
    assert written["schema"] == SCHEMA
    assert parse_recipe({"method": "gptq", **written["recipe"]["parameters"]}) == parse_recipe("gptq:4bit-g128")
    assert written["recipe"]["short"] == "gptq:4bit-g128"
    assert [file["name"] for file in written["source"]["files"]] == ["config.json", "model.safetensors"]
    assert written["source"]["digest"] == "sha256:" + "d" * 64
    assert written["source"]["licenses"] == ["apache-2.0"]
    assert (written["seed"], written["calibration"]["sha256"]) == (0, "8" * 64)
    assert written["software"]["engine"] == "an engine 1.2"
    assert written["software"]["libraries"]["torch"] == "2.13.0"
    assert written["hardware"]["gpu"] == "a GPU"
    assert written["losses"] == LOSSES
    texts = {"domains": ["prose", "code"], "datasets": {}, "windows": 40}
    assert written["evaluation"] == {**texts, "tasks": [], "task_items": None, "gate": []}
    assert written["tasks"] == []
    prose, code = written["report"]
    assert (prose["baseline"]["perplexity"], prose["result"]["perplexity"]) == (23.686, 24.405)
    assert (code["domain"], code["result"]) == ("code", None)
    costs = {cost["step"]: cost for cost in written["costs"]}
    assert costs["quantize"]["forecast"] == {"memory_bytes": 10, "vram_bytes": 20, "scratch_bytes": 30}
    assert costs["quantize"]["peak"] == {"memory_bytes": 5, "vram_bytes": 3 * 10**9, "scratch_bytes": None}


def test_tasks_and_what_was_scored_in_them_stand_in_it() -> None:
    written = json.loads(retrace(judged_by_a_task()).text())
    evaluation = written["evaluation"]
    assert (evaluation["tasks"], evaluation["task_items"]) == ([TASK], 200)
    assert evaluation["datasets"] == {TASK: {"kind": "reference", "sha256": "e" * 64}}
    asked = {"metric": "accuracy_drop", "domain": None, "task": None, "max": 0.01, "min": None}
    assert evaluation["gate"] == [asked]
    [found] = written["tasks"]
    assert (found["task"], found["items"]) == (TASK, 180)
    assert found["baseline"] == {"accuracy": 0.731, "rouge_l": 0.852}
    assert (written["gate"][0]["task"], found["measures"]["accuracy_drop"]) == (TASK, DROP)


def test_full_precision_is_told_on_the_results_own_windows() -> None:
    score = {"perplexity": 24.4, "windows": 10, "tokens": 2550, "measures": None}
    evaluated = done({"baseline_perplexity": {"prose": 22.5}}, scores={"prose": score})
    prose, _ = document("gguf:Q4_K_M", "model.gguf", evaluate=evaluated)["report"]
    assert prose["baseline"] == {"perplexity": 22.5, "windows": 10, "tokens": 2550}


def test_what_nothing_looked_at_is_not_in_it() -> None:
    written = document("gguf:Q4_K_M", "model.gguf")
    assert (written["seed"], written["calibration"]) == (None, None)
    assert not [name for name in written["recipe"]["parameters"] if name == "seed" or "calibration" in name]


def test_a_text_of_the_teams_own_has_the_name_that_the_recipe_gives_it() -> None:
    recipe = {"method": "gptq", "calibration_text": "dataset_" + "0" * 26}
    written = document(recipe, "model.safetensors", calibrate=done({**CALIBRATED, "text": "own"}))
    assert written["calibration"]["text"] == recipe["calibration_text"]


def test_a_benchmark_stands_in_it_with_what_was_asked_for() -> None:
    written = document("gguf:Q4_K_M", "model.gguf", benchmark=done(MEASURED))
    assert not list(Draft202012Validator(json_schema()).iter_errors(written))
    measured = {name: value for name, value in MEASURED.items() if name != "device"}
    assert written["benchmark"] == {**BENCHMARK, **measured}
    assert document("gguf:Q4_K_M", "model.gguf")["benchmark"] is None


def test_what_an_earlier_version_has_not_kept_is_null() -> None:
    written = document("gguf:Q4_K_M", "model.gguf", fetch=done({"model": MODEL}, "a"), quantize=done(WRITTEN, "b"))
    assert (written["losses"], written["hardware"], written["source"]["licenses"]) == (None, None, [])
    assert written["software"]["engine"].startswith("llama.cpp")


@pytest.mark.parametrize(
    ("source", "known"),
    [
        ("hf://org/name@v1", ("org/name", "v1")),
        ("hf://org/name", ("org/name", None)),
        (f"file:///cache/hub/models--org--a-name/snapshots/{COMMIT}", ("org/a-name", COMMIT)),
        ("file:///models/org/name", (None, None)),
    ],
)
def test_the_hubs_name_and_commit_are_known_where_the_source_says_them(source: str, known: tuple[str, str]) -> None:
    written = document("gguf:Q4_K_M", "model.gguf", source=source)
    assert (written["source"]["hub_id"], written["source"]["revision"]) == known
    assert written["source"]["url"] == source


def test_equal_work_in_another_job_has_equal_bytes_and_is_not_done_again() -> None:
    first = documenting("gguf:Q4_K_M", "model.gguf")
    fetched = dataclasses.replace(first.done["fetch"], peak={**first.done["fetch"].peak, "memory_bytes": 99})
    other = dataclasses.replace(first, id="step_2", job_id="job_2", done={**first.done, "fetch": fetched})
    assert retrace(first).text() == retrace(other).text()
    assert describe(first).key == describe(other).key
    assert describe(first).key != describe(dataclasses.replace(first, team_id="team_2")).key
    assert describe(first).inputs == {}


def test_its_text_is_read_back_as_it_was() -> None:
    made = retrace(documenting("gptq:4bit-g128", "model.safetensors"))
    assert Provenance.model_validate(json.loads(made.text())) == made
    again = Document().work_params(documenting("gptq:4bit-g128", "model.safetensors"))
    assert Provenance.model_validate(again) == made
    shuffled = dict(reversed(made.recipe.parameters.items()))
    document = json.loads(made.text())
    document["recipe"]["parameters"] = shuffled  # Postgres keeps no order
    assert Provenance.model_validate(document).text() == made.text()
    with pytest.raises(ValidationError):
        Provenance.model_validate({**json.loads(made.text()), "schema": "urn:fewbits:provenance:2"})
