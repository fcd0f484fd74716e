"""Give every ready step its execution: describe its work, take the key of it, bind."""

import dataclasses
import hashlib
from collections.abc import Iterator
from functools import partial

from core.errors import FewbitsError, WorkError
from core.logging import log
from core.manifest import canonical_json
from core.steps import UnboundStep
from db import bind, record
from db.bind import Binding, Work
from db.session import UNAVAILABLE, Database
from pipeline.foresight import need_of
from pipeline.kinds import KINDS
from pipeline.step_kind import input_facts, input_ids

BATCH = 100


def bind_ready_steps(database: Database) -> int:
    """Bind the ready steps that have no execution, each in a transaction of its own, and return how many.

    A step that is reused makes its successors ready at once, so this goes round until nothing is reused.
    """
    count = 0
    while True:
        bindings = [_bind(database, step) for step in _unbound_steps(database)]
        count += sum(binding not in (Binding.POSTPONED, Binding.GONE) for binding in bindings)
        if Binding.REUSED not in bindings:
            return count


def describe(step: UnboundStep) -> Work:
    """Return the work of a step and its content key.

    The key is the SHA-256 of the kind and its version, the engine and its version, the parameters, the team, and the
    digests of the inputs: two steps with one key would make the same thing, for the same team.

    Raises:
        FewbitsError: the parameters, stored by another version of this program, mean nothing to this one.
    """
    kind = KINDS[step.kind]
    params = kind.work_params(step)
    inputs = step.inputs if kind.reads == "files" else {}
    material = {
        "kind": kind.name,
        "version": kind.version,
        "engine": kind.engine(params),
        "params": params,
        "team": step.team_id,
        "inputs": {name: value.digest for name, value in inputs.items()},
    }
    return Work(
        key=hashlib.sha256(canonical_json(material)).hexdigest(),
        params=params,
        inputs={**input_ids(inputs), **kind.further_inputs(step.params)},
        need=need_of(kind.forecast(step.params, input_facts(step))),
        is_external=kind.is_external,
        is_exclusive=kind.is_exclusive,
    )


def _unbound_steps(database: Database) -> Iterator[UnboundStep]:
    last = ""
    while steps := database.run(partial(bind.unbound_steps, after=last, limit=BATCH)):
        yield from steps
        if len(steps) < BATCH:
            return
        last = steps[-1].id


def _bind(database: Database, step: UnboundStep) -> Binding:
    if step.kind not in KINDS:
        log.warning("a step of an unknown kind is left for a newer worker", step=step.id, kind=step.kind)
        return Binding.POSTPONED
    try:
        work = describe(_with_record(database, step))
        return database.run(lambda session: bind.bind(session, step, work))
    except UNAVAILABLE:
        raise
    except Exception as error:  # noqa: BLE001 - one step that cannot be described must not stop the work of all
        log.warning("a step cannot be bound", step=step.id, kind=step.kind, exc_info=error)
        document = _explained(error).document()
        database.run(lambda session: bind.refuse(session, step, document))
        return Binding.GONE


def _with_record(database: Database, step: UnboundStep) -> UnboundStep:
    """Return a step with what is on record of those before it, where that is what its work reads."""
    if KINDS[step.kind].reads == "files":
        return step
    return dataclasses.replace(step, done=database.run(lambda session: record.done_steps(session, step.job_id)))


def _explained(error: Exception) -> FewbitsError:
    if isinstance(error, FewbitsError):
        return error
    return WorkError(f"The step was stored by another version of fewbits and cannot be read: {error}. Submit it again.")
