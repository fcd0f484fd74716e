"""The evaluator against llama.cpp's own tool, and against itself through both runtimes."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from core.errors import InvalidRequest, ModelUnsupported
from demo.expected import PERPLEXITY
from engines import convert, evaluation
from engines.context import EngineContext, Progress
from engines.runtimes import open_runtime
from engines.tokenizer import load_tokenizer
from tests.engines import conftest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def perplexities(scores: "dict[str, evaluation.DomainScore]") -> dict[str, float]:
    return {domain: score["perplexity"] for domain, score in scores.items()}


def judge(written: str, model: Path, source: Path, windows: int, context: EngineContext) -> dict[str, float]:
    with open_runtime(written, model, context) as runtime:  # type: ignore[arg-type]
        scores = evaluation.evaluate(runtime, source, ["prose", "code"], windows, context.report)
    return perplexities(dict(scores))


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
    windows = evaluation.read_windows(tiny_copy, "prose", 3)
    assert [window[0] for window in windows] == [0, 0, 0]
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
    """Knows 4096 tokens and finds each as likely as ``logit`` of another says."""

    def __init__(self, value: Callable[[], float], vocabulary: int = 4096) -> None:
        self._value, self._vocabulary = value, vocabulary

    def logits(self, window: object) -> "NDArray[np.float32]":
        import numpy as np

        return np.full((255, self._vocabulary), self._value(), dtype=np.float32)

    def continuation(self, prompt: object, count: int) -> list[int]:
        raise NotImplementedError


def test_scores_are_kept_by_window(tiny: Path) -> None:
    reports: list[Progress] = []
    scores = evaluation.evaluate(FakeRuntime(lambda: 1e4), tiny, ["code", "prose"], 3, reports.append)
    assert scores["prose"]["perplexity"] == pytest.approx(4096)
    assert scores["prose"]["negative_log_likelihood"] == pytest.approx([255 * math.log(4096)] * 3)
    assert (scores["prose"]["windows"], scores["prose"]["tokens"]) == (3, 765)
    assert [(p.done, p.total, p.unit, p.message) for p in reports] == [
        (n, 6, "windows", "code" if n <= 3 else "prose") for n in range(1, 7)
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_numbers_that_are_not_finite_are_refused(value: float, tiny: Path) -> None:
    with pytest.raises(ModelUnsupported, match="not finite"):
        evaluation.evaluate(FakeRuntime(lambda: value), tiny, ["prose"], 1, lambda _: None)


def test_a_vocabulary_smaller_than_the_tokenizers_is_refused(tiny: Path) -> None:
    with pytest.raises(ModelUnsupported, match="knows 100 tokens"):
        evaluation.evaluate(FakeRuntime(lambda: 0.0, vocabulary=100), tiny, ["prose"], 1, lambda _: None)


def test_an_unknown_text_is_refused_with_those_there_are(tiny: Path) -> None:
    with pytest.raises(InvalidRequest, match="code, prose") as caught:
        evaluation.read_windows(tiny, "../prose", 1)
    assert caught.value.param == "evaluation.domains"


def test_a_text_gives_the_windows_it_has(tiny: Path) -> None:
    tokenizer = load_tokenizer(tiny)
    text = "one two three four " * 400
    assert 1 <= len(evaluation.cut_windows(tokenizer, text, 10_000)) < 10
    with pytest.raises(ModelUnsupported, match="a window needs 512"):
        evaluation.cut_windows(tokenizer, "short", 1)


def test_a_special_tokens_name_in_a_text_is_text(tiny: Path) -> None:
    windows = evaluation.cut_windows(load_tokenizer(tiny), "<|endoftext|> " * 400, 1)
    assert 0 not in windows[0]


def test_there_are_prose_and_code() -> None:
    assert evaluation.domains() == ["code", "prose"]
