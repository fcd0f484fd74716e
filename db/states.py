"""Every status there is, the one table of which may follow which, and the names of pools and quotas."""

import enum
from collections.abc import Mapping


class JobStatus(enum.StrEnum):
    """Where a job is. Terminal is final: a retry is a new job."""

    QUEUED = "queued"  # no step has started
    RUNNING = "running"  # at least one step has started
    CANCELLING = "cancelling"  # cancel was asked for; a child is still being stopped
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepStatus(enum.StrEnum):
    """Where a step of a job is."""

    WAITING = "waiting"  # needs other steps first
    READY = "ready"  # inputs are known; bound to an execution or about to be
    RUNNING = "running"  # its execution is running
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"  # the job was cancelled
    SKIPPED = "skipped"  # another step of the job failed


class ExecutionStatus(enum.StrEnum):
    """Where the running of a piece of work is."""

    READY = "ready"  # may be claimed once ready_at has passed
    RUNNING = "running"  # a worker holds its lease
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # never reused: the next step with this key starts a new one
    CANCELLED = "cancelled"  # no step wanted it any more


class AttemptOutcome(enum.StrEnum):
    """How an attempt ended; none while it runs. Not a status: it is written once."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"  # its worker was not heard of any more
    RELEASED = "released"  # its worker had to leave, and gave it back
    CANCELLED = "cancelled"  # no step wanted it any more


POOLS = ["cpu", "gpu"]


class Quota(enum.StrEnum):
    """What a team's share may be limited in."""

    QUEUED_JOBS = "queued_jobs"  # jobs of which no step has started
    RUNNING_CPU = "running_cpu"  # executions of the cpu pool at once
    RUNNING_GPU = "running_gpu"
    DATASETS = "datasets"  # of its own


Status = JobStatus | StepStatus | ExecutionStatus

_JOB: Mapping[str, set[str]] = {
    JobStatus.QUEUED: {JobStatus.RUNNING, JobStatus.FAILED, JobStatus.CANCELLED},
    JobStatus.RUNNING: {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLING, JobStatus.CANCELLED},
    JobStatus.CANCELLING: {JobStatus.CANCELLED},
}
_STEP: Mapping[str, set[str]] = {
    StepStatus.WAITING: {StepStatus.READY, StepStatus.CANCELLED, StepStatus.SKIPPED},
    StepStatus.READY: {
        StepStatus.RUNNING,
        StepStatus.SUCCEEDED,
        StepStatus.FAILED,
        StepStatus.CANCELLED,
        StepStatus.SKIPPED,
    },
    StepStatus.RUNNING: {
        StepStatus.READY,
        StepStatus.SUCCEEDED,
        StepStatus.FAILED,
        StepStatus.CANCELLED,
        StepStatus.SKIPPED,
    },
}
_EXECUTION: Mapping[str, set[str]] = {
    ExecutionStatus.READY: {ExecutionStatus.RUNNING, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED},
    ExecutionStatus.RUNNING: {
        ExecutionStatus.READY,
        ExecutionStatus.SUCCEEDED,
        ExecutionStatus.FAILED,
        ExecutionStatus.CANCELLED,
    },
}
# One table for each enum: members of different enums with one name are equal, being strings.
_FOLLOWERS: Mapping[type[Status], Mapping[str, set[str]]] = {
    JobStatus: _JOB,
    StepStatus: _STEP,
    ExecutionStatus: _EXECUTION,
}


def followers(status: Status) -> set[str]:
    """Return the statuses that may follow ``status``; none if it is terminal."""
    return _FOLLOWERS[type(status)].get(status, set())


def origins(status: Status) -> list[str]:
    """Return the statuses from which ``status`` may be reached."""
    return [origin.value for origin in type(status) if status in followers(origin)]


def is_terminal(status: Status) -> bool:
    """Return whether nothing follows ``status``."""
    return not followers(status)


def terminal(enum_type: type[Status]) -> list[str]:
    """Return the final statuses of one kind, for a CHECK or a filter."""
    return [status.value for status in enum_type if is_terminal(status)]


def live(enum_type: type[Status]) -> list[str]:
    """Return the statuses of one kind that are not final."""
    return [status.value for status in enum_type if not is_terminal(status)]


LIVE_STEP = (StepStatus.READY, StepStatus.RUNNING)  # these keep an execution wanted
REUSABLE_EXECUTION = (ExecutionStatus.READY, ExecutionStatus.RUNNING, ExecutionStatus.SUCCEEDED)
