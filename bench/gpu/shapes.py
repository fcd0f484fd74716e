"""Models of a real model's shape with random weights: as large and as slow, and made in seconds."""

import json
import os
import shutil
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.gpu.steps import Ran
from demo.__main__ import MODEL
from engines import source
from engines.model_facts import ModelFacts, TensorGroup
from engines.weights import read_header
from pipeline.step_kind import Outcome

# config.json of Meta-Llama-3-8B and -70B, as far as it says sizes.
LLAMA_3_8B = {"hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32, "num_key_value_heads": 8}
LLAMA_3_70B = {"hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64, "num_key_value_heads": 8}
VOCABULARY = 128256
COMMON = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 8192,
    "rope_theta": 500000.0,
    "rms_norm_eps": 1e-05,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "dtype": "bfloat16",
    "bos_token_id": None,
    "eos_token_id": 0,
}
LAYERS = "model.layers.*"
NORMS = ("input_layernorm", "post_attention_layernorm")
DEVIATION = 0.02  # of the weights, as models are initialized


def model_of(folder: Path, shape: dict[str, int], layers: int) -> Path:
    """Return a folder with a model of so many layers; the files of layers are shared by all models under ``folder``."""
    model = folder / f"{layers}-layers"
    if not model.exists():
        model.mkdir(parents=True)
        files = [_outside(folder, shape), *(_layer(folder, shape, layer) for layer in range(layers))]
        index: dict[str, str] = {}
        for path in files:
            os.link(path, model / path.name)
            index |= dict.fromkeys(read_header(path), path.name)
        _describe(model, shape, layers, index)
    return model


def facts_of(shape: dict[str, int], layers: int) -> ModelFacts:
    """Return the facts of such a model, without one; of one with experts, too, where the shape names their number."""
    hidden, vocabulary, experts = shape["hidden_size"], shape.get("vocab_size", VOCABULARY), _experts(shape)
    groups = [
        TensorGroup(f"{LAYERS}.{part}.weight", size, layers * (experts if ".experts." in part else 1))
        for part, size in _parts(shape).items()
    ]
    groups += [TensorGroup(f"{LAYERS}.{norm}.weight", (hidden,), layers) for norm in NORMS]
    groups += [TensorGroup(f"{name}.weight", (vocabulary, hidden), 1) for name in ("model.embed_tokens", "lm_head")]
    groups += [TensorGroup("model.norm.weight", (hidden,), 1)]
    count = sum(group.element_count for group in groups)
    return ModelFacts(
        architecture="LlamaForCausalLM",
        parameter_count=count,
        weight_bytes=2 * count,
        dtype="bfloat16",
        hidden_size=hidden,
        layer_count=layers,
        vocabulary_size=vocabulary,
        row_lengths=(hidden, shape["intermediate_size"]),
        head_count=shape["num_attention_heads"],
        kv_head_count=shape["num_key_value_heads"],
        expert_count=experts,
        tensors=tuple(groups),
    )


def fetched(folder: Path) -> Ran:
    """Return what a fetch of a model would have come to, without a copy of it."""
    return Ran(Outcome(facts={"model": asdict(source.inspect(folder))}), folder, 0.0, 0.0)


def _outside(folder: Path, shape: dict[str, int]) -> Path:
    """Write what is in no layer, unless it is there."""
    size = (shape.get("vocab_size", VOCABULARY), shape["hidden_size"])
    sizes = {"model.embed_tokens": size, "lm_head": size}
    return _file(folder / "outside.safetensors", sizes, ["model.norm"], shape["hidden_size"])


def _layer(folder: Path, shape: dict[str, int], layer: int) -> Path:
    """Write a layer, unless it is there."""
    at = f"model.layers.{layer}"
    norms = [f"{at}.{norm}" for norm in NORMS]
    named = {f"{at}.{part}": size for part, size in _matrices(shape).items()}
    return _file(folder / f"layer-{layer:03}.safetensors", named, norms, shape["hidden_size"])


def _experts(shape: dict[str, int]) -> int:
    return shape.get("num_local_experts", 0)


def _parts(shape: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Return the matrices of a layer by name, with an asterisk for the number of an expert."""
    place = "mlp.experts.*." if _experts(shape) else "mlp."
    return {name.replace("mlp.", place): size for name, size in _matrices(shape).items()}


def _matrices(shape: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Return rows and columns of each matrix of a layer."""
    hidden, wide = shape["hidden_size"], shape["intermediate_size"]
    of_keys = hidden // shape["num_attention_heads"] * shape["num_key_value_heads"]
    return {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (of_keys, hidden),
        "self_attn.v_proj": (of_keys, hidden),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (wide, hidden),
        "mlp.up_proj": (wide, hidden),
        "mlp.down_proj": (hidden, wide),
    }


def _file(path: Path, sizes: dict[str, tuple[int, int]], norms: list[str], hidden: int) -> Path:
    import torch
    from safetensors.torch import save_file

    if not path.exists():
        torch.manual_seed(zlib.crc32(path.name.encode()))
        device = "cuda" if torch.cuda.is_available() else "cpu"
        tensors: dict[str, Any] = {f"{name}.weight": torch.ones(hidden, dtype=torch.bfloat16) for name in norms}
        for name, (rows, columns) in sizes.items():
            random = torch.randn(rows, columns, device=device).mul_(DEVIATION)
            tensors[f"{name}.weight"] = random.to(torch.bfloat16).cpu()
        save_file(tensors, path, {"format": "pt"})
    return path


def _describe(folder: Path, shape: dict[str, Any], layers: int, index: dict[str, str]) -> None:
    (folder / "config.json").write_text(json.dumps({**COMMON, **shape, "num_hidden_layers": layers}))
    total = sum((folder / name).stat().st_size for name in dict.fromkeys(index.values()))
    (folder / source.INDEX_NAME).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": index}))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(MODEL / name, folder / name)
