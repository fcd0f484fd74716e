"""The Python SDK of fewbits: ask for a smaller model, follow the work, fetch the files.

It speaks HTTP only and knows nothing of how the server does its work.
"""

from fewbits_client.client import Client
from fewbits_client.errors import (
    DigestMismatch,
    DownloadError,
    FewbitsError,
    FileConflict,
    InvalidArgument,
    Problem,
    UnexpectedAnswer,
    Unreachable,
    UnsafeFileName,
)
from fewbits_client.objects import (
    Artifact,
    ArtifactFile,
    Attempt,
    Calibration,
    Event,
    Job,
    JobError,
    LogChunk,
    Method,
    Metric,
    Page,
    Progress,
    Quota,
    Result,
    Step,
    SubmitOptions,
    Text,
    is_over,
)
from fewbits_client.stream import Done, Happened, Update, Updated

__all__ = [
    "Artifact",
    "ArtifactFile",
    "Attempt",
    "Calibration",
    "Client",
    "DigestMismatch",
    "Done",
    "DownloadError",
    "Event",
    "FewbitsError",
    "FileConflict",
    "Happened",
    "InvalidArgument",
    "Job",
    "JobError",
    "LogChunk",
    "Method",
    "Metric",
    "Page",
    "Problem",
    "Progress",
    "Quota",
    "Result",
    "Step",
    "SubmitOptions",
    "Text",
    "UnexpectedAnswer",
    "Unreachable",
    "UnsafeFileName",
    "Update",
    "Updated",
    "is_over",
]
