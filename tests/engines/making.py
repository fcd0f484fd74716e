"""Make what a recipe is made of, and the recipe, without a pipeline."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines import calibration, checkpoints, convert, evaluation, imatrix, source
from engines.calibration import Calibration
from engines.context import EngineContext
from engines.domains import Item, read_items
from engines.methods.base import Material
from engines.recipe import Recipe, parse_recipe
from engines.runtimes import Judged, Runtime, open_runtime
from engines.tokenizer import load_tokenizer
from tests.engines.conftest import MakeContext, linked

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedModel


def material_of(
    recipe: Recipe, model: Path, make_context: MakeContext, lossless: Path | None = None
) -> dict[Material, Path]:
    """Make all that a recipe asks for of a model, as links, as a step finds it.

    Args:
        recipe: what will be made.
        model: the source.
        make_context: makes a context for each piece.
        lossless: the folder with the converted file, where there is one already.
    """
    asked = recipe.method.material(recipe.params)
    made: dict[Material, Path] = {"snapshot": model}
    if "gguf" in asked:
        made["gguf"] = lossless or converted(model, make_context())
    if "samples" in asked:
        made["samples"] = samples_for(Calibration(**asked["samples"]), model, make_context())
    if "imatrix" in asked:
        made["imatrix"] = imatrix_for(made["gguf"], made["samples"], make_context())
    links = make_context().scratch
    return {name: linked(folder, links / name) for name, folder in made.items() if name in asked}


def check(recipe: Recipe, model: Path) -> None:
    """Look at a recipe beside a model as is done at submit."""
    recipe.check(source.inspect(model))
    recipe.check_matrices(checkpoints.matrices(source.weight_tensors(model), output_head=True))


def converted(model: Path, context: EngineContext) -> Path:
    convert.convert(context, model)
    return context.output


def samples_for(wanted: Calibration, model: Path, context: EngineContext) -> Path:
    calibration.write_samples(context.output, model, wanted, {})
    return context.output


def imatrix_for(lossless: Path, samples: Path, context: EngineContext) -> Path:
    # One thread: several wait for each other by turning in circles, which takes minutes where cores are shared.
    imatrix.write_imatrix(dataclasses.replace(context, threads=1), lossless, samples)
    return context.output


def quantize(
    recipe: Recipe,
    context: EngineContext,
    model: Path,
    make_context: MakeContext,
    lossless: Path | None = None,
) -> Mapping[str, Any]:
    """Make a recipe's result into ``context.output``, and return its facts."""
    return recipe.method.quantize(context, material_of(recipe, model, make_context, lossless), recipe.params)


def result_of(recipe: Mapping[str, Any] | str, model: Path, make_context: MakeContext) -> Path:
    """Make a recipe's result, and return its folder, of links as a step finds it."""
    context = make_context()
    quantize(parse_recipe(recipe), context, model, make_context)
    return linked(context.output, context.scratch / "result")


def perplexities(written: Judged, model: Path, tokenizer: Path, make_context: MakeContext) -> dict[str, float]:
    """Return what the first 40 windows of each text cost."""
    context = make_context()
    with open_runtime(written, model, context) as runtime:
        return score(runtime, tokenizer, {"prose": 40, "code": 40}, context)


def score(runtime: Runtime, tokenizer: Path, windows: Mapping[str, int], context: EngineContext) -> dict[str, float]:
    """Return what so many windows of each text cost a model."""
    loaded = load_tokenizer(tokenizer)
    items = {domain: read_items(loaded, domain, count) for domain, count in windows.items()}
    scores = evaluation.score_reference(runtime, evaluation.Asked(items), context, limit_bytes=0)
    return {domain: evaluation.perplexity(of_domain) for domain, of_domain in scores.items()}


def first_window(folder: Path, domain: str) -> Item:
    """Return the first window of a text as the tokenizer in a folder cuts it."""
    return read_items(load_tokenizer(folder), domain, 1)[0]


def require_same_logits(
    written: Judged,
    result: Path,
    source: Path,
    weights: "Mapping[str, NDArray[np.float32]]",
    make_context: MakeContext,
) -> None:
    """Compare a runtime's logits with those of the source with other weights in it, given by their modules' names."""
    import numpy as np
    import torch

    window = first_window(source, "code")
    with open_runtime(written, result, make_context()) as runtime:
        of_runtime = runtime.logits(window)
    model = with_weights(source, {f"{name}.weight": torch.from_numpy(weight) for name, weight in weights.items()})
    with torch.inference_mode():
        logits = model(torch.tensor([window.ids])).logits[0, 256:511].numpy()
    np.testing.assert_allclose(of_runtime, logits, atol=2e-3)


def with_weights(folder: Path, weights: dict[str, Any]) -> "PreTrainedModel":
    """Return a model in float32, some of whose weights are others."""
    import torch
    from transformers import AutoModelForCausalLM

    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    missing = model.load_state_dict(weights, strict=False)
    assert not missing.unexpected_keys
    return model


def require_opens_in_transformers(result: Path, source: Path) -> None:
    """Load a result as a user would, and see that it answers as a checkpoint of few bits does."""
    import torch
    from transformers import AutoModelForCausalLM

    window = torch.tensor([first_window(source, "prose").ids])
    given = []
    for folder in (result, source):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float16, device_map="cpu")
        with torch.inference_mode():
            given.append(model(window).logits[0].float().log_softmax(dim=-1))
    found, expected = given
    assert float((expected.exp() * (expected - found)).sum(dim=-1).mean()) < 0.3
