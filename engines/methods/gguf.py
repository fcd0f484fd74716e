"""GGUF by llama.cpp's own quantizer, one type a recipe: ``gguf:Q4_K_M``, ``gguf:IQ2_M+imatrix``.

A type is a mixture of llama.cpp's making; patterns, and the types of embedding and output head, change it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, LiteralString, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from core.errors import InvalidRequest, ModelUnsupported, ToolFailed
from engines import gguf_size
from engines.context import EngineContext, Progress
from engines.gguf_file import gguf_in, open_gguf, read_gguf_facts
from engines.gguf_plan import quantizable, type_options
from engines.gguf_types import (
    MAIN,
    MILLION_WEIGHTS_A_SECOND,
    NEED_IMATRIX,
    SIXTEEN_BIT_TYPES,
    STORAGE,
    TENSORS_NEED_IMATRIX,
    EdgeType,
    GgufType,
    TensorType,
    asked_types,
)
from engines.imatrix_file import IMATRIX_NAME
from engines.llama_cpp import VERSION, run_tool
from engines.methods.base import CalibratedParams, Forecast, Format, Material, Method, Preset, register
from engines.model_facts import ModelFacts
from engines.pretokenizer import PreTokenizer
from engines.tensor_patterns import PATTERNS_MAX, require_patterns

HEADER_BYTES = 64 * 2**20  # vocabulary and metadata, generously
PROCESS_BYTES = 256 * 2**20
MEGABYTE = 10**6  # llama-gguf-split counts in these

# "[  12/ 291]  blk.1.attn_q.weight - [ 4096, …": one line for each tensor, printed once it is done
TENSOR_LINE = re.compile(r"\[\s*(\d+)/\s*(\d+)\]\s+(\S+)")
NO_ENTRY = re.compile(r"Missing importance matrix for tensor (\S+)")


class GgufParams(CalibratedParams):
    """What can be chosen; the calibration text is looked at for an importance matrix alone."""

    type: GgufType = Field(default="Q4_K_M", description="llama.cpp's name of the quantization type")
    imatrix: bool = Field(
        default=False, description="Weigh rounding errors by what the calibration text makes of each column"
    )
    tensor_types: Annotated[dict[str, TensorType], AfterValidator(require_patterns)] = Field(
        default={},
        max_length=PATTERNS_MAX,
        description="Types of single tensors, by a pattern found in llama.cpp's names for them, such as attn_v=q6_K",
    )
    token_embedding_type: EdgeType | None = Field(default=None, description="Type of the embedding")
    output_type: EdgeType | None = Field(
        default=None, description="Type of the output head, and of an embedding that is the head, too"
    )
    split_max_bytes: int | None = Field(
        default=None, ge=2 * MEGABYTE, le=2**50, description="Split a larger result into files of at most this size"
    )
    pre_tokenizer: PreTokenizer | None = Field(
        default=None, description="llama.cpp's name of how the tokenizer splits text; found out where it is not given"
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.type in SIXTEEN_BIT_TYPES:
            for name in ("imatrix", "tensor_types", "token_embedding_type", "output_type"):
                if getattr(self, name):
                    raise self._refusal(name, "no_effect", f"{self.type} keeps every weight: leave out {name}")
        if self.imatrix:
            return self
        if self.type in NEED_IMATRIX:
            reason = f"{self.type} needs an importance matrix: add +imatrix, as in gguf:{self.type}+imatrix"
            raise self._refusal("type", "needs_imatrix", reason)
        for pattern, name in self.tensor_types.items():
            if name in TENSORS_NEED_IMATRIX:
                reason = f"{name} of {pattern} needs an importance matrix: add +imatrix, or imatrix: true"
                raise self._refusal("tensor_types", "needs_imatrix", reason)
        return self

    def _refusal(self, field: str, kind: LiteralString, reason: str) -> ValidationError:
        """Return an error that names one field, though it comes of several."""
        error = PydanticCustomError(kind, "{reason}", {"reason": reason})
        details = InitErrorDetails(type=error, loc=(field,), input=getattr(self, field))
        return ValidationError.from_exception_data(type(self).__name__, [details])


class GgufMethod(Method):
    """llama.cpp's quantizer on the lossless conversion of a model."""

    name = "gguf"
    summary = "GGUF for llama.cpp and what is built on it, from about 2 to 16 bits per weight; runs on the CPU."
    Params = GgufParams
    pool = "cpu"
    presets = (
        Preset("Q4_K_M", {}, "The usual choice: a good third of the size, and hardly anything lost."),
        Preset(
            "Q5_K_M+imatrix",
            {"type": "Q5_K_M", "imatrix": True},
            "Next to nothing lost: a bit more for each weight, spent by what text makes of it.",
        ),
        Preset(
            "attention-high",
            {"type": "Q4_K_S", "tensor_types": {"attn_": "q6_K", "ffn_": "q4_K"}},
            "Attention keeps six bits and feed-forward four: between Q4_K_M and Q5_K_S in size and loss, for work that "
            "leans on attention, such as long texts, and models in which it is a small part of the weights.",
        ),
    )

    def engine(self, params: Any) -> str:
        """Return llama.cpp's version."""
        return VERSION

    def material(self, params: Any) -> Mapping[Material, Mapping[str, Any]]:
        """Return that the lossless conversion is quantized, by an importance matrix if it is asked for."""
        conversion = {} if params.pre_tokenizer is None else {"pre_tokenizer": params.pre_tokenizer}
        if not params.imatrix:
            return {"gguf": conversion}
        return {"gguf": conversion, "samples": asdict(params.calibration), "imatrix": {}}

    def writes(self, params: Any) -> Format:
        """Return that it is GGUF."""
        return "gguf"

    def parse_short(self, text: str) -> dict[str, Any]:
        """Return the type named by ``text``, in either case, and whether ``+imatrix`` follows; the default if empty.

        Raises:
            InvalidRequest: something else follows.
        """
        name, plus, extra = text.partition("+")
        if plus and extra.lower() != "imatrix":
            raise InvalidRequest(
                f"gguf:{text[:80]} is not understood. Write a type, as in gguf:Q4_K_M, with +imatrix behind it for an "
                "importance matrix; the long form has every parameter.",
                param="recipe",
            )
        return {**({"type": name.upper()} if name else {}), **({"imatrix": True} if plus else {})}

    def short(self, params: Any) -> str:
        """Return ``gguf:``, the type and ``+imatrix``; the rest is not in it."""
        return f"{self.name}:{params.type}{'+imatrix' if params.imatrix else ''}"

    def check(self, facts: ModelFacts, params: Any) -> None:
        """Refuse an embedding's type that does not go with its rows, and parts that one tensor alone exceeds.

        Raises:
            InvalidRequest: naming the field.
        """
        for field in ("token_embedding_type", "output_type"):
            name: EdgeType | None = getattr(params, field)
            if name is not None and facts.hidden_size % STORAGE[name].block:
                raise InvalidRequest(
                    f"{name} stores {STORAGE[name].block} weights together, which does not divide this model's rows of "
                    f"{facts.hidden_size}. Choose q8_0, or another type of 32.",
                    param=f"recipe.{field}",
                )
        fewest = STORAGE[params.token_embedding_type or params.output_type or "q2_K"].bits
        embedding_bytes = int(facts.vocabulary_size * facts.hidden_size * fewest / 8)
        if params.split_max_bytes is not None and params.split_max_bytes <= embedding_bytes:
            raise _one_tensor_exceeds("The embedding", embedding_bytes)

    def forecast(self, facts: ModelFacts, params: Any) -> Forecast:
        """Return what llama-quantize will need: one tensor in float32 and quantized, and room for the result."""
        result_bytes = HEADER_BYTES + self.result_bytes(facts, params)
        return Forecast(
            memory_bytes=PROCESS_BYTES + 8 * facts.largest_tensor_elements,
            scratch_bytes=result_bytes if params.split_max_bytes is None else 2 * result_bytes,
            seconds=facts.parameter_count / 1e6 / MILLION_WEIGHTS_A_SECOND[MAIN[params.type]],
        )

    def result_bytes(self, facts: ModelFacts, params: Any) -> int:
        """Return about how large the result is."""
        return gguf_size.file_bytes(facts, params)

    def quantize(self, context: EngineContext, material: Mapping[Material, Path], params: Any) -> Mapping[str, Any]:
        """Write ``model-<type>.gguf``, or a set ``model-<type>-00001-of-0000N.gguf``.

        Raises:
            InvalidRequest: a pattern is found in no tensor, or two disagree; a part would be larger than may be.
            ModelUnsupported: the importance matrix has no entry for a tensor that needs one.
            ToolFailed: llama-quantize refused or failed.
            DoesNotFit: the result could not be written.
        """
        lossless = gguf_in(material["gguf"])
        whole = context.output / f"model-{params.type}.gguf"
        try:
            _run_quantize(context, [*_options(context, material, params), lossless, whole, params.type], params)
            if params.split_max_bytes is not None and whole.stat().st_size > params.split_max_bytes:
                _split(context, whole, params.split_max_bytes)
            return dict(read_gguf_facts(gguf_in(context.output)))
        except BaseException:
            for part in context.output.iterdir():  # what a failed run leaves must not pass for a result
                part.unlink()
            raise


def _options(context: EngineContext, material: Mapping[Material, Path], params: Any) -> Iterator[str]:
    """Yield llama-quantize's options."""
    choices = (params.tensor_types, params.token_embedding_type, params.output_type)
    if params.tensor_types:
        # What the tool would pass over in silence.
        asked_types(quantizable(gguf_in(material["gguf"])), *choices)
    if params.imatrix:
        # The tool writes the path that it is given into the result, so the link's own name is all that it is given.
        (context.scratch / IMATRIX_NAME).symlink_to(material["imatrix"] / IMATRIX_NAME)
        yield from ("--imatrix", IMATRIX_NAME)
    yield from type_options(*choices)


def _run_quantize(context: EngineContext, arguments: list[str | Path], params: Any) -> None:
    without_entry = ""

    def follow(line: str) -> None:
        nonlocal without_entry
        if match := TENSOR_LINE.match(line.strip()):
            done, total, tensor = match.groups()
            context.report(Progress(int(done), int(total), "tensors", tensor))
        elif match := NO_ENTRY.search(line):
            without_entry = match[1]

    try:
        run_tool("llama-quantize", [*arguments, str(context.threads)], cwd=context.scratch, on_line=follow)
    except ToolFailed as error:
        if not without_entry:
            raise
        raise ModelUnsupported(
            f"No calibration text reached {without_entry}, and {params.type} cannot be rounded without its importance. "
            "Use more calibration text, or a type of four bits or more.",
            param="recipe.type",
        ) from error


def _split(context: EngineContext, whole: Path, bytes_max: int) -> None:
    """Put a set of files in the place of a whole one. It is made beside the output, and only a complete one goes there.

    Raises:
        InvalidRequest: one tensor alone is larger than a file may be.
        DoesNotFit: the set could not be written.
        ModelUnsupported: the tool has written another set than its files' names say.
    """
    model = open_gguf(whole)
    # The tool counts tensors and not the header, which only the first file has in full.
    room_bytes = (bytes_max - model.data_offset) // MEGABYTE * MEGABYTE
    name, largest = max(((name, int(one.n_bytes)) for name, one in model.tensors.items()), key=lambda one: one[1])
    if largest > room_bytes:
        raise _one_tensor_exceeds(name, largest + model.data_offset)
    source = whole.rename(context.scratch / whole.name)
    folder = context.scratch / "split"
    folder.mkdir(exist_ok=True)
    arguments: list[str | Path] = ["--split-max-size", f"{room_bytes // MEGABYTE}M", source, folder / whole.stem]
    run_tool("llama-gguf-split", arguments, cwd=context.scratch)
    open_gguf(gguf_in(folder))
    source.unlink()
    for part in folder.iterdir():
        part.rename(context.output / part.name)


def _one_tensor_exceeds(name: str, size_bytes: int) -> InvalidRequest:
    least = (size_bytes // MEGABYTE + 1) * MEGABYTE
    return InvalidRequest(
        f"{name} alone takes more than split_max_bytes, and is never split. Choose {least} or more.",
        param="recipe.split_max_bytes",
    )


register(GgufMethod())
