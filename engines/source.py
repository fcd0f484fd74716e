"""Read a model folder's facts, and refuse one that cannot be used. No torch: headers and JSON only.

A folder comes from a stranger. Nothing in it is executed or unpickled, no name in it may lead out of it, and every
number in it is checked against the bytes that are there.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.errors import ModelUnsupported, SourceInvalid
from engines.model_facts import ModelFacts, tensor_groups
from engines.weights import StoredTensor, read_header, read_json_object

CONFIG_NAME = "config.json"
CONFIG_BYTES_MAX = 16 * 2**20
INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
SIZE_MAX = 2**31
ANYWHERE = (Path("/"),)  # where links may lead in a folder that we made ourselves, of links into the store
OUTPUT_HEADS = frozenset({"lm_head.weight", "embed_out.weight"})
LAYER = re.compile(r"\.\d+\.")  # "model.layers.0.mlp.up_proj.weight"

TORCH_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
CODE_SUFFIXES = frozenset({".py", ".pyc", ".so"})

# Any one of these sets is enough to load a tokenizer.
TOKENIZER_SETS = (("tokenizer.json",), ("tokenizer.model",), ("vocab.json", "merges.txt"))
# What is copied beside the weights; an allow-list, so that code and pickles stay behind whatever they are called.
COPIED_NAME = re.compile(
    r"config\.json|generation_config\.json|tokenizer[\w.-]*\.(json|model)|special_tokens_map\.json|added_tokens\.json"
    r"|vocab\.(json|txt)|merges\.txt|chat_template\.(json|jinja)|[\w-]+\.jinja"
    r"|(LICEN[SC]E|NOTICE|README|USE_POLICY)(\.(md|txt))?"
)


def inspect(folder: Path, roots: Sequence[Path] = ()) -> ModelFacts:
    """Return the facts of the model in ``folder``.

    Args:
        folder: a model as Hugging Face's libraries save it: config.json, safetensors, a tokenizer.
        roots: further folders into which links in ``folder`` may lead, such as the root that holds a hub cache.

    Raises:
        SourceInvalid: the folder is not a complete, safe model.
        ModelUnsupported: the model is one that no engine here can work on.
    """
    config = _read_config(folder, roots)
    architecture = _architecture(config)
    tensors = weight_tensors(folder, roots)
    if not tensors:
        raise SourceInvalid("The safetensors files hold no tensors. Save the model again.")
    _require_tokenizer(folder, roots)
    text_config = config.get("text_config")
    sizes = {**config, **text_config} if isinstance(text_config, dict) else config
    facts = ModelFacts(
        architecture=architecture,
        parameter_count=sum(tensor.element_count for tensor in tensors.values()),
        weight_bytes=sum(tensor.byte_count for tensor in tensors.values()),
        dtype=_dtype(tensors.values()),
        hidden_size=_size(sizes, "hidden_size", "n_embd", "d_model", "dim"),
        layer_count=_size(sizes, "num_hidden_layers", "n_layer", "num_layers", "n_layers"),
        vocabulary_size=_size(sizes, "vocab_size"),
        row_lengths=_row_lengths(tensors),
        tied_embeddings=config.get("tie_word_embeddings") is True or not OUTPUT_HEADS & tensors.keys(),
        stacked_experts=any(is_stacked(name, tensor) for name, tensor in tensors.items()),
        position_count=_count(sizes, "max_position_embeddings", "n_positions", "n_ctx"),
        head_count=_count(sizes, "num_attention_heads", "n_head", "num_heads", "n_heads"),
        kv_head_count=_count(sizes, "num_key_value_heads"),
        expert_count=_count(sizes, "num_local_experts", "num_experts", "n_routed_experts"),
        tensors=tensor_groups(tensors),
    )
    _require_agreement(facts, tensor_count=len(tensors))
    return facts


def inspect_snapshot(folder: Path) -> ModelFacts:
    """Return the facts of a snapshot, which we made of links into the store.

    Raises:
        SourceInvalid: there is code or pickled data in it, or it is damaged.
    """
    require_no_code(folder)
    return inspect(folder, ANYWHERE)


def model_files(folder: Path, roots: Sequence[Path] = ()) -> list[str]:
    """Return the names of the files that make up the model, sorted: the only ones to copy.

    Args:
        folder: a folder that ``inspect`` accepts.
        roots: as for ``inspect``.

    Raises:
        SourceInvalid: the weights are not complete, or a file to copy is a link that leaves the folder.
    """
    names = set(_weight_names(folder, roots))
    if has_file(folder, INDEX_NAME, roots):
        names.add(INDEX_NAME)
    names.update(
        path.name
        for path in folder.iterdir()
        if COPIED_NAME.fullmatch(path.name) and path.is_file() and has_file(folder, path.name, roots)
    )
    return sorted(names)


def companions(folder: Path) -> list[str]:
    """Return the names of what belongs to the model beside weights and config.json, its README left out."""
    names = (path.name for path in folder.iterdir() if COPIED_NAME.fullmatch(path.name))
    return sorted(name for name in names if name != CONFIG_NAME and not name.startswith("README"))


def has_file(folder: Path, name: str, roots: Sequence[Path]) -> bool:
    """Return whether ``name`` is a regular file of a folder.

    Raises:
        SourceInvalid: it is a link that leads out of where it may.
    """
    path = folder / name
    if not path.is_file():
        return False
    target = path.resolve()  # follows no loop: is_file() has said that there is an end
    if not any(target.is_relative_to(root.resolve()) for root in (folder, *roots)):
        raise SourceInvalid(f"{name} is a link that leads out of the model's folder. Put the file itself there.")
    return True


def require_no_code(snapshot: Path) -> None:
    """Refuse a snapshot that holds code or pickles, before a library that might run them sees it.

    Raises:
        SourceInvalid: there is such a file; a snapshot made of ``model_files`` never has one.
    """
    found = sorted(p.name for p in snapshot.rglob("*") if p.suffix in CODE_SUFFIXES | PICKLE_SUFFIXES)
    if found:
        raise SourceInvalid(f"The snapshot holds code or pickled data ({', '.join(found[:5])}), which is never loaded.")


def _read_config(folder: Path, roots: Sequence[Path]) -> dict[str, Any]:
    if not folder.is_dir():
        raise SourceInvalid(f"There is no folder {folder}. Give the folder that holds the model's config.json.")
    if not has_file(folder, CONFIG_NAME, roots):
        raise SourceInvalid(
            f"{folder} has no config.json. Give the folder that save_pretrained() wrote, not the one above it."
        )
    config = read_json_object(folder / CONFIG_NAME, bytes_max=CONFIG_BYTES_MAX)
    code_files = [config]
    if has_file(folder, "tokenizer_config.json", roots):
        code_files.append(read_json_object(folder / "tokenizer_config.json"))
    for document in code_files:
        # "owner/name--module.Class" would fetch and run code of another repository.
        if "--" in str(document.get("auto_map", "")):
            raise SourceInvalid("An auto_map names code in another repository. Remove it: remote code is never run.")
    if config.get("quantization_config"):
        raise ModelUnsupported(
            "The model is quantized already (config.json has quantization_config). Give the original."
        )
    return config


def _architecture(config: Mapping[str, Any]) -> str:
    names = config.get("architectures")
    if not isinstance(names, list) or not names or not isinstance(names[0], str) or not names[0].isidentifier():
        raise SourceInvalid('config.json names no architecture. Add it, such as "architectures": ["LlamaForCausalLM"].')
    return names[0]


def _weight_names(folder: Path, roots: Sequence[Path]) -> list[str]:
    """Return the safetensors files in use. An index wins over a single file, as in llama.cpp's converter."""
    if has_file(folder, INDEX_NAME, roots):
        return sorted(set(_read_index(folder).values()))
    if has_file(folder, SINGLE_NAME, roots):
        return [SINGLE_NAME]
    present = sorted(path.name for path in folder.iterdir())
    if "adapter_model.safetensors" in present:
        raise SourceInvalid("The folder holds a LoRA adapter, not a model. Merge it into its base model first.")
    if SINGLE_NAME in present:
        raise SourceInvalid(f"{SINGLE_NAME} is not a regular file. Put the file itself there.")
    shards = [name for name in present if name.endswith(".safetensors")]
    if shards:
        raise SourceInvalid(
            f"{INDEX_NAME} is missing, so nothing says which of {', '.join(shards[:5])} belong together."
        )
    pickled = [name for name in present if Path(name).suffix in PICKLE_SUFFIXES]
    if pickled:
        raise SourceInvalid(
            f"The weights are pickled ({', '.join(pickled[:5])}), which is never loaded since a pickle can run code. "
            "Convert them to safetensors: save_pretrained() does."
        )
    raise SourceInvalid(
        f"{folder} holds no weights. Put model.safetensors, or shards and their index, beside config.json."
    )


def _read_index(folder: Path) -> dict[str, str]:
    weight_map = read_json_object(folder / INDEX_NAME).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise SourceInvalid(f"{INDEX_NAME} has no weight_map. Save the model again.")
    for shard in weight_map.values():
        if not isinstance(shard, str) or not re.fullmatch(r"[\w-][\w.-]*\.safetensors", shard):
            raise SourceInvalid(
                f"{INDEX_NAME} names {str(shard)[:200]!r}, which is not a safetensors file in the folder."
            )
    return weight_map


def weight_tensors(folder: Path, roots: Sequence[Path] = ()) -> dict[str, StoredTensor]:
    """Return the tensors of every weight file, each of which must hold what the index says it holds.

    Raises:
        SourceInvalid: a file is missing or damaged.
    """
    found = {name: _read_shard(folder, name, roots) for name in _weight_names(folder, roots)}
    if (folder / INDEX_NAME).is_file():
        wanted: dict[str, set[str]] = {name: set() for name in found}
        for tensor, shard in _read_index(folder).items():
            wanted[shard].add(tensor)
        for shard, tensors in found.items():
            if wrong := sorted(wanted[shard] ^ tensors.keys()):
                raise SourceInvalid(
                    f"{shard} and {INDEX_NAME} disagree on tensor {wrong[0][:200]!r} and {len(wrong) - 1} others. "
                    "Fetch both from the same revision."
                )
    return {name: tensor for tensors in found.values() for name, tensor in tensors.items()}


def is_stacked(name: str, tensor: StoredTensor) -> bool:
    """Return whether a tensor holds a matrix of each expert of a layer."""
    return ".experts." in name and len(tensor.shape) == 3 and bool(LAYER.search(name))  # noqa: PLR2004 - experts first


def _read_shard(folder: Path, shard: str, roots: Sequence[Path]) -> dict[str, StoredTensor]:
    if not has_file(folder, shard, roots):
        raise SourceInvalid(f"{shard} is missing, though {INDEX_NAME} names it. Fetch it, too.")
    return read_header(folder / shard)


def _require_tokenizer(folder: Path, roots: Sequence[Path]) -> None:
    for names in TOKENIZER_SETS:
        if all(has_file(folder, name, roots) for name in names):
            break
    else:
        raise SourceInvalid("The model has no tokenizer. Put its tokenizer.json or tokenizer.model beside config.json.")
    if names == ("tokenizer.json",) and not isinstance(read_json_object(folder / names[0]).get("model"), dict):
        raise SourceInvalid("tokenizer.json describes no model. Save the tokenizer again.")


def _row_lengths(tensors: Mapping[str, StoredTensor]) -> tuple[int, ...]:
    """Return the row lengths of the matrices in numbered layers: what is quantized group by group."""
    lengths = {
        tensor.shape[-1]
        for name, tensor in tensors.items()
        if len(tensor.shape) >= 2 and LAYER.search(name)  # noqa: PLR2004 - a matrix
    }
    return tuple(sorted(lengths))


def _dtype(tensors: Iterable[StoredTensor]) -> str:
    elements: Counter[str] = Counter()
    for tensor in tensors:
        elements[tensor.dtype] += tensor.element_count
    stored = elements.most_common(1)[0][0]
    if stored not in TORCH_DTYPES:
        raise ModelUnsupported(
            f"Most of the weights are stored as {stored}; only BF16, F16 and F32 are full precision. Give the original."
        )
    return TORCH_DTYPES[stored]


def _require_agreement(facts: ModelFacts, tensor_count: int) -> None:
    """Refuse sizes that the weights cannot bear out: what they are taken for later takes memory in proportion."""
    if facts.vocabulary_size * facts.hidden_size > facts.parameter_count or facts.layer_count > tensor_count:
        raise SourceInvalid(
            f"config.json speaks of {facts.layer_count} layers, {facts.vocabulary_size} tokens and a width of "
            f"{facts.hidden_size}, and the weights are too few for that: {facts.parameter_count} numbers in "
            f"{tensor_count} tensors. Use the config.json that belongs to these weights."
        )


def _count(config: Mapping[str, Any], *names: str) -> int:
    """Return what is not needed everywhere; 0 where it is missing or nonsense."""
    given = next((config[name] for name in names if name in config), 0)
    return given if type(given) is int and 0 < given < SIZE_MAX else 0


def _size(config: Mapping[str, Any], *names: str) -> int:
    value = next((config[name] for name in names if name in config), None)
    if type(value) is not int or not 0 < value < SIZE_MAX:
        raise SourceInvalid(
            f"config.json must give {names[0]} as a positive whole number, and gives {str(value)[:40]!r}."
        )
    return value
