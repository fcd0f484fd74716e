"""GPTQ by GPTQModel: ``gptq:4bit-g128``. Writes the format that AutoGPTQ wrote, as Frantar et al. (2022) describe it.

Each row of a layer's weights is rounded column by column, and the error of each column is made good in those that are
still to come, by the inverse Hessian of the layer's inputs on calibration text.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from core.errors import InvalidRequest, ToolFailed
from engines import calibration, gptqmodel
from engines.context import EngineContext, Progress
from engines.gptq_files import keep_companions, keep_precision, read_gptq_facts
from engines.methods.base import CalibratedParams, Forecast, Format, Material, Method, Preset, register
from engines.source import ModelFacts, inspect_snapshot

SHORT = re.compile(
    r"(?P<bits>[0-9]{1,4})bit(-g(?P<group>[0-9]{1,4})|-(?P<whole>row))?(?P<act>-desc_act)?(?P<asym>-asym)?"
)
WHOLE_ROW = -1
WORD_BITS = 32
BATCH_TOKENS = 4096  # what is computed at once
PROCESS_BYTES = 2 * 2**30  # torch, transformers, GPTQModel


class GptqParams(CalibratedParams):
    """What can be chosen."""

    bits: Literal[2, 3, 4, 8] = Field(default=4, description="Bits of a weight")
    group_size: Literal[-1, 16, 32, 64, 128, 256, 512, 1024] = Field(
        default=128, description="Weights of a row that share a scale; must divide the rows. -1: the whole row"
    )
    damp_percent: float = Field(
        default=0.01, gt=0, lt=1, description="Added to the Hessian's diagonal, as a part of its mean; more is steadier"
    )
    desc_act: bool = Field(
        default=False, description="Round the columns that matter most first: often a little better, slower to serve"
    )
    sym: bool = Field(default=True, description="Scales around zero; without, each group has a zero point of its own")


class GptqMethod(Method):
    """GPTQModel on the model as it was fetched, one layer at a time."""

    name = "gptq"
    summary = "GPTQ in AutoGPTQ's format, 2 to 8 bits, for vLLM, SGLang and transformers; best on a GPU."
    Params = GptqParams
    pool = "gpu"
    presets = (Preset("4bit-g128", {}, "What vLLM and SGLang serve fastest on a GPU, at little loss."),)

    def engine(self, params: Any) -> str:
        """Return GPTQModel's version."""
        return gptqmodel.VERSION

    def material(self, params: Any) -> Mapping[Material, Mapping[str, Any]]:
        """Return that the model itself is quantized, by samples of text."""
        return {"snapshot": {}, "samples": asdict(params.calibration)}

    def writes(self, params: Any) -> Format:
        """Return that it is AutoGPTQ's format."""
        return "gptq"

    def parse_short(self, text: str) -> dict[str, Any]:
        """Return what ``4bit-g128``, ``8bit-row`` or ``4bit-g128-desc_act-asym`` stands for; the defaults if empty.

        Raises:
            InvalidRequest: the text is not of that form.
        """
        if not text:
            return {}
        match = SHORT.fullmatch(text.lower())
        if match is None:
            raise InvalidRequest(
                f"gptq:{text[:80]} is not understood. Write gptq:4bit-g128, with -row in place of -g128 for one scale "
                "a row, and -desc_act or -asym behind it; the long form has every parameter.",
                param="recipe",
            )
        given: dict[str, Any] = {"bits": int(match["bits"]), "desc_act": bool(match["act"]), "sym": not match["asym"]}
        if match["group"] or match["whole"]:
            given["group_size"] = WHOLE_ROW if match["whole"] else int(match["group"])
        return given

    def short(self, params: Any) -> str:
        """Return the form that ``parse_short`` takes; calibration and damping are not in it."""
        group = "row" if params.group_size == WHOLE_ROW else f"g{params.group_size}"
        flags = ("-desc_act" if params.desc_act else "") + ("" if params.sym else "-asym")
        return f"{self.name}:{params.bits}bit-{group}{flags}"

    def check(self, facts: ModelFacts, params: Any) -> None:
        """Refuse rows that do not fill words of 32 bits, and a group size that does not divide them.

        Raises:
            InvalidRequest: naming the field and the row length.
        """
        for length in facts.row_lengths:
            if length * params.bits % WORD_BITS:
                raise InvalidRequest(
                    f"{params.bits} bits do not pack this model's rows of {length} weights into words of {WORD_BITS}. "
                    "Choose 8 bits, or another method.",
                    param="recipe.bits",
                )
        if params.group_size == WHOLE_ROW:
            return
        for length in facts.row_lengths:
            if length % params.group_size:
                raise InvalidRequest(
                    f"group_size {params.group_size} does not divide this model's rows of {length} weights. "
                    f"Choose one that divides {', '.join(map(str, facts.row_lengths))}, or -1 for whole rows.",
                    param="recipe.group_size",
                )

    def forecast(self, facts: ModelFacts, params: Any) -> Forecast:
        """Return what GPTQModel needs: embeddings, a layer in float32 with its Hessians, the samples' activations."""
        layer_elements = facts.parameter_count // max(facts.layer_count, 1)
        longest = max(facts.row_lengths, default=facts.hidden_size)
        activations = 2 * 4 * params.calibration_samples * params.calibration_tokens * facts.hidden_size
        hessians = 3 * 4 * longest**2
        embedding = 4 * facts.vocabulary_size * facts.hidden_size
        return Forecast(
            memory_bytes=PROCESS_BYTES + embedding,
            vram_bytes=3 * 4 * layer_elements + activations + hessians,
            # The layers that wait lie on the disk in full; the result is beside them at the end.
            scratch_bytes=2 * facts.weight_bytes + 4 * facts.parameter_count,
        )

    def quantize(self, context: EngineContext, material: Mapping[Material, Path], params: Any) -> Mapping[str, Any]:
        """Write a folder as ``save_pretrained`` does, with ``quantization_config``.

        Raises:
            ModelUnsupported: GPTQModel does not know the architecture.
            InvalidRequest: the group size does not divide.
            ToolFailed: GPTQModel left a layer as it was.
        """
        source = material["snapshot"]
        facts = inspect_snapshot(source)
        self.check(facts, params)
        rows = calibration.read_samples(material["samples"])
        dtype = "float32" if context.device == "cpu" else facts.dtype  # 16-bit arithmetic is slow on CPUs
        model = gptqmodel.load_to_quantize(source, _config(context, params), context.device, dtype)
        follower = _Follower(context, facts.layer_count)
        model.subset_callback = follower
        samples = [{"input_ids": row, "attention_mask": [1] * len(row)} for row in rows]
        with contextlib.chdir(context.scratch):  # where it leaves a log of its own
            model.quantize(samples, batch_size=max(1, BATCH_TOKENS // params.calibration_tokens))
            model.save(str(context.output))
        _tidy(context.output)
        keep_companions(context.output, source)
        keep_precision(context.output, source)
        written = read_gptq_facts(context.output)
        if written["quantized_modules"] != follower.measured or not follower.measured:
            count = written["quantized_modules"]
            raise ToolFailed(f"GPTQModel worked on {follower.measured} modules and wrote {count} quantized ones.")
        return written


class _Follower:
    """Hears from GPTQModel as it goes through the parts of each layer."""

    def __init__(self, context: EngineContext, layer_count: int) -> None:
        self._context = context
        self._layer_count = layer_count
        self.measured = 0

    def subset_event(self, *, stage: str, layer_idx: int, subset_index: int, subset_total: int, **event: Any) -> None:
        """Report what is finished; the event's ``processor`` is a bound method of the object that keeps the log."""
        if stage == "quant_complete":
            for one in gptqmodel.measurements(event["processor"].__self__.log[self.measured :]):
                self._context.measure(one)
                self.measured += 1
        done = layer_idx + (subset_index + (stage == "quant_complete")) / subset_total
        names = ", ".join(event["module_names"])
        self._context.report(Progress(round(done, 3), self._layer_count, "layers", f"layer {layer_idx}: {names}"))


def _config(context: EngineContext, params: Any) -> dict[str, Any]:
    whole_row = params.group_size == WHOLE_ROW
    return {
        "bits": params.bits,
        "group_size": params.group_size,
        "damp_percent": params.damp_percent,
        "desc_act": params.desc_act,
        # Orders the groups by what matters and needs no order of columns at serving; it has no meaning for one group.
        "act_group_aware": not params.desc_act and not whole_row,
        "sym": params.sym,
        "offload_to_disk": True,
        "offload_to_disk_path": str(context.scratch / "layers"),
        "pack_impl": "original" if context.device == "cpu" else "gpu",  # the default compiles an extension at first use
    }


def _tidy(folder: Path) -> None:
    """Leave what is of this machine and this run out of the result."""
    (folder / "quant_log.csv").unlink(missing_ok=True)
    for name in ("config.json", "quantize_config.json"):
        path = folder / name
        document = json.loads(path.read_text(encoding="utf-8"))
        for config in _quantization_configs(document):
            config["meta"].pop("offload_to_disk_path", None)
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _quantization_configs(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for config in (document, document.get("quantization_config")):
        if isinstance(config, dict) and isinstance(config.get("meta"), dict):
            yield config


register(GptqMethod())
