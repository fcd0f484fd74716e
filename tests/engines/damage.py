"""Ways to spoil a checkpoint: each returns what does it to a folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def tell(**changes: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "config.json"
        config = json.loads(path.read_text())
        config["quantization_config"].update(changes)
        path.write_text(json.dumps(config))

    return damage


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    return damage


def shuffle(name: str) -> Callable[[Path], None]:
    """Put a tensor's words into another order, as many of each as before."""

    def change(tensors: dict[str, Any]) -> None:
        import torch

        words = tensors[name]
        order = torch.randperm(words.numel(), generator=torch.Generator().manual_seed(0))
        tensors[name] = words.flatten()[order].reshape(words.shape).contiguous()

    return edit(change)
