"""A store on any S3 endpoint: ``PREFIX/blobs/ab/ab12…`` in one bucket.

An object is visible once its upload is complete, so a blob is whole or not there. An upload that fails is aborted and
begun anew by the next attempt: what a child made is gone with its worker, so there would be nothing to go on with.
What a killed worker leaves of an upload is invisible, and is aborted when the blob is deleted.
"""

import base64
import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from botocore.exceptions import BotoCoreError, ClientError

from core.errors import BlobLost
from store.cache import NodeCache
from store.parts import USUAL, Part, Transfer, each, patiently, split
from store.port import CHUNK_BYTES, Check, go_on
from store.s3_access import S3Access, code_of, explained, make_client, status_of

if TYPE_CHECKING:
    from types_boto3_s3.type_defs import CompletedPartTypeDef

MEDIA_TYPE = "application/octet-stream"
URL_SECONDS = 300  # only the beginning of a download must fall into it


class S3Store:
    """Blobs as objects; the port's promises are in ``store.port.BlobStore``.

    Args:
        bucket: where they are.
        prefix: what their keys begin with, without a slash at its ends.
        access: how the endpoint is reached.
        cache: where this node keeps copies.
        transfer: how bytes are moved.
    """

    def __init__(
        self, bucket: str, prefix: str, access: S3Access, cache: NodeCache, transfer: Transfer = USUAL
    ) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._cache = cache
        self._transfer = transfer
        self._client = make_client(access, access.endpoint_url)
        self._public = make_client(access, access.public_endpoint_url or access.endpoint_url)

    def put(self, path: Path, sha256: str, check: Check = go_on) -> None:
        """Upload the file; what is small in one request, the rest in parts."""
        with explained(f"{path.name} could not be stored", sha256), path.open("rb") as file:
            if patiently(partial(self._exists, sha256), self._transfer, check):
                return
            parts = split(os.fstat(file.fileno()).st_size, self._transfer.part_bytes)
            if len(parts) > 1:
                self._put_parts(sha256, file, parts, check)
            else:
                self._put_whole(sha256, file.read(), check)

    def has(self, sha256: str) -> bool:
        """Return whether the object is there; the end of its upload made it whole."""
        with explained("The store could not be asked for a blob"):
            return self._exists(sha256)

    def read(self, sha256: str, start: int, length: int) -> Iterator[bytes]:
        """Yield the bytes, at most a megabyte at a time."""
        with explained("A blob could not be read", sha256):
            yield from self._range(sha256, start, length)

    def materialized(
        self, blobs: Mapping[str, int], check: Check = go_on
    ) -> AbstractContextManager[Mapping[str, Path]]:
        """Give copies in the node's cache, pinned there while the block runs."""
        return self._cache.holding(blobs, self._bring, check)

    def download_url(self, sha256: str, *, disposition: str) -> str:
        """Sign an address at the endpoint that clients reach."""
        if not self.has(sha256):
            raise BlobLost(sha256)
        with explained("An address could not be signed"):
            answer = {"ResponseContentDisposition": disposition, "ResponseContentType": MEDIA_TYPE}
            asked = {"Bucket": self._bucket, "Key": self._key(sha256), **answer}
            return self._public.generate_presigned_url("get_object", Params=asked, ExpiresIn=URL_SECONDS)

    def delete(self, sha256: str) -> None:
        """Remove the object and abort uploads of it that never ended."""
        key = self._key(sha256)
        with explained("A blob could not be deleted"):
            for upload_id in self._unfinished(key):
                self._abort(key, upload_id)
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def check(self) -> None:
        """Begin an upload and abort it: that asks for the right to write and leaves nothing."""
        key = f"{self._prefix}check"
        with explained("The store cannot be used"):
            begun = self._client.create_multipart_upload(Bucket=self._bucket, Key=key)
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=begun["UploadId"])

    def _key(self, sha256: str) -> str:
        return f"{self._prefix}blobs/{sha256[:2]}/{sha256}"

    def _exists(self, sha256: str) -> bool:
        try:
            self._client.head_object(Bucket=self._bucket, Key=self._key(sha256))
        except ClientError as error:
            if status_of(error) != HTTPStatus.NOT_FOUND:
                raise
            self._client.head_bucket(Bucket=self._bucket)  # where the bucket is away, no blob is lost
            return False
        return True

    def _put_whole(self, sha256: str, content: bytes, check: Check) -> None:
        put = partial(
            self._client.put_object,
            Bucket=self._bucket,
            Key=self._key(sha256),
            Body=content,
            ContentMD5=_md5(content),
            ContentType=MEDIA_TYPE,
        )
        patiently(put, self._transfer, check)

    def _put_parts(self, sha256: str, file: BinaryIO, parts: Sequence[Part], check: Check) -> None:
        key = self._key(sha256)
        create = partial(self._client.create_multipart_upload, Bucket=self._bucket, Key=key, ContentType=MEDIA_TYPE)
        upload_id = patiently(create, self._transfer, check)["UploadId"]

        def put(part: Part) -> "CompletedPartTypeDef":
            content = os.pread(file.fileno(), part.length, part.start)
            request = partial(
                self._client.upload_part,
                Bucket=self._bucket,
                Key=key,
                UploadId=upload_id,
                PartNumber=part.number,
                Body=content,
                ContentMD5=_md5(content),
            )
            return {"PartNumber": part.number, "ETag": patiently(request, self._transfer, check)["ETag"]}

        try:
            done = each(parts, put, self._transfer)
            complete = partial(self._complete, sha256, upload_id, done)
            patiently(complete, self._transfer, check)
        except BaseException:
            with contextlib.suppress(BotoCoreError, ClientError):
                self._abort(key, upload_id)
            raise

    def _complete(self, sha256: str, upload_id: str, done: list["CompletedPartTypeDef"]) -> None:
        try:
            self._client.complete_multipart_upload(
                Bucket=self._bucket, Key=self._key(sha256), UploadId=upload_id, MultipartUpload={"Parts": done}
            )
        except ClientError as error:
            # Asked a second time because the first answer was lost.
            if code_of(error) != "NoSuchUpload" or not self._exists(sha256):
                raise

    def _abort(self, key: str, upload_id: str) -> None:
        try:
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload_id)
        except ClientError as error:
            if code_of(error) != "NoSuchUpload":
                raise

    def _unfinished(self, key: str) -> Sequence[str]:
        try:
            listed = self._client.list_multipart_uploads(Bucket=self._bucket, Prefix=key)
        except ClientError as error:
            if code_of(error) != "NoSuchUpload":  # rclone's answer where there was never one in the bucket
                raise
            return []
        return [upload["UploadId"] for upload in listed.get("Uploads", [])]

    def _bring(self, sha256: str, size_bytes: int, descriptor: int, check: Check) -> None:
        """Write the blob into an open file."""

        def bring(part: Part) -> None:
            request = partial(self._whole_range, sha256, part)
            content = memoryview(patiently(request, self._transfer, check))
            at = part.start
            while content:
                written = os.pwrite(descriptor, content, at)
                content, at = content[written:], at + written

        with explained("An input could not be fetched", sha256):
            each(split(size_bytes, self._transfer.part_bytes), bring, self._transfer)

    def _whole_range(self, sha256: str, part: Part) -> bytes:
        return b"".join(self._range(sha256, part.start, part.length))

    def _range(self, sha256: str, start: int, length: int) -> Iterator[bytes]:
        if length < 1:
            return
        asked = f"bytes={start}-{start + length - 1}"
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key(sha256), Range=asked)
        except ClientError as error:
            if code_of(error) == "InvalidRange":  # it begins behind the end
                return
            raise
        with contextlib.closing(answer["Body"]) as body:
            yield from body.iter_chunks(CHUNK_BYTES)


def _md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
