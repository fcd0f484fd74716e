"""The evaluator against llama.cpp's own tool, and against itself through both runtimes."""

import contextlib
import dataclasses
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from core.dataset_kinds import DatasetKind
from core.errors import InvalidRequest, ModelUnsupported
from demo.expected import PERPLEXITY
from engines import convert, domains, evaluation, scoring
from engines.context import EngineContext, Progress, Suspended
from engines.domains import ITEM_TOKENS, Item
from engines.evaluation import Asked
from engines.gates import Condition, Gate
from engines.own_domains import OwnDataset
from engines.runtimes import open_runtime
from engines.score_files import Reference
from engines.tokenizer import load_tokenizer
from tests.engines import conftest, making

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def judge(written: str, model: Path, source: Path, windows: int, context: EngineContext) -> dict[str, float]:
    with open_runtime(written, model, context) as runtime:  # type: ignore[arg-type]
        return making.score(runtime, source, {"prose": windows, "code": windows}, context)


def test_full_precision_gives_the_known_numbers(tiny: Path, make_context: conftest.MakeContext) -> None:
    assert judge("safetensors", tiny, tiny, 40, make_context()) == pytest.approx(PERPLEXITY["baseline"], rel=1e-3)


@pytest.mark.parametrize("recipe", ["gguf:Q8_0", "gguf:Q4_K_M"])
@pytest.mark.slow
def test_results_give_the_known_numbers(
    recipe: str, tiny: Path, quantized: conftest.Quantize, make_context: conftest.MakeContext
) -> None:
    assert judge("gguf", quantized(recipe), tiny, 40, make_context()) == pytest.approx(PERPLEXITY[recipe], rel=1e-3)


@pytest.mark.parametrize("recipe", ["gguf:F16", "gguf:Q4_K_M"])
def test_agrees_with_llama_cpps_own_tool(
    recipe: str,
    tiny: Path,
    quantized: conftest.Quantize,
    tool_perplexity: conftest.ToolPerplexity,
    make_context: conftest.MakeContext,
) -> None:
    ours = judge("gguf", quantized(recipe), tiny, 6, make_context())
    (file,) = quantized(recipe).iterdir()
    assert ours == pytest.approx({domain: tool_perplexity(file, domain, 6) for domain in ours}, rel=1e-3)


def test_one_model_scores_the_same_through_both_runtimes(
    tiny: Path, quantized: conftest.Quantize, make_context: conftest.MakeContext
) -> None:
    reference = judge("safetensors", tiny, tiny, 6, make_context())
    assert judge("gguf", quantized("gguf:F16"), tiny, 6, make_context()) == pytest.approx(reference, rel=1e-3)


@pytest.mark.slow
def test_a_model_that_adds_bos_agrees_with_the_tool(
    tiny_copy: Path, tool_perplexity: conftest.ToolPerplexity, make_context: conftest.MakeContext
) -> None:
    conftest.add_bos_and_chat_template(tiny_copy)
    context = make_context()
    convert.convert(context, tiny_copy)
    windows = domains.read_items(load_tokenizer(tiny_copy), "prose", 3)
    assert [window.ids[0] for window in windows] == [0, 0, 0]
    file = context.output / convert.FILE_NAME
    from_tool = {domain: tool_perplexity(file, domain, 4) for domain in ("prose", "code")}
    assert judge("gguf", file, tiny_copy, 4, make_context()) == pytest.approx(from_tool, rel=1e-3)
    assert judge("safetensors", tiny_copy, tiny_copy, 4, make_context()) == pytest.approx(from_tool, rel=1e-3)


@pytest.mark.parametrize("change", ["float32", "float16", "shards"])
@pytest.mark.slow
def test_other_ways_to_store_the_weights_change_nothing(
    change: str, tiny: Path, tiny_copy: Path, make_context: conftest.MakeContext
) -> None:
    if change == "shards":
        conftest.shard(tiny_copy)
    else:
        conftest.store_as(tiny_copy, change)
    context = make_context()
    facts = convert.convert(context, tiny_copy)
    main_type = {"float32": "f32", "float16": "f16", "shards": "bf16"}[change]
    assert max(facts["tensor_types"], key=lambda name: facts["tensor_types"][name]) == main_type
    reference = judge("safetensors", tiny, tiny, 2, make_context())
    assert judge("safetensors", tiny_copy, tiny_copy, 2, make_context()) == pytest.approx(reference, rel=1e-5)
    assert judge("gguf", context.output, tiny_copy, 2, make_context()) == pytest.approx(reference, rel=1e-3)


class FakeRuntime:
    """Knows 4096 tokens; the logits of one are higher than the others' by what is asked for."""

    def __init__(self, value: float = 0.0, vocabulary: int = 4096, ahead: float = 0.0) -> None:
        self._value, self._vocabulary, self._ahead = value, vocabulary, ahead
        self.window_tokens = 512

    def logits(self, item: Item) -> "NDArray[np.float32]":
        import numpy as np

        logits = np.full((len(item.targets), self._vocabulary), self._value, dtype=np.float32)
        logits[:, 7] += self._ahead
        return logits

    def continuation(self, prompt: object, count: int, is_over: object = None) -> list[int]:
        raise NotImplementedError

    def text(self, ids: object) -> str:
        raise NotImplementedError


@pytest.mark.parametrize(("positions", "read"), [(700, 700), (256, 512), (8192, ITEM_TOKENS)])
def test_an_item_of_a_teams_own_is_read_as_far_as_the_model_can(
    positions: int, read: int, tiny_copy: Path, tmp_path: Path
) -> None:
    conftest.edit_json(tiny_copy / "config.json", max_position_embeddings=positions)
    line = {"prompt": "What was said before. " * 600, "completion": " And so it ends."}
    (tmp_path / "dataset").write_text(json.dumps(line), encoding="utf-8")
    own = {"dataset": OwnDataset(tmp_path / "dataset", DatasetKind.COMPLETION)}
    items = evaluation.read_all(tiny_copy, ["dataset", "prose"], 1, own)
    assert [len(items[name][0].ids) for name in ("dataset", "prose")] == [read, 512]


def test_scores_are_kept_by_window(tiny: Path, make_context: conftest.MakeContext) -> None:
    reports: list[Progress] = []
    items = evaluation.read_all(tiny, ["code", "prose"], 3)
    scores = evaluation.score_reference(FakeRuntime(1e4), Asked(items), make_context(reports))
    assert evaluation.perplexity(scores["prose"]) == pytest.approx(4096)
    assert [float(item.nll.sum()) for item in scores["prose"]] == pytest.approx([255 * math.log(4096)] * 3)
    assert (len(scores["prose"]), evaluation.token_count(scores["prose"])) == (3, 765)
    assert [(p.done, p.total, p.unit, p.message) for p in reports] == [
        (n, 6, "windows", "code" if n <= 3 else "prose") for n in range(1, 7)
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused(value: float, tiny: Path, make_context: conftest.MakeContext) -> None:
    with pytest.raises(ModelUnsupported, match="not finite"):
        making.score(FakeRuntime(value), tiny, {"prose": 1}, make_context())


def test_a_vocabulary_smaller_than_the_tokenizers_is_refused(tiny: Path, make_context: conftest.MakeContext) -> None:
    with pytest.raises(ModelUnsupported, match="knows 100 tokens"):
        making.score(FakeRuntime(vocabulary=100), tiny, {"prose": 1}, make_context())


def test_a_model_that_gives_the_text_no_probability_is_refused(tiny: Path, make_context: conftest.MakeContext) -> None:
    with pytest.raises(ModelUnsupported, match="no probability"):
        making.score(FakeRuntime(ahead=1e3), tiny, {"prose": 1}, make_context())


def test_what_a_model_rules_out_does_not_spoil_the_divergence() -> None:
    import numpy as np

    logits = np.array([[1.0, 2.0, -np.inf]], dtype=np.float32)
    found = scoring.score(logits, [1], scoring.log_probabilities(logits))
    assert found.kl == pytest.approx(0, abs=1e-6)


def test_divergence_is_what_its_definition_says() -> None:
    import numpy as np

    generator = np.random.default_rng(1)
    ours, theirs = (generator.normal(scale=3, size=(40, 900)).astype(np.float32) for _ in range(2))
    found = scoring.score(theirs, [3] * 40, scoring.log_probabilities(ours))
    log_p, log_q = (
        one.astype(np.float64) - np.log(np.exp(one.astype(np.float64)).sum(axis=1, keepdims=True))
        for one in (ours, theirs)
    )
    assert found.kl == pytest.approx((np.exp(log_p) * (log_p - log_q)).sum(axis=1), rel=1e-3)
    assert found.nll == pytest.approx(-log_q[:, 3], rel=1e-6)
    assert list(found.likeliest) == list(log_q.argmax(axis=1))


def test_a_padded_vocabulary_is_compared_by_what_both_have() -> None:
    import numpy as np

    logits = np.random.default_rng(2).normal(size=(5, 50)).astype(np.float32)
    padded = np.pad(logits, ((0, 0), (0, 6)), constant_values=-1e9)
    found = scoring.score(logits, [3] * 5, scoring.log_probabilities(padded))
    assert found.kl == pytest.approx(np.zeros(5), abs=1e-6)


def test_an_unknown_text_is_refused_with_those_there_are(tiny: Path) -> None:
    with pytest.raises(InvalidRequest, match="code, code-completion, prose, summaries") as caught:
        domains.read_items(load_tokenizer(tiny), "../prose", 1)
    assert caught.value.param == "evaluation.domains"


def test_a_text_gives_the_windows_it_has(tiny: Path) -> None:
    tokenizer = load_tokenizer(tiny)
    text = "one two three four " * 400
    assert 1 <= len(domains.cut_windows(tokenizer, text, 10_000)) < 10
    with pytest.raises(ModelUnsupported, match="a window needs 512"):
        domains.cut_windows(tokenizer, "short", 1)


def test_a_special_tokens_name_in_a_text_is_text(tiny: Path) -> None:
    windows = domains.cut_windows(load_tokenizer(tiny), "<|endoftext|> " * 400, 1)
    assert 0 not in windows[0].ids


def test_of_a_completion_only_the_answer_is_scored(tiny: Path) -> None:
    tokenizer = load_tokenizer(tiny)
    item = domains.completion(tokenizer, "def add(a, b):\n    return", " a + b\n")
    assert tokenizer.decode(list(item.ids)) == "def add(a, b):\n    return a + b\n"
    assert tokenizer.decode(list(item.targets)) == " a + b\n"


def test_a_completion_where_the_prompt_ends_within_a_token_is_scored_from_that_token(tiny: Path) -> None:
    tokenizer = load_tokenizer(tiny)
    item = domains.completion(tokenizer, "The ret", "urn of the native")
    assert tokenizer.decode(list(item.targets)).lstrip() == "return of the native"
    assert tokenizer.decode(list(item.ids)) == "The return of the native"


@pytest.mark.parametrize(("prompt", "answer"), [(2000, 20), (20, 2000), (2000, 2000)])
def test_a_long_completion_is_cut_to_a_window(prompt: int, answer: int, tiny: Path) -> None:
    item = domains.completion(load_tokenizer(tiny), "one " * prompt, "two " * answer)
    assert len(item.ids) <= 512
    assert item.first >= 1
    assert len(item.targets) >= min(20, 256)


@pytest.mark.parametrize(("prompt", "answer"), [("", "answer"), ("prompt", "")])
def test_half_a_completion_is_refused(prompt: str, answer: str, tiny: Path) -> None:
    with pytest.raises(ModelUnsupported, match="no tokens"):
        domains.completion(load_tokenizer(tiny), prompt, answer)


@pytest.fixture(scope="module")
def reference_folder(tiny: Path, make_context: conftest.MakeContext) -> Path:
    """What full precision says of six windows of each text."""
    context = make_context()
    items = evaluation.read_all(tiny, ["prose", "code"], 6)
    with open_runtime("safetensors", tiny, context) as runtime:
        evaluation.score_reference(runtime, Asked(items), context)
    return context.output


def test_full_precision_has_lost_nothing_against_itself(
    tiny: Path, reference_folder: Path, make_context: conftest.MakeContext
) -> None:
    context, items = make_context(), evaluation.read_all(tiny, ["prose"], 6)
    with open_runtime("safetensors", tiny, context) as runtime:
        found = evaluation.score_result(runtime, Asked(items), Reference(reference_folder), context)
    measured = {metric: estimate.value for metric, estimate in found.measures["prose"].items()}
    assert measured == {
        "perplexity_ratio": 1,
        "kl_divergence": pytest.approx(0, abs=1e-6),
        "kl_divergence_p99": pytest.approx(0, abs=1e-5),
        "agreement": 1,
    }


def test_divergence_agrees_with_llama_cpps_own_tool(
    tiny: Path,
    reference_folder: Path,
    quantized: conftest.Quantize,
    tool_divergence: conftest.ToolDivergence,
    make_context: conftest.MakeContext,
) -> None:
    context, items = make_context(), evaluation.read_all(tiny, ["prose", "code"], 6)
    with open_runtime("gguf", quantized("gguf:Q4_K_M"), context) as runtime:
        found = evaluation.score_result(runtime, Asked(items), Reference(reference_folder), context)
    for domain, measures in found.measures.items():
        from_tool = tool_divergence("gguf:Q4_K_M", domain, 6)
        assert measures["kl_divergence"].value == pytest.approx(from_tool["Mean    KLD"], rel=0.01)
        assert measures["kl_divergence_p99"].value == pytest.approx(from_tool["99.0%   KLD"], rel=0.05)
        assert 100 * measures["agreement"].value == pytest.approx(from_tool["Same top p"], abs=0.2)
        for estimate in measures.values():
            assert estimate.low is None or estimate.low <= estimate.value <= (estimate.high or math.inf)


def test_what_is_kept_of_full_precision_has_a_limit(tiny: Path, make_context: conftest.MakeContext) -> None:
    context, items = make_context(), evaluation.read_all(tiny, ["prose", "code"], 3)
    of_two = 2 * 255 * 4096 * 2
    evaluation.score_reference(FakeRuntime(), Asked(items), context, limit_bytes=2 * of_two)
    reference = Reference(context.output)
    for domain in items:
        rows = [reference.log_probabilities(domain, index) for index in range(3)]
        assert [row is not None for row in rows] == [True, True, False]
    judged = evaluation.score_result(FakeRuntime(ahead=1.0), Asked(items), reference, make_context())
    assert [item.kl is not None for item in judged.scores["code"]] == [True, True, False]
    assert judged.measures["code"]["kl_divergence"].value > 0


class Leaving:
    """Asks a scorer to leave after some items, once."""

    def __init__(self, after: int) -> None:
        self._left = after

    def __call__(self) -> bool:
        self._left -= 1
        return self._left == 0


@pytest.mark.parametrize("part_items", [1, 4, 100])
def test_scoring_goes_on_at_the_item_where_it_was_broken_off(
    part_items: int, tiny: Path, make_context: conftest.MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engines.score_files.PART_BYTES", part_items * 255 * 4096 * 2)
    items = evaluation.read_all(tiny, ["prose", "code"], 7)
    unbroken = make_context()
    evaluation.score_reference(FakeRuntime(ahead=2.0), Asked(items), unbroken)
    reports: list[Progress] = []
    context = make_context(reports)
    for after in (3, 6):
        with pytest.raises(Suspended):
            evaluation.score_reference(
                FakeRuntime(ahead=2.0), Asked(items), dataclasses.replace(context, must_leave=Leaving(after))
            )
    evaluation.score_reference(FakeRuntime(ahead=2.0), Asked(items), context)
    assert [report.done for report in reports] == list(range(1, 15))
    assert files(context.output) == files(unbroken.output)
    broken = make_context()
    with pytest.raises(Suspended):
        evaluation.score_result(
            FakeRuntime(), Asked(items), Reference(context.output), dataclasses.replace(broken, must_leave=Leaving(9))
        )
    again = evaluation.score_result(FakeRuntime(), Asked(items), Reference(context.output), broken)
    once = evaluation.score_result(FakeRuntime(), Asked(items), Reference(context.output), make_context())
    assert again.measures == once.measures


def test_what_was_begun_on_other_items_is_begun_anew(
    tiny: Path, make_context: conftest.MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engines.score_files.PART_BYTES", 255 * 4096 * 2)
    items = evaluation.read_all(tiny, ["prose"], 5)
    shorter = {"prose": [dataclasses.replace(one, ids=one.ids[:400]) for one in items["prose"]]}
    begun, anew = make_context(), make_context()
    with pytest.raises(Suspended):
        evaluation.score_reference(
            FakeRuntime(ahead=2.0), Asked(shorter), dataclasses.replace(begun, must_leave=Leaving(5))
        )
    limit_bytes = 2 * 255 * 4096 * 2  # less than the parts that are there already
    for context in (begun, anew):
        evaluation.score_reference(FakeRuntime(ahead=2.0), Asked(items), context, limit_bytes)
    assert files(begun.output) == files(anew.output)


def test_a_gate_that_was_broken_off_decides_on_the_same_items(tiny: Path, make_context: conftest.MakeContext) -> None:
    context, items = make_context(), evaluation.read_all(tiny, ["prose", "code"], 24)
    evaluation.score_reference(FakeRuntime(), Asked(items), context)
    reference = Reference(context.output)
    worse = FakeRuntime(ahead=1.0)
    gate = Gate((Condition("agreement", "prose", min=0.5), Condition("perplexity_ratio", "code", max=1.5)), 6)
    once = evaluation.score_result(worse, Asked(items), reference, make_context(), gate)
    for after in (5, 15, 30):
        broken = make_context()
        with contextlib.suppress(Suspended):
            evaluation.score_result(
                worse, Asked(items), reference, dataclasses.replace(broken, must_leave=Leaving(after)), gate
            )
        again = evaluation.score_result(worse, Asked(items), reference, broken, gate)
        assert again.gate == once.gate
        assert again.measures == once.measures
        assert again.baseline == once.baseline
        assert {domain: len(scored) for domain, scored in again.scores.items()} == {
            domain: len(scored) for domain, scored in once.scores.items()
        }


def test_a_plan_of_an_earlier_version_has_nothing_to_compare_with(
    tiny: Path, make_context: conftest.MakeContext, tmp_path: Path
) -> None:
    items = evaluation.read_all(tiny, ["prose"], 2)
    found = evaluation.score_result(FakeRuntime(), Asked(items), Reference(tmp_path), make_context())
    assert len(found.scores["prose"]) == 2
    assert (found.measures, found.baseline) == ({}, {})


def test_only_what_is_new_is_written_again(
    tiny: Path, make_context: conftest.MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engines.evaluation.SAVE_SECONDS", 0.0)
    context = make_context()
    seen: list[dict[str, int]] = []

    def save() -> None:
        seen.append({path.name: path.stat().st_ino for path in context.checkpoint.glob("log-*")})

    items = evaluation.read_all(tiny, ["prose", "code"], 2)
    evaluation.score_reference(FakeRuntime(), Asked(items), dataclasses.replace(context, save=save))
    first, second = (f"log-probabilities.{domain}.00000.npy" for domain in ("prose", "code"))
    assert [set(saved) for saved in seen] == [{first}, {first}, {first, second}, {first, second}]
    assert seen[1][first] == seen[2][first] == seen[3][first]
    assert seen[2][second] != seen[3][second]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_there_are_prose_and_code() -> None:
    assert {"code", "prose"} <= set(domains.domains())
