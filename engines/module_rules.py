"""Rules for single modules of a model, by patterns for their names; in a recipe, and as a checkpoint's configuration.

GPTQModel, vLLM and SGLang read them as ``dynamic``: an object whose keys are ``+:`` or ``-:`` and a regular expression,
and whose values are what holds for modules that match. All of them look from the beginning of a name and take the first
match, GPTQModel those with ``-:`` before the others. Here a pattern must match the whole name, so it is written between
``^`` and ``$``.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, Field, field_validator, model_validator

from core.errors import InvalidRequest
from engines.methods.base import MethodParams

RULES_MAX = 32
PATTERN_CHARACTERS_MAX = 200
# What a name of a module can need. No group can be repeated and little else can, so that no name takes long to match.
_PIECES = re.compile(r"(?:[\w|^$-]|\\[.d]|\.|\[\^?[\w-]+\]|\((?:\?:|(?!\?))|\)(?![*+?])|[*+?])+", re.ASCII)
REPEATS_MAX = 4
GROUPS_MAX = 4
OUTPUT_HEAD = "lm_head|embed_out"
# What servers run as one matrix, whose parts must be treated alike, as must all experts of a layer.
FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
_EXPERT = re.compile(r"(?P<layer>.*\.experts)\.\d+\..*")

SKIP, CHANGE = "-:", "+:"


class SkipRule(MethodParams):
    """Modules that are left as they are."""

    match: str = Field(
        min_length=1,
        max_length=PATTERN_CHARACTERS_MAX,
        description=r"Regular expression for the whole name, such as model\.layers\.(0|1)\.mlp\..*",
    )
    skip: bool = Field(default=False, description="Leave the modules as they are")

    @field_validator("match")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"this is no regular expression: {error}") from None
        plain = re.sub(r"\\.|\[[^\]]*\]", "", pattern)
        repeats, groups = (sum(map(plain.replace("(?:", "(").count, signs)) for signs in ("*+?", "("))
        if not _PIECES.fullmatch(pattern) or repeats > REPEATS_MAX or groups > GROUPS_MAX:
            raise ValueError(
                f"a pattern is made of letters, digits, '_', '-', '.', '\\.', '\\d', '[…]', '|', at most {REPEATS_MAX} "
                f"of '*', '+' and '?', and at most {GROUPS_MAX} groups '(…)', which are not repeated"
            )
        return pattern

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if self.skip == any(value is not None for value in changes(self.model_dump()).values()):
            raise ValueError("a rule either skips its modules or says what holds for them")
        return self


RuleT = TypeVar("RuleT", bound=SkipRule)


def _distinct(rules: tuple[RuleT, ...]) -> tuple[RuleT, ...]:
    """Refuse two rules with one pattern, of which the second would never hold."""
    seen = set[str]()
    for rule in rules:
        if rule.match in seen:
            raise ValueError(f"two rules are for {rule.match!r}")
        seen.add(rule.match)
    return rules


# A field of rules; JSON has no tuples, so that lists are taken, too.
Rules = Annotated[tuple[RuleT, ...], Field(strict=False, max_length=RULES_MAX), AfterValidator(_distinct)]


def changes(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a rule, as plain data, says of its modules: by name, None where it says nothing."""
    return {name: value for name, value in rule.items() if name not in SkipRule.model_fields}


def dynamic(rules: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return rules, as plain data, the way a checkpoint holds them: those that skip come first."""
    ordered = sorted(rules, key=lambda rule: not rule["skip"])
    return {
        (SKIP if rule["skip"] else CHANGE) + whole_name(rule["match"]): {
            name: value for name, value in changes(rule).items() if value is not None
        }
        for rule in ordered
    }


def require_matches(config: Mapping[str, Any], modules: Iterable[str]) -> None:
    """Refuse a rule that is for no module, which is likely a slip.

    Args:
        config: a ``quantization_config`` with the rules.
        modules: the whole names of the modules that rules may be for.

    Raises:
        InvalidRequest: there is such a rule.
    """
    names = list(modules)
    for key in config.get("dynamic", {}):
        pattern = key.removeprefix(SKIP).removeprefix(CHANGE)
        if pattern != whole_name(OUTPUT_HEAD) and not any(re.match(pattern, name) for name in names):
            given = pattern.removeprefix("^(?:").removesuffix(")$")
            raise InvalidRequest(
                f"No module of this model is called {given}. It has {len(names)}, such as {', '.join(names[:2])}.",
                param="recipe.modules",
            )


def require_alike(treated: Mapping[str, Any]) -> None:
    """Refuse rules that part what servers run as one.

    Args:
        treated: what is done with each module, by its whole name.

    Raises:
        InvalidRequest: two parts of one are treated differently.
    """
    first: dict[str, str] = {}
    for name, how in treated.items():
        other = first.setdefault(_run_as(name), name)
        if treated[other] != how:
            raise InvalidRequest(
                f"Rules treat {name} and {other} differently, and servers run them as one. Let each rule match all of "
                f"{' and '.join(', '.join(group) for group in FUSED)}, and all experts of a layer, or none of them.",
                param="recipe.modules",
            )


def _run_as(name: str) -> str:
    """Return what is the same for all modules that servers run as one."""
    if expert := _EXPERT.fullmatch(name):
        return expert["layer"]
    parent, _, last = name.rpartition(".")
    return next((f"{parent}.{group[0]}" for group in FUSED if last in group), name)


def whole_name(pattern: str) -> str:
    """Return a regular expression that matches only whole names, wherever a reader begins and stops to look."""
    return f"^(?:{pattern})$"


@dataclass(frozen=True)
class Packing:
    """How one module is stored.

    Attributes:
        bits: of a code.
        group_size: weights of a row that share a scale; -1 for the whole row.
        sym: whether zero points stand in the middle.
        desc_act: whether the groups are of columns that are not neighbours.
    """

    bits: int
    group_size: int
    sym: bool
    desc_act: bool


def packing(config: Mapping[str, Any], module: str) -> Packing | None:
    """Return what a ``quantization_config`` says of one module; None if it is left as it is.

    Args:
        config: ``bits``, ``group_size``, ``sym`` or ``zero_point``, ``desc_act``, and ``dynamic`` if there are rules.
        module: its whole name.
    """
    changes: Mapping[str, Any] = {}
    for key, values in (config.get("dynamic") or {}).items():
        if re.match(key.removeprefix(SKIP).removeprefix(CHANGE), module):
            if key.startswith(SKIP):
                return None
            changes = values
            break
    values = {"sym": not config.get("zero_point", False), "desc_act": False, **config, **changes}
    return Packing(**{name: values[name] for name in ("bits", "group_size", "sym", "desc_act")})
