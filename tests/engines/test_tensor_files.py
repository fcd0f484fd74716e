"""Tensors replaced in a safetensors file: in place where they fit, and the file anew where they do not."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from engines.tensor_files import replace_tensors

NORM = torch.tensor([1.5, -2.0, 3.0])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tensors = {"norm": NORM.bfloat16(), "é": torch.arange(6.0).reshape(2, 3), "one": torch.tensor(7.0)}
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize(
    ("name", "tensor", "is_in_place"),
    [
        ("norm", NORM.half(), True),
        ("é", torch.full((2, 3), 9.0).T.contiguous().T, True),
        ("one", torch.tensor(8.0), True),
        ("norm", NORM.float(), False),
    ],
    ids=["another type", "columns first", "a number", "larger"],
)
def test_what_is_read_then_is_what_was_put(path: Path, name: str, tensor: torch.Tensor, is_in_place: bool) -> None:
    before, others = path.stat().st_size, load_file(path)
    replace_tensors(path, {name: tensor})
    found = load_file(path)
    assert found[name].dtype == tensor.dtype
    assert torch.equal(found[name], tensor)
    assert all(torch.equal(found[other], others[other]) for other in others.keys() - {name})
    assert (path.stat().st_size == before) == is_in_place
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_a_name_that_is_too_long_for_the_header_writes_the_file_anew(tmp_path: Path) -> None:
    """A header's end is filled up to eight bytes: with none left, BF16 has no room where F16 was."""
    lengths = set()
    for letters in range(1, 10):
        path = tmp_path / f"{letters}.safetensors"
        save_file({"n" * letters: NORM.half()}, path)
        before = path.read_bytes()
        replace_tensors(path, {"n" * letters: NORM.bfloat16()})
        assert torch.equal(load_file(path)["n" * letters], NORM.bfloat16())
        lengths.add(len(path.read_bytes()) - len(before))
    assert lengths == {0, 8}


def test_nothing_to_replace_touches_nothing(path: Path) -> None:
    before = path.stat().st_mtime_ns
    replace_tensors(path, {})
    assert path.stat().st_mtime_ns == before
