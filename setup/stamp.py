"""The note inside .venv that says what it was made from, so that a set-up that is done is not done again."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

NAME = "fewbits-setup.json"
INPUTS = ("pyproject.toml", "client/pyproject.toml", "constraints.txt")


@dataclass(frozen=True)
class Stamp:
    """What an environment was made from."""

    place: str  # checkout and Python: if it differs, the environment cannot be mended, only made anew
    contents: str  # what is installed: if it differs, installing again is enough


def wanted(checkout: Path, python_version: str, wheel_key: str) -> Stamp:
    """Works out the stamp of an up-to-date environment.

    Args:
        checkout: The project's root, without symbolic links.
        python_version: The running Python's version, as "3.11".
        wheel_key: llama.cpp's wheel.

    Returns:
        The stamp.
    """
    digest = hashlib.sha256(wheel_key.encode())
    for name in INPUTS:
        content = (checkout / name).read_bytes()
        digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
    return Stamp(place=f"{checkout} Python {python_version}", contents=digest.hexdigest())


def read(venv: Path) -> Stamp | None:
    """Reads an environment's stamp.

    Args:
        venv: The environment's folder.

    Returns:
        The stamp, or None if set-up did not end, or the Python under the environment was replaced or removed.
    """
    try:
        note = json.loads((venv / NAME).read_text())
        if note.pop("interpreter") != _interpreter(venv):
            return None
        return Stamp(**note)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(venv: Path, stamp: Stamp) -> None:
    """Writes the stamp, whole or not at all.

    Args:
        venv: The environment's folder.
        stamp: What it was made from.
    """
    unfinished = venv / f"{NAME}.new"
    unfinished.write_text(json.dumps({**asdict(stamp), "interpreter": _interpreter(venv)}))
    unfinished.replace(venv / NAME)


def remove(venv: Path) -> None:
    """Removes the stamp: whatever is stopped from now on starts from nothing the next time.

    Args:
        venv: The environment's folder.
    """
    (venv / NAME).unlink(missing_ok=True)


def _interpreter(venv: Path) -> str:
    return os.fspath((venv / "bin" / "python").resolve(strict=True))
