"""llama.cpp's wheel: built from one pinned sdist, once for all checkouts of a user, and kept in a cache.

The wheel's key holds everything that shapes it: a new version or flag is a new entry, an old checkout keeps its own.
"""

import hashlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from setup.exclusive import exclusive
from setup.problems import GIB, SetupError, require_compiler, require_room, require_writable
from setup.steps import Steps

REQUIREMENT = Path(__file__).with_name("llama-cpp.txt")
BUILD_PINS = Path(__file__).with_name("build-constraints.txt")
BUILD_BYTES = GIB
BUILD_CPU_MINUTES = 13
UNFINISHED = "building-"


def wheel_key(definition: str, machine: str) -> str:
    """Names the wheel by all that shapes it.

    Args:
        definition: The pinned requirement with its flags, and the pins of what builds it;
            comments do not count.
        machine: System, processor and C library, as `this_machine` gives them.

    Returns:
        A name for its folder in the cache.
    """
    effective = [line for line in definition.splitlines() if not line.startswith("#")]
    return "llama-cpp-" + hashlib.sha256("\n".join([*effective, machine]).encode()).hexdigest()[:16]


def this_machine() -> str:
    """Describes what a compiled library depends on.

    Returns:
        For example "linux x86_64 glibc 2.36".
    """
    libc = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in os.confstr_names else None
    return f"{sys.platform} {platform.machine()} {libc or ''}".strip()


def this_key() -> str:
    """Names the wheel that this checkout wants on this machine.

    Returns:
        The key.
    """
    return wheel_key(REQUIREMENT.read_text() + BUILD_PINS.read_text(), this_machine())


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Finds the folder that keeps wheels between checkouts.

    Args:
        environment: FEWBITS_CACHE_DIR is taken first, then XDG_CACHE_HOME, then ~/.cache.

    Returns:
        An absolute path, which may not exist yet.

    Raises:
        SetupError: There is no home folder to put it into.
    """
    own = environment.get("FEWBITS_CACHE_DIR", "")
    if own:
        return Path(own).absolute()
    shared = environment.get("XDG_CACHE_HOME", "")
    if Path(shared).is_absolute():  # a relative one is to be ignored, says the XDG specification
        return Path(shared) / "fewbits"
    try:
        return Path.home() / ".cache" / "fewbits"
    except RuntimeError as error:
        raise SetupError("This user has no home folder. Set FEWBITS_CACHE_DIR to a folder to build in.") from error


def require_wheel_or_means(cache: Path, environment: Mapping[str, str]) -> None:
    """Checks that the wheel is in the cache, or else that it can be built.

    Args:
        cache: The cache folder, created if it is missing.
        environment: Where compilers are looked up.

    Raises:
        SetupError: It must be built, and there is no compiler, no room, or no right to write.
    """
    if _wheel_in(cache / this_key()) is None:
        require_writable(cache, "Set FEWBITS_CACHE_DIR to a folder that can be written to.")
        require_compiler(environment)
        require_room(cache, BUILD_BYTES, "Building llama.cpp")


def provide_wheel(python: Path, cache: Path, environment: Mapping[str, str], steps: Steps) -> Path:
    """Takes the wheel from the cache, or builds it there.

    Args:
        python: An interpreter with pip.
        cache: The cache folder.
        environment: Variables for pip.
        steps: Where progress is shown.

    Returns:
        The wheel's path.
    """
    entry = cache / this_key()
    if (wheel := _wheel_in(entry)) is None:
        with exclusive(cache) as lock:
            if (wheel := _wheel_in(entry)) is None:  # another set-up may have built it meanwhile
                return _build(python, entry, environment, steps, lock)
    steps.begin("taking llama.cpp from the cache", "at once")
    steps.done()
    return wheel


def _build(python: Path, entry: Path, environment: Mapping[str, str], steps: Steps, lock: int) -> Path:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    minutes = max(1, -(-BUILD_CPU_MINUTES // cores))
    steps.begin("building llama.cpp", f"about {minutes} minutes on {cores} cores; once")
    for leftover in entry.parent.glob(f"{UNFINISHED}*"):
        shutil.rmtree(leftover)
    folder = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=entry.parent))
    try:
        (folder / "tmp").mkdir()
        command: list[str | Path] = [
            python,
            "-m",
            "pip",
            "wheel",
            "--verbose",
            "--no-deps",
            "--no-binary=llama-cpp-python",
        ]
        # Without its cache: pip would take any wheel that was once built from this sdist, whatever its flags.
        command += ["--no-cache-dir", f"--build-constraint={BUILD_PINS}", f"--wheel-dir={folder / 'wheel'}"]
        command += ["--requirement", REQUIREMENT]
        # Flags that only this user's environment has would be missing from the key.
        kept = {name: value for name, value in environment.items() if name != "CMAKE_ARGS" and "SKBUILD" not in name}
        kept |= {"CMAKE_BUILD_PARALLEL_LEVEL": str(cores), "TMPDIR": str(folder / "tmp")}
        steps.run(command, kept, keep_open=[lock])
        (folder / "wheel").rename(entry)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    steps.done()
    wheel = _wheel_in(entry)
    if wheel is None:
        raise SetupError(f"pip built no wheel in {entry}.")
    return wheel


def _wheel_in(entry: Path) -> Path | None:
    return next(entry.glob("*.whl"), None)
