"""A model made into a GPTQ or AWQ checkpoint: GPTQModel's run, and what is made good in its files afterwards."""

import contextlib
import dataclasses
import json
import logging
import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import ToolFailed
from engines import calibration, gptqmodel, gptqmodel_watch
from engines.checkpoints import keep_companions, keep_precision
from engines.context import EngineContext, Progress
from engines.families import RESUMED_BY_GPTQMODEL, family
from engines.gptq_files import read_packed_facts, stored_type
from engines.gptqmodel import Kind
from engines.gptqmodel_checkpoint import CURRENT, CheckpointRefused, Checkpoints, newest_files
from engines.memory_errors import told_as_not_fitting
from engines.model_facts import ModelFacts
from engines.sentinel import Place, Sentinel
from engines.source import CONFIG_NAME

CHECKPOINTS = "checkpoints"  # GPTQModel's, in the scratch folder
BATCH_TOKENS = 4096  # what is computed at once

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """What GPTQModel is to make.

    Attributes:
        kind: the format.
        config: arguments of its own configuration, but for where it keeps what waits.
        told: what the result's ``quantization_config`` must say, whatever GPTQModel writes there.
        dtype: in what to compute, as torch names it.
        steps: how many layers it goes through, the output head included where it is quantized.
        state_bytes: about what a checkpoint holds beside finished layers; 0 where none can be made.
        sentinel: watches it.
    """

    kind: Kind
    config: Mapping[str, Any]
    told: Mapping[str, Any]
    dtype: str
    steps: int
    state_bytes: int
    sentinel: Sentinel


def resumption() -> str:
    """Return for people what becomes of work that was broken off."""
    families = ", ".join(sorted(RESUMED_BY_GPTQMODEL))
    return f"goes on after its last finished layer ({families}); of other models, or on another GPU, it begins anew"


def state_bytes(facts: ModelFacts, params: Any) -> int:
    """Return about what a checkpoint holds beside finished layers: the inputs of the next one, and the embedding.

    0 where none is made, since it is not known that what goes on from it becomes the same.
    """
    if family(facts) not in RESUMED_BY_GPTQMODEL:
        return 0
    inputs = params.calibration_samples * params.calibration_tokens * facts.hidden_size
    width_bytes = 4 if facts.dtype == "float32" else 2
    return int(width_bytes * (inputs + facts.vocabulary_size * facts.hidden_size))


def make(context: EngineContext, source: Path, samples: Path, work: Work) -> Mapping[str, Any]:
    """Write a folder as ``save_pretrained`` does, with ``quantization_config``, and return its facts.

    Args:
        context: folders, device and progress.
        source: the model.
        samples: the folder of the calibration samples.
        work: what to make.

    Raises:
        ModelUnsupported: GPTQModel does not know the architecture, or cannot do it.
        Diverged: a module's numbers say that the result is of no use.
        ToolFailed: GPTQModel left a module as it was.
        DoesNotFit: memory ran out.
    """
    rows = calibration.read_samples(samples)
    follower = _Follower(context, work)
    gptqmodel.start()
    with (
        told_as_not_fitting("GPTQModel quantized", context.device),
        contextlib.chdir(context.scratch),  # where it leaves a log of its own
    ):
        try:
            model, logged = _quantized(context, source, rows, work, follower)
        except CheckpointRefused as refused:
            log.warning("what an earlier attempt has left is of no use, so all layers are done anew: %s", refused)
            follower.forget()
            model, logged = _quantized(context, source, rows, work, follower)
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


def _quantized(
    context: EngineContext, source: Path, rows: Sequence[Sequence[int]], work: Work, follower: "_Follower"
) -> tuple[Any, Sequence[Mapping[str, Any]]]:
    """Return the quantized model, not saved yet, and GPTQModel's log."""
    config = {
        **work.config,
        "offload_to_disk": True,
        "offload_to_disk_path": str(context.scratch / "layers"),
        "pack_impl": "original" if context.device == "cpu" else "gpu",  # the default compiles an extension at first use
    }
    context.report(Progress(0, work.steps, "layers", "loading"))
    model = gptqmodel.load_to_quantize(source, work.kind, config, context.device, work.dtype)
    model.subset_callback = follower
    model.layer_callback = OneLayerBehind()
    batch = max(1, BATCH_TOKENS // len(rows[0]))
    with gptqmodel_watch.watching(work.sentinel):
        return model, gptqmodel.quantize(model, work.kind, rows, batch, follower.checkpoints)


class OneLayerBehind:
    """Lets GPTQModel pack a layer while it works on the next, and no more: layers that wait pile up on the device."""

    def __init__(self) -> None:
        self._packed: dict[int, threading.Event] = {}

    def layer_complete(self, *, layer_idx: int, submodule_finalized: bool) -> None:
        """Hear, in another thread, that a layer is packed; or, in its main thread, that its packing has begun."""
        if submodule_finalized:
            self._packed[layer_idx].set()
            return
        before = list(self._packed.values())
        self._packed = {**self._packed, layer_idx: threading.Event()}
        for packed in before:
            packed.wait()


class _Follower:
    """Hears from GPTQModel as it goes through the parts of each layer, and has what it keeps saved.

    Attributes:
        checkpoints: what GPTQModel is to keep, and from where it goes on; None for nothing.
    """

    def __init__(self, context: EngineContext, work: Work) -> None:
        self._context = context
        self._steps = work.steps
        self._sentinel = work.sentinel
        self._measured = 0
        self.checkpoints: Checkpoints | None = None
        if work.state_bytes:
            folder = context.scratch / CHECKPOINTS
            shutil.copytree(context.checkpoint, folder, copy_function=os.link)
            self.checkpoints = Checkpoints(
                folder=folder,
                work=context.work,
                version=gptqmodel.VERSION,
                state_bytes=work.state_bytes,
                must_leave=context.must_leave,
                listener=self,
            )

    def forget(self) -> None:
        """Go on from nothing; where there was nothing, and even so it was refused, keep nothing either."""
        shutil.rmtree(self._context.scratch / CHECKPOINTS)
        if not (self._context.checkpoint / CURRENT).exists():
            self.checkpoints = None
        (self._context.checkpoint / CURRENT).unlink(missing_ok=True)

    def resumed(self, layers: int, logged: Sequence[Mapping[str, Any]]) -> None:
        """Begin after what is done, of which an earlier attempt has told."""
        for one in gptqmodel.measurements(logged):
            self._context.recall(one)
        self._measured = len(logged)
        if layers:
            self._context.report(Progress(layers, self._steps, "layers", f"going on after {layers} layers"))

    def kept(self) -> None:
        """Have the newest checkpoint saved, of links to its files, which are never written to again."""
        files = newest_files(self._context.scratch / CHECKPOINTS)
        folder = self._context.checkpoint
        for path in folder.rglob("*"):
            if path.is_file() and str(path.relative_to(folder)) not in files:
                path.unlink()
        for name, path in files.items():
            target = folder / name
            target.parent.mkdir(exist_ok=True)
            if name == CURRENT:
                target.unlink(missing_ok=True)
            if not target.exists():
                os.link(path, target)
        self._context.save()

    def measure(self, logged: Sequence[Mapping[str, Any]]) -> None:
        """Pass on what has come to the log since the last time."""
        for one in gptqmodel.measurements(logged[self._measured :]):
            values = {**one.values, **self._sentinel.found.get(Place(one.layer, one.module), {})}
            self._context.measure(dataclasses.replace(one, values=values))
        self._measured = max(self._measured, len(logged))

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
