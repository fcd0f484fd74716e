"""AWQ: ``awq:4bit-g128``. Weights that meet large inputs matter most, and are made larger before they are rounded.

What each column is multiplied by is divided out of what feeds it, a norm or another matrix, so the model stays what it
was (Lin et al., 2023). Written as AutoAWQ wrote it, by GPTQModel.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from core.errors import InvalidRequest, ModelUnsupported
from engines import gptqmodel, gptqmodel_work
from engines.checkpoints import matrices
from engines.context import EngineContext
from engines.gptqmodel_work import Work
from engines.methods.base import CalibratedParams, Forecast, Format, Material, Method, Preset, register
from engines.module_rules import RULES_MAX, SkipRule, dynamic, packing, require_distinct, require_matches
from engines.source import ANYWHERE, ModelFacts, inspect_snapshot, weight_tensors

SHORT = re.compile(r"4bit(-g(?P<group>[0-9]{1,4}))?(?P<sym>-sym)?")
BITS = 4
ROWS_AT_ONCE = 64  # GPTQModel looks for the best limits of so many rows together
PROCESS_BYTES = 2 * 2**30  # torch, transformers, GPTQModel


class AwqParams(CalibratedParams):
    """What can be chosen."""

    group_size: Literal[32, 64, 128] = Field(
        default=128, description="Weights of a row that share a scale; must divide the rows"
    )
    zero_point: bool = Field(
        default=True, description="A zero point for each group; without, scales are around zero and a little is lost"
    )
    modules: tuple[SkipRule, ...] = Field(
        default=(),
        strict=False,  # JSON has no tuples
        max_length=RULES_MAX,
        description="Modules to leave as they are, by regular expressions for whole names. The others that read the "
        "same inputs are then rounded without being scaled",
    )
    format: Literal["gemm"] = Field(default="gemm", description="How it is stored: as AutoAWQ did, for all servers")

    @model_validator(mode="after")
    def _differ(self) -> Self:
        require_distinct(self.modules)
        return self


class AwqMethod(Method):
    """GPTQModel on the model as it was fetched, one layer at a time."""

    name = "awq"
    summary = "AWQ in AutoAWQ's format, 4 bits, for vLLM, SGLang and transformers; best on a GPU."
    Params = AwqParams
    pool = "gpu"
    presets = (
        Preset("4bit-g128", {}, "As small and as fast to serve as GPTQ, and less bound to the text it was made with."),
    )

    def engine(self, params: Any) -> str:
        """Return GPTQModel's version."""
        return gptqmodel.VERSION

    def material(self, params: Any) -> Mapping[Material, Mapping[str, Any]]:
        """Return that the model itself is quantized, by samples of text."""
        return {"snapshot": {}, "samples": asdict(params.calibration)}

    def writes(self, params: Any) -> Format:
        """Return that it is AutoAWQ's format."""
        return "awq"

    def parse_short(self, text: str) -> dict[str, Any]:
        """Return what ``4bit-g128`` or ``4bit-g64-sym`` stands for; the defaults if empty.

        Raises:
            InvalidRequest: the text is not of that form.
        """
        if not text:
            return {}
        match = SHORT.fullmatch(text.lower())
        if match is None:
            raise InvalidRequest(
                f"awq:{text[:80]} is not understood. Write awq:4bit-g128, with -sym behind it for scales around zero; "
                "AWQ has 4 bits, and the long form has every parameter.",
                param="recipe",
            )
        given: dict[str, Any] = {"zero_point": not match["sym"]}
        return {**given, "group_size": int(match["group"])} if match["group"] else given

    def short(self, params: Any) -> str:
        """Return the form that ``parse_short`` takes; calibration and rules are not in it."""
        return f"{self.name}:{BITS}bit-g{params.group_size}" + ("" if params.zero_point else "-sym")

    def check(self, facts: ModelFacts, params: Any) -> None:
        """Refuse a group size that does not divide the rows, and sizes that GPTQModel's AWQ does not take.

        Raises:
            InvalidRequest: naming the field and the row length.
            ModelUnsupported: a size of the model is no multiple of ``ROWS_AT_ONCE``.
        """
        for length in facts.row_lengths:
            if length % params.group_size:
                raise InvalidRequest(
                    f"group_size {params.group_size} does not divide this model's rows of {length} weights. "
                    f"Choose one that divides {', '.join(map(str, facts.row_lengths))}, or another method.",
                    param="recipe.group_size",
                )
            if length % ROWS_AT_ONCE:
                raise ModelUnsupported(
                    f"GPTQModel's AWQ takes matrices whose sizes are multiples of {ROWS_AT_ONCE}, and this model has "
                    f"{length}. Choose gptq.",
                    param="recipe.method",
                )

    def forecast(self, facts: ModelFacts, params: Any) -> Forecast:
        """Return what GPTQModel needs: embeddings, a layer with copies in float32, and the inputs of its matrices."""
        layer_elements = facts.parameter_count // max(facts.layer_count, 1)
        widths = 4 * facts.hidden_size + max(facts.row_lengths, default=facts.hidden_size)
        inputs = 4 * params.calibration_samples * params.calibration_tokens * widths
        embedding = 4 * facts.vocabulary_size * facts.hidden_size
        return Forecast(
            memory_bytes=PROCESS_BYTES + embedding,
            vram_bytes=3 * 4 * layer_elements + inputs,
            # The layers that wait lie on the disk in full; the result is beside them at the end.
            scratch_bytes=2 * facts.weight_bytes + 4 * facts.parameter_count,
        )

    def quantize(self, context: EngineContext, material: Mapping[Material, Path], params: Any) -> Mapping[str, Any]:
        """Write a folder as ``save_pretrained`` does, with ``quantization_config``.

        Raises:
            ModelUnsupported: GPTQModel does not know the architecture, or cannot do it.
            InvalidRequest: the group size does not divide, or a rule is for no module.
            ToolFailed: GPTQModel left a module as it was.
        """
        source = material["snapshot"]
        facts = inspect_snapshot(source)
        self.check(facts, params)
        told = stored_config(params.model_dump(mode="json"), source)
        work = Work(
            kind="awq",
            config={
                "bits": BITS,
                "group_size": params.group_size,
                "sym": not params.zero_point,
                "dynamic": told.get("dynamic"),
            },
            told=told,
            # Its kernels have no other; float16 is the finer of the two.
            dtype="bfloat16" if facts.dtype == "bfloat16" else "float16",
            steps=facts.layer_count,
        )
        return gptqmodel_work.make(context, source, material["samples"], work)


def stored_config(parameters: Mapping[str, Any], source: Path) -> dict[str, Any]:
    """Return what the ``quantization_config`` of a result says, to be read by servers.

    ``modules_to_not_convert`` is AutoAWQ's word for what is skipped, which transformers and vLLM read; GPTQModel reads
    ``dynamic``.

    Args:
        parameters: the recipe's, as plain data.
        source: the model, for the names of its modules.

    Raises:
        InvalidRequest: a rule is for no module.
    """
    config = {"bits": BITS, "group_size": parameters["group_size"], "zero_point": parameters["zero_point"]}
    config["version"] = parameters["format"]
    rules = dynamic(parameters["modules"])
    if not rules:
        return config
    meant = matrices(weight_tensors(source, ANYWHERE), output_head=False)
    config["dynamic"] = rules
    require_matches(config, meant)
    return {**config, "modules_to_not_convert": [name for name in meant if packing(config, name) is None]}


register(AwqMethod())
