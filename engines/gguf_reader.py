"""The gguf package's reader, quick where a file has a vocabulary.

The package's own makes and checks four views of each string of an array, which takes 5 s for 50,000 tokens and their
merges. What comes out is the same, but for an array of numbers, which is one part in place of one for each number.
"""

from typing import Any, Literal

import gguf
import numpy as np
from gguf import GGUFValueType

HEADER_BYTES = 12  # of an array: the type of its elements, and their number
LENGTH_BYTES = 8


class GgufReader(gguf.GGUFReader):  # type: ignore[misc]  # the package has no types
    """A GGUF file, mapped into memory."""

    def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
        """Return the bytes of a value, its parts, which of them hold what is meant, and its types."""
        if raw_type != GGUFValueType.ARRAY:
            return super()._get_field_parts(orig_offs, raw_type)
        raw_kind, raw_count = self._get(orig_offs, np.uint32), self._get(orig_offs + 4, np.uint64)
        kind, count, begin = GGUFValueType(raw_kind[0]), int(raw_count[0]), orig_offs + HEADER_BYTES
        if kind == GGUFValueType.STRING:
            values = self._strings(begin, count)
            meant = range(3, 2 + len(values), 2)
        else:
            number = np.dtype(self.gguf_scalar_to_np[kind])
            self._require(begin + count * number.itemsize)
            values, meant = [self._get(begin, number, count)], range(2, 3)
        size = HEADER_BYTES + sum(part.nbytes for part in values)
        return size, [raw_kind, raw_count, *values], list(meant), [GGUFValueType.ARRAY, *([kind] if count else [])]

    def _strings(self, begin: int, count: int) -> list[Any]:
        """Return the length and the bytes of each string, one after the other."""
        order: Literal["little", "big"] = "little" if self.endianess == gguf.GGUFEndian.LITTLE else "big"
        data, parts = np.asarray(self.data), list[Any]()
        for _ in range(count):
            length = data[begin : begin + LENGTH_BYTES]
            end = begin + LENGTH_BYTES + int.from_bytes(length.tobytes(), order)
            self._require(end)
            parts += (length, data[begin + LENGTH_BYTES : end])
            begin = end
        return parts

    def _require(self, end: int) -> None:
        if end > self.data.nbytes:
            raise ValueError(f"The file is cut off: an array ends at byte {end} of {self.data.nbytes}.")
