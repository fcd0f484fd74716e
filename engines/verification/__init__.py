"""Prove that a result is what was asked for, before anyone may have it.

Every format passes the same checks: each tensor that should be quantized is, and lies near its original; the tokenizer
and the chat template are the source's; the file loads, answers with finite numbers, near to full precision's, and
goes on from a text without falling into repetition. How a tensor or a tokenizer is read is the format's own file here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType

from core.errors import RequestError
from engines import probe
from engines.context import EngineContext, Progress
from engines.probe import Answers, SideBySide
from engines.runtimes import open_runtime
from engines.verification import awq, behaviour, compressed_tensors, gguf, gptq
from engines.verification.subject import Fault, Subject

FORMATS: Mapping[str, ModuleType] = {"gguf": gguf, "gptq": gptq, "awq": awq, "compressed-tensors": compressed_tensors}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: ``tensors``, ``tokenizer``, ``loads``, ``divergence`` or ``generation``.
        passed: whether it is as it must be.
        detail: what was found, in a sentence.
    """

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Verification:
    """What was found out about a result.

    Attributes:
        checks: in the order of ``Check.name``; the last two are left out where the result does not load.
        generations: how source and result go on from each prompt; none where it does not load.
    """

    checks: Sequence[Check]
    generations: Sequence[SideBySide]


def verify(context: EngineContext, subject: Subject, full_precision: Answers) -> Verification:
    """Look at everything, also after the first fault.

    Args:
        context: threads, device and progress.
        subject: the result and what it was made of.
        full_precision: the source's answers.

    Raises:
        DoesNotFit: memory ran out.
    """
    checks: list[Check] = []

    def look(name: str, check: Callable[[], str]) -> None:
        context.report(Progress(len(checks), 5, "checks", name))
        checks.append(_outcome(name, check))

    reader = FORMATS[subject.written]
    look("tensors", partial(reader.check_tensors, subject))
    look("tokenizer", partial(reader.check_tokenizer, subject))
    given: list[tuple[Answers, Sequence[SideBySide]]] = []

    def load_and_ask() -> str:
        with open_runtime(subject.written, subject.result, context) as runtime:
            answers = probe.ask(runtime, full_precision.windows)
            given.append((answers, probe.side_by_side(runtime, full_precision, answers)))
        return "It loads, and all its answers are finite."

    look("loads", load_and_ask)
    if not given:
        return Verification(checks, ())
    answers, generations = given[0]
    look("divergence", lambda: behaviour.check_divergence(answers, full_precision, reader.layer_bits(subject)))
    look("generation", partial(behaviour.check_generation, answers, full_precision))
    return Verification(checks, generations)


def _outcome(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, passed=True, detail=check())
    except Fault as fault:
        return Check(name, passed=False, detail=str(fault))
    except RequestError as error:  # how readers and runtimes speak of a file that is not as it must be
        return Check(name, passed=False, detail=error.message)
