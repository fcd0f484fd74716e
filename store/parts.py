"""Large blobs in parts, some of them at once, and with patience for an endpoint that is away for a while."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from botocore import exceptions
from botocore.exceptions import BotoCoreError, ClientError

from core.logging import log
from store.port import Check

T = TypeVar("T")

PARTS_MAX = 10_000  # S3's own limit
RETRY_SECONDS = 2.0
AWAY = (exceptions.ConnectionError, exceptions.HTTPClientError, exceptions.IncompleteReadError)
AWAY_STATUSES = frozenset({429, 500, 502, 503, 504})  # those that say "later"; 501 and 507 do not


@dataclass(frozen=True)
class Transfer:
    """How bytes are moved.

    Attributes:
        part_bytes: how large a part is, unless that made more than 10,000; each part under way is held in memory.
        parts_at_once: how many are under way.
        patience_seconds: how long an endpoint may be away before the work fails.
    """

    part_bytes: int = 32 * 2**20
    parts_at_once: int = 4
    patience_seconds: float = 600


USUAL = Transfer()


@dataclass(frozen=True)
class Part:
    """A range of a blob, numbered from 1."""

    number: int
    start: int
    length: int


def split(size_bytes: int, part_bytes: int) -> Sequence[Part]:
    """Return the parts of a blob, at most 10,000, none for an empty one."""
    step = max(part_bytes, -(-size_bytes // PARTS_MAX))
    starts = range(0, size_bytes, step)
    return [Part(number, start, min(step, size_bytes - start)) for number, start in enumerate(starts, 1)]


def each(parts: Sequence[Part], work: Callable[[Part], T], transfer: Transfer) -> list[T]:
    """Do the work for every part and return what came of it, in their order; the first failure ends the others."""
    with ThreadPoolExecutor(transfer.parts_at_once, thread_name_prefix="part") as pool:
        try:
            return list(pool.map(work, parts))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def patiently(request: Callable[[], T], transfer: Transfer, check: Check) -> T:
    """Make a request again and again while the endpoint is away: hours of work may hang on it."""
    give_up_at = time.monotonic() + transfer.patience_seconds
    while True:
        check()
        try:
            return request()
        except (BotoCoreError, ClientError) as error:
            if not _is_away(error) or time.monotonic() >= give_up_at:
                raise
            log.warning("the store is away and is asked again", error=str(error))
            time.sleep(RETRY_SECONDS)


def _is_away(error: BotoCoreError | ClientError) -> bool:
    if isinstance(error, ClientError):
        return error.response["ResponseMetadata"]["HTTPStatusCode"] in AWAY_STATUSES
    return isinstance(error, AWAY)
