"""Calibration samples: of one length, chosen by the seed, and looked at before anything is quantized by them."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from core.errors import InvalidRequest, ModelUnsupported
from engines import calibration, evaluation, source
from engines.calibration import Calibration, CalibrationFacts, OwnText
from engines.recipe import parse_recipe
from engines.tokenizer import encode, load_tokenizer
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
    items = evaluation.read_all(tiny, ["prose", "code"], 1000)
    judged = {domain: [item.ids for item in of_domain] for domain, of_domain in items.items()}
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


def own_text(folder: Path, *documents: Any) -> OwnText:
    """Write JSONL: texts, and conversations given as lists of contents."""
    lines = []
    for one in documents:
        sides = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(one)]
        lines.append({"text": one} if isinstance(one, str) else {"messages": sides})
    path = folder / "text.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return OwnText(path, "jsonl", "d" * 64)


def draw_own(model: Path, folder: Path, own: OwnText, tokens: int = 16) -> tuple[CalibrationFacts, list[list[int]]]:
    """Return the facts and the samples in the order of the text."""
    facts = calibration.write_samples(folder, model, Calibration("own", 1000, tokens, 0), {}, own)
    tokenizer = load_tokenizer(model)
    documents = list(calibration._cut(tokenizer, calibration._read_own(own), tokens))
    rows = calibration.read_samples(folder)
    assert sorted(rows) == sorted(row.tolist() for row in documents)
    return facts, [row.tolist() for row in documents]


@pytest.fixture
def no_fewest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "FEWEST", 0.001)


@pytest.mark.usefixtures("no_fewest")
def test_documents_are_packed_behind_each_other_in_their_order(tiny: Path, tmp_path: Path) -> None:
    texts = [f"Document {number} of many, with some words in it." for number in range(40)]
    facts, rows = draw_own(tiny, tmp_path, own_text(tmp_path, *texts))
    tokenizer = load_tokenizer(tiny)
    whole = [token for text in texts for token in encode(tokenizer, text)]
    assert [token for row in rows for token in row] == whole[: len(rows) * 16]
    assert len(rows) == facts["samples"] == len(whole) // 16
    assert facts["text_sha256"] == "d" * 64


@pytest.mark.usefixtures("no_fewest")
def test_each_document_and_each_sample_begin_as_a_text_does(tiny_copy: Path, tmp_path: Path) -> None:
    conftest.add_bos_and_chat_template(tiny_copy)
    texts = [f"Document {number} of many, with some words in it." for number in range(40)]
    _, rows = draw_own(tiny_copy, tmp_path, own_text(tmp_path, *texts))
    assert {row[0] for row in rows} == {0}
    assert [row[:2] for row in rows if row[:2] == [0, 0]] == []
    tokenizer = load_tokenizer(tiny_copy)
    documents = [encode(tokenizer, text) for text in texts]
    begun = [row[place + 1 : place + 9] for row in rows for place, token in enumerate(row) if token == 0 and place]
    assert len(begun) > 20
    assert all(any(begin == document[: len(begin)] for document in documents) for begin in begun)
    inside = [token for row in rows for token in row if token != 0]
    assert inside == [token for document in documents for token in document][: len(inside)]


@pytest.mark.usefixtures("no_fewest")
def test_a_conversation_is_written_by_the_chat_template_with_its_special_tokens(
    tiny_copy: Path, tmp_path: Path
) -> None:
    template = "{% for m in messages %}<|endoftext|>{{ m.role }}: {{ m.content }}{% endfor %}"
    conftest.edit_json(tiny_copy / "tokenizer_config.json", chat_template=template)
    sides = ["Why is that so?", "Because it is as it is, and nobody knows why."]
    facts, rows = draw_own(tiny_copy, tmp_path, own_text(tmp_path, *[sides] * 4))
    tokenizer = load_tokenizer(tiny_copy)
    said = [0, *encode(tokenizer, f"user: {sides[0]}"), 0, *encode(tokenizer, f"assistant: {sides[1]}")]
    assert [token for row in rows for token in row] == (said * 4)[: 16 * len(rows)]
    assert "chat template" not in " ".join(facts["warnings"])


@pytest.mark.usefixtures("no_fewest")
def test_without_a_chat_template_the_contents_are_joined_and_that_is_said(tiny: Path, tmp_path: Path) -> None:
    sides = ["Why is that so?", "Because it is as it is, and nobody knows why."]
    facts, rows = draw_own(tiny, tmp_path, own_text(tmp_path, *[sides] * 3))
    joined = encode(load_tokenizer(tiny), "\n\n".join(sides))
    assert [token for row in rows for token in row] == (joined * 3)[: 16 * len(rows)]
    assert "The model has no chat template: of 3 conversations the contents were joined" in " ".join(facts["warnings"])


def test_a_conversation_that_the_template_refuses_fails_the_request(tiny_copy: Path, tmp_path: Path) -> None:
    template = "{{ raise_exception('roles must alternate') }}"
    conftest.edit_json(tiny_copy / "tokenizer_config.json", chat_template=template)
    with pytest.raises(ModelUnsupported, match="roles must alternate") as refused:
        draw_own(tiny_copy, tmp_path, own_text(tmp_path, ["a", "b"]))
    assert refused.value.param == "recipe.calibration_text"


def test_plain_text_is_one_document_and_gives_what_the_built_in_one_of_the_same_bytes_gives(
    tiny: Path, draw: Draw, tmp_path: Path
) -> None:
    built_in, rows = draw("prose", 32, 128, 3)
    own = OwnText(calibration.TEXTS / "prose_calibration.txt", "text", "e" * 64)
    facts = calibration.write_samples(tmp_path, tiny, Calibration("own", 32, 128, 3), {}, own)
    assert calibration.read_samples(tmp_path) == rows
    assert facts["sha256"] == built_in["sha256"]


@pytest.mark.usefixtures("no_fewest")
def test_a_long_text_is_tokenized_in_pieces_that_end_with_a_line_where_they_can(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prose = (calibration.TEXTS / "prose_calibration.txt").read_text()[:20_000]
    text = "\n".join(line.strip() for line in prose.splitlines() if line.strip())
    whole, _ = draw_own(tiny, tmp_path, own_text(tmp_path, text))
    monkeypatch.setattr("engines.tokenizer.PIECE_CHARACTERS", 5000)
    assert draw_own(tiny, tmp_path, own_text(tmp_path, text))[0]["sha256"] == whole["sha256"]
    one_line = text.replace("\n", " ")
    _, rows = draw_own(tiny, tmp_path, own_text(tmp_path, one_line))
    tokenizer = load_tokenizer(tiny)
    pieces = [encode(tokenizer, one_line[place : place + 5000]) for place in range(0, len(one_line), 5000)]
    assert [token for row in rows for token in row] == [token for piece in pieces for token in piece][: 16 * len(rows)]


def test_a_text_of_ones_own_is_looked_at_like_any_other(tiny: Path, tmp_path: Path) -> None:
    own = OwnText(calibration.TEXTS / "prose_calibration.txt", "text", "e" * 64)
    wanted = Calibration("own", 64, 64, 0)
    calibration.write_samples(tmp_path, tiny, wanted, {}, own)
    judged = {"prose": calibration.read_samples(tmp_path)[:40]}
    with pytest.raises(ModelUnsupported, match="judged on what it was made for"):
        calibration.write_samples(tmp_path, tiny, wanted, judged, own)
    with pytest.raises(ModelUnsupported, match="gives 0 samples"):
        calibration.write_samples(tmp_path, tiny, wanted, {}, own_text(tmp_path, "short"))


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


@pytest.mark.usefixtures("no_fewest")
def test_a_token_that_begins_texts_is_not_unknown_whatever_else_it_is(tiny_copy: Path, tmp_path: Path) -> None:
    """As GPT-2's, which has one token for all that is special."""
    conftest.add_bos_and_chat_template(tiny_copy)
    conftest.edit_json(tiny_copy / "tokenizer_config.json", unk_token="<|endoftext|>", bos_token="<|endoftext|>")
    facts, _ = draw_own(tiny_copy, tmp_path, own_text(tmp_path, *(["Few words."] * 40)), tokens=16)
    assert facts["unknown_share"] == 0


def test_samples_longer_than_what_the_model_reads_are_refused(tiny: Path) -> None:
    facts = dataclasses.replace(source.inspect(tiny), position_count=1024)
    parse_recipe({"method": "gptq", "calibration_tokens": 1024}).check(facts)
    too_long = {"method": "gptq", "calibration_tokens": 2048}
    with pytest.raises(InvalidRequest, match="reads 1024 tokens at once, and samples of 2048") as refused:
        parse_recipe(too_long).check(facts)
    assert refused.value.param == "recipe.calibration_tokens"
    parse_recipe(too_long).check(dataclasses.replace(facts, position_count=0))
    parse_recipe({"method": "fp8", "calibration_tokens": 2048}).check(facts)


def draw_token(folder: Path, token: int) -> str:
    found: str = load_tokenizer(folder).convert_ids_to_tokens(token)
    return found
