"""Renews constraints.txt from an environment that nothing has been pinned in."""

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from setup.llama_wheel import provide_wheel, require_wheel_or_means
from setup.steps import Steps

OWN = {"fewbits", "fewbits-client", "pip"}
HEADER = """\
# Every package that fewbits[dev] pulls in, pinned, so that two set-ups give the same environment.
# Made by `make pins` from a clean environment; not to be edited by hand.
"""


def renew(checkout: Path, cache: Path, environment: Mapping[str, str]) -> None:
    """Installs what pyproject.toml asks for into a throw-away environment and writes down what came.

    Args:
        checkout: The project's root.
        cache: The cache of llama.cpp's wheel.
        environment: Variables for pip.
    """
    require_wheel_or_means(cache, environment)
    steps = Steps(3, checkout / "build" / "pins.log")
    with tempfile.TemporaryDirectory(dir=checkout / "build") as folder:
        python = Path(folder) / "bin" / "python"
        steps.begin("making an environment", "about 15 seconds")
        steps.run([sys.executable, "-I", "-m", "venv", folder], environment)
        steps.run([python, "-m", "pip", "install", "--upgrade", "pip"], environment)
        steps.done()
        wheel = provide_wheel(python, cache, environment, steps)
        steps.begin("installing packages", "about 2 minutes")
        steps.run(
            [python, "-m", "pip", "install", wheel, "-e", f"{checkout}[dev]", "-e", checkout / "client"], environment
        )
        listing = subprocess.run(
            [python, "-m", "pip", "list", "--format=freeze"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        steps.done()
    (checkout / "constraints.txt").write_text(HEADER + "".join(f"{pin}\n" for pin in pins_of(listing.stdout)))


def pins_of(listing: str) -> list[str]:
    """Turns pip's listing into pins.

    Args:
        listing: Lines of name==version.

    Returns:
        The same without our own packages, and without local version suffixes: "2.13.0" accepts "2.13.0+cpu", but
        not the other way round.
    """
    pairs = (line.split("==", 1) for line in listing.splitlines() if "==" in line)
    return [f"{name}=={version.split('+')[0]}" for name, version in pairs if name not in OWN]
