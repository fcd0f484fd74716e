"""Which families of models were tried with which method, and why some of them cannot work.

What is refused here is refused at submit. ``tests/engines/test_families.py`` holds the table: it makes a small model of
each family with each method, and one that works though it is refused fails it as much as one that does not.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from core.errors import ModelUnsupported
from engines.model_facts import ModelFacts
from engines.source import CONFIG_NAME
from engines.weights import read_json_object

FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "LlamaForCausalLM": "llama",
        "MistralForCausalLM": "mistral",
        "Mistral3ForConditionalGeneration": "mistral3 with images",
        "Qwen2ForCausalLM": "qwen2",  # and Qwen2.5
        "Qwen3ForCausalLM": "qwen3",
        "Gemma2ForCausalLM": "gemma2",
        "Gemma3ForCausalLM": "gemma3",
        "Gemma3ForConditionalGeneration": "gemma3 with images",
        "Phi3ForCausalLM": "phi3",  # and Phi-4
        "MixtralForCausalLM": "mixtral",
        "Qwen3MoeForCausalLM": "qwen3-moe",
        "GPT2LMHeadModel": "gpt2",
    }
)
# Added to the family's name where all experts of a layer are stored as one tensor.
STACKED = ", experts as one tensor"
OTHER = "another"

_NO_REFERENCE = (
    "transformers has no class for the text of Mistral 3 with images, so nothing could be compared with full "
    "precision. Give a model of text alone."
)
_SAVE_AGAIN = (
    "Load the model with transformers and save it with save_pretrained(), which stores them one by one, and give that."
)
_STACKED = f"Experts that are stored as one tensor are taken apart, and servers look for the one. {_SAVE_AGAIN}"
_GPTQMODEL: Mapping[str, str] = {
    "mistral3 with images": _NO_REFERENCE,
    "gemma3 with images": (
        "GPTQModel writes it under other names than the model's own, and servers look for those. Give the model of "
        "text alone, Gemma3ForCausalLM, or choose gguf, which takes the text of it."
    ),
    "phi3": ("GPTQModel cuts gate_up_proj in two, and servers look for it whole. Choose gguf for Phi-3 and Phi-4."),
    "mixtral": (
        "GPTQModel writes Mixtral's experts under other names than the model's own, and servers look for those. "
        "Choose gguf."
    ),
    "gpt2": "GPTQModel's results of GPT-2, whose matrices lie transposed, cannot be checked. Choose gguf.",
    **{f"{family}{STACKED}": _STACKED for family in ("mixtral", "qwen3-moe", OTHER)},
}
_LLMCOMPRESSOR: Mapping[str, str] = {
    "mistral3 with images": _NO_REFERENCE,
    "gemma3 with images": (
        "llm-compressor goes into the part that sees, too, and its result cannot be loaded. Give the model of text "
        "alone, Gemma3ForCausalLM, or choose gguf, which takes the text of it."
    ),
    "mixtral": (
        "llm-compressor writes Mixtral's experts under other names than the model's own, and neither transformers nor "
        "servers find them. Choose gguf."
    ),
    "gpt2": "llm-compressor finds nothing to quantize in GPT-2, whose matrices are no torch.nn.Linear. Choose gguf.",
    **{f"{family}{STACKED}": _STACKED for family in ("mixtral", "qwen3-moe", OTHER)},
}

# For each method, and each engine where several do it, the families with which it cannot work, and why; it works with
# the others of ``FAMILIES``. A method that has no column was not tried with any.
REFUSED: Mapping[str, Mapping[str, str]] = {
    "gguf": {
        "mistral3 with images": _NO_REFERENCE,
        f"mixtral{STACKED}": f"llama.cpp's converter knows Mixtral's experts only one by one. {_SAVE_AGAIN}",
    },
    "gptq": _GPTQMODEL,
    "awq": {
        **_GPTQMODEL,
        "gemma3": "GPTQModel's AWQ does not know how Gemma 3's layers turn by two kinds of positions. Give "
        "format compressed-tensors, or choose gptq.",
    },
    "awq as compressed-tensors": _LLMCOMPRESSOR,
    "fp8": _LLMCOMPRESSOR,
    "int8": _LLMCOMPRESSOR,
    "int4": _LLMCOMPRESSOR,
}

# Families of which GPTQModel goes on after the last finished layer, bit for bit as if it had not been broken off.
# ``tests/engines/test_resume.py`` holds it.
RESUMED_BY_GPTQMODEL = frozenset({"llama", "mistral", "qwen2", "qwen3", "qwen3-moe", "gemma2", "gemma3"})


def family(facts: ModelFacts) -> str:
    """Return the family of a model, with how its experts are stored; ``OTHER`` begins that of one not in the table."""
    return FAMILIES.get(facts.architecture, OTHER) + STACKED * facts.stacked_experts


def require_possible(column: str, facts: ModelFacts) -> None:
    """Refuse a model of a family with which a method, or an engine of it, is known not to work.

    Raises:
        ModelUnsupported: with the reason.
    """
    reason = REFUSED.get(column, {}).get(family(facts))
    if reason is not None:
        raise ModelUnsupported(f"{column} cannot work on {facts.architecture}: {reason}", param="recipe.method")


def warnings(column: str, facts: ModelFacts) -> tuple[str, ...]:
    """Return what a person should know before a method is used on such a model, in sentences."""
    if column in REFUSED and facts.architecture not in FAMILIES:
        return (f"{column} was not tried on {facts.architecture}. It may fail; verification says what is wrong then.",)
    if facts.architecture == "Gemma3ForConditionalGeneration":
        return ("Only the text of this model is converted and judged; the result does not see images.",)
    return ()


def require_known(folder: Path, facts: ModelFacts) -> None:
    """Refuse a model that transformers cannot run as a model of text, before anything is computed.

    Args:
        folder: a folder that ``source.inspect`` accepts.
        facts: of it.

    Raises:
        ModelUnsupported: transformers has no class for it.
    """
    if facts.architecture in FAMILIES:
        return  # those are known, and the library takes seconds to import
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = read_json_object(folder / CONFIG_NAME).get("model_type")
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelUnsupported(
            f"transformers knows no model of text called {facts.architecture} (model_type {str(kind)[:40]!r}) without "
            "code of its own, which is never run. Give a model of an architecture that it knows."
        )
