"""What each kind of process installs: it is complete, in step with the pins, and no more than it needs."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ENGINES = {"torch", "transformers", "llama-cpp-python", "gptqmodel", "llmcompressor", "compressed-tensors"}
CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
# Accelerators' own packages: torch asks for them only where there is one.
WITH_AN_ACCELERATOR = ("nvidia-", "cuda-", "triton")


@pytest.mark.parametrize(
    ("extra", "engines"),
    [
        ("api", set()),
        ("cpu", {"torch", "transformers", "llama-cpp-python"}),
        ("gpu", ENGINES),
    ],
)
def test_each_kind_of_process_resolves_apart(extra: str, engines: set[str]) -> None:
    resolved = resolve("fewbits", extra)
    assert resolved & ENGINES == engines


def resolve(package: str, extra: str) -> set[str]:
    """Return all that an extra pulls in, by what is installed; every version must be one that all others take."""
    pins = [Requirement(line) for line in CONSTRAINTS.read_text().splitlines() if not line.startswith("#")]
    pinned = {canonicalize_name(pin.name): pin.specifier for pin in pins}
    found: set[tuple[str, str]] = set()
    open_ends = [(package, extra)]
    while open_ends:
        name, extra = open_ends.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        for line in distribution(name).requires or ():
            needed = Requirement(line)
            if needed.marker is not None and not needed.marker.evaluate({"extra": extra}):
                continue
            needed_name = canonicalize_name(needed.name)
            if needed_name.startswith(WITH_AN_ACCELERATOR):
                continue
            version = version_of(needed_name, wanted_by=name)
            assert needed.specifier.contains(version, prereleases=True), f"{name} needs {needed}, and has {version}"
            if needed_name in pinned:
                assert pinned[needed_name].contains(version, prereleases=True), f"{needed_name} {version} is not pinned"
            open_ends += [(needed_name, inner) for inner in (needed.extras or {""})]
    return {name for name, _ in found}


def version_of(name: str, *, wanted_by: str) -> str:
    try:
        return distribution(name).version
    except PackageNotFoundError:
        pytest.fail(f"{wanted_by} needs {name}, which is not installed")
