"""The order of a set-up: environment, llama.cpp, packages, a look whether it all works."""

import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from setup import pins, stamp
from setup.exclusive import exclusive
from setup.llama_wheel import cache_folder, provide_wheel, require_wheel_or_means, this_key
from setup.problems import GIB, SetupError, pip_is_bundled, require_room, require_venv, require_writable
from setup.steps import Steps

CHECKOUT = Path(__file__).resolve().parent.parent
VENV_BYTES = 2 * GIB
PIP = "pip==26.3"
LOOK = "import conversion, gguf, llama_cpp, torch"


def main(arguments: Sequence[str]) -> int:
    """Runs the set-up.

    Args:
        arguments: None, or "pins" to renew constraints.txt.

    Returns:
        The exit status.
    """
    if list(arguments) not in ([], ["pins"]):
        print("usage: python3 -I setup [pins]", file=sys.stderr)
        return 2
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, _leave)
    try:
        if arguments:
            pins.renew(CHECKOUT, cache_folder(os.environ), pip_environment(os.environ))
        else:
            set_up(CHECKOUT)
    except SetupError as error:
        print(f"\nset-up failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nset-up stopped; the next run repairs what is half done", file=sys.stderr)
        return 130
    return 0


def set_up(checkout: Path) -> None:
    """Brings a checkout's .venv up to date; does nothing if it is.

    Args:
        checkout: The project's root, without symbolic links.

    Raises:
        SetupError: Something is missing or failed.
    """
    venv = checkout / ".venv"
    wanted = stamp.wanted(checkout, _version(), this_key())
    if stamp.read(venv) == wanted:
        return
    require_writable(checkout, "Use a checkout of your own.")
    with exclusive(checkout) as lock:
        found = stamp.read(venv)
        if found == wanted:  # the set-up that was waited for has done it
            return
        steps = Steps(4, checkout / "build" / "setup.log")
        environment = pip_environment(os.environ)
        cache = cache_folder(os.environ)
        require_venv(_version())
        require_wheel_or_means(cache, environment)
        if found is None or found.place != wanted.place:
            make_venv(venv, environment, steps, lock)
        else:
            steps.begin("keeping .venv", "at once")
            steps.done()
        python = venv / "bin" / "python"
        wheel = provide_wheel(python, cache, environment, steps)
        stamp.remove(venv)
        install_packages(checkout, wheel, environment, steps, lock)
        steps.begin("checking what was installed", "about 15 seconds")
        steps.run([python, "-m", "pip", "check"], environment, keep_open=[lock])
        steps.run([python, "-I", "-c", LOOK], environment, keep_open=[lock])
        steps.done()
        stamp.write(venv, wanted)


def make_venv(venv: Path, environment: Mapping[str, str], steps: Steps, lock: int) -> None:
    """Makes an empty environment with a pinned pip, in place of whatever is there.

    Args:
        venv: Its folder.
        environment: Variables for pip.
        steps: Where progress is shown.
        lock: A descriptor that the commands inherit.
    """
    steps.begin(f"making .venv with Python {_version()}", "about 10 seconds")
    if venv.exists():
        _empty(venv)
    require_room(venv.parent, VENV_BYTES, "The environment")
    python = venv / "bin" / "python"
    if pip_is_bundled():
        steps.run([sys.executable, "-I", "-m", "venv", venv], environment, keep_open=[lock])
        pip: list[str | Path] = [python, "-m", "pip"]
    else:
        steps.run([sys.executable, "-I", "-m", "venv", "--without-pip", venv], environment, keep_open=[lock])
        pip = [sys.executable, "-I", "-m", "pip", "--python", python]
    steps.run([*pip, "install", PIP], environment, keep_open=[lock])
    steps.done()


def install_packages(checkout: Path, wheel: Path, environment: Mapping[str, str], steps: Steps, lock: int) -> None:
    """Installs the project, for working on it, and all it needs, at the pinned versions.

    Args:
        checkout: The project's root.
        wheel: llama.cpp's wheel.
        environment: Variables for pip.
        steps: Where progress is shown.
        lock: A descriptor that the command inherits.
    """
    steps.begin("installing packages", "about 2 minutes, and the download of about 300 MB")
    temporary = checkout / "build" / "tmp"  # /tmp may be too small for torch
    temporary.mkdir(parents=True, exist_ok=True)
    command: list[str | Path] = [checkout / ".venv" / "bin" / "python", "-m", "pip", "install"]
    command += ["--constraint", checkout / "constraints.txt", wheel]
    command += ["--editable", f"{checkout}[dev]", "--editable", checkout / "client"]
    try:
        steps.run(command, {**environment, "TMPDIR": str(temporary)}, keep_open=[lock])
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    steps.done()


def pip_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Takes the user's environment, without what would make pip install elsewhere or Python import from elsewhere.

    Args:
        environment: The user's variables; those that name registries, proxies and certificates are kept.

    Returns:
        Variables for pip.
    """
    misleading = {"PYTHONHOME", "PYTHONPATH", "PIP_PREFIX", "PIP_ROOT", "PIP_TARGET", "VIRTUAL_ENV"}
    kept = {name: value for name, value in environment.items() if name not in misleading}
    kept.setdefault("PATH", os.defpath)
    return kept | {
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_PROGRESS_BAR": "off",
        "PIP_ROOT_USER_ACTION": "ignore",
        "PIP_USER": "0",
        "PYTHONNOUSERSITE": "1",
    }


def _empty(folder: Path) -> None:
    """Empties a folder but keeps it: it may be a link to a larger disk."""
    stamp.remove(folder)
    for child in folder.iterdir():
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()


def _version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _leave(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt
