"""From the settings to a store."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from core.settings import Settings
from store.directory import DirectoryStore
from store.port import BlobStore


def open_store(here: Settings) -> BlobStore:
    """Open the store that the settings name: ``file:///an/absolute/folder`` or ``s3://bucket/prefix``.

    Raises:
        ValueError: its URL is of no known kind.
    """
    parts = urlsplit(here.store_url)
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return DirectoryStore(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        return _open_s3(here, parts.netloc, parts.path.strip("/"))
    raise ValueError(
        f"{here.store_url!r} is no store: it must be file:/// and an absolute folder, or s3:// and a bucket"
    )


def _open_s3(here: Settings, bucket: str, prefix: str) -> BlobStore:
    from store.cache import NodeCache  # late: a store in a directory needs no boto3
    from store.s3 import S3Store
    from store.s3_access import S3Access

    access = S3Access(
        endpoint_url=here.s3_endpoint_url,
        public_endpoint_url=here.s3_public_endpoint_url,
        region=here.s3_region,
        access_key_id=here.s3_access_key_id.get_secret_value(),
        secret_access_key=here.s3_secret_access_key.get_secret_value(),
    )
    return S3Store(bucket, prefix, access, NodeCache(here.cache_root, here.cache_bytes_max))
