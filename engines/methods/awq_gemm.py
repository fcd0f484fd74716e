"""AWQ as AutoAWQ stored it, by GPTQModel. No method itself: ``awq`` does it so by default."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import InvalidRequest, ModelUnsupported
from engines import gptqmodel_needs, gptqmodel_work, gpu_time
from engines.checkpoints import is_in_layer, matrices
from engines.context import EngineContext
from engines.gptqmodel_needs import packed_bits
from engines.gptqmodel_work import Work
from engines.group_sizes import require_groups
from engines.methods.base import Forecast, Material
from engines.model_facts import NARROW_MATRICES, ModelFacts
from engines.module_rules import dynamic, packing, require_alike, require_matches
from engines.sentinel import Sentinel
from engines.source import ANYWHERE, inspect_snapshot, weight_tensors

BITS = 4
ANOTHER = "another method"
SEES_ALL = "format compressed-tensors, whose experts all see all of the text"
ROWS_AT_ONCE = 64  # GPTQModel looks for the best limits of so many rows together
STORED_BYTES = 2  # of a number in float16 or bfloat16
LIMIT_ROWS, LIMIT_TOKENS = 256, 512  # of so many rows at once, with so many tokens, it looks for the best limits
CHUNK_BYTES = 2**30  # in which it sums up inputs in float32


def check(facts: ModelFacts, params: Any) -> None:
    """Refuse a group size that does not divide the rows.

    Raises:
        InvalidRequest: naming the field and the row length.
    """
    # With rules it depends on the modules; see ``check_matrices``.
    for length in () if params.modules else facts.row_lengths:
        require_groups(f"this model's rows of {length} weights", length, params.group_size, facts.row_lengths, ANOTHER)


def check_matrices(found: Mapping[str, tuple[int, int]], params: Any) -> None:
    """Refuse what does not go with the modules that it is for, and sizes that GPTQModel's AWQ does not take.

    Raises:
        InvalidRequest: naming the module.
        ModelUnsupported: a size is no multiple of ``ROWS_AT_ONCE``.
    """
    config = _told(params.model_dump(mode="json"))
    meant = {name: shape for name, shape in found.items() if is_in_layer(name)}
    require_matches(config, meant)
    treated = {name: packing(config, name) for name in meant}
    require_alike(treated)
    for name, how in treated.items():
        if how is None:
            continue
        parent, _, last = name.rpartition(".")
        if last == "down_proj" and treated.get(f"{parent}.up_proj", how) is None:
            raise InvalidRequest(
                f"GPTQModel's AWQ cannot quantize {name} where what feeds it, up_proj, is left as it is. Leave both as "
                "they are, or neither, or give format compressed-tensors.",
                param="recipe.modules",
            )
        rows, columns = meant[name]
        require_groups(f"the rows of {columns} weights of {name}", columns, params.group_size, (columns,), ANOTHER)
        if rows % ROWS_AT_ONCE or columns % ROWS_AT_ONCE:
            raise ModelUnsupported(
                f"GPTQModel's AWQ takes matrices whose sizes are multiples of {ROWS_AT_ONCE}, and {name} has {rows} "
                f"rows of {columns} weights. Choose gptq, or leave the module out by a rule.",
                param="recipe.method",
            )


def forecast(facts: ModelFacts, params: Any) -> Forecast:
    """Return what GPTQModel needs.

    The inputs of each of a layer's matrices lie in main memory, those of the widest twice while they are looked at. On
    the device are the inputs of one, what it makes of them in full precision and when it is tried, and the layer.
    """
    longest = facts.longest_row
    width_bytes = STORED_BYTES * params.calibration_samples * params.calibration_tokens
    inputs = width_bytes * (NARROW_MATRICES * facts.hidden_size + 2 * longest) + CHUNK_BYTES
    tried = width_bytes * (longest + 3 * facts.hidden_size) + STORED_BYTES * LIMIT_ROWS * LIMIT_TOKENS * longest
    state = gptqmodel_work.state_bytes(facts, params)
    return Forecast(
        memory_bytes=gptqmodel_needs.memory_bytes(facts, state, inputs),
        vram_bytes=3 * 4 * facts.layer_elements + tried,
        scratch_bytes=gptqmodel_needs.scratch_bytes(facts, packed_bits(BITS, params.group_size), state),
        seconds=gpu_time.seconds(facts, ["gptqmodel-awq"], params.calibration.token_count, result_bytes(facts, params)),
    )


def result_bytes(facts: ModelFacts, params: Any) -> int:
    """Return how large the result is."""
    return gptqmodel_needs.result_bytes(facts, packed_bits(BITS, params.group_size))


def quantize(context: EngineContext, material: Mapping[Material, Path], params: Any) -> Mapping[str, Any]:
    """Write a folder as ``save_pretrained`` does, with ``quantization_config``, of a model that has passed the checks.

    Raises:
        ModelUnsupported: GPTQModel does not know the architecture, or cannot do it.
        ToolFailed: GPTQModel left a module as it was.
    """
    source = material["snapshot"]
    facts = inspect_snapshot(source)
    told = stored_config(params.model_dump(mode="json"), source)
    work = Work(
        kind="awq",
        config={
            "bits": BITS,
            "group_size": params.group_size,
            "sym": not params.zero_point,
            "dynamic": told.get("dynamic"),
            # What a search computes goes to memory and back for each of its 20 tries: minutes a layer with a GPU.
            "scale_search_chunked_activations": context.device == "cpu",
        },
        told=told,
        # Its kernels have no other; float16 is the finer of the two.
        dtype="bfloat16" if facts.dtype == "bfloat16" else "float16",
        steps=facts.layer_count,
        state_bytes=gptqmodel_work.state_bytes(facts, params),
        sentinel=Sentinel(params.model_dump(mode="json"), SEES_ALL),
    )
    return gptqmodel_work.make(context, source, material["samples"], work)


def stored_config(parameters: Mapping[str, Any], source: Path) -> dict[str, Any]:
    """Return what the ``quantization_config`` of a result says, to be read by servers.

    ``modules_to_not_convert`` is AutoAWQ's word for what is skipped, which transformers and vLLM read; GPTQModel reads
    ``dynamic``.

    Args:
        parameters: the recipe's, as plain data.
        source: the model, for the names of its modules.
    """
    config = _told(parameters)
    if not config["dynamic"]:
        return {name: value for name, value in config.items() if name != "dynamic"}
    meant = matrices(weight_tensors(source, ANYWHERE), output_head=False)
    return {**config, "modules_to_not_convert": [name for name in meant if packing(config, name) is None]}


def _told(parameters: Mapping[str, Any]) -> dict[str, Any]:
    config = {"bits": BITS, "group_size": parameters["group_size"], "zero_point": parameters["zero_point"]}
    return {**config, "version": parameters["format"], "dynamic": dynamic(parameters["modules"])}
