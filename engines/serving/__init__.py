"""Which runtimes can serve what a recipe writes, so that nobody learns after hours of work that no kernel does.

Goes by the format and what is promised of it, and knows no method. ``table`` has the rows and their sources.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engines.methods.base import Format
from engines.serving.facts import MEANING, Facts, facts
from engines.serving.table import GENERATIONS, RULES, RUNTIMES, Capability, Fact, Rule

__all__ = ["Note", "gpus", "notes", "served", "warnings"]

LISTED_MAX = 8  # values in a sentence


@dataclass(frozen=True)
class Note:
    """That one runtime serves a file, or that it does not.

    Attributes:
        runtime: its name.
        version: the one that was read.
        serves: whether it does.
        gpus: on which GPUs, in words; None where it does not serve.
        how: by what; likewise.
        why_not: what keeps it from that, as a predicate; None where it serves.
        sources: packages with their versions, and the files in them that say so.
    """

    runtime: str
    version: str
    serves: bool
    gpus: str | None
    how: str | None
    why_not: str | None
    sources: tuple[str, ...]


def notes(form: Format, promises: Mapping[str, Any]) -> tuple[Note, ...]:
    """Return what is known of each runtime; a second note where another kernel serves it on other GPUs.

    Args:
        form: the format of the file.
        promises: what it will hold, as ``Method.promises`` has it. What is not told is taken to fit.
    """
    kinds = facts(form, promises)
    return tuple(note for runtime in RUNTIMES for note in _notes(runtime, form, kinds))


def warnings(short: str, found: Sequence[Note]) -> tuple[str, ...]:
    """Return what a person should know before such a file is made, in sentences: that no server serves it.

    Args:
        short: the recipe's short form.
        found: its notes.
    """
    if any(note.serves and RUNTIMES[note.runtime].is_server for note in found):
        return ()
    reasons = "; ".join(f"{note.runtime} {note.why_not}" for note in found if not note.serves)
    others = [note.runtime for note in found if note.serves]
    only = f"Only {' and '.join(others)} can run it. " if others else ""
    return (f"No server that is known here can serve what {short} makes. {only}{reasons}.",)


def gpus(rule: Rule) -> str:
    """Return in words on what a rule's kernels work."""
    nvidia = [] if rule.since is None else [f"NVIDIA from {_generation(rule.since)}"]
    if rule.before is not None:
        nvidia.append(f"before {_generation(rule.before)}")
    return "; ".join(part for part in (", ".join(nvidia), rule.elsewhere) if part)


def served(name: str, values: Sequence[Fact]) -> str:
    """Return in words which values of a fact are served, such as ``4 or 8``; of many, those that are not."""
    if len(values) <= LISTED_MAX:
        texts = [str(value).lower() if isinstance(value, bool) else str(value) for value in values]
        return " or ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)
    known = dict.fromkeys(value for rule in RULES for value in rule.takes.get(name, ()))
    missing = [str(value) for value in known if value not in values]
    return f"any but {', '.join(missing)}" if missing else "any"


def _notes(runtime: str, form: Format, kinds: Sequence[Facts]) -> Iterator[Note]:
    about = RUNTIMES[runtime]
    rules = [rule for rule in RULES if (rule.runtime, rule.format) == (runtime, form)]
    refusals = [list(_refusals(rule, kinds)) for rule in rules]
    if not rules:
        yield Note(runtime, about.version, False, None, None, f"does not read {form}", tuple(about.otherwise))
    elif all(refusals):
        nearest = min(range(len(rules)), key=lambda index: len(refusals[index]))
        why_not = f"does not serve {' and '.join(refusals[nearest])}"
        yield Note(runtime, about.version, False, None, None, why_not, tuple(rules[nearest].sources))
    for rule, refused in zip(rules, refusals, strict=True):
        if not refused:
            yield Note(runtime, about.version, True, gpus(rule), rule.how, None, tuple(rule.sources))


def _refusals(rule: Rule, kinds: Sequence[Facts]) -> Iterator[str]:
    """Yield each fact that a rule does not take."""
    for name, values in rule.takes.items():
        found = dict.fromkeys(kind[name] for kind in kinds if name in kind)
        for value in found:
            if value not in values:
                instead = f" (only {served(name, values)})" if len(values) <= LISTED_MAX else ""
                yield MEANING.get((name, value), f"{name} {value}{instead}")


def _generation(capability: Capability) -> str:
    return f"{GENERATIONS[capability]} ({capability[0]}.{capability[1]})"
