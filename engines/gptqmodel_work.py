"""A model made into a GPTQ or AWQ checkpoint: GPTQModel's run, and what is made good in its files afterwards."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import ToolFailed
from engines import calibration, gptqmodel
from engines.checkpoints import keep_companions, keep_precision
from engines.context import EngineContext, Progress
from engines.gptq_files import read_packed_facts, stored_type
from engines.gptqmodel import Kind
from engines.memory_errors import told_as_not_fitting
from engines.source import CONFIG_NAME

BATCH_TOKENS = 4096  # what is computed at once


@dataclass(frozen=True)
class Work:
    """What GPTQModel is to make.

    Attributes:
        kind: the format.
        config: arguments of its own configuration, but for where it keeps what waits.
        told: what the result's ``quantization_config`` must say, whatever GPTQModel writes there.
        dtype: in what to compute, as torch names it.
        steps: how many layers it goes through, the output head included where it is quantized.
    """

    kind: Kind
    config: Mapping[str, Any]
    told: Mapping[str, Any]
    dtype: str
    steps: int


def make(context: EngineContext, source: Path, samples: Path, work: Work) -> Mapping[str, Any]:
    """Write a folder as ``save_pretrained`` does, with ``quantization_config``, and return its facts.

    Args:
        context: folders, device and progress.
        source: the model.
        samples: the folder of the calibration samples.
        work: what to make.

    Raises:
        ModelUnsupported: GPTQModel does not know the architecture, or cannot do it.
        ToolFailed: GPTQModel left a module as it was.
        DoesNotFit: memory ran out.
    """
    rows = calibration.read_samples(samples)
    config = {
        **work.config,
        "offload_to_disk": True,
        "offload_to_disk_path": str(context.scratch / "layers"),
        "wait_for_submodule_finalizers": True,  # else layers that wait to be packed pile up on the device
        "pack_impl": "original" if context.device == "cpu" else "gpu",  # the default compiles an extension at first use
    }
    gptqmodel.start()
    context.report(Progress(0, work.steps, "layers", "loading"))
    follower = _Follower(context, work.steps)
    with (
        told_as_not_fitting("GPTQModel quantized", context.device),
        contextlib.chdir(context.scratch),  # where it leaves a log of its own
    ):
        model = gptqmodel.load_to_quantize(source, work.kind, config, context.device, work.dtype)
        model.subset_callback = follower
        logged = gptqmodel.quantize(model, work.kind, rows, max(1, BATCH_TOKENS // len(rows[0])))
        context.report(Progress(work.steps, work.steps, "layers", "saving"))
        model.save(str(context.output))
    follower.measure(logged)
    _tidy(context.output, work.told)
    keep_companions(context.output, source)
    keep_precision(context.output, source, stored_type)
    written = read_packed_facts(context.output)
    if written["quantized_modules"] != len(logged) or not logged:
        raise ToolFailed(f"GPTQModel worked on {len(logged)} modules and wrote {written['quantized_modules']}.")
    return written


class _Follower:
    """Hears from GPTQModel as it goes through the parts of each layer."""

    def __init__(self, context: EngineContext, steps: int) -> None:
        self._context = context
        self._steps = steps
        self._measured = 0

    def measure(self, logged: Sequence[Mapping[str, Any]]) -> None:
        """Pass on what has come to the log since the last time."""
        for one in gptqmodel.measurements(logged[self._measured :]):
            self._context.measure(one)
        self._measured = len(logged)

    def subset_event(self, *, stage: str, layer_idx: int, subset_index: int, subset_total: int, **event: Any) -> None:
        """Report what is finished; the event's ``processor`` is a method of what keeps the log, or of its class."""
        if stage == "quant_complete":
            self.measure(getattr(event["processor"].__self__, "log", ()))
        done = layer_idx + (subset_index + (stage == "quant_complete")) / subset_total
        names = ", ".join(event["module_names"])
        self._context.report(Progress(round(done, 3), self._steps, "layers", f"layer {layer_idx}: {names}"))


def _tidy(folder: Path, told: Mapping[str, Any]) -> None:
    """Leave what is of this machine and this run out of the result, and say what servers must be told.

    transformers sorts the rules in config.json by their patterns, though the first that matches holds.
    """
    (folder / "quant_log.csv").unlink(missing_ok=True)
    for name in (CONFIG_NAME, "quantize_config.json"):
        document = json.loads((folder / name).read_text(encoding="utf-8"))
        config = document["quantization_config"] if name == CONFIG_NAME else document
        config["meta"].pop("offload_to_disk_path", None)
        config.update(told)
        (folder / name).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
