"""Has the sentinel hear of each module while llm-compressor quantizes, from within, where weights and inputs are.

Changes no result. With ``engines/llmcompressor.py`` all that knows its interface. llm-compressor goes on where it
should not: it rounds to the nearest what has no inverse Hessian, and does not smooth what gives numbers that are not
finite.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Self

from engines import output_error
from engines.layer_progress import LayerProgress
from engines.sentinel import OUTPUT_ERROR, WEIGHT_ERROR, Place, Sentinel

if TYPE_CHECKING:
    from torch import Tensor


class Watch:
    """Hears of the modules of one run.

    Args:
        follower: knows where they are, and is told once they are done.
        sentinel: judges them.
    """

    def __init__(self, follower: LayerProgress, sentinel: Sentinel) -> None:
        self._follower = follower
        self._sentinel = sentinel
        self._module: Any = None  # on which GPTQ is at work
        self._done = set[Any]()
        self._chosen = set(follower.chosen.values())

    def logger(self, module: Any) -> "_Heard":
        """Return what stands where llm-compressor would write a module's loss to its log, before GPTQ rounds it."""
        self._module = module
        return _Heard(self, module)

    def rounding(self, its_own: Callable[..., Any]) -> Callable[..., Any]:
        """Return its function that rounds a stack of one matrix by GPTQ, and what goes in and comes out is heard."""

        def quantize_weight(**given: Any) -> Any:
            place, weight, hessian = self._follower.place(self._module), given["weights"][0], given["hessians"][0]
            self._sentinel.inputs(place, output_error.spread(hessian))
            weighed = output_error.weigh(weight, hessian)
            self._sentinel.finite(place, "its weight", weighed.output_energy)
            damp = given["percdamp"]
            rounded, losses, are_given_up = its_own(**given)
            if are_given_up[0]:
                self._sentinel.indefinite(place, damp)
            error = weighed.error(losses[0].item(), damp, self._module.weight, rounded[0])
            self._sentinel.rounded(place, OUTPUT_ERROR, error)
            return rounded, losses, are_given_up

        return quantize_weight

    def done(self, module: Any, loss: float, seconds: float) -> None:
        """Pass on what was found of a module that GPTQ has rounded."""
        self._done.add(module)
        values = {"loss": loss, "seconds": round(seconds, 3), **self._sentinel.found[self._follower.place(module)]}
        self._follower.module_done(module, values)

    def missed(self, modules: Iterable[Any]) -> None:
        """Look for a module of a finished layer that no token has reached: GPTQ has left it as it was."""
        for module, place in self._places(modules):
            if module not in self._done:
                self._sentinel.unseen(place)

    def nearest(self, modules: Iterable[Any]) -> None:
        """Look at modules whose scales are known, and that will be rounded to the nearest when they are saved."""
        for module, place in self._places(modules):
            weight = module.weight.detach()
            self._sentinel.rounded(place, WEIGHT_ERROR, output_error.weight_error(weight, _nearest(module, weight)))
            if (scale := getattr(module, "input_scale", None)) is not None:
                self._sentinel.finite(place, "the scale of its inputs", scale.double().sum().item())
            self._follower.module_done(module, self._sentinel.found[place])

    def smoothed(self, modules: Iterable[Any], spread: float) -> None:
        """Hear of the inputs of modules that are smoothed together; see ``Sentinel.inputs``."""
        for _, place in self._places(modules):
            self._sentinel.inputs(place, spread)

    def sums(self, modules: Iterable[Any], total: float) -> None:
        """Hear what the inputs of modules that are smoothed together come to, which must be finite."""
        for _, place in self._places(modules):
            self._sentinel.finite(place, "the sum of its inputs", total)

    def _places(self, modules: Iterable[Any]) -> Iterator[tuple[Any, Place]]:
        """Yield those of some modules that are quantized, and where they are."""
        for module in modules:
            if module in self._chosen:
                yield module, self._follower.place(module)


def awq(watch: Watch) -> Any:
    """Return llm-compressor's AWQ, heard of, and keeping of each batch that it tries only what is compared.

    By itself it keeps the scores of attention as well, of all samples at once: 34 GiB for 128 samples of 2048
    tokens and 32 heads.
    """
    from llmcompressor.modifiers.transform.awq import AWQModifier

    class Awq(AWQModifier):  # type: ignore[misc] # its library has no types
        def _run_samples(self, module: Any) -> list[Any]:
            outputs = (module(**batch) for batch in self._parent_args_cache[module])
            return [output[0] if isinstance(output, tuple) else output for output in outputs]

        def _apply_smoothing(self, model: Any) -> None:
            for mapping in self._resolved_mappings:
                if mapping.smooth_name in self._smooth_activation_stats:
                    total = self._smooth_activation_stats[mapping.smooth_name][0].double().sum().item()
                    watch.sums(mapping.balance_layers, total)
            super()._apply_smoothing(model)

        def _compute_best_scale(self, mapping: Any, outputs: list[Any], weights: Any) -> Any:
            # What comes out of the part that is compared is all alike only where what goes in is.
            some = output_error.sample(outputs[0])
            watch.smoothed(mapping.balance_layers, output_error.spread(some @ some.T))
            return super()._compute_best_scale(mapping, outputs, weights)

    return Awq()


def smoothquant(watch: Watch, **options: Any) -> Any:
    """Return llm-compressor's SmoothQuant, heard of."""
    from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier

    class SmoothQuant(SmoothQuantModifier):  # type: ignore[misc] # its library has no types
        def _apply_smoothing(self, model: Any) -> None:
            for mapping in self.resolved_mappings_:
                if (bounds := self.scales_.get(mapping.smooth_name)) is not None:
                    least, most = bounds.min_channel_vals.double(), bounds.max_channel_vals.double()
                    whole = (least.square() + most.square()).sum().item()
                    watch.smoothed(mapping.balance_layers, (most - least).square().sum().item() / (whole or 1.0))
            super()._apply_smoothing(model)

    return SmoothQuant(**options)


class _Heard:
    """Stands where llm-compressor would write a module's loss to its log."""

    def __init__(self, watch: Watch, module: Any) -> None:
        self._watch = watch
        self._module = module
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def set_results(self, name: str, loss: float) -> None:
        """Pass on what was found; ``name`` is the algorithm's."""
        self._watch.done(self._module, loss, time.monotonic() - self._began)

    def __exit__(self, *_: object) -> None:
        """End nothing: what was found is passed on already."""


def _nearest(module: Any, weight: "Tensor") -> "Callable[[slice], Tensor]":
    """Return what rounds some rows of a module's weight to the nearest, by the module's scales."""
    from compressed_tensors.quantization import fake_quantize

    def rounded(rows: slice) -> "Tensor":
        scale, zero_point = (
            one[rows] if one is not None and len(one) == len(weight) else one  # else one is for all rows
            for one in (module.weight_scale, getattr(module, "weight_zero_point", None))
        )
        now: Tensor = fake_quantize(weight[rows], scale, zero_point, module.quantization_scheme.weights)
        return now

    return rounded
