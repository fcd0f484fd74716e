"""What judges a result is given by the reference: the items that were scored, and the questions that were answered."""

import json
import os
from pathlib import Path

import pytest

from bench.gpu.steps import Bench, Ran
from engines import methods, probe, score_files
from engines.recipe import parse_recipe
from engines.score_files import Reference
from pipeline.judging import asked_of, read
from pipeline.plan import plan
from pipeline.step_kind import StepContext
from tests.engines import conftest

DATASET = "dataset_own"
EVALUATION = {"domains": ["prose", "summaries", "code"], "windows": 2}


@pytest.fixture
def model(tiny: Path, tmp_path: Path) -> Path:
    methods.load()
    return conftest.cut_to_two_layers(tiny, tmp_path / "model")


@pytest.mark.slow
def test_a_gguf_file_is_judged_without_what_takes_seconds_to_import(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    for library in ("torch", "transformers"):
        (shadow / f"{library}.py").write_text("raise ImportError('takes seconds')")
    bench, done = Bench(tmp_path, "cpu"), dict[str, Ran]()
    for step in plan(parse_recipe("gguf:Q4_0"), EVALUATION):
        if step.kind == "verify":
            monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(shadow), str(Path(conftest.__file__).parents[2])]))
        if step.kind != "document":
            done[step.kind] = bench.step(step, model, done)
    assert [row.domain for row in done["evaluate"].outcome.evaluations] == EVALUATION["domains"]


@pytest.mark.slow
def test_what_an_earlier_version_has_left_is_judged_alike(model: Path, tmp_path: Path) -> None:
    bench = Bench(tmp_path, "cpu")
    now = bench.run("gguf:Q4_0", model, EVALUATION)
    reference = now["reference"].output
    (reference / score_files.ITEMS_NAME).unlink()
    _without_questions(reference / probe.FILE_NAME)
    for kind in ("verify", "evaluate"):
        bench.drop(now[kind])
    then = bench.run("gguf:Q4_0", model, EVALUATION)
    assert [then[kind].outcome for kind in then] == [now[kind].outcome for kind in now]


def test_of_an_earlier_versions_reference_no_more_is_read_than_it_read(
    tiny_copy: Path, tmp_path: Path, make_context: conftest.MakeContext
) -> None:
    conftest.edit_json(tiny_copy / "config.json", max_position_embeddings=8192)
    folder = tmp_path / DATASET
    folder.mkdir()
    (folder / "dataset").write_text(json.dumps({"text": "one two three four " * 900}), encoding="utf-8")
    params = {"domains": [DATASET], "windows": 1, "datasets": {DATASET: {"kind": "documents"}}}
    context = StepContext(params, {"fetch": tiny_copy, DATASET: folder}, (), (), make_context())
    assert len(read(context).items[DATASET][0].ids) > 512
    assert len(asked_of(Reference(tmp_path / "empty"), context).items[DATASET][0].ids) == 512


def _without_questions(file: Path) -> None:
    from safetensors.numpy import load_file, save_file

    written = load_file(file)
    del written["windows"]
    save_file(written, file)
