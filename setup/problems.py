"""The one error of the set-up, and the checks made up front, so that a long part does not fail at its end."""

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

GIB = 1 << 30


class SetupError(Exception):
    """Set-up cannot go on. The message says what is wrong and what to do."""


def require_room(folder: Path, needed_bytes: int, purpose: str) -> None:
    """Checks that a file system has room.

    Args:
        folder: Any existing folder on that file system.
        needed_bytes: How much will be written.
        purpose: What needs the room, for the message.

    Raises:
        SetupError: There is less room than needed.
    """
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise SetupError(
            f"{purpose} needs {needed_bytes / GIB:.1f} GiB, but {folder} has only {free_bytes / GIB:.1f} GiB free.\n"
            "Free some room, or move the checkout or the cache (FEWBITS_CACHE_DIR) to a larger disk."
        )


def require_writable(folder: Path, remedy: str) -> None:
    """Creates a folder if it is missing and checks that files can be made in it.

    Args:
        folder: The folder that set-up must write to.
        remedy: What the user can do if it cannot.

    Raises:
        SetupError: The folder cannot be created or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK | os.X_OK)
    except OSError as error:
        raise SetupError(f"{folder} cannot be created ({error.strerror}).\n{remedy}") from error
    if not writable:
        raise SetupError(f"{folder} cannot be written to.\n{remedy}")


def require_compiler(environment: Mapping[str, str]) -> None:
    """Checks that there is a C and a C++ compiler with its standard library.

    Args:
        environment: Where CC, CXX and PATH are looked up.

    Raises:
        SetupError: There is none, or it cannot compile a line.
    """
    remedy = (
        "llama.cpp is compiled once. Install what it needs: apt install g++ (Debian) or dnf install gcc-c++ (Fedora)."
    )
    for language, variable, names, header in (
        ("c", "CC", ("cc", "gcc", "clang"), "stdio.h"),
        ("c++", "CXX", ("c++", "g++", "clang++"), "string"),
    ):
        chosen = environment.get(variable)
        candidates = (chosen.split()[0],) if chosen and chosen.strip() else names
        found = (shutil.which(name, path=environment.get("PATH", os.defpath)) for name in candidates)
        compiler = next((path for path in found if path), None)
        if compiler is None:
            raise SetupError(f"No {language.upper()} compiler found (looked for {', '.join(candidates)}).\n{remedy}")
        trial = subprocess.run(
            [compiler, "-x", language, "-fsyntax-only", "-"],
            input=f"#include <{header}>\n",
            capture_output=True,
            text=True,
            check=False,
        )
        if trial.returncode != 0:
            raise SetupError(f"{compiler} cannot compile a line:\n{trial.stderr.strip()}\n{remedy}")


def pip_is_bundled() -> bool:
    """Says whether this Python can put pip into a new environment by itself.

    Debian leaves `ensurepip` out of its python3 package.

    Returns:
        False if the python3-venv package is missing.
    """
    return importlib.util.find_spec("ensurepip") is not None


def pip_is_installed() -> bool:
    """Says whether this Python has a pip of its own, which can fill an environment that has none.

    Returns:
        True if `python3 -m pip` would work.
    """
    return importlib.util.find_spec("pip") is not None


def require_venv(version: str) -> None:
    """Checks that an environment with pip in it can be made.

    Args:
        version: The running Python's version, as "3.11", for the package's name.

    Raises:
        SetupError: The venv module is missing, or there is no pip to put into an environment.
    """
    if importlib.util.find_spec("venv") is not None and (pip_is_bundled() or pip_is_installed()):
        return
    raise SetupError(
        f"This Python {version} cannot make an environment with pip in it.\n"
        f"Install what is missing: apt install python3-venv (or python{version}-venv)"
    )
