"""Load a model folder as transformers does: from safetensors, without running its code and without the network."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from core.errors import ModelUnsupported, SourceInvalid
from engines.memory_errors import is_memory_error
from engines.source import CONFIG_NAME
from engines.weights import read_json_object


def load_model(
    folder: Path,
    dtype: str = "float32",
    around: Callable[[type], AbstractContextManager[Any]] = nullcontext,
    **options: Any,
) -> Any:
    """Return the model in ``folder`` as transformers loads it: on the CPU, unless the options say otherwise.

    Args:
        folder: the model.
        dtype: in what to hold it, as torch names it.
        around: given a class with ``from_pretrained``, returns what is entered while that is called.
        options: further arguments of ``from_pretrained``.

    Raises:
        ModelUnsupported: transformers cannot load it without remote code.
        SourceInvalid: the weights do not fill the model.
    """
    import torch
    from transformers import AutoModelForCausalLM

    report: dict[str, Any] = {}

    class Loader:
        """Returns the model alone, and leaves what is said of its weights in ``report``."""

        @classmethod
        def from_pretrained(cls, *arguments: Any, **named: Any) -> Any:
            model, said = AutoModelForCausalLM.from_pretrained(*arguments, output_loading_info=True, **named)
            report.update(said)
            return model

    try:
        with around(Loader):
            model = Loader.from_pretrained(
                folder,
                dtype=getattr(torch, dtype),
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                **options,
            )
    # A configuration that does not describe its model fails wherever the model's class first uses it.
    except Exception as error:
        if is_memory_error(error):
            raise
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        architecture = ", ".join(map(str, read_json_object(folder / CONFIG_NAME).get("architectures") or ["the model"]))
        raise ModelUnsupported(
            f"transformers cannot load {architecture} without code of its own ({reason})."
        ) from error
    # transformers fills what is missing with random numbers and only warns.
    wrong = [*report.get("missing_keys", ()), *report.get("mismatched_keys", ())]
    if wrong:
        raise SourceInvalid(f"The weights do not fill the model: {wrong[0]} and {len(wrong) - 1} others are missing.")
    return model
