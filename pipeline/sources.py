"""Sources: which a team may name, and where one lies on this machine."""

from pathlib import Path, PurePosixPath

from core.errors import SourceInvalid, SourceRefused
from pipeline.file_urls import file_path, follow, is_under


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
    if not is_under(path, roots):
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
        folder = follow(_path(source))
    except OSError as error:
        raise SourceInvalid(f"{source} cannot be followed to a folder: {error}.") from None
    if not is_under(folder, roots):
        raise SourceRefused(f"{source} leads to {folder}, which is not under a folder that the operator allows.")
    return folder


def _path(source: str) -> PurePosixPath:
    return file_path(source, what="source", param="source")
