"""Every error that the SDK raises on purpose.

::

    FewbitsError
    ├── InvalidArgument     a URL, a key or an id that cannot be sent; also a ValueError
    ├── Unreachable         nothing answers, or what answers is not ready
    ├── UnexpectedAnswer    something answers, but not as a fewbits server does
    ├── Problem             the server refused the request and said why
    ├── NotReproducible     a folder does not say how to make again what it holds
    └── DownloadError       files could not be fetched as the server described them
        ├── UnsafeFileName  a name that would leave the folder
        ├── FileConflict    a different file is already there
        └── DigestMismatch  the bytes are not those of the artifact
"""

from collections.abc import Mapping
from typing import Any


class FewbitsError(Exception):
    """The base of every error that the SDK raises on purpose."""


class InvalidArgument(FewbitsError, ValueError):
    """A value that cannot be sent to any server."""


class Unreachable(FewbitsError):
    """Nothing answers at the server's address, or it is not ready.

    Args:
        message: what happened.
        may_be_heard: something is there, and may have acted on the request.
    """

    def __init__(self, message: str, *, may_be_heard: bool = False) -> None:
        super().__init__(message)
        self.may_be_heard = may_be_heard


class UnexpectedAnswer(FewbitsError):
    """What answers does not speak the fewbits API."""


class NotReproducible(FewbitsError):
    """A folder does not say how what it holds can be made again, or this team lacks something for it."""


class DownloadError(FewbitsError):
    """Files could not be fetched as the server described them."""


class UnsafeFileName(DownloadError):
    """A file name that would leave the folder that was asked for."""


class FileConflict(DownloadError):
    """A different file is already where one should be written."""


class DigestMismatch(DownloadError):
    """The bytes that came are not those that the artifact lists."""


class Problem(FewbitsError):
    """The server refused the request and sent a problem document (RFC 9457).

    Args:
        document: the problem document as the server sent it.
        status: the HTTP status, used where the document names none.
    """

    def __init__(self, document: Mapping[str, Any], status: int) -> None:
        self.document = dict(document)
        self.status = status
        self.code = str(document.get("code") or "")
        self.title = str(document.get("title") or f"HTTP {status}")
        self.detail = str(document.get("detail") or "")
        listed = document.get("errors")
        errors = listed if isinstance(listed, list) else []
        self.errors: list[dict[str, Any]] = [error for error in errors if isinstance(error, dict)]
        super().__init__(self._text())

    def _text(self) -> str:
        lines = [self.detail or f"{self.title} ({self.status})"]
        for error in self.errors:
            pointer, detail = str(error.get("pointer") or "/"), str(error.get("detail") or "")
            # A server may repeat its one error as the document's own detail.
            lines.append(f"  {pointer}: {detail}" if detail != self.detail else f"  at {pointer}")
        return "\n".join(lines)
