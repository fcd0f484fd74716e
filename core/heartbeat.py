"""A file that a loop touches each time it turns, by which something outside tells a stuck process from a busy one.

Refuses to know what the loop works with: while Postgres or the broker is away, a loop turns as before. Asked every half
minute by a process of its own, so nothing but the standard library is imported here.
"""

import contextlib
import time
from pathlib import Path


def beat(file: Path | None) -> None:
    """Note that a loop turns.

    Args:
        file: the heartbeat file; None where nobody asks.
    """
    # A file that cannot be touched is soon found too old, which is how the trouble should show.
    if file is not None:
        with contextlib.suppress(OSError):
            file.touch()


def is_beating(file: Path, within_seconds: float) -> bool:
    """Return whether a loop has turned within some seconds."""
    try:
        return time.time() - file.stat().st_mtime <= within_seconds
    except FileNotFoundError:
        return False
