"""Convert a snapshot to one lossless GGUF file, in this process, with llama.cpp's own converter.

No tensor loses precision. The converter's classes are overridden on the instance in use, never
in the library.
"""

import contextlib
import errno
import functools
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypedDict

from core.errors import DoesNotFit, FewbitsError, InvalidRequest, ModelUnsupported, os_error
from engines import pretokenizer
from engines.context import EngineContext, Progress
from engines.gguf_file import CHAT_TEMPLATE, open_gguf, read_gguf_facts
from engines.methods.base import Forecast
from engines.model_facts import ModelFacts
from engines.pretokenizer import PreTokenizer
from engines.source import inspect_snapshot
from engines.tokenizer import load_tokenizer

FILE_NAME = "model.gguf"
VOCABULARY_NAME = "vocabulary.gguf"
PROCESS_BYTES = 1536 * 2**20  # torch, transformers and a large vocabulary
HEADER_BYTES = 64 * 2**20
PARAM = "recipe.pre_tokenizer"
DISK_FULL = "The disk is full: the converted model could not be written. Free scratch space."


class ConvertFacts(TypedDict):
    """What was written: as ``gguf_file.GgufFacts``, and what is known of the tokenizer.

    Attributes:
        pre_tokenizer: llama.cpp's name of the tokenizer's way to split text.
        tokenizer_differs_at: the first of ``pretokenizer.TOLERATED_LINES`` on which llama.cpp's tokenizer gives other
            ids than the model's own, or None.
    """

    size_bytes: int
    bits_per_weight: float
    tensor_types: dict[str, int]
    pre_tokenizer: str
    tokenizer_differs_at: str | None


def forecast(facts: ModelFacts) -> Forecast:
    """Return what converting a model of these facts will need: the file, and a few tensors in float32 at a time."""
    return Forecast(
        memory_bytes=PROCESS_BYTES + 12 * facts.largest_tensor_elements,
        scratch_bytes=2 * HEADER_BYTES + facts.weight_bytes + facts.weight_bytes // 20,
    )


def convert(context: EngineContext, snapshot: Path, pre_tokenizer: PreTokenizer | None = None) -> ConvertFacts:
    """Write ``model.gguf`` into ``context.output``.

    Args:
        context: folders and progress.
        snapshot: a folder that ``source.inspect_snapshot`` accepts; never written to.
        pre_tokenizer: llama.cpp's name of how the tokenizer splits text; None to find it out. Proven in either case.

    Returns:
        facts of the file as really written.

    Raises:
        InvalidRequest: the vocabulary has no pre-tokenizer, so none can be chosen.
        ModelUnsupported: the converter knows neither the architecture nor the tokenizer, llama.cpp's tokenizer gives
            other ids than the source's, or the chat template is not the source's.
        DoesNotFit: memory or disk ran out.
    """
    import torch

    facts = inspect_snapshot(snapshot)
    logging.basicConfig(level=logging.INFO, stream=sys.stdout)  # the converter's account of its work is the log
    # The converter derives a name from the folder's; it must not depend on where the model happens to lie.
    folder = context.scratch / "model"
    folder.symlink_to(snapshot.resolve())
    with torch.inference_mode(), _explained(folder):
        tokenizer = load_tokenizer(folder)
        name = _prove_tokenizer(context, folder, facts, tokenizer, pre_tokenizer)
        vocabulary = context.scratch / VOCABULARY_NAME
        differs_at = pretokenizer.difference(tokenizer, vocabulary, pretokenizer.TOLERATED_LINES)
        model = _open(folder, context.output / FILE_NAME, facts)
        if name is not None:
            model.get_vocab_base_pre = lambda _: name
        model.tensor_force_quant = _keep_precision(model, facts.dtype)
        _report_tensors(model, context.report)
        try:
            model.write()
        except BaseException:
            with contextlib.suppress(OSError):  # what could not be written cannot be flushed either
                model.gguf_writer.close()
            raise
        _prove_written(tokenizer, context.output / FILE_NAME)
    written = read_gguf_facts(context.output / FILE_NAME)
    return ConvertFacts(**written, pre_tokenizer=name or "default", tokenizer_differs_at=differs_at)


def _open(snapshot: Path, target: Path, facts: ModelFacts) -> Any:
    """Return the converter's model for ``snapshot``, which will write ``target``."""
    import conversion
    import gguf

    file_types = {
        "bfloat16": gguf.LlamaFileType.MOSTLY_BF16,
        "float16": gguf.LlamaFileType.MOSTLY_F16,
        "float32": gguf.LlamaFileType.ALL_F32,
    }
    hparams = conversion.ModelBase.load_hparams(snapshot, is_mistral_format=False)
    architecture = conversion.get_model_architecture(hparams, conversion.ModelType.TEXT)
    if architecture not in conversion.TEXT_MODEL_MAP:
        raise ModelUnsupported(f"llama.cpp's converter does not know the architecture {architecture}.")
    model_class = conversion.get_model_class(architecture)
    model = model_class(snapshot, file_types[facts.dtype], target, model_name=_label(hparams, architecture, snapshot))
    return getattr(model, "impl", model)  # Mistral3's class is a shell around the one that does the work


def _label(hparams: Mapping[str, Any], architecture: str, snapshot: Path) -> str:
    """Return the name that the file will say the model has.

    llama.cpp goes by it for the special tokens of Phi-3's vocabulary, and cannot load Phi-4's under the same name.
    """
    name = str(hparams.get("model_type") or architecture)
    return "phi4" if name == "phi3" and not (snapshot / "tokenizer.model").is_file() else name


def _prove_tokenizer(
    context: EngineContext, snapshot: Path, facts: ModelFacts, tokenizer: Any, chosen: PreTokenizer | None
) -> str | None:
    """Return the proven name of the pre-tokenizer, or None where the vocabulary is of a kind that has none.

    The proof is made on a file with the vocabulary alone, before any weight is read.
    """
    context.report(Progress(0, 1, "tokenizers", "comparing the tokenizers"))
    target = context.scratch / VOCABULARY_NAME
    if chosen is not None:
        return _prove_chosen(snapshot, target, facts, tokenizer, chosen)
    try:
        known = _write_vocabulary(snapshot, target, facts, None)
    except NotImplementedError as error:
        if "pre-tokenizer" not in str(error):
            raise
        for name in pretokenizer.candidates(tokenizer):
            _write_vocabulary(snapshot, target, facts, name)
            difference = pretokenizer.difference(tokenizer, target)
            if difference is None:
                return name
    else:
        difference = pretokenizer.difference(tokenizer, target)
        if difference is None:
            return known
    raise _other_ids(str(difference))


def _other_ids(difference: str) -> ModelUnsupported:
    return ModelUnsupported(f"llama.cpp's tokenizer gives other ids than the model's own, first at {difference!r}.")


def _prove_written(tokenizer: Any, file: Path) -> None:
    """Require of the file itself that ids and chat template are the source's; what is made of it is held against it."""
    if (difference := pretokenizer.difference(tokenizer, file)) is not None:
        raise _other_ids(difference)
    written = open_gguf(file)
    for key, template in _templates(tokenizer).items():
        if (written.value(key) or None) != template:
            raise ModelUnsupported("llama.cpp's converter does not keep the model's chat template as it is.")


def _templates(tokenizer: Any) -> dict[str, str | None]:
    """Return a model's chat templates by the keys under which a GGUF file has them; of several, one is the default."""
    template = tokenizer.chat_template or None
    named = template if isinstance(template, dict) else {"default": template}
    keys = {name: f"{CHAT_TEMPLATE}.{re.sub('[^0-9A-Za-z]', '_', name)}" for name in named}
    return {key: named.get(name) for name, key in {**keys, "default": CHAT_TEMPLATE}.items()}


def _prove_chosen(snapshot: Path, target: Path, facts: ModelFacts, tokenizer: Any, chosen: PreTokenizer) -> str:
    """Return the name of a pre-tokenizer that a person chose, once it is proven."""
    if _write_vocabulary(snapshot, target, facts, chosen) is None:
        raise InvalidRequest("This vocabulary is of a kind without a pre-tokenizer. Leave it out.", param=PARAM)
    difference = pretokenizer.difference(tokenizer, target)
    if difference is not None:
        raise ModelUnsupported(
            f"llama.cpp's tokenizer with the pre-tokenizer {chosen!r} gives other ids than the model's own, first at "
            f"{difference!r}. Choose another, or leave it out.",
            param=PARAM,
        )
    return chosen


def _write_vocabulary(snapshot: Path, target: Path, facts: ModelFacts, name: str | None) -> str | None:
    """Write a GGUF file without tensors.

    Args:
        snapshot: the source.
        target: the file to write.
        facts: of the source.
        name: the pre-tokenizer's name; None leaves it to the converter.

    Returns:
        the name in the file, or None where the vocabulary has none.

    Raises:
        NotImplementedError: the converter does not know the vocabulary.
    """
    model = _open(snapshot, target, facts)
    by_hash = model.get_vocab_base_pre
    used: str | None = None

    def choose(tokenizer: Any) -> str:
        nonlocal used
        used = name or str(by_hash(tokenizer))
        return used

    model.get_vocab_base_pre = choose
    model.write_vocab()
    return used


def _keep_precision(model: Any, dtype: str) -> Callable[[str, str, int | None, int], Any]:
    """Return a rule for ``model`` that lets no tensor lose precision.

    Args:
        model: the converter's model.
        dtype: the precision of most tensors, and so of the file. A tensor stored in another one becomes float32, which
            holds every value of the other two.
    """
    import gguf
    import torch

    rule = model.tensor_force_quant
    of_file = getattr(torch, dtype)

    def keep(name: str, new_name: str, block: int | None, dimensions: int) -> Any:
        ruled = rule(name, new_name, block, dimensions)
        # A tensor that the converter computes has no name in the source: it takes the file's type.
        if ruled is not False or name not in model.model_tensors or model.model_tensors[name]().dtype == of_file:
            return ruled
        return gguf.GGMLQuantizationType.F32

    return keep


def _report_tensors(model: Any, report: Callable[[Progress], None]) -> None:
    """Make ``model`` report each tensor that it writes."""
    writer = model.gguf_writer
    write = writer.write_tensors_to_file

    def write_and_report(**_: Any) -> None:
        infos = [(name, info) for shard in writer.tensors for name, info in shard.items()]
        for done, (name, info) in enumerate(infos, start=1):
            info.tensor = _Reported(info.tensor, functools.partial(report, Progress(done, len(infos), "tensors", name)))
        write(progress=False)

    writer.write_tensors_to_file = write_and_report


class _Reported:
    """A tensor that tells when it has been written; all that the writer asks of a tensor."""

    def __init__(self, tensor: Any, written: Callable[[], None]) -> None:
        self._tensor = tensor
        self._written = written
        self.nbytes = tensor.nbytes

    def tofile(self, file: BinaryIO) -> None:
        """Write the tensor's bytes."""
        self._tensor.tofile(file)
        self._written()


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn what the converter raises into an error that says what to do."""
    try:
        yield
    except MemoryError as error:
        raise DoesNotFit("The conversion ran out of memory. Use a machine with more of it.") from error
    except OSError as error:
        # numpy says a short write without a number: "1024 requested and 512 written".
        if error.errno == errno.EFBIG or "requested and" in str(error):
            raise DoesNotFit(DISK_FULL) from error
        # The libraries raise OSError, too, for a model that they cannot read; then there is no number.
        if error.errno is None:
            raise _cannot_convert(error, folder) from error
        raise os_error(error, "The conversion failed", full=DoesNotFit(DISK_FULL)) from error
    except FewbitsError:
        raise
    # The converter has no errors of its own: a model that it was not written for fails wherever it is first met.
    except Exception as error:
        raise _cannot_convert(error, folder) from error


def _cannot_convert(error: Exception, folder: Path) -> ModelUnsupported:
    reason = repr(error).replace(f"{folder}/", "")  # where it lay means nothing to the person who asked
    return ModelUnsupported(f"llama.cpp's converter cannot convert this model: {reason}.")
