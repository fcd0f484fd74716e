"""The tables, by what they tell: tenants, jobs, executions, artifacts."""

from db.tables.artifacts import Artifact, ArtifactFile, Blob, BlobIntent, Evaluation
from db.tables.base import Base
from db.tables.executions import Execution, LogChunk, Worker
from db.tables.jobs import Event, Job, Step
from db.tables.teams import ApiKey, Team, TeamUsage

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
    "Job",
    "LogChunk",
    "Step",
    "Team",
    "TeamUsage",
    "Worker",
]
