"""Browsers that have signed in with a key. A cookie is 256 random bits, of which only the SHA-256 is kept."""

import secrets
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from core.errors import NotAuthenticated
from core.ids import TeamId
from db import clock, keys
from db.tables import ApiKey, PortalSession, Team


@dataclass(frozen=True)
class Member:
    """Whom a session acts for."""

    team_id: TeamId
    team_name: str
    key_label: str


def sign_in(session: Session, key: str, seconds: int) -> str:
    """Return a new cookie that acts as ``key`` for so many seconds; sessions that have expired are forgotten.

    Raises:
        NotAuthenticated: the key is unknown or revoked.
    """
    keys.authenticate(session, key)
    key_id = session.scalars(select(ApiKey.id).where(ApiKey.sha256 == keys.digest(key))).one()
    session.execute(delete(PortalSession).where(PortalSession.expires_at <= clock.now()))
    cookie = secrets.token_urlsafe(32)
    session.add(PortalSession(sha256=keys.digest(cookie), key_id=key_id, expires_at=clock.after(seconds)))
    session.flush()
    return cookie


def authenticate(session: Session, cookie: str) -> Member:
    """Return whom the browser with this cookie acts for.

    Raises:
        NotAuthenticated: there is no such session, it has expired, or its key was revoked.
    """
    statement = (
        select(Team.id, Team.name, ApiKey.label)
        .join(ApiKey, ApiKey.team_id == Team.id)
        .join(PortalSession, PortalSession.key_id == ApiKey.id)
        .where(
            PortalSession.sha256 == keys.digest(cookie),
            PortalSession.expires_at > clock.now(),
            ApiKey.revoked_at.is_(None),
        )
    )
    found = session.execute(statement).one_or_none()
    if found is None:
        raise NotAuthenticated("You are not signed in any more.")
    team_id, team_name, key_label = found
    return Member(TeamId(team_id), team_name, key_label)


def sign_out(session: Session, cookie: str) -> None:
    """End a session at once."""
    session.execute(delete(PortalSession).where(PortalSession.sha256 == keys.digest(cookie)))
