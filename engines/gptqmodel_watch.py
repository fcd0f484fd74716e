"""Has the sentinel hear of each module while GPTQModel quantizes, from within, where weights and inputs are at hand.

Changes no result. With ``engines/gptqmodel.py`` and ``engines/gptqmodel_checkpoint.py`` all that knows its interface.
GPTQModel goes on where it should not: it rounds experts that saw no token by their weights alone, and so all of what
has no inverse Hessian or no finite loss.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from engines import output_error
from engines.output_error import Answers
from engines.sentinel import OUTPUT_ERROR, WEIGHT_ERROR, Place, Sentinel

if TYPE_CHECKING:
    from torch import Tensor


@contextlib.contextmanager
def watching(sentinel: Sentinel) -> Iterator[None]:
    """Have a sentinel hear of each module for as long as this lasts."""
    from gptqmodel.looper.awq_processor import AWQProcessor
    from gptqmodel.quantization.gptq import GPTQ

    gptq, awq = _Gptq(sentinel, GPTQ), _Awq(sentinel, AWQProcessor)
    stand_ins: Mapping[Any, Mapping[str, Callable[..., Any]]] = {
        GPTQ: {"quantize": gptq.quantize, "hessian_inverse": gptq.hessian_inverse},
        AWQProcessor: {
            "_quantize_layer": awq.quantize_layer,
            "_compute_best_scale": awq.compute_best_scale,
            "_search_best_clip": awq.search_best_clip,
            "apply_quant": awq.apply_quant,
        },
    }
    with contextlib.ExitStack() as stack:
        for its_own, methods in stand_ins.items():
            for name, stand_in in methods.items():
                stack.callback(setattr, its_own, name, getattr(its_own, name))
                setattr(its_own, name, _called_on(stand_in))
        yield


def _called_on(stand_in: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that, as a method, gives a stand-in the object that it is called on."""

    def method(its_object: Any, *args: Any, **options: Any) -> Any:
        return stand_in(its_object, *args, **options)

    return method


class _Gptq:
    """Stands around GPTQModel's GPTQ of one matrix, a ``task`` of its own class."""

    def __init__(self, sentinel: Sentinel, its_own: Any) -> None:
        self._sentinel = sentinel
        self._quantize = its_own.quantize
        self._invert = its_own.hessian_inverse

    def quantize(self, task: Any, *args: Any, **options: Any) -> Any:
        """Quantize, and have heard what went in and what came out."""
        place = _place(task)
        if task.qcfg.mock_quantization:  # it tries again so, where its loss was not finite
            self._sentinel.finite(place, "its loss", float("nan"))
        if not task.nsamples:
            self._sentinel.unseen(place)
        weight, weighed = task.module.weight.data, None
        if not _is_too_little(task):
            hessian = task.finalize_hessian(target_device=getattr(task.module, "target_device", None))
            self._sentinel.inputs(place, output_error.spread(hessian))
            weighed = output_error.weigh(weight, hessian)
            self._sentinel.finite(place, "its weight", weighed.output_energy)
            del hessian  # or two lie in memory while one is inverted
        done = self._quantize(task, *args, **options)
        rounded, _, _, _, _, loss, damp, tokens = done
        if weighed is None:
            self._sentinel.rounded(place, WEIGHT_ERROR, output_error.weight_error(weight, rounded.__getitem__))
        else:
            self._sentinel.rounded(place, OUTPUT_ERROR, weighed.error(loss * tokens, damp, weight, rounded))
        return done

    def hessian_inverse(self, task: Any, hessian: "Tensor") -> Any:
        """Invert; where no damping was enough, it has given up, or put a floor under the diagonal."""
        diagonal = hessian.diagonal().clone()
        factor, damp = self._invert(task, hessian)
        if factor is None or not diagonal.equal(hessian.diagonal()):
            self._sentinel.indefinite(_place(task), damp)
        return factor, damp


class _Awq:
    """Stands around GPTQModel's AWQ, a ``processor`` of its own class.

    There is no Hessian. Inputs are at hand when clipping is searched, once they are scaled: some are kept, with what
    the weights make of them.
    """

    def __init__(self, sentinel: Sentinel, its_own: Any) -> None:
        self._sentinel = sentinel
        self._layer_quantize = its_own._quantize_layer  # noqa: SLF001 - as all that is patched here
        self._best_scale = its_own._compute_best_scale  # noqa: SLF001
        self._best_clip = its_own._search_best_clip  # noqa: SLF001
        self._apply = its_own.apply_quant
        self._layer = 0
        self._places: dict[Any, Place] = {}
        self._answers: dict[Place, Answers] = {}

    def quantize_layer(self, processor: Any, layer: int, state: Any) -> None:
        """Quantize a layer, having noted which modules it has."""
        self._layer = layer
        self._places = {processor.resolve_quant_source_module(one): _place_of(one) for one in state.modules.values()}
        self._answers = {}
        self._layer_quantize(processor, layer, state)

    def compute_best_scale(self, processor: Any, inputs: "Tensor", *args: Any) -> Any:
        """Search, having looked at what would make every try fail."""
        weights, means, _, modules, *_ = args
        for place in (self._places[module] for module in modules if module in self._places):
            self._sentinel.finite(place, "the mean of its weights", weights.double().sum().item())
            self._sentinel.finite(place, "the mean of its inputs", means.double().sum().item())
        return self._best_scale(processor, inputs, *args)

    def search_best_clip(self, processor: Any, layer: Any, modules: Mapping[str, Any], inputs: Any) -> Any:
        """Search, having kept some inputs of each module, and what it makes of them."""
        for name, module in modules.items():
            rows = inputs.get(name)
            if rows is not None and rows.numel():
                place, some = Place(self._layer, name), output_error.sample(rows)
                self._sentinel.inputs(place, output_error.spread(some @ some.T))
                self._answers[place] = output_error.answers(module.weight.data, some)
        return self._best_clip(processor, layer, modules, inputs)

    def apply_quant(self, processor: Any, modules: Mapping[str, Any], scales_list: Any) -> None:
        """Round module by module, and have heard what came out."""
        for name, module in modules.items():
            place = _place_of(module)
            if not processor._feature_stats.get(module.name, {}).get("raw_tokens"):  # noqa: SLF001 - its count
                self._sentinel.unseen(place)
            weight = processor.resolve_quant_source_module(module).weight.data
            self._apply(processor, {name: module}, scales_list)
            rounded = module.state["wq"]
            if place in self._answers:
                self._sentinel.rounded(place, OUTPUT_ERROR, self._answers.pop(place).error(rounded))
            else:
                self._sentinel.rounded(place, WEIGHT_ERROR, output_error.weight_error(weight, rounded.__getitem__))


def _place(task: Any) -> Place:
    return _place_of(task._named_module)  # noqa: SLF001 - it keeps the layer nowhere else


def _place_of(module: Any) -> Place:
    return Place(module.layer_index, module.name)


def _is_too_little(task: Any) -> bool:
    """Return whether GPTQModel takes a matrix's inputs for too few, and rounds it by its weights alone."""
    from gptqmodel.utils.fallback import should_use_fallback

    return bool(should_use_fallback(task.fallback, float(task.nsamples), task.expected_nsamples))
