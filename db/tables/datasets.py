"""What a team has brought itself: datasets."""

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from core.dataset_kinds import DatasetKind
from db.tables.base import Base, Bytes, CreatedAt, PrimaryId, Timestamp, one_of


class Dataset(Base):
    """A dataset, whose bytes are a blob; the row pins that from before its bytes are there.

    ``announced_at`` is when its last upload began; ``stored_at`` when the first one ended, before which nobody
    may see or use. ``document_count`` is 1 for plain text, and
    the lines that are not blank for the other kinds.
    """

    __tablename__ = "datasets"
    __table_args__ = (
        one_of("kind", DatasetKind),
        CheckConstraint("size_bytes > 0 AND document_count > 0", name="there_is_something"),
        UniqueConstraint("team_id", "sha256", "kind"),
        Index("ix_datasets_sha256", "sha256"),
        Index("ix_datasets_team_id_created_at_id", "team_id", "created_at", "id"),
        Index("ix_datasets_unfinished", "announced_at", postgresql_where="stored_at IS NULL"),
    )

    id: Mapped[PrimaryId]
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    name: Mapped[str]
    kind: Mapped[str]
    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"))
    size_bytes: Mapped[Bytes]
    document_count: Mapped[int]
    created_at: Mapped[CreatedAt]
    announced_at: Mapped[CreatedAt]
    stored_at: Mapped[Timestamp | None]
