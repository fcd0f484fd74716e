"""Found by every Python process that has this folder on its path: writes down what it does outside of its own folders.

A line for each host that it asks for or connects to, and for each file that it writes or folder that it makes beyond
those that it was given.
"""

import os
import sys
from pathlib import Path
from typing import Any

HOME = Path(os.environ["HOME"])  # the child's scratch folder
NOTES = HOME.parent / "strayed"
OWN = (str(HOME.parent), str(Path(os.environ["TRITON_CACHE_DIR"]).parent), "/dev/", "/proc/")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def note(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        write(f"{event} {arguments[1:] if event == 'socket.connect' else arguments}")
    elif event == "open":
        path, _, flags = arguments
        if isinstance(path, str) and flags & WRITES and strays(path):
            write(f"open {path}")
    elif event == "os.mkdir" and strays(os.fspath(arguments[0])):
        write(f"mkdir {arguments[0]}")


def strays(path: str) -> bool:
    # The interpreter keeps compiled modules beside their sources, in its own folders.
    return not os.path.realpath(path).startswith(OWN) and "__pycache__" not in path


def write(line: str) -> None:
    descriptor = os.open(NOTES, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


sys.addaudithook(note)
