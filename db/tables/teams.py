"""Tenants, the keys that act for them, and what they have used of each pool."""

import datetime as dt

from sqlalchemy import CheckConstraint, DateTime, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.states import Quota
from db.tables.base import Base, CreatedAt, PrimaryId, Timestamp, one_of


class Team(Base):
    """A tenant: sees only its own rows."""

    __tablename__ = "teams"

    id: Mapped[PrimaryId]
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[CreatedAt]


class ApiKey(Base):
    """A bearer key of one team. Only its SHA-256 is kept; the key itself is shown once."""

    __tablename__ = "api_keys"
    __table_args__ = (CheckConstraint("length(sha256) = 64", name="sha256_is_hex"),)

    id: Mapped[PrimaryId]
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), index=True)
    label: Mapped[str]
    sha256: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[CreatedAt]
    revoked_at: Mapped[dt.datetime | None] = mapped_column(DateTime(timezone=True))
    team: Mapped[Team] = relationship()


class PortalSession(Base):
    """A browser that signed in with a key: acts as that key until it ends. Only the SHA-256 of its cookie is kept."""

    __tablename__ = "portal_sessions"
    __table_args__ = (CheckConstraint("length(sha256) = 64", name="sha256_is_hex"),)

    sha256: Mapped[PrimaryId]
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id"), index=True)
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[Timestamp]
    key: Mapped[ApiKey] = relationship()


class TeamUsage(Base):
    """Pool-seconds that a team has used, decaying with a half-life, as of ``updated_at``; decides fair share."""

    __tablename__ = "team_usage"

    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), primary_key=True)
    pool: Mapped[str] = mapped_column(primary_key=True)
    pool_seconds: Mapped[float]
    updated_at: Mapped[Timestamp]


class TeamQuota(Base):
    """A limit that an operator has set for one team, in place of the default."""

    __tablename__ = "team_quotas"
    __table_args__ = (one_of("name", Quota), CheckConstraint("maximum >= 0", name="maximum_is_a_count"))

    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    maximum: Mapped[int]
