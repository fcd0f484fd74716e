"""Requests that a team sends under a key of its own, so that sending one again does nothing again.

Follows draft-ietf-httpapi-idempotency-key-header. The key is remembered in the transaction that acts, so a crash leaves
both or neither; while that transaction goes on, a lock says so to others. Refuses to know: what the requests do.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import delete
from sqlalchemy.orm import Session

from core.errors import KeyReused, RequestInFlight
from core.ids import TeamId
from db import clock, locks
from db.locks import Purpose
from db.tables import IdempotencyKey


@dataclass(frozen=True)
class Answer:
    """What a request that made something was answered with: where that is, and the body, word for word."""

    location: str
    body: str


def act_once(
    session: Session, team_id: TeamId, key: str, body_sha256: str, act: Callable[[], Answer]
) -> tuple[Answer, bool]:
    """Act and remember the answer, or return the answer that is remembered.

    Args:
        session: the caller's transaction, in which ``act`` writes, too.
        team_id: whose key it is.
        key: what the client named the request.
        body_sha256: the digest of all that the request asks for.
        act: does what is asked; when it raises, nothing is remembered.

    Returns:
        the answer, and whether it was given before.

    Raises:
        KeyReused: the key was used for another request.
        RequestInFlight: a request with this key is being acted on.
    """
    if not locks.try_for(session, Purpose.IDEMPOTENCY_KEY, f"{team_id} {key}"):
        raise RequestInFlight("A request with this idempotency key is being answered. Send it again in a moment.")
    # Read under the lock, by a statement of its own: it sees what the last holder of the lock has committed.
    known = session.get(IdempotencyKey, (team_id, key))
    if known is None:
        answer = act()
        row = IdempotencyKey(team_id=team_id, key=key, body_sha256=body_sha256, answer=dataclasses.asdict(answer))
        session.add(row)
        session.flush()
        return answer, False
    if known.body_sha256 != body_sha256:
        raise KeyReused(
            "This idempotency key was used for another request. Send a new key with a new request.",
            param="Idempotency-Key",
        )
    return Answer(**known.answer), True


def forget(session: Session, older_than_seconds: float) -> int:
    """Delete the keys that were first used longer ago, and return how many."""
    old = IdempotencyKey.created_at < clock.ago(older_than_seconds)
    return len(session.scalars(delete(IdempotencyKey).where(old).returning(IdempotencyKey.key)).all())
