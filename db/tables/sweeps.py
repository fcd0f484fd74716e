"""What a team asked to have compared: many recipes on one source. The jobs that it is made of name it."""

from sqlalchemy import ForeignKey, Index, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base, CreatedAt, Json, PrimaryId


class Sweep(Base):
    """One source, and what each of its jobs is asked for beside its recipe.

    It has no status of its own: that of its jobs is its own. ``request`` is all that a job takes but for the recipe, so
    that jobs can be added later; ``warnings`` are told of the sweep as a whole.
    """

    __tablename__ = "sweeps"
    __table_args__ = (Index("ix_sweeps_team_id_created_at_id", "team_id", "created_at", "id"),)

    id: Mapped[PrimaryId]
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    source: Mapped[str]
    preset: Mapped[str | None]
    request: Mapped[Json]
    warnings: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    created_at: Mapped[CreatedAt]
