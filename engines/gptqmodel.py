"""GPTQModel as it is used here: its version, how it quantizes, and how its checkpoints are opened.

It is the successor of AutoGPTQ and AutoAWQ, and reads and writes the same files. Nothing else knows its interface, but
for what it keeps on the way (``engines/gptqmodel_checkpoint.py``) and what is heard of it on the way
(``engines/gptqmodel_watch.py``); refuses to know recipes. Its automatic choice of
kernels for a checkpoint downloads and compiles, so the portable one is always named; while it quantizes GPTQ on CUDA it
compiles one extension all the same.
"""

import contextlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from core.errors import ModelUnsupported
from engines.context import Measurement
from engines.gptqmodel_checkpoint import Checkpoints, keeping
from engines.memory_errors import is_memory_error

VERSION = "gptqmodel 7.6.0"

Kind = Literal["gptq", "awq"]

_CONFIGS: Mapping[Kind, str] = {"gptq": "GPTQConfig", "awq": "AWQConfig"}
_BACKENDS: Mapping[Kind, str] = {"gptq": "GPTQ_TORCH", "awq": "AWQ_TORCH"}
# What its log calls a module's loss, the damping that was used, and the seconds that it took.
_LOGGED = {"loss": "loss", "damp": "damp_percent", "time": "seconds"}
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?")
# What it raises of a model or a configuration that it cannot do, and Python where it has not foreseen one. Other errors
# come from the machine, and may not come again.
_REFUSALS = (NotImplementedError, ValueError, TypeError, LookupError, AttributeError, AssertionError)
_OF_ITS_LOADER = "LazyTurtle"


def start() -> None:
    """Import the library, which takes some seconds."""
    import gptqmodel  # noqa: F401


def load_to_quantize(folder: Path, kind: Kind, config: Mapping[str, Any], device: str, dtype: str) -> Any:
    """Return a full-precision model that GPTQModel can quantize.

    Args:
        folder: the source.
        kind: what it will become.
        config: arguments of its ``GPTQConfig`` or ``AWQConfig``.
        device: where to compute.
        dtype: in what to compute, as torch names it.

    Raises:
        ModelUnsupported: it does not know the architecture, or refuses the model or the configuration.
    """
    import torch
    from gptqmodel import GPTQModel
    from gptqmodel.quantization import config as configs
    from gptqmodel.utils.logger import setup_logger

    setup_logger().setLevel("WARN")  # it draws a table for each module; what it says there is measured here
    with _refusals():
        made = getattr(configs, _CONFIGS[kind])(**config)
        loaded = GPTQModel.load(str(folder), made, device=device, dtype=getattr(torch, dtype))
    _keep_rotations_apart(loaded.model.config)
    return loaded


def _keep_rotations_apart(config: Any) -> None:
    """Take out what GPTQModel adds to rotary parameters that are kept by the kind of layer, as Gemma 3's are.

    It takes them for one set and adds what is missing of that, and transformers refuses to save the mixture.
    """
    parameters = getattr(config, "rope_parameters", None) or {}
    if any(isinstance(value, dict) for value in parameters.values()):
        config.rope_parameters = {name: value for name, value in parameters.items() if isinstance(value, dict)}


def quantize(
    model: Any, kind: Kind, samples: Sequence[Sequence[int]], batch_size: int, checkpoints: Checkpoints | None
) -> Sequence[Mapping[str, Any]]:
    """Quantize a model that ``load_to_quantize`` returned.

    Args:
        model: the model; it becomes the result, to be saved.
        kind: as it was loaded for.
        samples: ids, of one length.
        batch_size: how many samples are computed at once.
        checkpoints: from what to go on, and what to keep of it; None keeps nothing.

    Returns:
        its log, which ``measurements`` understands.

    Raises:
        ModelUnsupported: it cannot quantize such a model.
        CheckpointRefused, Suspended: see ``gptqmodel_checkpoint.keeping``.
    """
    from gptqmodel import BACKEND

    given = [{"input_ids": list(row), "attention_mask": [1] * len(row)} for row in samples]
    # AWQ's portable kernel writes the same files as the others; GPTQ's packer is chosen by ``pack_impl``.
    backend = BACKEND.AWQ_TORCH if kind == "awq" else BACKEND.AUTO
    kept = contextlib.nullcontext() if checkpoints is None else keeping(checkpoints)
    with _refusals(), _threads_that_raise(), kept as checkpoint:
        log = model.quantize(given, batch_size=batch_size, backend=backend, checkpoint=checkpoint)
    logged: Sequence[Mapping[str, Any]] = log[kind]
    return logged


@contextlib.contextmanager
def _threads_that_raise() -> Iterator[None]:
    """Raise here what goes wrong in a thread of GPTQModel's, which would end the process, and tell nobody why."""
    from gptqmodel.utils.threadx import _DeviceWorker

    failures: list[BaseException] = []
    ending = _DeviceWorker._abort_process  # noqa: SLF001 - there is no other place to hear of it
    _DeviceWorker._abort_process = lambda _, error: failures.append(error)  # noqa: SLF001
    try:
        yield
    finally:
        _DeviceWorker._abort_process = ending  # noqa: SLF001
        if failures:
            raise failures[0]


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except (*_REFUSALS, RuntimeError) as error:
        if not isinstance(error, _REFUSALS) and not str(error).startswith(_OF_ITS_LOADER):
            raise
        reason = next(iter(str(error).strip().splitlines()), "")
        raise ModelUnsupported(f"GPTQModel cannot quantize this model: {type(error).__name__}: {reason}") from error


def load_quantized(folder: Path, kind: Kind) -> Any:
    """Return a transformers model on the CPU whose quantized layers are GPTQModel's, still packed.

    Its scales are the file's own, which are float16; the rest is rounded to that, too.

    Raises:
        ModelUnsupported: GPTQModel refuses the checkpoint.
    """
    import torch
    from gptqmodel import BACKEND, GPTQModel

    try:
        loaded = GPTQModel.load(
            str(folder),
            backend=getattr(BACKEND, _BACKENDS[kind]),
            device="cpu",
            dtype=torch.float16,
            trust_remote_code=False,
        )
    # A damaged checkpoint fails wherever the loader first meets the damage.
    except Exception as error:
        if is_memory_error(error):
            raise
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelUnsupported(f"GPTQModel cannot load the result ({reason}).") from error
    return loaded.model


def packed_layers(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name and the module of each quantized layer."""
    from gptqmodel.nn_modules.qlinear import BaseQuantLinear

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseQuantLinear):
            yield name, module


def unpacked_weight(layer: Any) -> Any:
    """Return a quantized layer's weight as a float32 tensor of shape ``[out_features, in_features]``."""
    from gptqmodel.nn_modules.qlinear import AWQuantLinear
    from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm

    scales = layer.scales.float()  # the codes are exact, and so is their product then
    if isinstance(layer, AWQuantLinear):
        return dequantize_gemm(layer.qweight, layer.qzeros, scales, layer.bits, layer.group_size).T.contiguous()
    layer.scales = scales
    # The class's own method: the layer's is wrapped to be compiled at its first call, which takes seconds a shape.
    return type(layer).dequantize_weight(layer).T.float().contiguous()


def measurements(logged: Sequence[Mapping[str, Any]]) -> Iterator[Measurement]:
    """Yield what GPTQModel's log says of each module; what it has no number for is left out."""
    for entry in logged:
        values = {
            name: float(entry[key])
            for key, name in _LOGGED.items()
            if _NUMBER.fullmatch(str(entry.get(key))) and math.isfinite(float(entry[key]))
        }
        yield Measurement(int(entry["layer"]), str(entry["module"]), values)
