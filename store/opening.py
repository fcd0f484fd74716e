"""From the URL in the settings to a store."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from store.directory import DirectoryStore
from store.port import BlobStore


def open_store(url: str) -> BlobStore:
    """Open the store at ``url``: ``file:///an/absolute/folder``.

    Raises:
        ValueError: the URL is of no known kind.
    """
    parts = urlsplit(url)
    if parts.scheme != "file" or parts.netloc or not parts.path.startswith("/"):
        raise ValueError(f"{url!r} is no store: it must be file:/// and an absolute folder")
    return DirectoryStore(Path(unquote(parts.path)))
