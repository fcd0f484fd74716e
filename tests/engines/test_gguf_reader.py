"""The quick reader beside the gguf package's own."""

from pathlib import Path

import gguf
import pytest

from engines.convert import FILE_NAME
from engines.gguf_reader import GgufReader
from engines.imatrix_file import IMATRIX_NAME
from engines.methods.base import Material


def content(reader: gguf.GGUFReader) -> dict[str, tuple[bytes, object, object]]:
    return {
        name: (b"".join(part.tobytes() for part in field.parts), field.contents(), field.types)
        for name, field in reader.fields.items()
    }


@pytest.mark.parametrize(("made", "name"), [("gguf", FILE_NAME), ("imatrix", IMATRIX_NAME)])
def test_it_finds_what_the_package_finds(made: Material, name: str, material: dict[Material, Path]) -> None:
    file = material[made] / name
    quick, slow = GgufReader(file), gguf.GGUFReader(file)
    assert content(quick) == content(slow)
    assert [tensor.name for tensor in quick.tensors] == [tensor.name for tensor in slow.tensors]
    assert quick.data_offset == slow.data_offset


@pytest.mark.parametrize("key", ["tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.merges"])
def test_an_array_that_is_cut_off_is_an_error(key: str, converted: Path, tmp_path: Path) -> None:
    field = GgufReader(converted).fields[key]
    size = sum(part.nbytes for part in field.parts)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(converted.read_bytes()[: field.offset + size - 1])
    with pytest.raises(ValueError, match="cut off"):
        GgufReader(cut)
