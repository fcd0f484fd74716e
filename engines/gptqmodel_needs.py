"""What GPTQModel needs of a machine, as ``bench/results/gpu.md`` found it, and how large its results are.

It reads a layer at a time from the source's files, and packs it into a file of its own. The embedding waits on the
disk, too; at the end all of it is read again, and written into the result.
"""

from engines.model_facts import ModelFacts

PROCESS_BYTES = 2750 * 2**20  # torch with CUDA, transformers, GPTQModel
COPY = 1.5  # embedding and output head lie in memory when the result is written, and one of them once more
SCALE_BITS = 16


def packed_bits(bits: int, group_size: int) -> float:
    """Return the bits of a quantized weight with its share of a scale and a zero point.

    Args:
        bits: of a code.
        group_size: weights that share them; -1 for whole rows, which are long enough to count for nothing.
    """
    return bits + ((SCALE_BITS + bits) / group_size if group_size > 0 else 0)


def memory_bytes(facts: ModelFacts) -> int:
    """Return the main memory that it takes when the result is written, which is the most unless inputs lie there."""
    return PROCESS_BYTES + int(COPY * facts.outside_elements * facts.element_bytes)


def packed_bytes(facts: ModelFacts, bits: float) -> int:
    """Return what all layers take once they are packed; ``bits`` of a weight, as ``packed_bits`` has them."""
    return int(facts.layer_count * facts.layer_elements * bits / 8)


def result_bytes(facts: ModelFacts, bits: float) -> int:
    """Return how large the result is."""
    return int(facts.outside_elements * facts.element_bytes) + packed_bytes(facts, bits)


def scratch_bytes(facts: ModelFacts, bits: float) -> int:
    """Return the disk that it takes: the result, and beside it the embedding and the layers of which it is made."""
    waiting = int(facts.embedding_elements * facts.element_bytes) + packed_bytes(facts, bits)
    return result_bytes(facts, bits) + waiting
