"""Identifiers: a prefix that says what they name, then 26 characters that sort by time of creation."""

import secrets
import time
from typing import NewType

TeamId = NewType("TeamId", str)
KeyId = NewType("KeyId", str)
JobId = NewType("JobId", str)
ExecutionId = NewType("ExecutionId", str)
ArtifactId = NewType("ArtifactId", str)
WorkerId = NewType("WorkerId", str)
SweepId = NewType("SweepId", str)
DatasetId = NewType("DatasetId", str)

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_TIME_BITS, _RANDOM_BITS = 48, 80
_CHARACTERS = 26


def new_id(prefix: str) -> str:
    """Return a new id such as ``job_01kb…`` (48 bits of milliseconds, 80 random bits; as a ULID)."""
    value = (time.time_ns() // 1_000_000) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    characters = [_ALPHABET[value >> 5 * place & 31] for place in reversed(range(_CHARACTERS))]
    return f"{prefix}_{''.join(characters)}"
