"""llm-compressor as it is used here: from a model's folder to a compressed-tensors checkpoint, layer by layer.

With ``engines/llmcompressor_watch.py`` all that knows its interface; refuses to know recipes. The model lies in main
memory, and a layer at a time is brought to the device, so that what the device needs does not grow with the number of
layers. Its own entry point is not used: it sets environment variables, looks for a processor, and takes whichever
accelerator it finds first.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from core.errors import ModelUnsupported, ToolFailed
from engines import calibration
from engines.checkpoints import is_in_layer
from engines.compressed_files import Scheme
from engines.context import EngineContext, Progress
from engines.experts_apart import load_with_experts_apart
from engines.gpu_time import Pass, layer_seconds
from engines.layer_progress import LayerProgress
from engines.llmcompressor_files import save, tidy
from engines.llmcompressor_watch import Watch, awq, smoothquant
from engines.memory_errors import is_memory_error, told_as_not_fitting
from engines.sentinel import Sentinel
from engines.source import inspect_snapshot

READER = "compressed-tensors 0.19.0"  # writes and reads the files
VERSION = f"llmcompressor 0.14.0.1 with {READER}"

BATCH_TOKENS = 4096  # what is computed at once
# Gemma has norms on both sides of its feed-forward part. llm-compressor would smooth the one that closes attention.
BEFORE_MLP = "pre_feedforward_layernorm"
SANDWICHED = [
    (["re:.*q_proj", "re:.*k_proj", "re:.*v_proj"], "re:.*input_layernorm"),
    (["re:.*gate_proj", "re:.*up_proj"], f"re:.*{BEFORE_MLP}"),
]


@dataclass(frozen=True)
class Plan:
    """How weights are rounded.

    Attributes:
        scheme: to what.
        rounding: each weight to the ``nearest`` code, or by ``gptq``.
        dampening_frac: for GPTQ: added to the Hessian's diagonal, as a part of its mean.
        actorder: for GPTQ: ``static`` to round the columns that matter most first, None for their own order.
        smoothing_strength: of SmoothQuant, where the scheme smooths ``columns``.
    """

    scheme: Scheme
    rounding: Literal["nearest", "gptq"]
    dampening_frac: float = 0.01
    actorder: Literal["static"] | None = None
    smoothing_strength: float = 0.5

    @property
    def passes(self) -> Sequence[Pass]:
        """What goes through all layers, one after the other."""
        return [*(() if self.scheme.smoothing == "none" else (self.scheme.smoothing,)), self.rounding]


def quantize(
    context: EngineContext, source: Path, samples: Path | None, plan: Plan, sentinel: Sentinel
) -> dict[str, Any]:
    """Write a compressed-tensors checkpoint of a model into ``context.output``.

    Args:
        context: folders, device and progress.
        source: the model.
        samples: the folder of calibration samples; None where no text is looked at.
        plan: how.
        sentinel: watches it.

    Returns:
        facts of the result as really written.

    Raises:
        Diverged: a module's numbers say that the result is of no use.
        ModelUnsupported: transformers or llm-compressor cannot work on the architecture.
        ToolFailed: a layer was left as it was.
        DoesNotFit: memory ran out.
    """
    facts = inspect_snapshot(source)
    import llmcompressor  # noqa: F401 - takes some seconds

    context.report(Progress(0, facts.layer_count, "layers", "loading"))
    with told_as_not_fitting("a layer was quantized", context.device):
        model = load_with_experts_apart(source, facts.dtype)
        chosen = _choose(model, plan.scheme)
        rows = [] if samples is None else calibration.read_samples(samples)
        seconds = [layer_seconds(kind, facts, sum(map(len, rows))) for kind in plan.passes]
        follower = LayerProgress(context, chosen, facts.layer_count, seconds)
        watch = Watch(follower, sentinel)
        with _steered(context, watch):
            _apply(model, plan, _batches(rows), follower, watch)
        follower.saving()
        save(model, context.output)
    del model
    written = tidy(context.output, source, facts.dtype)
    if written["quantized_modules"] != len(chosen):
        count = written["quantized_modules"]
        raise ToolFailed(f"llm-compressor wrote {count} quantized modules, and {len(chosen)} were to be.")
    return dict(written)


def _choose(model: Any, scheme: Scheme) -> dict[str, Any]:
    """Return the modules to quantize by name, in the model's order.

    Raises:
        ModelUnsupported: there is nothing to quantize.
    """
    import torch

    linear = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    chosen = {name: module for name, module in linear.items() if scheme.quantizes(name)}
    if not any(is_in_layer(name) for name in chosen):
        raise ModelUnsupported(
            f"llm-compressor finds nothing to quantize in {type(model).__name__}: it needs layers of torch.nn.Linear."
        )
    return chosen


def _batches(rows: Sequence[Sequence[int]]) -> Any:
    """Return samples in batches, as a DataLoader; None where there are none."""
    import torch
    from torch.utils.data import DataLoader

    if not rows:
        return None
    ids = [torch.tensor(row) for row in rows]
    items: Any = [{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in ids]
    return DataLoader(items, batch_size=max(1, BATCH_TOKENS // len(rows[0])))


def _apply(model: Any, plan: Plan, batches: Any, follower: LayerProgress, watch: Watch) -> None:
    """Quantize the model in place.

    Each algorithm goes through all layers before the next: GPTQ must see the inputs that smoothing leaves.

    Raises:
        ModelUnsupported: llm-compressor does not know what to smooth, or cannot follow the model's code.
    """
    from llmcompressor.core.session_functions import create_session
    from llmcompressor.modeling.moe.context import moe_calibration_context
    from llmcompressor.modeling.offset_norm import norm_calibration_context
    from torch.fx.proxy import TraceError

    passes = _modifiers(model, plan, follower.chosen, watch)
    listener = _listener(follower)
    with create_session() as session, norm_calibration_context(model), moe_calibration_context():
        try:
            session.initialize(model=model, start=-1, recipe=[*passes, listener], calib_data=batches)
        except (RuntimeError, ValueError) as error:
            if is_memory_error(error):
                raise
            raise _unsupported(model, error) from error
        for index, modifier in enumerate(passes):
            follower.begin(index)
            if modifier is passes[-1]:
                listener.look = watch.nearest if plan.rounding == "nearest" else watch.missed
            session.lifecycle.recipe.modifiers = [modifier, listener]
            try:
                _go_through(model, batches if modifier.requires_calibration_data else None, follower)
            except (TraceError, ValueError) as error:
                raise _unsupported(model, error) from error
        session.lifecycle.recipe.modifiers = [*passes, listener]
        session.finalize()


def _unsupported(model: Any, error: Exception) -> ModelUnsupported:
    reason = next(iter(str(error.__cause__ or error).strip().splitlines()), type(error).__name__)
    return ModelUnsupported(f"llm-compressor cannot work on {type(model).__name__} in this way: {reason}")


def _modifiers(model: Any, plan: Plan, chosen: dict[str, Any], watch: Watch) -> list[Any]:
    """Return llm-compressor's algorithms, one for each of ``plan.passes``."""
    import torch
    from compressed_tensors.quantization import QuantizationScheme
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier

    modules = dict(model.named_modules())
    left_out = [name for name, one in modules.items() if isinstance(one, torch.nn.Linear) and name not in chosen]
    group = plan.scheme.config_group()
    if plan.scheme.activations == "static":
        group["input_activations"]["observer"] = "static_minmax"  # the largest that was seen, no moving average
    where = {"config_groups": {"group_0": QuantizationScheme(targets=["Linear"], **group)}, "ignore": left_out}
    passes: list[Any] = []
    if plan.scheme.smoothing == "columns":
        # A norm is left alone where all that follow it are left out.
        norms = [name for name in modules if name.endswith("norm")]
        smoothing = smoothquant(
            watch,
            smoothing_strength=plan.smoothing_strength,
            ignore=[*left_out, *norms],
            mappings=SANDWICHED if any(name.endswith(BEFORE_MLP) for name in norms) else None,
        )
        passes.append(smoothing)
    if plan.scheme.smoothing == "pairs":
        passes.append(awq(watch))
    if plan.rounding == "nearest":
        return [*passes, QuantizationModifier(**where)]
    options = {"dampening_frac": plan.dampening_frac, "actorder": plan.actorder}
    # Modules of one shape could be rounded together, as many as the free memory takes: results would depend on it.
    return [*passes, GPTQModifier(batched_quantization=None, **options, **where)]


def _go_through(model: Any, batches: Any, follower: LayerProgress) -> None:
    """Lead the session's present algorithm through all layers, each brought to the device as its turn comes."""
    from compressed_tensors.offload import set_onload_device
    from llmcompressor.args import DatasetArguments
    from llmcompressor.core import LifecycleCallbacks
    from llmcompressor.pipelines.sequential import SequentialPipeline

    if batches is not None:
        SequentialPipeline()(model, batches, DatasetArguments())
        return
    set_onload_device(model, follower.device)
    LifecycleCallbacks.calibration_start()
    for modules in follower.by_layer():
        LifecycleCallbacks.sequential_epoch_end(modules)
    LifecycleCallbacks.calibration_end()


@contextlib.contextmanager
def _steered(context: EngineContext, watch: Watch) -> Iterator[None]:
    """Have llm-compressor use the context's device and tell us of each module, for as long as this lasts.

    It has no arguments for either. On a CPU alone AWQ would fail, too, when it pins memory for a GPU.
    """
    import torch
    from compressed_tensors.utils import patch_attr
    from llmcompressor.modifiers.gptq import base as gptq
    from llmcompressor.modifiers.transform.awq import base as own_awq
    from llmcompressor.pipelines.sequential import pipeline

    class Unpinned(own_awq.IntermediatesCache):  # type: ignore[misc] # its library has no types
        def pin_memory(self, batch_index: int, input_names: list[str] | None = None) -> None:
            pass

    with contextlib.ExitStack() as stack:
        stack.enter_context(patch_attr(pipeline, "get_main_device", lambda: torch.device(context.device)))
        stack.enter_context(patch_attr(gptq, "CompressionLogger", watch.logger))
        stack.enter_context(patch_attr(gptq, "quantize_weight", watch.rounding(gptq.quantize_weight)))
        if context.device == "cpu":
            stack.enter_context(patch_attr(own_awq, "IntermediatesCache", Unpinned))
        yield


def _listener(follower: LayerProgress) -> Any:
    """Return an algorithm that changes nothing, and hears when a layer is done; ``look`` is given its modules."""
    from llmcompressor.modifiers import Modifier

    class Listener(Modifier):  # type: ignore[misc] # its library has no types
        look: Callable[[Sequence[Any]], None] = lambda _: None

        def on_initialize(self, state: Any, **_: Any) -> bool:
            return True

        def on_sequential_epoch_end(self, state: Any, event: Any, modules: Sequence[Any], **_: Any) -> None:
            self.look(modules)
            follower.layer_done(modules)

    return Listener()
