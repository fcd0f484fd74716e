"""The one reading of ``file://`` URLs, and of what an operator allows: folders under his roots."""

from pathlib import Path, PurePath, PurePosixPath
from urllib.parse import unquote, urlsplit

from core.errors import InvalidRequest


def file_path(url: str, *, what: str, param: str) -> PurePosixPath:
    """Return the absolute path that a URL names.

    Args:
        url: ``file:///an/absolute/folder``.
        what: what it is the URL of, such as ``source``.
        param: the field of the request that holds it.

    Raises:
        InvalidRequest: it is no such URL.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidRequest(f"The {what} is no URL: {error}.", param=param) from None
    if parts.scheme != "file":
        raise InvalidRequest(
            f"A {what} is file:///an/absolute/folder; no other kind is supported by this version.", param=param
        )
    path = PurePosixPath(unquote(parts.path))
    if parts.netloc not in ("", "localhost") or not path.is_absolute() or parts.query or parts.fragment:
        raise InvalidRequest(
            f"A file:// {what} is file:/// and an absolute path, such as file:///models/llama.", param=param
        )
    if ".." in path.parts or "\0" in str(path):
        raise InvalidRequest(f"The path of a {what} may contain neither '..' nor a NUL.", param=param)
    return path


def is_under(path: PurePath, roots: tuple[Path, ...]) -> bool:
    """Return whether a path lies under one of the folders that an operator allows."""
    return any(path.is_relative_to(root) for root in roots)


def follow(path: PurePosixPath) -> Path:
    """Return where a path leads on this machine, links followed; it need not be there.

    Raises:
        OSError: links go round in a loop.
    """
    try:
        return Path(path).resolve()
    except RuntimeError as error:  # so Python 3.11 and 3.12 say of a loop
        raise OSError(str(error)) from None
