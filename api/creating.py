"""The answer to a request that makes something: the same, word for word, however often it is sent under one key.

Refuses to know: how that is made (``api/submitting.py``, ``api/sweeping.py``), and how keys are remembered
(``db/idempotency.py``).
"""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

from flask import Response, request
from sqlalchemy.orm import Session

from api.auth import team_id
from api.services import services
from core.ids import TeamId
from db.idempotency import Answer, act_once

REPLAYED = "Idempotent-Replayed"
HEADERS = {
    "Location": {"description": "What was made", "schema": {"type": "string"}, "required": True},
    REPLAYED: {
        "description": "`true` where the request had been answered before, and this is that answer",
        "schema": {"type": "string", "enum": ["true"]},
    },
}

Make = Callable[[Session, TeamId], Answer]


def answer_with_new(make: Make, key: str | None, body: Any = None) -> Response:
    """Make something and return the answer that shows it, or the first answer where the key is known.

    Args:
        make: writes it in the transaction that it is given, and shows it.
        key: the request's idempotency key; without one every request makes something.
        body: what the request asks for, beside its path.
    """
    team = team_id()

    def run(session: Session) -> tuple[Answer, bool]:
        act = partial(make, session, team)
        return (act(), False) if key is None else act_once(session, team, key, _digest(body), act)

    answer, is_replay = services().database.run(run)
    headers = {"Location": answer.location, **({REPLAYED: "true"} if is_replay else {})}
    return Response(answer.body, HTTPStatus.CREATED, headers, mimetype="application/json")


def _digest(body: Any) -> str:
    """Return the SHA-256 of what is asked for: the order of an object's members, and spaces, make no difference."""
    asked = json.dumps([request.path, body], sort_keys=True)
    return hashlib.sha256(asked.encode()).hexdigest()
