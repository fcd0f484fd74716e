"""The file of an importance matrix as llama.cpp's tools write and read it (``common/imatrix-loader.cpp``).

For each matrix it has the sums of squares of what is multiplied with each column, and how many tokens they are of; a
stack of experts has both for each of them.
"""

from pathlib import Path

IMATRIX_NAME = "imatrix.gguf"
SUMS, COUNTS = ".in_sum2", ".counts"
DATASETS, CHUNKS, CHUNK_TOKENS = "imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size"


def write_blank(path: Path) -> None:
    """Write an importance matrix of no tensor that is in any model.

    A mixture's types depend on whether there is one, and not on what is in it.
    """
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(path, "")
    writer.add_array(DATASETS, ["none"])
    writer.add_uint32(CHUNKS, 1)
    writer.add_uint32(CHUNK_TOKENS, 1)
    for suffix in (SUMS, COUNTS):
        writer.add_tensor(f"none{suffix}", np.ones((1, 1), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
