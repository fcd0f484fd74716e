"""How an S3 endpoint is reached, and what its refusals mean."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from core.errors import BlobLost, FewbitsError, StoreFailed, StoreFull
from core.logging import log

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client  # stubs alone: there is no such package in production

# What endpoints answer when a disk or a quota is full; AWS never does.
FULL_CODES = frozenset({"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage"})


@dataclass(frozen=True)
class S3Access:
    """Where the endpoint is and who asks. What is empty is left to boto3: its environment, its files, the pod's role.

    Attributes:
        endpoint_url: how this process reaches it; empty for AWS.
        public_endpoint_url: how clients reach it; empty where that is the same.
        region: of the bucket.
        access_key_id: who asks.
        secret_access_key: the proof of it.
    """

    endpoint_url: str = ""
    public_endpoint_url: str = ""
    region: str = ""
    access_key_id: str = ""
    secret_access_key: str = field(default="", repr=False)


def make_client(access: S3Access, endpoint_url: str) -> "S3Client":
    """Return a client, safe to share between threads.

    Every upload carries the MD5 of its bytes, which every endpoint verifies, and every blob is verified by its SHA-256:
    the checksums that boto3 adds beside them are unknown to older endpoints, and some send that of a whole object with
    a range of it.
    """
    config = Config(
        signature_version="s3v4",
        connect_timeout=5,
        read_timeout=60,
        retries={"mode": "standard", "total_max_attempts": 3},
        max_pool_connections=32,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # An endpoint of one's own seldom has a name for each bucket.
        s3={"addressing_style": "path" if endpoint_url else "auto"},
    )
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint_url or None,
        region_name=access.region or None,
        aws_access_key_id=access.access_key_id or None,
        aws_secret_access_key=access.secret_access_key or None,
        config=config,
    )


def code_of(error: ClientError) -> str:
    """Return the endpoint's own word for what is wrong; the bare status where an answer has no body."""
    return error.response["Error"]["Code"]


def status_of(error: ClientError) -> int:
    """Return the HTTP status of a refusal."""
    return error.response["ResponseMetadata"]["HTTPStatusCode"]


@contextlib.contextmanager
def explained(what: str, sha256: str = "") -> Iterator[None]:
    """Turn what botocore raises into errors of our tree; its own text, which names addresses, goes to the log.

    Args:
        what: what failed, as the beginning of a sentence.
        sha256: the blob that it was about.
    """
    try:
        yield
    except ClientError as error:
        log.warning("the store refuses", error=str(error))
        raise _refusal(error, what, sha256) from error
    except BotoCoreError as error:
        log.warning("the store cannot be used", error=str(error))
        raise StoreFailed(f"{what}: the store cannot be reached ({type(error).__name__}).") from error


def _refusal(error: ClientError, what: str, sha256: str) -> FewbitsError:
    code = code_of(error)
    if code == "NoSuchKey":
        return BlobLost(sha256)
    if code in FULL_CODES or status_of(error) == HTTPStatus.INSUFFICIENT_STORAGE:
        return StoreFull(what)
    return StoreFailed(f"{what}: the store answers {code}.")
