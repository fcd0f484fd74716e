"""The machine and the libraries that work is done with: what a result may depend on beside what it is made of."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = (
    "compressed-tensors",
    "gptqmodel",
    "llama-cpp-python",
    "llmcompressor",
    "numpy",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
)
CPU_INFO = Path("/proc/cpuinfo")


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of those libraries that are installed here."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hardware(device: str) -> dict[str, str | None]:
    """Return the names of this machine's processor and of the GPU that is worked on; None where that is none.

    Args:
        device: ``cpu`` or ``cuda:N``, as torch names it.
    """
    return {"device": device, "cpu": _cpu_name(), "gpu": _gpu_name(device)}


def _cpu_name() -> str:
    try:
        lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _gpu_name(device: str) -> str | None:
    torch = sys.modules.get("torch")
    if torch is None or not device.startswith("cuda"):
        return None
    return str(torch.cuda.get_device_name(device))
