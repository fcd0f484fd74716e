"""The tables, by what they tell: tenants, jobs, executions, artifacts."""

from db.tables.artifacts import Artifact, ArtifactFile, Blob, BlobIntent, Evaluation
from db.tables.base import Base
from db.tables.executions import Execution, LogChunk, Metric, Worker
from db.tables.jobs import Event, IdempotencyKey, Job, Step
from db.tables.teams import ApiKey, PortalSession, Team, TeamUsage

__all__ = [
    "ApiKey",
    "Artifact",
    "ArtifactFile",
    "Base",
    "Blob",
    "BlobIntent",
    "Evaluation",
    "Event",
    "Execution",
    "IdempotencyKey",
    "Job",
    "LogChunk",
    "Metric",
    "PortalSession",
    "Step",
    "Team",
    "TeamUsage",
    "Worker",
]
