"""Teams and their API keys. A key is 256 random bits, so one round of SHA-256 is enough to keep it by."""

import hashlib
import secrets
from collections.abc import Sequence

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, joinedload

from core.errors import InvalidRequest, NotAuthenticated, NotFound
from core.ids import KeyId, TeamId, new_id
from db.tables import ApiKey, Team

PREFIX = "fb_"
NAME_CHARACTERS_MAX = 100


def digest(key: str) -> str:
    """Return what is stored of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def create_key(session: Session, team_name: str, label: str) -> tuple[KeyId, str]:
    """Make a key for a team, and the team where there is none of that name.

    Returns:
        the key's id, and the key itself, which is not kept.

    Raises:
        InvalidRequest: the name or the label cannot be shown in one line.
    """
    for what, text in (("team's name", team_name), ("label", label)):
        if len(text) > NAME_CHARACTERS_MAX or (text and not text.isprintable()):
            raise InvalidRequest(f"A {what} is at most {NAME_CHARACTERS_MAX} printable characters.")
    if not team_name.strip():
        raise InvalidRequest("A team needs a name.")
    new = insert(Team).values(id=new_id("team"), name=team_name)
    session.execute(new.on_conflict_do_nothing(index_elements=["name"]))  # another process may be making it, too
    team_id = session.scalars(select(Team.id).where(Team.name == team_name)).one()
    key = PREFIX + secrets.token_urlsafe(32)
    row = ApiKey(id=new_id("key"), team_id=team_id, label=label, sha256=digest(key))
    session.add(row)
    session.flush()
    return KeyId(row.id), key


def authenticate(session: Session, key: str) -> TeamId:
    """Return the team that ``key`` acts for.

    Raises:
        NotAuthenticated: the key is unknown or revoked.
    """
    team_id = session.scalar(select(ApiKey.team_id).where(ApiKey.sha256 == digest(key), ApiKey.revoked_at.is_(None)))
    if team_id is None:
        raise NotAuthenticated("This API key is not known or was revoked. Ask your operator for a new one.")
    return TeamId(team_id)


def list_keys(session: Session) -> Sequence[ApiKey]:
    """Return every key with its team, oldest first."""
    return session.scalars(select(ApiKey).options(joinedload(ApiKey.team)).order_by(ApiKey.created_at)).all()


def revoke_key(session: Session, key_id: str) -> None:
    """End a key at once.

    Raises:
        NotFound: there is no such key.
    """
    statement = (
        update(ApiKey).where(ApiKey.id == key_id).values(revoked_at=func.coalesce(ApiKey.revoked_at, func.now()))
    )
    if session.scalar(statement.returning(ApiKey.id)) is None:
        raise NotFound(f"There is no key {key_id}. `fewbitsd keys list` shows them all.")
