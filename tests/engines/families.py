"""Tiny random models of each family, saved as Hugging Face folders with a tokenizer of their family's kind.

Weights are random but large enough that answers differ from place to place; sizes keep the ratios of the real models:
grouped heads, heads that do not multiply to the width, more experts than are asked at once.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from engines.domains import TEXTS
from tests.engines import conftest

if TYPE_CHECKING:
    from transformers import PretrainedConfig

COMMON = {
    "vocab_size": 4096,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 1024,
    "initializer_range": 0.08,  # of an untrained model, 0.02, leaves all tokens equally likely
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 1,
}
TRAINED_PIECES = 2000
SENTENCEPIECE = {"vocab_size": TRAINED_PIECES, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
GEMMA = {**SENTENCEPIECE, "bos_token_id": 2, "eos_token_id": 1, "head_dim": 64, "sliding_window": 256}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 128, "num_experts": 4, "decoder_sparse_step": 1}
MIXTRAL = {"num_local_experts": 4, "num_experts_per_tok": 2}
VISION = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}

Tokenizer = Literal["byte pairs", "gpt2", "llama", "gemma", "phi"]


@dataclass(frozen=True)
class Sample:
    """One model to build.

    Attributes:
        family: the prefix of transformers' classes.
        changes: to ``COMMON``.
        tokenizer: which kind lies beside it.
        suffix: of the model's class.
        dtype: what the weights are stored in.
        shards: whether they lie in two files.
        as_held: whether they are stored as transformers holds them in memory, experts in one tensor, in place of the
            family's usual names.
        vision: the configuration of the part that sees; empty for a model of text.
    """

    family: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: Tokenizer = "byte pairs"
    suffix: str = "ForCausalLM"
    dtype: str = "bfloat16"
    shards: bool = False
    as_held: bool = False
    vision: Mapping[str, Any] = field(default_factory=dict)

    @property
    def architecture(self) -> str:
        """The class that config.json names."""
        return f"{self.family}{self.suffix}"


SAMPLES: Mapping[str, Sample] = {
    "llama, tied": Sample("Llama", {"tie_word_embeddings": True}),
    "llama, sentencepiece": Sample("Llama", {**SENTENCEPIECE, "tie_word_embeddings": False}, tokenizer="llama"),
    "llama, float16, shards": Sample("Llama", {"tie_word_embeddings": False}, dtype="float16", shards=True),
    "mistral, float32": Sample("Mistral", {"sliding_window": 256}, dtype="float32"),
    "qwen2, tied": Sample("Qwen2", {"tie_word_embeddings": True}),
    "qwen2, shards": Sample("Qwen2", {"tie_word_embeddings": False}, shards=True),
    "qwen3": Sample("Qwen3", {"head_dim": 64, "tie_word_embeddings": True}),
    "gemma2": Sample("Gemma2", GEMMA, tokenizer="gemma"),
    "gemma3": Sample("Gemma3", GEMMA, tokenizer="gemma"),
    "gemma3, images": Sample("Gemma3", GEMMA, tokenizer="gemma", suffix="ForConditionalGeneration", vision=VISION),
    "mistral3, images": Sample("Mistral3", suffix="ForConditionalGeneration", vision={**VISION, "head_dim": 64}),
    "phi3": Sample("Phi3", SENTENCEPIECE, tokenizer="phi"),
    "phi4": Sample("Phi3", tokenizer="gpt2"),
    "mixtral": Sample("Mixtral", MIXTRAL),
    "mixtral, as held": Sample("Mixtral", MIXTRAL, as_held=True),
    "qwen3-moe": Sample("Qwen3Moe", {**EXPERTS, "head_dim": 64}),
    "qwen3-moe, as held": Sample("Qwen3Moe", {**EXPERTS, "head_dim": 64}, as_held=True),
    "gpt2": Sample("GPT2", {"n_embd": 128, "n_layer": 2, "n_head": 4, "n_ctx": 1024}, suffix="LMHeadModel"),
}


def build(folder: Path, sample: Sample) -> None:
    """Save a sample's model in ``folder``, which must not exist."""
    import torch
    import transformers

    torch.manual_seed(0)
    model = getattr(transformers, sample.architecture)(_config(sample))
    for parameter in model.parameters():
        if parameter.dim() == 1:  # norms and biases are born as ones and zeros, which would hide their loss
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.to(getattr(torch, sample.dtype)).save_pretrained(folder, save_original_format=not sample.as_held)
    if sample.tokenizer in ("llama", "gemma", "phi"):
        train_sentencepiece(folder, is_gemma=sample.tokenizer == "gemma")
    else:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(conftest.TINY / name, folder)
    if sample.tokenizer == "gpt2":  # as Phi-4's; the converter goes by this name
        conftest.edit_json(folder / "tokenizer_config.json", tokenizer_class="GPT2Tokenizer")
    if sample.tokenizer == "phi":  # as all of them do; transformers goes by it, whatever class is named
        transformers.LlamaTokenizer.from_pretrained(folder).backend_tokenizer.save(str(folder / "tokenizer.json"))
    if sample.shards:
        conftest.shard(folder)


def _config(sample: Sample) -> "PretrainedConfig":
    import transformers

    changes = {**COMMON, **sample.changes}
    of_part = {"Gemma3": "gemma3_text", "Mistral3": "mistral"}.get(sample.family)
    if not sample.vision:
        of_text = f"{sample.family}{'Text' * (of_part is not None)}Config"
        of_one: type[PretrainedConfig] = getattr(transformers, of_text)
        return of_one(**changes)
    vision = {"model_type": "siglip_vision_model" if sample.family == "Gemma3" else "pixtral", **sample.vision}
    of_both: type[PretrainedConfig] = getattr(transformers, f"{sample.family}Config")
    return of_both(text_config={"model_type": of_part, **changes}, vision_config=vision)


def train_sentencepiece(folder: Path, *, is_gemma: bool = False) -> None:
    """Write a SentencePiece model of 2000 pieces into ``folder``, as ``LlamaTokenizer`` or ``GemmaTokenizer`` reads it.

    Gemma's puts no space before a text, and has its special tokens in another order.
    """
    import sentencepiece

    special: dict[str, Any] = {
        "pad_id": 0,
        "eos_id": 1,
        "bos_id": 2,
        "unk_id": 3,
        "bos_piece": "<bos>",
        "eos_piece": "<eos>",
    }
    sentencepiece.SentencePieceTrainer.train(
        input=str(TEXTS / "prose_eval.txt"),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=TRAINED_PIECES,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        add_dummy_prefix=not is_gemma,
        control_symbols=["<|endoftext|>"],  # llama.cpp takes for granted that Phi-3 has it
        minloglevel=2,
        **(special if is_gemma else {}),
    )
    begin, end, name = ("<bos>", "<eos>", "Gemma") if is_gemma else ("<s>", "</s>", "Llama")
    settings = {"tokenizer_class": f"{name}Tokenizer", "bos_token": begin, "eos_token": end, "unk_token": "<unk>"}
    settings_and_flags = settings | {"add_bos_token": True, "legacy": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings_and_flags), encoding="utf-8")
