"""What GPTQModel needs of a machine, as ``bench/results/gpu.md`` found it, and how large its results are.

It reads a layer at a time from the source's files, and packs it into a file of its own. The embedding waits on the
disk, too; at the end all of it is read again, and written into the result.
"""

from engines.model_facts import ModelFacts

PROCESS_BYTES = 2750 * 2**20  # torch with CUDA, transformers, GPTQModel
COPY = 1.5  # embedding and output head lie in memory when the result is written, and one of them once more
EMBEDDING = 0.75  # of both lies there before
STATES_IN_MEMORY = 2  # of a checkpoint, while it is made: as tensors, and as the bytes of a file
STATES_ON_DISK = 4  # GPTQModel's last two, the one that is being stored, and its copy
SCALE_BITS = 16


def packed_bits(bits: int, group_size: int) -> float:
    """Return the bits of a quantized weight with its share of a scale and a zero point.

    Args:
        bits: of a code.
        group_size: weights that share them; -1 for whole rows, which are long enough to count for nothing.
    """
    return bits + ((SCALE_BITS + bits) / group_size if group_size > 0 else 0)


def memory_bytes(facts: ModelFacts, state_bytes: int, inputs_bytes: int = 0) -> int:
    """Return the main memory that it takes: when the result is written, or before.

    Args:
        facts: of the model.
        state_bytes: of a checkpoint, beside finished layers.
        inputs_bytes: of a layer's matrices that lie in main memory; they are let go when a checkpoint is made.
    """
    outside = facts.outside_elements * facts.element_bytes
    held = max(STATES_IN_MEMORY * state_bytes, inputs_bytes)
    return PROCESS_BYTES + int(max(COPY * outside, EMBEDDING * outside + held))


def packed_bytes(facts: ModelFacts, bits: float) -> int:
    """Return what all layers take once they are packed; ``bits`` of a weight, as ``packed_bits`` has them."""
    return int(facts.layer_count * facts.layer_elements * bits / 8)


def result_bytes(facts: ModelFacts, bits: float) -> int:
    """Return how large the result is."""
    return int(facts.outside_elements * facts.element_bytes) + packed_bytes(facts, bits)


def scratch_bytes(facts: ModelFacts, bits: float, state_bytes: int) -> int:
    """Return the disk that it takes: the result, the embedding and the layers of which it is made, and checkpoints.

    Args:
        facts: of the model.
        bits: of a quantized weight, as ``packed_bits`` has them.
        state_bytes: of a checkpoint, beside finished layers, which it shares.
    """
    waiting = int(facts.embedding_elements * facts.element_bytes) + packed_bytes(facts, bits)
    return result_bytes(facts, bits) + waiting + STATES_ON_DISK * state_bytes
