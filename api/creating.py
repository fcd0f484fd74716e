"""The answer to a request that makes a job: the same, word for word, however often the request is sent under one key.

Refuses to know: how a job is made (``api/submitting.py``), and how keys are remembered (``db/idempotency.py``).
"""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

from flask import Response, request, url_for
from sqlalchemy.orm import Session

from api.auth import team_id
from api.presenting import job_object
from api.services import services
from core.ids import JobId, TeamId
from db import jobs
from db.idempotency import Answer, act_once

REPLAYED = "Idempotent-Replayed"
HEADERS = {
    "Location": {"description": "The new job", "schema": {"type": "string"}, "required": True},
    REPLAYED: {
        "description": "`true` where the request had been answered before, and this is that answer",
        "schema": {"type": "string", "enum": ["true"]},
    },
}

MakeJob = Callable[[Session, TeamId], JobId]


def answer_with_new_job(make: MakeJob, key: str | None, body: Any = None) -> Response:
    """Make a job and return the answer that shows it, or the first answer where the key is known.

    Args:
        make: writes the job in the transaction that it is given.
        key: the request's idempotency key; without one every request makes a job.
        body: what the request asks for, beside its path.
    """
    team = team_id()

    def run(session: Session) -> tuple[Answer, bool]:
        act = partial(_make, session, team, make)
        return (act(), False) if key is None else act_once(session, team, key, _digest(body), act)

    answer, is_replay = services().database.run(run)
    headers = {"Location": answer.location, **({REPLAYED: "true"} if is_replay else {})}
    return Response(answer.body, HTTPStatus.CREATED, headers, mimetype="application/json")


def _make(session: Session, team: TeamId, make: MakeJob) -> Answer:
    job = job_object(jobs.get(session, team, make(session, team)))
    return Answer(location=url_for("jobs.get_job", job_id=job.id), body=job.model_dump_json())


def _digest(body: Any) -> str:
    """Return the SHA-256 of what is asked for: the order of an object's members, and spaces, make no difference."""
    asked = json.dumps([request.path, body], sort_keys=True)
    return hashlib.sha256(asked.encode()).hexdigest()
