"""The one tree of errors. Each says what is wrong, where, and what to do.

::

    FewbitsError
    ├── RequestError            the request is wrong: never retried
    │   ├── InvalidRequest      a body or a parameter that cannot be accepted
    │   ├── NotAuthenticated    no key, or a key that is not known
    │   ├── ContentTooLarge     more bytes than the operator allows
    │   ├── MediaTypeUnknown    bytes of a kind that is not taken
    │   ├── NotFound            no such object, or one of another team
    │   ├── Conflict            the object's state does not allow it
    │   │   └── RequestInFlight a request with the same idempotency key is being acted on
    │   ├── KeyReused           an idempotency key that was used for another request
    │   ├── QuotaExceeded       the team has as much as it may have at once
    │   ├── NoCapacity          work that no registered worker could ever run
    │   ├── SourceRefused       a path outside the allowed roots, an unknown scheme
    │   ├── DestinationRefused  likewise of where a result goes, or something is there already
    │   ├── SourceInvalid       a folder that is not a complete, safe model
    │   ├── ModelUnsupported    an architecture or a tokenizer that an engine does not know
    │   ├── Diverged            quantizing went wrong in a module: the same work goes wrong the same way
    │   └── VerificationFailed  a result that is not what was asked for: the same result fails the same way
    ├── WorkError               the work went wrong: retried with backoff
    │   ├── WorkerLost          the lease ran out while the work was being done
    │   ├── WorkerKiller        the worker died with the work, too often for a coincidence
    │   ├── ChildCrashed        the child ended without a result
    │   ├── ToolFailed          an engine's own program failed
    │   ├── StoreFailed         a blob could not be written or read
    │   │   ├── StoreFull       there is no room for a blob
    │   │   └── BlobLost        a blob that was there has vanished
    │   └── DeadlineExceeded    a stopping condition of the job was met: not retried, the job is over
    ├── DoesNotFit              memory or disk ran out: retried once, then failed
    └── StartFailed             a part of the stack on one machine could not be started: said, never stored

Refuses to know: HTTP (``api/problems.py`` maps these to statuses) and the tables they are stored in.
"""

import enum
import errno
from typing import ClassVar, TypedDict


class ErrorKind(enum.StrEnum):
    """What a failure means for the next attempt."""

    REQUEST = "request"  # never retried: the same input fails the same way
    WORK = "work"  # retried with backoff
    FIT = "fit"  # retried once, then failed


class ErrorDocument(TypedDict):
    """How an error is stored in Postgres and sent over a child's pipe."""

    kind: str
    code: str
    message: str
    param: str | None


class FewbitsError(Exception):
    """The base of every error that fewbits raises on purpose.

    Args:
        message: what is wrong and what to do, in one or two sentences for the person who asked.
        param: the field of the request that is at fault, dotted from its root, where there is one.
    """

    code: ClassVar[str] = "internal_error"
    kind: ClassVar[ErrorKind] = ErrorKind.WORK

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    def document(self) -> ErrorDocument:
        """Return the error as plain data."""
        return {"kind": self.kind.value, "code": self.code, "message": self.message, "param": self.param}


class RequestError(FewbitsError):
    """The request is wrong."""

    code = "request_error"
    kind = ErrorKind.REQUEST


class InvalidRequest(RequestError):
    """A body or a parameter that cannot be accepted."""

    code = "invalid_request"


class NotAuthenticated(RequestError):
    """No key, or a key that is not known."""

    code = "not_authenticated"


class ContentTooLarge(RequestError):
    """More bytes than the operator allows."""

    code = "content_too_large"


class MediaTypeUnknown(RequestError):
    """Bytes of a kind that is not taken."""

    code = "unsupported_media_type"


class NotFound(RequestError):
    """No such object for this team."""

    code = "not_found"


class Conflict(RequestError):
    """The object's state does not allow what was asked."""

    code = "conflict"


class RequestInFlight(Conflict):
    """A request with the same idempotency key is being acted on."""

    code = "request_in_flight"


class KeyReused(RequestError):
    """An idempotency key that was used for another request."""

    code = "idempotency_key_reused"


class QuotaExceeded(RequestError):
    """The team has as much as it may have at once."""

    code = "quota_exceeded"


class NoCapacity(RequestError):
    """Work that no registered worker could ever run."""

    code = "no_capacity"


class SourceRefused(RequestError):
    """A source outside what the operator allows."""

    code = "source_refused"


class DestinationRefused(RequestError):
    """A place for a result outside what the operator allows, or one that is taken."""

    code = "destination_refused"


class SourceInvalid(RequestError):
    """A folder that is not a complete, safe model."""

    code = "source_invalid"


class ModelUnsupported(RequestError):
    """An architecture or a tokenizer that an engine does not know."""

    code = "model_unsupported"


class Diverged(RequestError):
    """Quantizing went wrong in a module, by its numbers."""

    code = "quantization_diverged"


class VerificationFailed(RequestError):
    """A result that is not what was asked for."""

    code = "verification_failed"


class WorkError(FewbitsError):
    """The work went wrong."""

    code = "work_failed"
    kind = ErrorKind.WORK


class WorkerLost(WorkError):
    """The lease ran out while the work was being done."""

    code = "worker_lost"


class WorkerKiller(WorkError):
    """The worker died with the work, too often for a coincidence.

    Args:
        kind: of the step.
        deaths: how often.
        last: what was said of the last worker.
    """

    code = "worker_killer"

    def __init__(self, kind: str, deaths: int, last: str) -> None:
        super().__init__(
            f"The worker that ran {kind} has died {deaths} times, so the step is not tried again: it may be what ends "
            f"them. {last} Submit the job again if the workers had another reason."
        )


class ChildCrashed(WorkError):
    """The child ended without a result."""

    code = "child_crashed"


class ToolFailed(WorkError):
    """An engine's own program failed."""

    code = "tool_failed"


class StoreFailed(WorkError):
    """A blob could not be written or read."""

    code = "store_failed"


class StoreFull(StoreFailed):
    """There is no room for a blob.

    Args:
        what: what failed, as the beginning of a sentence.
    """

    code = "store_full"

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: the store is full. Ask your operator to make room, then try again.")


class BlobLost(StoreFailed):
    """A blob that was there has vanished.

    Args:
        sha256: which.
    """

    code = "blob_lost"

    def __init__(self, sha256: str) -> None:
        super().__init__(f"The store has lost the blob {sha256}. Submit the job again: it is made anew.")
        self.sha256 = sha256


class DeadlineExceeded(WorkError):
    """A stopping condition of the job was met."""

    code = "deadline_exceeded"


class DoesNotFit(FewbitsError):
    """Memory or disk ran out."""

    code = "does_not_fit"
    kind = ErrorKind.FIT


class StartFailed(FewbitsError):
    """A part of the stack could not be started."""

    code = "start_failed"


def os_error(error: OSError, what: str, *, full: FewbitsError, otherwise: type[WorkError] = WorkError) -> FewbitsError:
    """Return the error of the tree for one of the operating system's.

    Args:
        error: what was raised.
        what: what failed, as the beginning of a sentence.
        full: what it is where a disk or a quota is full.
        otherwise: what it is in any other case.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return full
    return otherwise(f"{what}: {error.strerror or error}.")
