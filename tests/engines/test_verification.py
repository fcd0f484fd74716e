"""Verification: a sound result passes, and each planted fault is caught by the check that is there for it."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from engines import convert, probe, verification
from engines.domains import read_items
from engines.probe import Answers
from engines.recipe import parse_recipe
from engines.runtimes import Judged, open_runtime
from engines.tokenizer import load_tokenizer
from engines.verification import Check, behaviour
from engines.verification.subject import Fault, Subject, error_bound
from tests.engines import conftest, making

# GPTQModel takes a warning that is raised for a failure, and goes another way then.
pytestmark = pytest.mark.filterwarnings("default")

WINDOWS = np.zeros((1, 8), dtype=np.int64)
RECIPES = {"gguf": "gguf:Q4_0", "gptq": {"method": "gptq", "calibration_samples": 8, "calibration_tokens": 64}}
Damage = Callable[[Path], None]


@pytest.fixture(scope="module")
def model(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers, a chat template, and a token that begins each text."""
    folder = conftest.cut_to_two_layers(tiny, tmp_path_factory.mktemp("verified") / "model")
    conftest.add_bos_and_chat_template(folder)
    return folder


@pytest.fixture(scope="module")
def lossless(model: Path, make_context: conftest.MakeContext) -> Path:
    context = make_context()
    convert.convert(context, model)
    return context.output


@pytest.fixture(scope="module")
def full_precision(model: Path, make_context: conftest.MakeContext) -> Answers:
    with open_runtime("safetensors", model, make_context()) as runtime:
        return probe.ask(runtime, probe.read_windows(model))


@pytest.fixture(scope="module")
def results(model: Path, lossless: Path, make_context: conftest.MakeContext) -> dict[str, Path]:
    made = {}
    for name, recipe in RECIPES.items():
        context, parsed = make_context(), parse_recipe(recipe)  # type: ignore[arg-type]
        making.quantize(parsed, context, model, make_context, lossless)
        made[name] = context.output
    return made


Verify = Callable[[str, Path], Sequence[Check]]


@pytest.fixture
def verify(model: Path, lossless: Path, full_precision: Answers, make_context: conftest.MakeContext) -> Verify:
    def verify(name: str, result: Path) -> Sequence[Check]:
        recipe = parse_recipe(RECIPES[name])  # type: ignore[arg-type]
        context = make_context()
        folders = {"result": result, "source": model, "lossless": lossless}
        inputs = {kind: conftest.linked(folder, context.scratch / kind) for kind, folder in folders.items()}
        subject = Subject(
            written=recipe.method.writes(recipe.params), promises=recipe.method.promises(recipe.params), **inputs
        )
        return verification.verify(context, subject, full_precision).checks

    return verify


@pytest.mark.parametrize("name", RECIPES)
def test_a_sound_result_passes(name: str, results: dict[str, Path], verify: Verify) -> None:
    checks = verify(name, results[name])
    assert [check.name for check in checks] == ["tensors", "tokenizer", "loads", "divergence", "generation"]
    assert all(check.passed for check in checks), checks


def replace_in_gguf(old: bytes, new: bytes) -> Damage:
    assert len(old) == len(new)

    def damage(folder: Path) -> None:
        (file,) = folder.glob("*.gguf")
        content = file.read_bytes()
        assert old in content
        file.write_bytes(content.replace(old, new))

    return damage


def corrupt_gguf_tensor(folder: Path) -> None:
    """Put noise in place of one tensor's codes."""
    import gguf

    (file,) = folder.glob("*.gguf")
    tensor = next(t for t in gguf.GGUFReader(file).tensors if t.name == "blk.1.ffn_up.weight")
    with file.open("r+b") as writer:
        writer.seek(int(tensor.data_offset))
        writer.write(np.random.default_rng(0).permuted(np.asarray(tensor.data), axis=None).tobytes())


def swap_gguf_tokens(folder: Path) -> None:
    """Give two tokens each other's id."""
    (file,) = folder.glob("*.gguf")
    content = file.read_bytes()
    one, other = ("Ġthe".encode(), "Ġand".encode())
    stored = [len(token).to_bytes(8, "little") + token for token in (one, other)]
    assert all(content.count(entry) == 1 for entry in stored)
    swapped = content.replace(stored[0], b"*" * len(stored[0])).replace(stored[1], stored[0])
    file.write_bytes(swapped.replace(b"*" * len(stored[0]), stored[1]))


def truncate_gguf(folder: Path) -> None:
    (file,) = folder.glob("*.gguf")
    file.write_bytes(file.read_bytes()[:-100_000])


def edit_tensors(edit: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        edit(tensors)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    return damage


QWEIGHT = "model.layers.1.mlp.up_proj.qweight"


def reverse_groups(tensors: dict[str, Any]) -> None:
    name = QWEIGHT.replace("qweight", "g_idx")
    tensors[name] = tensors[name].flip(0).contiguous()


def lose_a_shard(folder: Path) -> None:
    conftest.shard(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


def shift_token_ids(folder: Path) -> None:
    document = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = document["model"]["vocab"]
    vocabulary["Ġthe"], vocabulary["Ġand"] = vocabulary["Ġand"], vocabulary["Ġthe"]
    (folder / "tokenizer.json").write_text(json.dumps(document))


def lose_begin_of_text(folder: Path) -> None:
    conftest.edit_json(folder / "tokenizer.json", post_processor=None)


def tell_otherwise(folder: Path) -> None:
    """Say in the configuration, which servers trust, that zero points are not to be looked at."""
    for path in (folder / "config.json", folder / "quantize_config.json"):
        config = json.loads(path.read_text())
        config.get("quantization_config", config)["sym"] = False
        path.write_text(json.dumps(config))


class Planted(NamedTuple):
    """A fault in a result, and the check that must catch it, with what it must say."""

    name: str
    fault: str
    damage: Damage
    check: str
    says: str


FAULTS = [
    Planted("gguf", "tensor corrupted", corrupt_gguf_tensor, "tensors", "blk.1.ffn_up.weight"),
    Planted(
        "gguf", "template lost", replace_in_gguf(b"chat_template", b"chat_tempXate"), "tokenizer", "template is lost"
    ),
    Planted(
        "gguf",
        "template changed",
        replace_in_gguf(b"<|{{ m.role", b"<!{{ m.role"),
        "tokenizer",
        "another",
    ),
    Planted("gguf", "token ids shifted", swap_gguf_tokens, "tokenizer", "tokens is not as"),
    Planted(
        "gguf", "key changed", replace_in_gguf(b"rope.freq_base", b"rope.freq_bXse"), "tensors", "llama.rope.freq_b"
    ),
    Planted("gguf", "truncated", truncate_gguf, "tensors", "cannot be read"),
    Planted(
        "gptq", "tensor corrupted", edit_tensors(lambda t: t[QWEIGHT].bitwise_not_()), "tensors", "layers.1.mlp.up_proj"
    ),
    Planted(
        "gptq", "not finite", edit_tensors(lambda t: t[QWEIGHT[:-7] + "scales"].fill_(float("nan"))), "loads", "finite"
    ),
    Planted(
        "gptq", "norm changed", edit_tensors(lambda t: t["model.norm.weight"].mul_(2)), "tensors", "model.norm.weight"
    ),
    Planted("gptq", "groups out of order", edit_tensors(reverse_groups), "tensors", "out of order"),
    Planted("gptq", "told otherwise", tell_otherwise, "tensors", "sym is False"),
    Planted("gptq", "tensor missing", edit_tensors(lambda t: t.pop(QWEIGHT)), "tensors", "missing"),
    Planted("gptq", "shard missing", lose_a_shard, "tensors", "00002-of-00002.safetensors is missing"),
    Planted(
        "gptq",
        "template lost",
        lambda folder: conftest.edit_json(folder / "tokenizer_config.json", chat_template=None),
        "tokenizer",
        "template is lost",
    ),
    Planted("gptq", "token ids shifted", shift_token_ids, "tokenizer", "other ids"),
    Planted("gptq", "no begin of text", lose_begin_of_text, "tokenizer", "other ids"),
]


# A format is loaded for each; GPTQ's takes longest, and is left to the slow tests but for one.
@pytest.mark.parametrize(
    "planted",
    [
        pytest.param(
            planted,
            id=f"{planted.name} {planted.fault}",
            marks=[pytest.mark.slow] if planted.name == "gptq" and planted.fault != "tensor corrupted" else [],
        )
        for planted in FAULTS
    ],
)
def test_a_planted_fault_is_caught(planted: Planted, results: dict[str, Path], verify: Verify, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(results[planted.name], tmp_path / "damaged"))
    planted.damage(damaged)
    failed = {check.name: check.detail for check in verify(planted.name, damaged) if not check.passed}
    assert planted.says in failed[planted.check], failed


def test_a_layer_that_was_not_quantized_is_caught(lossless: Path, verify: Verify, tmp_path: Path) -> None:
    """The lossless file in the result's place, under the type that was asked for."""
    import gguf

    folder = Path(shutil.copytree(lossless, tmp_path / "lossless"))
    reader = gguf.GGUFReader(folder / convert.FILE_NAME, "r+")
    reader.fields["general.file_type"].parts[-1][0] = gguf.LlamaFileType.MOSTLY_Q4_0
    reader.data.flush()
    failed = {check.name: check.detail for check in verify("gguf", folder) if not check.passed}
    assert "token_embd.weight is bf16, and Q4_0 makes it q6_K" in failed["tensors"]


def test_another_type_than_was_asked_for_is_caught(
    lossless: Path, verify: Verify, make_context: conftest.MakeContext
) -> None:
    context, recipe = make_context(), parse_recipe("gguf:Q8_0")
    recipe.method.quantize(context, {"gguf": lossless}, recipe.params)
    failed = {check.name: check.detail for check in verify("gguf", context.output) if not check.passed}
    assert "general.file_type is 7, and 2 stands for" in failed["tensors"]


def test_an_output_head_that_is_the_embedding_may_be_left_out(
    model: Path, results: dict[str, Path], tmp_path: Path
) -> None:
    """Some models store it twice."""
    from safetensors.torch import load_file, save_file

    twice = Path(shutil.copytree(model, tmp_path / "twice"))
    tensors = load_file(twice / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, twice / "model.safetensors", {"format": "pt"})
    recipe = parse_recipe(RECIPES["gptq"])  # type: ignore[arg-type]
    promises = recipe.method.promises(recipe.params)
    subject = Subject(written="gptq", result=results["gptq"], source=twice, lossless=None, promises=promises)
    assert verification.gptq.check_tensors(subject)


def test_repetition_is_caught() -> None:
    logits = np.zeros((2, 8), dtype=np.float32)
    varied = Answers(WINDOWS, logits, np.arange(64, dtype=np.int64).reshape(1, -1))
    looping = Answers(WINDOWS, logits, np.tile(np.arange(4, dtype=np.int64), 16).reshape(1, -1))
    assert behaviour.check_generation(varied, looping)
    with pytest.raises(Fault, match="falls into repetition"):
        behaviour.check_generation(looping, varied)


def test_a_model_that_answers_otherwise_is_caught() -> None:
    def answers(likely: int) -> Answers:
        log_probabilities = np.full((4, 8), np.log(0.01), dtype=np.float32)
        log_probabilities[:, likely] = np.log(0.93)
        return Answers(WINDOWS, log_probabilities, np.zeros((1, 64), dtype=np.int64))

    assert behaviour.check_divergence(answers(1), answers(1), bits=4)
    with pytest.raises(Fault, match="KL divergence"):
        behaviour.check_divergence(answers(2), answers(1), bits=4)


def test_the_bounds_grow_as_bits_become_fewer_and_stay_below_nonsense() -> None:
    bits = [16, 8, 6, 5, 4, 3, 2]
    errors, divergences = [error_bound(b) for b in bits], [behaviour.divergence_bound(b) for b in bits]
    assert errors == sorted(errors)
    assert divergences == sorted(divergences)
    assert errors[-1] < 1  # a tensor of zeros
    assert divergences[-1] < np.log(4096) / 2  # a model that knows nothing of 4096 tokens


@pytest.mark.parametrize("written", ["safetensors", "gguf"])
def test_source_and_result_stand_side_by_side_as_text(
    written: Judged, model: Path, lossless: Path, full_precision: Answers, make_context: conftest.MakeContext
) -> None:
    other = dataclasses.replace(full_precision, continuations=(full_precision.continuations + 1) % 4096)
    with open_runtime(written, {"gguf": lossless, "safetensors": model}[written], make_context()) as runtime:
        code, prose = probe.side_by_side(runtime, full_precision, other)
    assert (code.domain, prose.domain) == probe.DOMAINS
    tokenizer = load_tokenizer(model)
    asked = read_items(tokenizer, "prose", 1)[0].ids[: probe.PROMPT_TOKENS]
    assert prose.prompt == tokenizer.decode(list(asked))
    assert prose.baseline == tokenizer.decode(full_precision.continuations[1].tolist())
    assert prose.result == tokenizer.decode(other.continuations[1].tolist())
    assert prose.baseline != prose.result
