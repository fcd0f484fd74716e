"""GPTQ by GPTQModel: ``gptq:4bit-g128``. Writes the format that AutoGPTQ wrote, as Frantar et al. (2022) describe it.

Each row of a layer's weights is rounded column by column, and the error of each column is made good in those that are
still to come, by the inverse Hessian of the layer's inputs on calibration text.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from core.errors import InvalidRequest
from engines import gptqmodel, gptqmodel_needs, gptqmodel_work, gpu_time
from engines.checkpoints import is_in_layer
from engines.context import EngineContext
from engines.gptq_files import WORD_BITS
from engines.gptqmodel_needs import packed_bits
from engines.gptqmodel_work import Work
from engines.group_sizes import WHOLE_ROW, require_groups
from engines.methods.base import Forecast, Format, Material, Method, Preset, WatchedParams, register
from engines.model_facts import ModelFacts
from engines.module_rules import (
    CHANGE,
    OUTPUT_HEAD,
    Rules,
    SkipRule,
    dynamic,
    packing,
    require_alike,
    require_matches,
    whole_name,
)
from engines.sentinel import Sentinel

SHORT = re.compile(
    r"(?P<bits>[0-9]{1,4})bit(-g(?P<group>[0-9]{1,4})|-(?P<whole>row))?(?P<act>-desc_act)?(?P<asym>-asym)?"
)
WHOLE_ROWS = "-1 for whole rows"
SEES_ALL = "int4, whose experts all see all of the text"
LAYERS = 2  # one that is being packed, and one at work
HESSIANS = 3  # of the longest rows: one summed up, and two while it is inverted
BATCH_MATRICES = 4  # as long as the longest rows: gate, up, and what becomes of them

Bits = Literal[2, 3, 4, 8]
GroupSize = Literal[-1, 16, 32, 64, 128, 256, 512, 1024]


class GptqRule(SkipRule):
    """What holds for some modules in place of what the recipe says of all."""

    bits: Bits | None = Field(default=None, description="Bits of a weight")
    group_size: GroupSize | None = Field(default=None, description="Weights of a row that share a scale")
    sym: bool | None = Field(default=None, description="Scales around zero")
    desc_act: bool | None = Field(default=None, description="Round the columns that matter most first")


class GptqParams(WatchedParams):
    """What can be chosen."""

    bits: Bits = Field(default=4, description="Bits of a weight")
    group_size: GroupSize = Field(
        default=128, description="Weights of a row that share a scale; must divide the rows. -1: the whole row"
    )
    damp_percent: float = Field(
        default=0.01, gt=0, lt=1, description="Added to the Hessian's diagonal, as a part of its mean; more is steadier"
    )
    desc_act: bool = Field(
        default=False, description="Round the columns that matter most first: often a little better, slower to serve"
    )
    sym: bool = Field(default=True, description="Scales around zero; without, each group has a zero point of its own")
    static_groups: bool = Field(
        default=False,
        description="With desc_act: choose all scales before the first column is rounded, so that groups stay in order "
        "and the result is served as fast as one without desc_act",
    )
    true_sequential: bool = Field(
        default=True,
        description="Let the later parts of a layer see what the rounding of the earlier ones did: better, and slower",
    )
    mse: float = Field(
        default=0,
        ge=0,
        le=4,
        description="Look for the scales at which the errors, raised to this power, are least; 2.4 is usual, and 0 "
        "takes each scale from the largest weight. Much slower",
    )
    lm_head: bool = Field(
        default=False, description="Quantize the output head, too; a model that shares it with its embedding cannot"
    )
    modules: Rules[GptqRule] = Field(
        default=(),
        description="Rules for single modules, by regular expressions for whole names: bits, group_size, sym, "
        "desc_act, or skip. A rule that skips holds before all others, then the first that matches. vLLM and SGLang "
        "make q, k and v one module qkv_proj, and gate and up gate_up_proj: let a rule match all of these, or none. "
        "transformers reads no rules, nor a quantized output head",
    )

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if self.static_groups and not (self.desc_act and self.group_size != WHOLE_ROW):
            raise ValueError("static_groups needs desc_act and a group_size: without, groups are in order anyway")
        if 0 < self.mse < 1:
            raise ValueError("mse is 0, or a power from 1 to 4")
        return self


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

    def broken_off(self, params: Any) -> str:
        """Return where it goes on."""
        return gptqmodel_work.resumption()

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
        """Refuse bits that do not fill words, group sizes that do not divide, and an output head that is the embedding.

        Raises:
            InvalidRequest: naming the field and the row length.
        """
        # With rules it depends on the modules; see ``check_matrices``.
        for length in () if params.modules else facts.row_lengths:
            rows = f"this model's rows of {length} weights"
            _require_words(rows, length, params.bits)
            require_groups(rows, length, params.group_size, facts.row_lengths, WHOLE_ROWS)
        if params.lm_head and facts.tied_embeddings:
            raise InvalidRequest(
                "This model's output head is its embedding, which cannot be quantized. Leave lm_head out.",
                param="recipe.lm_head",
            )
        if params.lm_head:
            _require_words(f"an output head of {facts.vocabulary_size} tokens", facts.vocabulary_size, params.bits)

    def check_matrices(self, found: Mapping[str, tuple[int, int]], params: Any) -> None:
        """Refuse what does not go with the modules that it is for.

        Raises:
            InvalidRequest: naming the module.
        """
        told = stored_config(params.model_dump(mode="json"))
        meant = {name: shape for name, shape in found.items() if params.lm_head or is_in_layer(name)}
        require_matches(told, meant)
        treated = {name: packing(told, name) for name in meant}
        require_alike(treated)
        for name, how in treated.items():
            if how is not None:
                columns = meant[name][1]
                _require_words(f"the rows of {columns} weights of {name}", columns, how.bits)
                require_groups(
                    f"the rows of {columns} weights of {name}", columns, how.group_size, (columns,), WHOLE_ROWS
                )

    def forecast(self, facts: ModelFacts, params: Any) -> Forecast:
        """Return what GPTQModel needs.

        On the device are the layer, the one before it, which is being packed, and the samples' hidden states. While a
        matrix is rounded, its Hessian is there with two of the like, in which that is inverted, and the matrix in
        float32. When the samples go through the finished layer, their hidden states after it come to be, and what the
        feed-forward part makes of a batch. An output head needs as much for itself.
        """
        hidden = params.calibration_samples * params.calibration_tokens * facts.hidden_size
        hessian = 4 * facts.longest_row**2
        batch = BATCH_MATRICES * gptqmodel_work.BATCH_TOKENS * facts.longest_row
        rounding = HESSIANS * hessian + 4 * facts.hidden_size * facts.longest_row
        going_through = hessian + int(facts.element_bytes * (hidden + batch))
        vram = int(facts.element_bytes * (hidden + LAYERS * facts.layer_elements)) + max(rounding, going_through)
        if params.lm_head:
            vram += 3 * 4 * facts.embedding_elements
        state = gptqmodel_work.state_bytes(facts, params)
        return Forecast(
            memory_bytes=gptqmodel_needs.memory_bytes(facts, state),
            vram_bytes=vram,
            scratch_bytes=gptqmodel_needs.scratch_bytes(facts, packed_bits(params.bits, params.group_size), state),
            seconds=None if params.mse else self._seconds(facts, params),
        )

    def _seconds(self, facts: ModelFacts, params: Any) -> float | None:
        tokens, result_bytes = params.calibration.token_count, self.result_bytes(facts, params)
        return gpu_time.seconds(facts, ["gptqmodel-gptq"], tokens, result_bytes)

    def result_bytes(self, facts: ModelFacts, params: Any) -> int:
        """Return how large the result is, as if no rule said otherwise of single modules."""
        return gptqmodel_needs.result_bytes(facts, packed_bits(params.bits, params.group_size))

    def quantize(self, context: EngineContext, material: Mapping[Material, Path], params: Any) -> Mapping[str, Any]:
        """Write a folder as ``save_pretrained`` does, with ``quantization_config``.

        Raises:
            ModelUnsupported: GPTQModel does not know the architecture, or cannot do it.
            InvalidRequest: a group size does not divide, or a rule is for no module.
            ToolFailed: GPTQModel left a module as it was.
        """
        source = material["snapshot"]
        facts = self.check_snapshot(source, params)
        told = stored_config(params.model_dump(mode="json"))
        work = Work(
            kind="gptq",
            config=_config(params),
            told=told,
            dtype="float32" if context.device == "cpu" else facts.dtype,  # 16-bit arithmetic is slow on CPUs
            steps=facts.layer_count + params.lm_head,
            state_bytes=gptqmodel_work.state_bytes(facts, params),
            sentinel=Sentinel(params.model_dump(mode="json"), SEES_ALL),
        )
        return gptqmodel_work.make(context, source, material["samples"], work)


def stored_config(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the ``quantization_config`` of a result says, to be read by servers.

    Args:
        parameters: the recipe's, as plain data.
    """
    config = {name: parameters[name] for name in ("bits", "group_size", "desc_act", "sym", "lm_head")}
    rules = _rules(parameters)
    if parameters["static_groups"]:
        # The groups are in order, and what believes so is faster.
        config["desc_act"] = False
        rules = {key: {**rule, "desc_act": False} if "desc_act" in rule else rule for key, rule in rules.items()}
    return {**config, **({"dynamic": rules} if rules else {})}


def _rules(parameters: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the recipe's rules, with one for an output head, for which GPTQModel would make up its own."""
    rules = dynamic(parameters["modules"])
    if parameters["lm_head"]:
        rules[CHANGE + whole_name(OUTPUT_HEAD)] = {name: parameters[name] for name in ("bits", "group_size")}
    return rules


def _config(params: GptqParams) -> dict[str, Any]:
    """Return the arguments of GPTQModel's configuration."""
    names = (
        "bits",
        "group_size",
        "sym",
        "desc_act",
        "damp_percent",
        "static_groups",
        "true_sequential",
        "mse",
        "lm_head",
    )
    config = {name: getattr(params, name) for name in names}
    rules = {
        key: {**rule, "act_group_aware": _is_group_aware({**config, **rule})} if key.startswith(CHANGE) else rule
        for key, rule in _rules(params.model_dump(mode="json")).items()
    }
    return {**config, "act_group_aware": _is_group_aware(config), "dynamic": rules or None}


def _is_group_aware(config: Mapping[str, Any]) -> bool:
    """Return whether groups are ordered by what matters, which needs no order of columns at serving.

    It has no meaning for one group, and goes wrong with groups whose scales were chosen before.
    """
    return not config["desc_act"] and not config["static_groups"] and config["group_size"] != WHOLE_ROW


def _require_words(what: str, count: int, bits: int) -> None:
    if count * bits % WORD_BITS:
        raise InvalidRequest(
            f"{bits} bits do not pack {what} into words of {WORD_BITS}. Choose 8 bits, or another method.",
            param="recipe.bits",
        )


register(GptqMethod())
