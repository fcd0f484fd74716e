"""What is accepted as a model, what is refused and with which words, and that nothing hostile gets further."""

import contextlib
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import FewbitsError, ModelUnsupported, SourceInvalid
from engines import source
from engines.model_facts import ModelFacts, TensorGroup
from engines.weights import read_header
from tests.engines import conftest


def test_facts_of_a_model(tiny: Path) -> None:
    assert source.inspect(tiny) == ModelFacts(
        architecture="LlamaForCausalLM",
        parameter_count=6163712,
        weight_bytes=12327424,
        dtype="bfloat16",
        hidden_size=256,
        layer_count=6,
        vocabulary_size=4096,
        row_lengths=(256, 768),
        tied_embeddings=True,
        position_count=2048,
        head_count=4,
        kv_head_count=4,
        tensors=(
            TensorGroup("model.embed_tokens.weight", (4096, 256), 1),
            TensorGroup("model.layers.*.input_layernorm.weight", (256,), 6),
            TensorGroup("model.layers.*.mlp.down_proj.weight", (256, 768), 6),
            TensorGroup("model.layers.*.mlp.gate_proj.weight", (768, 256), 6),
            TensorGroup("model.layers.*.mlp.up_proj.weight", (768, 256), 6),
            TensorGroup("model.layers.*.post_attention_layernorm.weight", (256,), 6),
            TensorGroup("model.layers.*.self_attn.k_proj.weight", (256, 256), 6),
            TensorGroup("model.layers.*.self_attn.o_proj.weight", (256, 256), 6),
            TensorGroup("model.layers.*.self_attn.q_proj.weight", (256, 256), 6),
            TensorGroup("model.layers.*.self_attn.v_proj.weight", (256, 256), 6),
            TensorGroup("model.norm.weight", (256,), 1),
        ),
    )


def test_an_output_head_of_its_own_is_known(tiny_copy: Path) -> None:
    conftest.untie(tiny_copy)
    assert not source.inspect(tiny_copy).tied_embeddings


@pytest.mark.parametrize(("dtype", "width"), [("float32", 4), ("float16", 2)])
def test_facts_of_other_precisions(dtype: str, width: int, tiny_copy: Path) -> None:
    conftest.store_as(tiny_copy, dtype)
    facts = source.inspect(tiny_copy)
    assert (facts.dtype, facts.weight_bytes) == (dtype, 6163712 * width)


def test_shards_give_the_same_facts(tiny: Path, tiny_copy: Path) -> None:
    conftest.shard(tiny_copy)
    assert source.inspect(tiny_copy) == source.inspect(tiny)


def test_only_what_belongs_to_the_model_is_copied(tiny_copy: Path) -> None:
    conftest.shard(tiny_copy)
    for name in (
        "modeling_x.py",
        "pytorch_model.bin",
        "consolidated.safetensors",
        "tokenizer.py",
        "LICENSE.py",
        ".git",
    ):
        (tiny_copy / name).write_bytes(b"x")
    for name in ("LICENSE", "README.md", "chat_template.jinja", "tokenizer.model", "special_tokens_map.json"):
        (tiny_copy / name).write_bytes(b"x")
    (tiny_copy / "vocab.json").mkdir()
    assert source.model_files(tiny_copy) == [
        "LICENSE",
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
    ]


def _truncate(folder: Path) -> None:
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(6_000_000)


def _replace_weights(content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "model.safetensors").write_bytes(content)


def _header(document: Any, data: bytes = b"", *, length: int | None = None) -> Callable[[Path], object]:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return _replace_weights(struct.pack("<Q", len(raw) if length is None else length) + raw + data)


def _config(**changes: Any) -> Callable[[Path], object]:
    return lambda folder: conftest.edit_json(folder / "config.json", **changes)


def _write(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text, encoding="utf-8")


def _rename(name: str, to: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).rename(folder / to)


def _remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def _index(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        conftest.shard(folder)
        path = folder / "model.safetensors.index.json"
        document = json.loads(path.read_text(encoding="utf-8"))
        change(document["weight_map"])
        path.write_text(json.dumps(document), encoding="utf-8")

    return apply


def _lose_a_shard(folder: Path) -> None:
    conftest.shard(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


def _tensor(**changes: Any) -> dict[str, Any]:
    return {"w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4], **changes}}


DEEP = "[" * 200_000
SHARD = "model-00001-of-00002.safetensors"

BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "There is no folder"),
    "no config": (_remove("config.json"), "has no config.json"),
    "config is not JSON": (_write("config.json", "{oops"), "config.json is not valid JSON"),
    "config is not text": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "config.json is not valid JSON"),
    "config is deep": (_write("config.json", DEEP), "config.json is not valid JSON"),
    "config is a list": (_write("config.json", "[1]"), "must hold a JSON object, and holds a list"),
    "config is huge": (lambda f: os.truncate(f / "config.json", 2**30), "larger than"),
    "no architectures": (_config(architectures=None), "names no architecture"),
    "empty architectures": (_config(architectures=[]), "names no architecture"),
    "architecture is a path": (_config(architectures=["../x"]), "names no architecture"),
    "architecture is a number": (_config(architectures=[3]), "names no architecture"),
    "code elsewhere": (_config(auto_map={"AutoModel": "evil/repo--m.Model"}), "remote code is never run"),
    "tokenizer code elsewhere": (
        lambda f: conftest.edit_json(f / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil/repo--t.T", None]}),
        "remote code is never run",
    ),
    "quantized": (_config(quantization_config={"quant_method": "gptq"}), "quantized already"),
    "no hidden size": (_config(hidden_size=None), "hidden_size as a positive whole number"),
    "hidden size is text": (_config(hidden_size="256"), "hidden_size as a positive whole number"),
    "hidden size is true": (_config(hidden_size=True), "hidden_size as a positive whole number"),
    "negative layers": (_config(num_hidden_layers=-1), "num_hidden_layers"),
    "endless vocabulary": (_config(vocab_size=10**30), "vocab_size"),
    "more numbers than the weights have": (_config(hidden_size=2 * 10**9, vocab_size=2 * 10**9), "weights are too few"),
    "more layers than tensors": (_config(num_hidden_layers=2**31 - 1), "weights are too few"),
    "pickled": (_rename("model.safetensors", "pytorch_model.bin"), "Convert them to safetensors"),
    "pickled pth": (_rename("model.safetensors", "model.pth"), "Convert them to safetensors"),
    "adapter": (_rename("model.safetensors", "adapter_model.safetensors"), "LoRA adapter"),
    "shards without index": (_rename("model.safetensors", SHARD), "index.json is missing"),
    "no weights": (_remove("model.safetensors"), "holds no weights"),
    "truncated": (_truncate, r"truncated: \d+ bytes are missing"),
    "empty file": (_replace_weights(b""), "header does not fit"),
    "short file": (_replace_weights(b"\x01\x00"), "header does not fit"),
    "huge header length": (_header({}, length=2**63), "header does not fit"),
    "header longer than the file": (_header({}, length=50), "header does not fit"),
    "header garbage": (_header(b"\x00\xff garbage"), "header is not JSON"),
    "header is deep": (_header(DEEP.encode()), "header is not JSON"),
    "header is a list": (_header([]), "not a JSON object"),
    "no tensors": (_header({"__metadata__": {}}), "hold no tensors"),
    "unknown type": (_header(_tensor(dtype="X9"), b"1234"), "unknown type"),
    "type is a list": (_header(_tensor(dtype=[]), b"1234"), "unknown type"),
    "shape is text": (_header(_tensor(shape="2"), b"1234"), "malformed"),
    "negative shape": (_header(_tensor(shape=[-2]), b"1234"), "malformed"),
    "many dimensions": (_header(_tensor(shape=[1] * 100_000), b"1234"), "malformed"),
    "endless shape": (_header(_tensor(shape=[2**62, 2**62]), b"1234"), "malformed"),
    "one offset": (_header(_tensor(data_offsets=[0]), b"1234"), "malformed"),
    "offsets are floats": (_header(_tensor(data_offsets=[0.0, 4.0]), b"1234"), "malformed"),
    "offsets backwards": (_header(_tensor(data_offsets=[4, 0]), b"1234"), "does not agree"),
    "gap": (_header(_tensor(data_offsets=[4, 8]), b"12345678"), "overlap or leave gaps"),
    "bytes left over": (_header(_tensor(), b"12345678"), "belong to no tensor"),
    "already 8 bit": (_header(_tensor(dtype="F8_E4M3", shape=[4]), b"1234"), "only BF16, F16 and F32"),
    "index is not JSON": (_write("model.safetensors.index.json", "no"), "index.json is not valid JSON"),
    "index without map": (_write("model.safetensors.index.json", "{}"), "no weight_map"),
    "index map is a list": (_write("model.safetensors.index.json", '{"weight_map": [1]}'), "no weight_map"),
    "index leads up": (_index(lambda m: m.update(x="../x.safetensors")), "not a safetensors file in the folder"),
    "index is absolute": (_index(lambda m: m.update(x="/etc/x.safetensors")), "not a safetensors file in the folder"),
    "index names a pickle": (_index(lambda m: m.update(x="x.bin")), "not a safetensors file in the folder"),
    "index names a number": (_index(lambda m: m.update(x=7)), "not a safetensors file in the folder"),
    "shard missing": (_lose_a_shard, "model-00002-of-00002.safetensors is missing"),
    "tensor that no shard has": (_index(lambda m: m.update(ghost=SHARD)), "disagree on tensor 'ghost'"),
    "tensor that the index has not": (_index(lambda m: m.popitem()), "disagree on tensor"),
    "no tokenizer": (_remove("tokenizer.json"), "has no tokenizer"),
    "tokenizer is not JSON": (_write("tokenizer.json", "?"), "tokenizer.json is not valid JSON"),
    "tokenizer without model": (_write("tokenizer.json", "{}"), "describes no model"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_folder_is_refused_with_what_to_do(case: str, tiny_copy: Path) -> None:
    spoil, says = BAD[case]
    spoil(tiny_copy)
    with pytest.raises((SourceInvalid, ModelUnsupported), match=says) as caught:
        source.inspect(tiny_copy)
    assert len(caught.value.message) < 1000


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", "tokenizer_config.json"])
def test_links_may_lead_only_where_they_are_allowed(name: str, tiny_copy: Path, tmp_path: Path) -> None:
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    (tiny_copy / name).rename(blobs / name)
    (tiny_copy / name).symlink_to(blobs / name)
    for read in (source.inspect, source.model_files):
        with pytest.raises(SourceInvalid, match=f"{name} is a link that leads out"):
            read(tiny_copy)
    assert source.inspect(tiny_copy, [tmp_path]).parameter_count == 6163712
    assert name in source.model_files(tiny_copy, [tmp_path])


def test_a_fifo_is_not_waited_for(tiny_copy: Path) -> None:
    (tiny_copy / "model.safetensors").unlink()
    os.mkfifo(tiny_copy / "model.safetensors")
    with pytest.raises(SourceInvalid):
        source.inspect(tiny_copy)


def test_a_multimodal_configs_text_part_counts(tiny_copy: Path) -> None:
    conftest.edit_json(tiny_copy / "config.json", hidden_size=None, text_config={"hidden_size": 256})
    assert source.inspect(tiny_copy).hidden_size == 256


@pytest.mark.parametrize("name", ["modeling.py", "sub/native.so", "weights.bin"])
def test_a_snapshot_with_code_is_refused(name: str, tiny_copy: Path) -> None:
    source.require_no_code(tiny_copy)
    (tiny_copy / name).parent.mkdir(exist_ok=True)
    (tiny_copy / name).write_bytes(b"")
    with pytest.raises(SourceInvalid, match="never loaded"):
        source.require_no_code(tiny_copy)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
TENSOR_LIKE = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["BF16", "F4", "U8"]) | ANY_JSON,
        "shape": st.lists(st.integers(-1, 5), max_size=3) | ANY_JSON,
        "data_offsets": st.lists(st.integers(-1, 64), min_size=2, max_size=2) | ANY_JSON,
    },
)
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(content=st.binary(max_size=64) | st.builds(lambda b: struct.pack("<Q", len(b)) + b, st.binary(max_size=64)))
def test_no_bytes_break_the_header_reader(content: bytes, tmp_path: Path) -> None:
    _accepts_or_refuses(content, tmp_path)


@FUZZ
@given(header=st.dictionaries(st.text(max_size=5), TENSOR_LIKE | ANY_JSON, max_size=3), data=st.binary(max_size=64))
def test_no_header_breaks_the_header_reader(header: dict[str, Any], data: bytes, tmp_path: Path) -> None:
    raw = json.dumps(header).encode()
    _accepts_or_refuses(struct.pack("<Q", len(raw)) + raw + data, tmp_path)


def _accepts_or_refuses(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    try:
        tensors = read_header(path)
    except SourceInvalid:
        return
    assert all(tensor.end <= len(content) for tensor in tensors.values())


@FUZZ
@given(
    name=st.sampled_from(["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors.index.json"]),
    changes=st.dictionaries(
        st.sampled_from(
            ["architectures", "hidden_size", "vocab_size", "auto_map", "text_config", "weight_map", "model"]
        ),
        ANY_JSON,
    ),
)
def test_no_configuration_breaks_the_inspection(
    name: str, changes: dict[str, Any], tiny: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("model")
    for path in tiny.iterdir():
        os.link(path, folder / path.name)
    document = json.loads((tiny / name).read_text(encoding="utf-8")) if (tiny / name).exists() else {}
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_text(json.dumps(document | changes), encoding="utf-8")
    with contextlib.suppress(FewbitsError):
        source.inspect(folder)
    shutil.rmtree(folder)
