"""What a model folder tells a person, of real small models of many families, and of folders that lie."""

import json
from pathlib import Path
from typing import Any

import pytest

from core.errors import SourceInvalid
from engines.description import Description, Tokenizer, describe
from engines.source import inspect
from tests.engines import conftest
from tests.engines.families import SAMPLES, TRAINED_PIECES, build


def test_a_real_model(tiny: Path) -> None:
    assert describe(tiny) == Description(
        model_type="llama",
        tokenizer=Tokenizer(
            "BPE", 4096, {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|pad|>"}
        ),
        has_chat_template=False,
        licence=None,
        experts_per_token=None,
    )


@pytest.mark.parametrize(
    ("sample", "model_type", "experts_per_token"),
    [
        ("llama, sentencepiece", "llama", None),
        ("gemma3, images", "gemma3", None),
        ("phi3", "phi3", None),
        ("mixtral", "mixtral", 2),
        ("qwen3-moe, as held", "qwen3_moe", 2),
        ("gpt2", "gpt2", None),
    ],
)
def test_models_of_many_families(sample: str, model_type: str, experts_per_token: int | None, tmp_path: Path) -> None:
    made = SAMPLES[sample]
    build(tmp_path / "model", made)
    found = describe(tmp_path / "model")
    assert found.model_type == model_type
    assert found.experts_per_token == experts_per_token
    assert bool(inspect(tmp_path / "model").expert_count) == bool(experts_per_token)
    if made.tokenizer in ("llama", "gemma"):
        assert (found.tokenizer.kind, found.tokenizer.vocabulary_size) == ("SentencePiece", None)
        assert found.tokenizer.special_tokens["unk_token"] == "<unk>"
    elif made.tokenizer == "phi":
        assert (found.tokenizer.kind, found.tokenizer.vocabulary_size) == ("BPE", TRAINED_PIECES)
    else:
        assert (found.tokenizer.kind, found.tokenizer.vocabulary_size) == ("BPE", 4096)


@pytest.mark.parametrize(
    ("card", "licence", "expected"),
    [
        ("---\nlicense: apache-2.0\ntags: [a]\n---\n# Model", None, "apache-2.0"),
        ("---\r\nlicense: 'mit'\r\n---\r\n", None, "mit"),
        ("---\ntags:\n- x\nlicense:\n  - gpl-3.0\n---\n", None, "gpl-3.0"),
        ("---\nlicense: other\nlicense_name: llama3.1\n---\n", "Not this\n", "llama3.1"),
        ("---\nlicense:\ntags: x\n---\n", "\n\n   Apache License\n   Version 2.0\n", "Apache License"),
        ("license: mit\n", "# MIT License\n", "MIT License"),
        ("---\nlicense: mit\n", None, None),
        (None, None, None),
        (None, "\n \n", None),
        ("---\nlicense: " + "x" * 10**6 + "\n---\n", None, None),
        ("---\nlicense: " + "x" * 1000 + "\n---\n", None, "x" * 200),
    ],
)
def test_the_licence_is_what_the_card_says_or_the_licence_begins_with(
    card: str | None, licence: str | None, expected: str | None, tiny_copy: Path
) -> None:
    (tiny_copy / "README.md").unlink()
    if card is not None:
        (tiny_copy / "README.md").write_bytes(card.encode())
    if licence is not None:
        (tiny_copy / "LICENSE").write_text(licence)
    assert describe(tiny_copy).licence == expected


def test_a_template_stands_in_the_tokenizers_settings_or_beside_them(tiny_copy: Path) -> None:
    conftest.edit_json(tiny_copy / "tokenizer_config.json", chat_template="{{ messages }}")
    assert describe(tiny_copy).has_chat_template
    conftest.edit_json(tiny_copy / "tokenizer_config.json", chat_template=None)
    assert not describe(tiny_copy).has_chat_template
    (tiny_copy / "chat_template.jinja").write_text("{{ messages }}")
    assert describe(tiny_copy).has_chat_template


def test_tokens_are_counted_once_and_special_ones_may_be_objects_of_older_models(tiny_copy: Path) -> None:
    document = json.loads((tiny_copy / "tokenizer.json").read_text())
    known = next(iter(document["model"]["vocab"]))
    document["added_tokens"] = [{"content": known}, {"content": "<new>"}, {"content": 7}, "<other>", None]
    (tiny_copy / "tokenizer.json").write_text(json.dumps(document))
    (tiny_copy / "special_tokens_map.json").write_text('{"unk_token": {"content": "<unk>"}, "eos_token": "<older>"}')
    found = describe(tiny_copy).tokenizer
    assert found.vocabulary_size == len(document["model"]["vocab"]) + 2
    assert found.special_tokens["unk_token"] == "<unk>"
    assert found.special_tokens["eos_token"] == "<|endoftext|>"


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("tokenizer.json", {"model": {"type": ["BPE"], "vocab": 3}}),
        ("tokenizer.json", {"model": {"vocab": [[], [1], ["a", 0.5], "b"]}, "added_tokens": {"a": 1}}),
        ("tokenizer_config.json", {"bos_token": {"content": ["x"]}, "eos_token": 3, "pad_token": "a\0\ud800" * 500}),
    ],
)
def test_what_is_of_another_kind_than_it_should_be_is_not_told(
    name: str, document: dict[str, Any], tiny_copy: Path
) -> None:
    (tiny_copy / name).write_text(json.dumps(document))
    found = describe(tiny_copy).tokenizer
    assert "bos_token" not in found.special_tokens or name == "tokenizer.json"
    assert all(len(text) <= 200 and "\0" not in text for text in found.special_tokens.values())
    assert json.dumps(found.special_tokens, ensure_ascii=False).encode()


@pytest.mark.parametrize("experts", ["8", 0, -1, 2**40, True, None])
def test_a_number_of_experts_that_is_none_is_not_told(experts: Any, tiny_copy: Path) -> None:
    conftest.edit_json(tiny_copy / "config.json", num_experts=experts, num_experts_per_tok=experts)
    assert inspect(tiny_copy).expert_count == 0
    assert describe(tiny_copy).experts_per_token is None


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "special_tokens_map.json", "chat_template.jinja"])
def test_a_link_out_of_the_folder_is_not_followed(name: str, tiny_copy: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("---\nlicense: secret\n---\n")
    (tiny_copy / name).unlink(missing_ok=True)
    (tiny_copy / name).symlink_to(tmp_path / "secret")
    with pytest.raises(SourceInvalid, match="leads out"):
        describe(tiny_copy)
