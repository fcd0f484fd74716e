"""Destinations: where a team may have its results published. A folder there is made, never written over."""

from pathlib import Path, PurePosixPath

from core.errors import DestinationRefused
from pipeline.file_urls import file_path, follow, is_under

PARAM = "publish_to"


def check_destination(destination: str, roots: tuple[Path, ...]) -> str:
    """Return ``destination`` in its one spelling, once it is known to be of a kind that is allowed.

    Only the text is looked at: the folder may lie on a disk that the API does not see.

    Args:
        destination: ``file:///an/absolute/folder``, which is not there yet.
        roots: the folders under which the operator allows results to be published.

    Raises:
        InvalidRequest: it is no destination.
        DestinationRefused: the operator does not allow it.
    """
    path = Path(_path(destination))
    if not roots:
        raise DestinationRefused(
            "This service publishes to no folders. Its operator can allow some with FEWBITS_PUBLISH_ROOTS.", param=PARAM
        )
    if not is_under(path, roots) or path in roots:
        allowed = ", ".join(str(root) for root in roots)
        raise DestinationRefused(f"{path} is not a folder under one that the operator allows: {allowed}.", param=PARAM)
    return path.as_uri()


def destination_folder(destination: str, roots: tuple[Path, ...]) -> Path:
    """Return the folder that ``destination`` names, links followed; it need not be there.

    Raises:
        DestinationRefused: a link leads out of what the operator allows, or links go round in a loop.
    """
    check_destination(destination, roots)
    try:
        folder = follow(_path(destination))
    except OSError as error:
        raise DestinationRefused(f"{destination} cannot be followed to a folder: {error}.", param=PARAM) from None
    if not is_under(folder, roots) or folder in roots:
        raise DestinationRefused(
            f"{destination} leads to {folder}, which is not a folder under one that the operator allows.", param=PARAM
        )
    return folder


def _path(destination: str) -> PurePosixPath:
    return file_path(destination, what="destination", param=PARAM)
