"""What work leaves behind: blobs, the artifacts made of them, and measured evaluations."""

from sqlalchemy import BigInteger, CheckConstraint, Float, ForeignKey, Index
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.tables.base import Base, Bytes, CreatedAt, Json, PrimaryId, one_of

ROLES = ["snapshot", "intermediate", "result"]


class Blob(Base):
    """The bytes of one file in the store, under their SHA-256. A row is there before the bytes are.

    ``in_artifact`` is set for good once an artifact has it, so that a collection need not look at those. It is also set
    for as long as a team's dataset has it.
    """

    __tablename__ = "blobs"
    __table_args__ = (
        CheckConstraint("length(sha256) = 64", name="sha256_is_hex"),
        Index("ix_blobs_in_no_artifact", "created_at", postgresql_where="NOT in_artifact"),
    )

    sha256: Mapped[PrimaryId]
    size_bytes: Mapped[Bytes]
    in_artifact: Mapped[bool] = mapped_column(default=False, server_default="false")
    created_at: Mapped[CreatedAt]


class BlobIntent(Base):
    """A worker's word that it is about to use a blob; pins it until the artifact is committed or the token is lost."""

    __tablename__ = "blob_intents"
    __table_args__ = (Index("ix_blob_intents_execution_id", "execution_id"),)

    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), primary_key=True)
    execution_id: Mapped[str] = mapped_column(ForeignKey("executions.id"), primary_key=True)
    token: Mapped[int] = mapped_column(BigInteger, primary_key=True)


class Artifact(Base):
    """An immutable set of files; what an execution made. ``digest`` is the SHA-256 of its manifest."""

    __tablename__ = "artifacts"
    __table_args__ = (one_of("role", ROLES), CheckConstraint("length(digest) = 64", name="digest_is_hex"))

    id: Mapped[PrimaryId]
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    execution_id: Mapped[str] = mapped_column(ForeignKey("executions.id"), unique=True)
    role: Mapped[str]
    format: Mapped[str]
    digest: Mapped[str]
    size_bytes: Mapped[Bytes]
    created_at: Mapped[CreatedAt]
    files: Mapped[list["ArtifactFile"]] = relationship(order_by="ArtifactFile.name")


class ArtifactFile(Base):
    """One file of an artifact, by its relative name."""

    __tablename__ = "artifact_files"
    __table_args__ = (Index("ix_artifact_files_sha256", "sha256"),)

    artifact_id: Mapped[str] = mapped_column(ForeignKey("artifacts.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"))
    size_bytes: Mapped[Bytes]


class Evaluation(Base):
    """Perplexity on one domain's text; for each window the negative log-likelihood, summed over its tokens, in nats.

    ``measures`` is what was lost against full precision, by metric, each a value with its interval; NULL of full
    precision itself, and where an earlier version evaluated.
    """

    __tablename__ = "evaluations"
    __table_args__ = (
        CheckConstraint("perplexity > 0 AND perplexity < 'Infinity'", name="perplexity_is_finite"),
        CheckConstraint("window_count > 0 AND token_count > 0", name="something_was_scored"),
    )

    execution_id: Mapped[str] = mapped_column(ForeignKey("executions.id"), primary_key=True)
    domain: Mapped[str] = mapped_column(primary_key=True)
    perplexity: Mapped[float]
    window_count: Mapped[int]
    token_count: Mapped[int]
    window_nll: Mapped[list[float]] = mapped_column(ARRAY(Float(53)))
    measures: Mapped[Json | None]
    created_at: Mapped[CreatedAt]
