"""Calibration samples: of one length, chosen by the seed, and looked at before anything is quantized by them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from core.errors import ModelUnsupported
from engines import calibration, evaluation
from engines.calibration import Calibration, CalibrationFacts
from tests.engines import conftest

Draw = Any


@pytest.fixture
def draw(tiny: Path, tmp_path: Path) -> Draw:
    """Return a function that writes samples of tiny-llama-6m's tokenizer, and returns the facts and the ids."""

    def draw(
        *wanted: Any, model: Path = tiny, judged: Mapping[str, Sequence[Sequence[int]]] | None = None
    ) -> tuple[CalibrationFacts, list[list[int]]]:
        facts = calibration.write_samples(tmp_path, model, Calibration(*wanted), judged or {})
        return facts, calibration.read_samples(tmp_path)

    return draw


@pytest.mark.parametrize("name", ["mixed", "prose", "code"])
def test_samples_have_one_length_and_are_the_seeds(name: str, draw: Draw) -> None:
    facts, rows = draw(name, 32, 128, 0)
    assert {len(row) for row in rows} == {128}
    assert len({tuple(row) for row in rows}) == 32
    assert (facts["samples"], facts["tokens"], facts["text"]) == (32, 128, name)
    again, other = draw(name, 32, 128, 0), draw(name, 32, 128, 1)
    assert again == (facts, rows)
    assert other[0]["sha256"] != facts["sha256"]


def test_each_sample_begins_as_a_text_does(tiny_copy: Path, draw: Draw) -> None:
    conftest.add_bos_and_chat_template(tiny_copy)
    _, rows = draw("prose", 8, 64, 0, model=tiny_copy)
    assert {(row[0], len(row)) for row in rows} == {(0, 64)}


def test_the_text_of_the_samples_lies_beside_the_ids(draw: Draw, tmp_path: Path) -> None:
    draw("prose", 2, 64, 0)
    text = (tmp_path / calibration.TEXT_NAME).read_text()
    whole = (calibration.TEXTS / "prose_calibration.txt").read_text()
    assert all(line in whole for line in text.splitlines()[1:-1])


def test_fewer_samples_than_asked_for_are_used_and_said(draw: Draw) -> None:
    facts, rows = draw("prose", 128, 8192, 0)
    assert len(rows) == facts["samples"] == 28
    assert "The calibration text gave 28 samples; 128 were asked for." in facts["warnings"]


def test_a_text_that_is_much_too_short_is_refused(draw: Draw) -> None:
    with pytest.raises(ModelUnsupported, match="28 samples of 8192 tokens") as refused:
        draw("prose", 4096, 8192, 0)
    assert refused.value.param == "recipe.calibration_samples"


def test_few_tokens_are_said(draw: Draw) -> None:
    assert "512 tokens of calibration text are few" in " ".join(draw("prose", 8, 64, 0)[0]["warnings"])
    assert not draw("prose", 128, 512, 0)[0]["warnings"]


def test_the_built_in_texts_do_not_overlap(tiny: Path, draw: Draw) -> None:
    judged = {domain: evaluation.read_windows(tiny, domain, 1000) for domain in ("prose", "code")}
    facts, _ = draw("mixed", 512, 512, 0, judged=judged)
    assert facts["overlap"]["prose"] < 0.01
    assert facts["overlap"]["code"] < 0.01


def test_text_that_is_judged_on_is_found_in_the_samples(draw: Draw) -> None:
    _, rows = draw("prose", 64, 64, 0)
    _, others = draw("prose", 64, 64, 5)
    unseen = [row for row in others if row not in rows][:40]
    facts, _ = draw("prose", 64, 64, 0, judged={"own": [*rows[:10], *unseen]})
    assert facts["overlap"]["own"] == pytest.approx(0.2, abs=0.05)
    assert "of the text 'own' is in the calibration text, too" in " ".join(facts["warnings"])
    with pytest.raises(ModelUnsupported, match="judged on what it was made for"):
        draw("prose", 64, 64, 0, judged={"own": rows[:40]})


def test_a_tokenizer_that_knows_little_of_the_text_is_told_of(
    tiny_copy: Path, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts, rows = draw("prose", 64, 64, 0)
    commonest = max(range(4096), key=[token for row in rows for token in row].count)
    names = {"unk_token": draw_token(tiny_copy, commonest)}
    conftest.edit_json(tiny_copy / "tokenizer_config.json", **names)
    assert facts["unknown_share"] == 0
    facts, _ = draw("prose", 64, 64, 0, model=tiny_copy)
    assert 0.001 < facts["unknown_share"] < 0.1
    assert "is unknown to the tokenizer" in " ".join(facts["warnings"])
    monkeypatch.setattr(calibration, "UNKNOWN_MAX", facts["unknown_share"] / 2)
    with pytest.raises(ModelUnsupported, match="Choose text in a language that the model knows"):
        draw("prose", 64, 64, 0, model=tiny_copy)


def draw_token(folder: Path, token: int) -> str:
    from engines.tokenizer import load_tokenizer

    found: str = load_tokenizer(folder).convert_ids_to_tokens(token)
    return found
