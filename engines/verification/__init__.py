"""Prove that a result is what was asked for, before anyone may have it.

Every format passes the same checks: each tensor that should be quantized is, and lies near its original; the tokenizer
and the chat template are the source's; the file loads, answers with finite numbers, near to full precision's, and
goes on from a text without falling into repetition. How a tensor or a tokenizer is read is the format's own file here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import ModuleType

from core.errors import RequestError
from engines import probe
from engines.context import EngineContext, Progress
from engines.probe import Answers
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


def verify(
    context: EngineContext,
    subject: Subject,
    full_precision: Answers,
    on_answers: Callable[[Answers], None] = lambda _answers: None,
) -> list[Check]:
    """Look at everything, also after the first fault.

    Args:
        context: threads, device and progress.
        subject: the result and what it was made of.
        full_precision: the source's answers.
        on_answers: called with the result's, where it loads.

    Returns:
        every check, in the order of ``Check.name``; the last two are left out where the result does not load.

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
    given: list[Answers] = []
    look("loads", partial(_load_and_ask, context, subject, given))
    if given:
        on_answers(given[0])
        look("divergence", lambda: behaviour.check_divergence(given[0], full_precision, reader.layer_bits(subject)))
        look("generation", partial(behaviour.check_generation, given[0], full_precision))
    return checks


def _outcome(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, passed=True, detail=check())
    except Fault as fault:
        return Check(name, passed=False, detail=str(fault))
    except RequestError as error:  # how readers and runtimes speak of a file that is not as it must be
        return Check(name, passed=False, detail=error.message)


def _load_and_ask(context: EngineContext, subject: Subject, given: list[Answers]) -> str:
    with open_runtime(subject.written, subject.result, context) as runtime:
        given.append(probe.ask(runtime, subject.source))
    return "It loads, and all its answers are finite."
