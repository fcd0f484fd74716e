"""What a runtime must know of a file before it can serve it, from what a recipe promises of it.

A format's facts have its own words; a recipe whose modules are not all alike has a set of facts for each kind.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from engines.gguf_types import MAIN
from engines.group_sizes import WHOLE_ROW
from engines.methods.base import Format
from engines.module_rules import changes
from engines.serving.table import Fact

Facts = Mapping[str, Fact]

# What is meant by a fact that is either so or not, for those that a runtime may not serve.
MEANING: Mapping[tuple[str, Fact], str] = {
    ("desc_act", True): "groups in the order of activations (desc_act)",
    ("sym", False): "zero points (sym false)",
    ("symmetric", False): "zero points (symmetric false)",
    ("lm_head", True): "a quantized output head (lm_head)",
    ("module_rules", True): "rules for single modules",
    ("split", True): "sets of split files",
}
_GPTQ = ("bits", "group_size", "sym", "desc_act", "lm_head")
_AWQ = ("group_size", "zero_point")
_COMPRESSED = ("type", "bits", "group_size", "symmetric", "activations", "lm_head")


def facts(form: Format, promises: Mapping[str, Any]) -> tuple[Facts, ...]:
    """Return what a file holds, once for each kind of tensor in it.

    Args:
        form: its format.
        promises: as ``Method.promises`` has them; a fact that they do not tell is left out.
    """
    return tuple(_READERS[form](promises))


def _gptq(promises: Mapping[str, Any]) -> Iterator[Facts]:
    common = {**_told(promises, _GPTQ), "module_rules": bool(promises.get("modules"))}
    changed = (changes(rule) for rule in promises.get("modules", ()) if not rule["skip"])
    for change in ({}, *changed):
        kind = {**common, **{name: value for name, value in change.items() if value is not None}}
        if promises.get("static_groups") or kind.get("group_size") == WHOLE_ROW:
            kind["desc_act"] = False  # groups lie in order, or there is only one
        yield kind


def _awq(promises: Mapping[str, Any]) -> Iterator[Facts]:
    yield _told(promises, _AWQ)


def _compressed_tensors(promises: Mapping[str, Any]) -> Iterator[Facts]:
    yield _told(promises, _COMPRESSED)


def _gguf(promises: Mapping[str, Any]) -> Iterator[Facts]:
    asked = [*promises.get("tensor_types", {}).values()]
    asked += [promises.get(name) for name in ("token_embedding_type", "output_type")]
    main = [MAIN[promises["type"]]] if promises.get("type") in MAIN else []
    split = {"split": promises.get("split_max_bytes") is not None}
    kinds = [{"tensor_type": name, **split} for name in dict.fromkeys([*main, *asked]) if name is not None]
    yield from kinds or [split]


def _told(promises: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Fact]:
    return {name: promises[name] for name in names if name in promises}


_READERS: Mapping[Format, Callable[[Mapping[str, Any]], Iterator[Facts]]] = {
    "gptq": _gptq,
    "awq": _awq,
    "compressed-tensors": _compressed_tensors,
    "gguf": _gguf,
}
