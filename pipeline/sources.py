"""Sources: which a team may name, and where one lies on this machine."""

from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from core.errors import InvalidRequest, SourceInvalid, SourceRefused


def check_source(source: str, roots: tuple[Path, ...]) -> str:
    """Return ``source`` in its one spelling, once it is known to be of a kind that is allowed.

    Only the text is looked at: the folder may lie on a disk that the API does not see.

    Args:
        source: ``file:///an/absolute/folder``.
        roots: the folders under which the operator allows local sources.

    Raises:
        InvalidRequest: it is no source.
        SourceRefused: the operator does not allow it.
    """
    path = _path(source)
    if not roots:
        raise SourceRefused(
            "This service reads no local folders. Its operator can allow some with FEWBITS_SOURCE_ROOTS.",
            param="source",
        )
    if not any(path.is_relative_to(root) for root in roots):
        allowed = ", ".join(str(root) for root in roots)
        raise SourceRefused(f"{path} is not under a folder that the operator allows: {allowed}.", param="source")
    return Path(path).as_uri()


def local_folder(source: str, roots: tuple[Path, ...]) -> Path:
    """Return the folder that ``source`` names, links followed.

    Raises:
        SourceRefused: a link leads out of what the operator allows.
        SourceInvalid: links go round in a loop.
    """
    check_source(source, roots)
    try:
        folder = Path(_path(source)).resolve()
    except (OSError, RuntimeError) as error:  # Python 3.11 and 3.12 say RuntimeError of a loop
        raise SourceInvalid(f"{source} cannot be followed to a folder: {error}.") from None
    if not any(folder.is_relative_to(root) for root in roots):
        raise SourceRefused(f"{source} leads to {folder}, which is not under a folder that the operator allows.")
    return folder


def _path(source: str) -> PurePosixPath:
    try:
        parts = urlsplit(source)
    except ValueError as error:
        raise InvalidRequest(f"The source is no URL: {error}.", param="source") from None
    if parts.scheme != "file":
        raise InvalidRequest(
            "A source is file:///an/absolute/folder; no other kind is supported by this version.", param="source"
        )
    path = PurePosixPath(unquote(parts.path))
    if parts.netloc not in ("", "localhost") or not path.is_absolute() or parts.query or parts.fragment:
        raise InvalidRequest(
            "A file:// source is file:/// and an absolute path, such as file:///models/llama.", param="source"
        )
    if ".." in path.parts or "\0" in str(path):
        raise InvalidRequest("The path of a source may contain neither '..' nor a NUL.", param="source")
    return path
