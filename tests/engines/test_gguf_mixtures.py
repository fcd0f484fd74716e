"""GGUF beyond one type: types by pattern, of embedding and output head, and sets of files."""

import dataclasses
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from core.errors import DoesNotFit, InvalidRequest, ModelUnsupported
from engines import probe, source, verification
from engines.gguf_file import gguf_in, open_gguf, parts, read_gguf_facts, type_name
from engines.gguf_plan import planned_types, quantizable, type_options
from engines.gguf_types import asked_types, stored_as
from engines.methods.base import Material
from engines.probe import Answers
from engines.recipe import Recipe, parse_recipe
from engines.runtimes import open_runtime
from engines.tensor_patterns import choose
from engines.verification.subject import Fault, Subject
from tests.engines import conftest, making, trials

pytestmark = pytest.mark.filterwarnings("default")

SPLIT = {"method": "gguf", "type": "Q8_0", "split_max_bytes": 3_000_000}
MIXED = {
    "method": "gguf",
    "type": "Q4_0",
    "tensor_types": {r"blk\.[0-2]\.attn_": "q6_K"},
    "token_embedding_type": "q5_1",
}

Make = Callable[[Any], Path]


@pytest.fixture(scope="module")
def make(material: Mapping[Material, Path], make_context: conftest.MakeContext) -> Make:
    """Return a function from a recipe to the folder of the result, made once."""
    made: dict[str, Path] = {}

    def make(given: Any) -> Path:
        if str(given) not in made:
            context, recipe = make_context(), parse_recipe(given)
            recipe.method.quantize(context, material, recipe.params)
            made[str(given)] = context.output
        return made[str(given)]

    return make


def types_in(folder: Path) -> dict[str, str]:
    return {name: type_name(tensor) for name, tensor in open_gguf(gguf_in(folder)).matrices().items()}


def test_attention_keeps_more_bits_than_feed_forward(make: Make) -> None:
    types = types_in(make("gguf:attention-high"))
    assert {kind for name, kind in types.items() if "attn_" in name} == {"q6_K"}
    assert {kind for name, kind in types.items() if "ffn_" in name} == {"q4_K"}


def test_each_tensor_gets_what_is_asked_for_it(make: Make) -> None:
    types = types_in(make(MIXED))
    assert types["token_embd.weight"] == "q5_1"
    assert {name for name, kind in types.items() if kind == "q6_K"} == {
        f"blk.{layer}.attn_{part}.weight" for layer in range(3) for part in ("q", "k", "v", "output")
    }
    assert {kind for name, kind in types.items() if "ffn_" in name} == {"q4_0"}


def test_the_output_type_is_the_embeddings_where_it_is_the_head_too(make: Make) -> None:
    assert types_in(make({"method": "gguf", "type": "Q4_0", "output_type": "q8_0"}))["token_embd.weight"] == "q8_0"


@pytest.mark.slow
def test_every_type_of_a_tensor_can_be_written_and_read(
    material: Mapping[Material, Path], make_context: conftest.MakeContext
) -> None:
    kinds = ("mxfp4", "q4_1", "iq4_nl", "q5_0", "bf16", "f16", "iq1_m", "iq2_xxs")
    given = {
        f"ffn_up|blk\\.{layer}\\.attn_q" if layer == 0 else f"blk\\.{layer}\\.attn_q": kind
        for layer, kind in enumerate(kinds[:6])
    }
    given |= {r"blk\.0\.attn_k": kinds[6], r"blk\.1\.attn_k": kinds[7]}
    context, recipe = (
        make_context(),
        parse_recipe({"method": "gguf", "type": "Q8_0", "imatrix": True, "tensor_types": given}),
    )
    facts = recipe.method.quantize(context, material, recipe.params)
    assert set(kinds) <= set(facts["tensor_types"])


def test_a_pattern_without_a_tensor_is_said(
    material: Mapping[Material, Path], make_context: conftest.MakeContext
) -> None:
    context = make_context()
    recipe = parse_recipe({"method": "gguf", "tensor_types": {"attn_": "q6_K", r"attn_norm": "q8_0"}})
    with pytest.raises(InvalidRequest, match=r"'attn_norm' is found in no .*blk\.N\.attn_q\.weight") as refused:
        recipe.method.quantize(context, material, recipe.params)
    assert refused.value.param == "recipe.tensor_types"
    assert list(context.output.iterdir()) == []


def test_patterns_that_overlap_must_agree() -> None:
    names = ["blk.0.attn_q.weight", "blk.0.attn_v.weight"]
    assert choose({"attn_": 1, "attn_q": 1}, names, param="p") == dict.fromkeys(names, 1)
    with pytest.raises(InvalidRequest, match=r"'attn_' and 'attn_q' are both found in blk\.0\.attn_q\.weight"):
        choose({"attn_": 1, "attn_q": 2}, names, param="p")


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "a" * 129,
        "(a*)*",
        "(a|b)+",
        "a{3}",
        "(?i)attn",
        "attn q",
        "a=b",
        "a*+",
        "[^a]",
        "[]a]",
        "(",
        r"\w",
        ".*.*.*.*",
        "|*",
        "Attn_v",
        "[A-Z]ttn_v",
        "[A-z]ttn_v",
        "attn_[0-z]",
        "attn_[_-z]",
        "attn_[k-v-z]",
        "attn_[-v]",
        "attn_[v-]",
        "attn_[v-k]",
        r"blk\.\D",
    ],
)
def test_a_pattern_that_might_run_away_or_mean_two_things_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_recipe({"method": "gguf", "tensor_types": {pattern: "q6_K"}})
    assert refused.value.param == "recipe.tensor_types"


def test_a_pattern_with_capitals_is_told_what_llama_cpp_makes_of_it() -> None:
    with pytest.raises(InvalidRequest, match=r"The pattern '\[A-z\]ttn_v' must have small letters alone: llama\.cpp"):
        parse_recipe({"method": "gguf", "tensor_types": {"[A-z]ttn_v": "q6_K"}})


def test_patterns_find_what_llama_cpp_finds(converted: Path) -> None:
    """Classes, groups, repeats and ends of names, in the tool and here."""
    names = quantizable(converted)
    for pattern in (r"blk\.[0-24]\.attn_[j-l_]", r"^blk\.(1|3)\.ffn_.*n\.", r"_[a-c]?[kq]\.weight$", "d*o+w?n", "k|"):
        planned = planned_types(converted, "Q8_0", type_options({pattern: "q4_1"}, None, None))
        found = {name for name, kind in planned.items() if kind == "q4_1"}
        assert found == set(choose({pattern: "q4_1"}, names, param="p")), pattern


@pytest.mark.parametrize(
    "pattern",
    ["attn_v", r"blk\.\d+\.ffn_(up|gate)", r"^blk\.(0|1|2[0-9])\..*_exps\.weight$", "ffn_.*_exps", "attn_[kq]"],
)
def test_patterns_that_people_write_are_taken(pattern: str) -> None:
    recipe = parse_recipe({"method": "gguf", "tensor_types": {pattern: "mxfp4"}})
    assert recipe.parameters["tensor_types"] == {pattern: "mxfp4"}


def test_embedding_and_output_come_before_patterns() -> None:
    names = ["token_embd.weight", "output.weight", "blk.0.attn_q.weight"]
    assert asked_types(names, {"weight": "q4_0"}, "q6_K", "q8_0") == {
        "token_embd.weight": "q6_K",
        "output.weight": "q8_0",
        "blk.0.attn_q.weight": "q4_0",
    }
    assert asked_types(names[::2], {}, "q6_K", "q8_0") == {"token_embd.weight": "q6_K"}


def test_an_embedding_type_that_does_not_go_with_the_rows_is_refused(tiny: Path) -> None:
    odd = dataclasses.replace(source.inspect(tiny), hidden_size=576)
    recipe = parse_recipe({"method": "gguf", "token_embedding_type": "q6_K"})
    recipe.method.check(source.inspect(tiny), recipe.params)
    with pytest.raises(InvalidRequest, match="does not divide this model's rows of 576") as refused:
        recipe.method.check(odd, recipe.params)
    assert refused.value.param == "recipe.token_embedding_type"


def test_rows_of_another_length_fall_back() -> None:
    assert [stored_as(kind, 576) for kind in ("q4_K", "iq2_xs", "q6_K", "q4_0")] == ["q5_0", "iq4_nl", "q8_0", "q4_0"]
    assert stored_as("q4_K", 80) == "f16"


def test_a_set_is_as_large_as_was_asked_for_and_holds_all(make: Make) -> None:
    folder, whole = make(SPLIT), make("gguf:Q8_0")
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == [
        f"model-Q8_0-{n:05}-of-{len(files):05}.gguf" for n in range(1, len(files) + 1)
    ]
    assert len(files) > 2
    assert max(file.stat().st_size for file in files) <= 3_000_000
    facts, of_whole = read_gguf_facts(gguf_in(folder)), read_gguf_facts(gguf_in(whole))
    assert facts["size_bytes"] == sum(file.stat().st_size for file in files)
    assert {**facts, "size_bytes": 0} == {**of_whole, "size_bytes": 0}


def test_what_is_small_enough_stays_whole(make: Make) -> None:
    folder = make({"method": "gguf", "type": "Q4_0", "split_max_bytes": 5_000_000})
    assert [path.name for path in folder.iterdir()] == ["model-Q4_0.gguf"]


def test_a_tensor_larger_than_a_file_may_be_is_said(
    tiny: Path, material: Mapping[Material, Path], make_context: conftest.MakeContext
) -> None:
    context, recipe = make_context(), parse_recipe({"method": "gguf", "type": "F16", "split_max_bytes": 2_000_000})
    with pytest.raises(InvalidRequest, match=r"token_embd\.weight alone takes .* Choose 3000000 or more"):
        recipe.method.quantize(context, material, recipe.params)
    assert list(context.output.iterdir()) == []
    large = dataclasses.replace(source.inspect(tiny), vocabulary_size=256_000)
    with pytest.raises(InvalidRequest, match="The embedding alone takes more than split_max_bytes"):
        recipe.method.check(large, recipe.params)


def test_a_split_that_fails_leaves_nothing(
    make: Make, material: Mapping[Material, Path], make_context: conftest.MakeContext
) -> None:
    context, recipe = make_context(), parse_recipe(SPLIT)
    second = sorted(make(SPLIT).iterdir())[1].name
    (context.scratch / "split").mkdir()
    (context.scratch / "split" / second).symlink_to("/dev/full")
    with pytest.raises(DoesNotFit, match="disk is full"):
        recipe.method.quantize(context, material, recipe.params)
    assert list(context.output.iterdir()) == []


def test_a_set_of_links_answers_as_the_whole(
    make: Make, tiny: Path, tmp_path: Path, make_context: conftest.MakeContext
) -> None:
    def perplexity(folder: Path) -> float:
        context = make_context()
        with open_runtime("gguf", folder, context) as runtime:
            return making.score(runtime, tiny, {"prose": 2}, context)["prose"]

    # As a store has them: the link's name says what a file is, and the file's own does not.
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    links = tmp_path / "links"
    links.mkdir()
    for number, file in enumerate(sorted(make(SPLIT).iterdir())):
        shutil.copy(file, blobs / f"blob{number}")
        (links / file.name).symlink_to(blobs / f"blob{number}")
    assert perplexity(links) == perplexity(make("gguf:Q8_0"))


@pytest.fixture(scope="module")
def full_precision(tiny: Path, make_context: conftest.MakeContext) -> Answers:
    with open_runtime("safetensors", tiny, make_context()) as runtime:
        return probe.ask(runtime, probe.read_windows(tiny))


Verify = Callable[[Any, Path], dict[str, tuple[bool, str]]]


@pytest.fixture
def verify(converted: Path, tiny: Path, full_precision: Answers, make_context: conftest.MakeContext) -> Verify:
    def verify(given: Any, result: Path) -> dict[str, tuple[bool, str]]:
        recipe: Recipe = parse_recipe(given)
        subject = Subject("gguf", result, tiny, converted.parent, recipe.parameters)
        checks = verification.verify(make_context(), subject, full_precision).checks
        return {check.name: (check.passed, check.detail) for check in checks}

    return verify


@pytest.mark.parametrize(
    "given",
    [
        SPLIT,
        MIXED,
        pytest.param("gguf:Q2_K_S+imatrix", marks=pytest.mark.slow),
        pytest.param("gguf:attention-high", marks=pytest.mark.slow),
        pytest.param("gguf:IQ1_S+imatrix", marks=pytest.mark.slow),
        pytest.param("gguf:IQ2_XS+imatrix", marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_sound_result_passes(given: Any, make: Make, verify: Verify) -> None:
    found = verify(given, make(given))
    assert all(passed for passed, _ in found.values()), found
    assert len(found) == 5


def without(folder: Path, number: int) -> None:
    parts(gguf_in(folder))[number].unlink()


def swapped(folder: Path, one: int, other: int) -> None:
    first, second = parts(gguf_in(folder))[one], parts(gguf_in(folder))[other]
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: without(folder, 1), r"model-Q8_0-00002-of-\d+\.gguf is missing"),
        (lambda folder: swapped(folder, 1, 2), r"model-Q8_0-00002-of-\d+\.gguf says that it is number 2 of"),
        (lambda folder: swapped(folder, 0, 1), r"model-Q8_0-00001-of-\d+\.gguf says that it is number 1 of"),
    ],
    ids=["a missing part", "swapped parts", "swapped with the first"],
)
def test_a_damaged_set_is_caught(
    damage: Callable[[Path], None], says: str, make: Make, verify: Verify, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(make(SPLIT), tmp_path / "damaged"))
    damage(folder)
    found = verify(SPLIT, folder)
    assert not found["tensors"][0]
    assert re.search(says, found["tensors"][1])
    assert not found["loads"][0]
    with pytest.raises(ModelUnsupported, match=says):
        open_gguf(gguf_in(folder))


def check_tensors(given: Any, result: Path, converted: Path, tiny: Path) -> str:
    parameters = parse_recipe(given).parameters
    return verification.gguf.check_tensors(Subject("gguf", result, tiny, converted.parent, parameters))


@pytest.fixture
def sources(converted: Path, tiny: Path) -> tuple[Path, Path]:
    return converted, tiny


def test_one_tensor_of_another_type_is_caught(make: Make, converted: Path, tiny: Path) -> None:
    asked = {**MIXED, "tensor_types": {r"blk\.[0-2]\.attn_": "q6_K", "blk.5.ffn_down": "q8_0"}}
    with pytest.raises(Fault, match=r"blk\.5\.ffn_down\.weight is q4_0, and must be q8_0 by what was asked for it"):
        check_tensors(asked, make(MIXED), converted, tiny)


@pytest.mark.parametrize(
    ("file_type", "asked", "says"),
    [
        ("Q4_K_S", {"blk.3.ffn_up": "q3_K"}, "blk.3.ffn_up.weight is q3_K, and Q4_K_S makes it q4_K"),
        ("Q4_K_M", {"blk.2.attn_v": "q8_0"}, "blk.2.attn_v.weight is q8_0, and Q4_K_M makes it q6_K"),
        ("Q4_K_M", {"blk.3.attn_v": "q6_K"}, "blk.3.attn_v.weight is q6_K, and Q4_K_M makes it q4_K"),
        ("Q8_0", {"blk.3.attn_v": "f16"}, "blk.3.attn_v.weight is f16, and Q8_0 makes it q8_0"),
    ],
    ids=["fewer bits", "more bits", "more bits, as another layer has", "not quantized"],
)
def test_one_tensor_of_another_type_than_the_mixtures_is_caught(
    file_type: str, asked: dict[str, str], says: str, make: Make, sources: tuple[Path, Path]
) -> None:
    given = {"method": "gguf", "type": file_type, "tensor_types": asked}
    assert check_tensors(given, make(given), *sources)
    with pytest.raises(Fault, match=re.escape(says)):
        check_tensors(f"gguf:{file_type}", make(given), *sources)


def test_types_of_a_mixture_that_an_importance_matrix_changes_are_known(
    make: Make, converted: Path, tiny: Path
) -> None:
    given = {"method": "gguf", "type": "IQ4_XS", "imatrix": True}
    assert check_tensors(given, make(given), converted, tiny)


FEW = {"calibration_samples": 4, "calibration_tokens": 64}
ROWS_OF_128 = (
    "gguf:Q4_K_M",
    {"method": "gguf", "type": "Q6_K", "tensor_types": {"ffn_down": "q3_K"}, "output_type": "q8_0"},
    {"method": "gguf", "type": "Q4_K_S", "token_embedding_type": "q5_1"},
    {"method": "gguf", "type": "IQ4_XS", "imatrix": True, **FEW},
    {"method": "gguf", "type": "IQ2_XS", "imatrix": True, **FEW},
    "gguf:BF16",
)


@pytest.mark.parametrize(
    "sample", ["llama, tied", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gpt2", "gemma3", "qwen3-moe"))]
)
def test_sound_results_of_rows_that_256_does_not_divide_pass(
    sample: str, tmp_path: Path, make_context: conftest.MakeContext
) -> None:
    trials.apart(trials.build_all, tmp_path, [sample])
    model = tmp_path / sample / "model"
    lossless = making.converted(model, make_context())
    for given in ROWS_OF_128:
        context, recipe = make_context(), parse_recipe(given)
        making.quantize(recipe, context, model, make_context, lossless)
        assert check_tensors(given, context.output, lossless / "model.gguf", model)


def test_an_importance_matrix_that_was_not_asked_for_is_caught(make: Make, converted: Path, tiny: Path) -> None:
    given = {"method": "gguf", "type": "Q4_0", "imatrix": True}
    assert check_tensors(given, make(given), converted, tiny)
    with pytest.raises(Fault, match=r"quantize\.imatrix\.file is 'imatrix\.gguf', and must be None"):
        check_tensors("gguf:Q4_0", make(given), converted, tiny)
