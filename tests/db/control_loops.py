"""What dispatch, rescue and its collector do in one round, without the processes around it."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from sqlalchemy.orm import Session

from core.steps import UnboundStep
from db import artifacts, bind, deadlines, expiry, history
from db.bind import Work
from db.ending import Retry
from db.room import Need
from db.session import Database

MISFIT_SECONDS = 60.0
SMALL = Need(1, 0, 1)


def bind_all(database: Database, needs: Mapping[str, Need]) -> None:
    """Bind what can be bound: steps of one kind, team and source share their work, which needs what the source says."""
    after = ""
    while unbound := database.run(partial(bind.unbound_steps, after=after, limit=100)):
        for step in unbound:
            database.run(partial(bind.bind, step=step, work=_work(step, needs.get(step.source, SMALL))))
        after = unbound[-1].id


def rescue(database: Database, retry: Retry) -> None:
    """Give back what silent workers held; end what is overdue or fits nowhere."""
    for execution_id in database.run(expiry.expired):
        database.run(partial(expiry.expire, execution_id=execution_id, retry=retry))
    for execution_id in database.run(partial(expiry.misfits, patience_seconds=MISFIT_SECONDS)):
        database.run(partial(expiry.give_up, execution_id=execution_id))
    for job_id in database.run(deadlines.overdue):
        database.run(partial(deadlines.expire, job_id=job_id))
    database.run(expiry.drop_reservations)


def collect(database: Database) -> None:
    """Delete all intents and blobs that may be deleted, however young they are."""
    database.run(history.forget_intents)
    while database.run(_collect_one):
        pass


def _collect_one(session: Session) -> bool:
    sha256 = artifacts.lock_garbage(session, 0)
    if sha256 is not None:
        artifacts.forget(session, sha256)
    return sha256 is not None


def _work(step: UnboundStep, need: Need) -> Work:
    key = hashlib.sha256(f"{step.team_id} {step.kind} {step.source}".encode()).hexdigest()
    need = replace(need, needs_gpu=need.needs_gpu and step.pool == "gpu")
    return Work(key=key, params={}, inputs={}, need=need)
