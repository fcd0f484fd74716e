"""Conversion: progress, precision, the tokenizer's proof, and models that it must refuse."""

import json
import shutil
import sysconfig
from pathlib import Path
from typing import Any, get_args

import pytest

from core.errors import DoesNotFit, ModelUnsupported, SourceInvalid
from engines import convert, pretokenizer, source
from engines.context import Progress
from engines.domains import TEXTS
from engines.pretokenizer import NAMES_BY_PATTERNS, PreTokenizer
from engines.runtimes import open_runtime
from engines.tokenizer import load_tokenizer
from tests.engines import conftest


def test_writes_one_file_and_reports_each_tensor(tiny: Path, make_context: conftest.MakeContext) -> None:
    reports: list[Progress] = []
    context = make_context(reports)
    facts = convert.convert(context, tiny)
    (file,) = context.output.iterdir()
    assert facts == {
        "size_bytes": file.stat().st_size,
        "bits_per_weight": pytest.approx(16.01, abs=0.01),
        "tensor_types": {"bf16": 43, "f32": 13},
        "pre_tokenizer": "gpt-2",
        "tokenizer_differs_at": None,
    }
    assert [p.done for p in reports if p.unit == "tensors"] == list(range(1, 57))
    assert reports[-1].total == 56
    assert file.stat().st_size < convert.forecast(source.inspect(tiny)).scratch_bytes


def test_two_conversions_are_the_same_bytes(
    tiny_copy: Path, converted: Path, make_context: conftest.MakeContext
) -> None:
    context = make_context()
    convert.convert(context, tiny_copy)
    assert (context.output / convert.FILE_NAME).read_bytes() == converted.read_bytes()


def test_each_tensor_keeps_its_precision(tiny_copy: Path, make_context: conftest.MakeContext) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(tiny_copy / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    weights[name] = weights[name].to(torch.float32) + 1e-6
    save_file(weights, tiny_copy / "model.safetensors", {"format": "pt"})
    facts = convert.convert(make_context(), tiny_copy)
    assert facts["tensor_types"] == {"bf16": 42, "f32": 14}


def _tokenizer_by(patterns: tuple[str, ...], **parts: Any) -> str:
    """Train a small byte-level BPE tokenizer that splits text by ``patterns``; return its tokenizer.json."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, trainers

    splits: list[Any] = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(False, False, False)])
    trainer = trainers.BpeTrainer(
        vocab_size=2500,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[AddedToken("<|endoftext|>", special=True), AddedToken("<|pad|>", special=True)],
    )
    text = (TEXTS / "code_eval.txt").read_text(encoding="utf-8")[:60_000]
    # Whatever a pattern keeps together is worth a token, so that another pattern gives other ids.
    tokenizer.train_from_iterator([text, *pretokenizer.PROOF_LINES * 40], trainer)
    return json.dumps(json.loads(tokenizer.to_str()) | parts)


@pytest.mark.parametrize("patterns", NAMES_BY_PATTERNS, ids=lambda p: NAMES_BY_PATTERNS[p][0])
def test_each_way_to_split_text_is_named_and_proven(
    patterns: tuple[str, ...], tiny_copy: Path, make_context: conftest.MakeContext
) -> None:
    (tiny_copy / "tokenizer.json").write_text(_tokenizer_by(patterns), encoding="utf-8")
    assert convert.convert(make_context(), tiny_copy)["pre_tokenizer"] in NAMES_BY_PATTERNS[patterns]


def test_a_way_to_split_that_llama_cpp_has_not_is_refused(tiny_copy: Path, make_context: conftest.MakeContext) -> None:
    (tiny_copy / "tokenizer.json").write_text(_tokenizer_by((r"\p{L}+|\s",)), encoding="utf-8")
    with pytest.raises(ModelUnsupported, match="no pre-tokenizer that splits text as this tokenizer does"):
        convert.convert(make_context(), tiny_copy)


def test_a_tokenizer_that_gives_other_ids_is_refused(tiny_copy: Path, make_context: conftest.MakeContext) -> None:
    conftest.edit_json(tiny_copy / "tokenizer.json", normalizer={"type": "Lowercase"})
    context = make_context()
    with pytest.raises(ModelUnsupported, match=r"gives other ids than the model's own, first at .The quick brown"):
        convert.convert(context, tiny_copy)
    assert list(context.output.iterdir()) == []


def test_the_proof_finds_a_wrong_name(tiny: Path, make_context: conftest.MakeContext) -> None:
    context = make_context()
    target = context.scratch / "vocabulary.gguf"
    convert._write_vocabulary(tiny, target, source.inspect(tiny), "qwen2")
    assert pretokenizer.difference(load_tokenizer(tiny), target) is not None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [("<|{{ m.role", "<!{{ m.role", "chat template"), ("\u0120the", "\u0120thq", "other ids")],
)
def test_what_was_written_is_proven_and_not_the_vocabulary_alone(
    old: str, new: str, said: str, tiny_copy: Path, make_context: conftest.MakeContext
) -> None:
    conftest.add_bos_and_chat_template(tiny_copy)
    context = make_context()
    convert.convert(context, tiny_copy)
    file = context.output / convert.FILE_NAME
    content = file.read_bytes()
    assert old.encode() in content
    file.write_bytes(content.replace(old.encode(), new.encode()))
    with pytest.raises(ModelUnsupported, match=said):
        convert._prove_written(load_tokenizer(tiny_copy), file)


def test_of_several_chat_templates_none_is_lost(tiny_copy: Path, make_context: conftest.MakeContext) -> None:
    written = {"default": "{{ messages[0].content }}", "tool_use": "{{ tools }}"}
    named = [{"name": name, "template": template} for name, template in written.items()]
    conftest.edit_json(tiny_copy / "tokenizer_config.json", chat_template=named)
    context = make_context()
    convert.convert(context, tiny_copy)
    file = context.output / convert.FILE_NAME
    file.write_bytes(file.read_bytes().replace(b"{{ tools }}", b"{{ tolls }}"))
    with pytest.raises(ModelUnsupported, match="chat template"):
        convert._prove_written(load_tokenizer(tiny_copy), file)


def test_a_chosen_pre_tokenizer_is_proven(tiny: Path, make_context: conftest.MakeContext) -> None:
    assert convert.convert(make_context(), tiny, "gpt-2")["pre_tokenizer"] == "gpt-2"
    context = make_context()
    with pytest.raises(ModelUnsupported, match=r"'qwen2' gives other ids .* first at '.+'. Choose another") as refused:
        convert.convert(context, tiny, "qwen2")
    assert refused.value.param == "recipe.pre_tokenizer"
    assert list(context.output.iterdir()) == []


def test_llama_cpp_knows_every_name_of_a_pre_tokenizer() -> None:
    library = Path(sysconfig.get_path("platlib"), "lib", "libllama.so.0").read_bytes()
    assert [name for name in get_args(PreTokenizer) if f"{name}\0".encode() not in library] == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"architectures": ["NoSuchForCausalLM"]}, "does not know the architecture NoSuchForCausalLM"),
        ({"architectures": ["NoSuchForCausalLM"], "auto_map": {"AutoModel": "m.M"}}, "does not know the architecture"),
        ({"architectures": ["BloomForCausalLM"], "model_type": "bloom"}, "cannot convert this model"),
        ({"num_attention_heads": "four"}, "cannot read the model's config.json .*num_attention_heads"),
        ({"vocab_size": 100}, "cannot convert this model"),
    ],
)
def test_a_model_that_the_converter_cannot_read_is_refused(
    changes: dict[str, Any], says: str, tiny_copy: Path, make_context: conftest.MakeContext
) -> None:
    conftest.edit_json(tiny_copy / "config.json", **changes)
    with pytest.raises(ModelUnsupported, match=says):
        convert.convert(make_context(), tiny_copy)


def test_a_folder_with_code_is_refused(tiny_copy: Path, make_context: conftest.MakeContext) -> None:
    (tiny_copy / "tokenization.py").write_text("raise SystemExit('ran')")
    for use in (
        lambda: convert.convert(make_context(), tiny_copy),
        lambda: open_runtime("safetensors", tiny_copy, make_context()).__enter__(),
    ):
        with pytest.raises(SourceInvalid, match="never loaded"):
            use()


def test_a_full_disk_does_not_fit(tiny: Path, make_context: conftest.MakeContext) -> None:
    context = make_context()
    (context.output / convert.FILE_NAME).symlink_to("/dev/full")
    with pytest.raises(DoesNotFit, match="disk is full"):
        convert.convert(context, tiny)


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"architectures": ["NoSuch"], "model_type": "no_such"}, ModelUnsupported, "without code of its own"),
        ({"num_attention_heads": "four"}, ModelUnsupported, "transformers cannot load"),
        ({"num_hidden_layers": 7}, SourceInvalid, "do not fill the model: model.layers.6"),
        ({"intermediate_size": 700}, (SourceInvalid, ModelUnsupported), "."),
    ],
)
def test_a_model_that_transformers_cannot_load_is_refused(
    changes: dict[str, Any], error: type[Exception], says: str, tiny_copy: Path, make_context: conftest.MakeContext
) -> None:
    conftest.edit_json(tiny_copy / "config.json", **changes)
    with pytest.raises(error, match=says), open_runtime("safetensors", tiny_copy, make_context()):
        pass


def test_a_result_that_llama_cpp_cannot_load_is_refused(
    tmp_path: Path, make_context: conftest.MakeContext, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.gguf").write_bytes(b"garbage")
    with pytest.raises(ModelUnsupported, match="cannot load"), open_runtime("gguf", tmp_path, make_context()):
        pass
    assert "invalid magic" in capfd.readouterr().out
    shutil.rmtree(tmp_path)
