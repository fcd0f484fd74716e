"""What llm-compressor leaves in a folder, made into a checkpoint in which all that is the source's own is unchanged."""

from pathlib import Path
from typing import Any

from engines.checkpoints import CheckpointFacts, keep_companions, keep_precision, read_tensors
from engines.compressed_files import is_code, read_compressed_facts
from engines.source import ANYWHERE, weight_tensors
from engines.tensor_files import replace_tensors
from engines.weights import read_header

RECIPE_NAME = "recipe.yaml"  # its record of what it did, in its own classes' names; the job has the recipe
SHARD_SIZE = "4GB"


def save(model: Any, folder: Path) -> None:
    """Write the model as compressed-tensors, as llm-compressor does it."""
    from llmcompressor.transformers.compression.compressed_tensors_utils import modify_save_pretrained

    modify_save_pretrained(model)
    model.save_pretrained(str(folder), max_shard_size=SHARD_SIZE)


def tidy(folder: Path, source: Path, dtype: str) -> CheckpointFacts:
    """Leave out what is of this run alone, put back what is the source's own, and return what is there then.

    Args:
        folder: as ``save`` has left it.
        source: the model that it was made of.
        dtype: in what the model was held.
    """
    (folder / RECIPE_NAME).unlink()
    keep_companions(folder, source)
    stored = weight_tensors(folder, ANYWHERE)
    keep_precision(folder, source, lambda name, tensor: tensor.dtype if is_code(name, stored) else None)
    _keep_offset_norms(folder, source, dtype)
    return read_compressed_facts(folder)


def _keep_offset_norms(folder: Path, source: Path, dtype: str) -> None:
    """Put back norms that were not scaled and have changed all the same.

    Gemma's multiply by one more than they store. llm-compressor adds the one and takes it away again, which rounds.
    """
    vectors = {name for name, one in weight_tensors(source, ANYWHERE).items() if len(one.shape) == 1}
    for path in sorted(folder.glob("*.safetensors")):
        names = vectors.intersection(read_header(path))
        found, ours = (read_tensors(place, names) for place in (folder, source))
        replace_tensors(path, {name: ours[name] for name in names if _went_by_one(found[name], ours[name], dtype)})


def _went_by_one(found: Any, own: Any, dtype: str) -> bool:
    """Return whether a vector is what is left of the source's once one was added and taken away, and not the same."""
    import torch

    held = getattr(torch, dtype)
    returned = ((1.0 + own.to(held).float()).to(held).float() - 1.0).to(held).to(found.dtype)
    return not torch.equal(found, own) and torch.equal(found, returned)
