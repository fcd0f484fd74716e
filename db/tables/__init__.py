"""The tables, by what they tell: tenants, jobs, executions, workers, artifacts."""

from db.tables.artifacts import Artifact, ArtifactFile, Blob, BlobIntent, Evaluation
from db.tables.base import Base
from db.tables.datasets import Dataset
from db.tables.executions import Attempt, CheckpointFile, Execution, LogChunk, Metric
from db.tables.jobs import Event, IdempotencyKey, Job, Step
from db.tables.sweeps import Sweep
from db.tables.teams import ApiKey, PortalSession, Team, TeamQuota, TeamUsage
from db.tables.workers import PausedPool, RescueWatch, Worker

__all__ = [
    "ApiKey",
    "Artifact",
    "ArtifactFile",
    "Attempt",
    "Base",
    "Blob",
    "BlobIntent",
    "CheckpointFile",
    "Dataset",
    "Evaluation",
    "Event",
    "Execution",
    "IdempotencyKey",
    "Job",
    "LogChunk",
    "Metric",
    "PausedPool",
    "PortalSession",
    "RescueWatch",
    "Step",
    "Sweep",
    "Team",
    "TeamQuota",
    "TeamUsage",
    "Worker",
]
