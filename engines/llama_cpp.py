"""llama.cpp as it was built: where its tools are, how they are run, and its tokenizer.

Refuses to know what a tool's result is for.
"""

import contextlib
import ctypes
import functools
import re
import subprocess
import sys
import sysconfig
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from core.errors import Diverged, DoesNotFit, ModelUnsupported, ToolFailed
from engines.gguf_file import place_of_tensor
from engines.sentinel import not_finite

VERSION = "llama.cpp (llama-cpp-python 0.3.36)"

ERROR_LINES_MAX = 8
# ggml's levels: debug 1, information 2, warning 3, error 4, and a line continued from the one before 5
LOG_WARNING = 3
LOG_CONTINUED = 5
# ggml's streams do not say why a write failed; a full disk is what makes one fail.
NOT_FINITE = re.compile(r"tensor '(?P<weight>[^']+)' has invalid data|non-finite values detected in (?P<inputs>\S+)")
DISK_FULL = re.compile(r"no space left on device|iostream error|file too large|quota exceeded", re.IGNORECASE)
TELLING = re.compile(r"error|fail|invalid|unknown|unable|cannot", re.IGNORECASE)
MEMORY_FULL = re.compile(r"std::bad_alloc|failed to allocate|out of memory", re.IGNORECASE)


def tool(name: str) -> Path:
    """Return the path of one of llama.cpp's programs.

    Raises:
        ToolFailed: the installed llama-cpp-python was built without its tools.
    """
    path = Path(sysconfig.get_path("platlib"), "bin", name)
    if not path.is_file():
        raise ToolFailed(
            f"{path} is missing: llama-cpp-python was built without llama.cpp's tools. Run the set-up again."
        )
    return path


def run_tool(
    name: str, arguments: Sequence[str | Path], *, cwd: Path, on_line: Callable[[str], None] = lambda _: None
) -> None:
    """Run one of llama.cpp's programs to its end; its output goes to this process's standard output, the log.

    Args:
        name: such as ``llama-quantize``.
        arguments: each an argument of its own; no shell sees them.
        cwd: where the program runs.
        on_line: called with each line as it is printed.

    Raises:
        DoesNotFit: memory or disk ran out.
        Diverged: it met numbers that are not finite.
        ToolFailed: the program failed, with the last that it said.
    """
    command = [tool(name), *arguments]
    environment = {"LD_LIBRARY_PATH": str(Path(sysconfig.get_path("platlib"), "lib")), "LC_ALL": "C"}
    last: deque[str] = deque(maxlen=ERROR_LINES_MAX)
    with subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        try:
            for line in process.stdout or ():
                sys.stdout.write(line)
                sys.stdout.flush()
                last.append(line.strip())
                on_line(line)
        except BaseException:
            process.kill()  # nobody reads it any more, so it must not go on
            raise
    if process.returncode != 0:
        raise _failure(name, process.returncode, [line for line in last if line])


def _failure(name: str, code: int, last: Sequence[str]) -> DoesNotFit | Diverged | ToolFailed:
    said = "\n".join(last)
    if DISK_FULL.search(said):
        return DoesNotFit(f"The disk is full: {name} could not write its result. Free space in the scratch folder.")
    if MEMORY_FULL.search(said):
        return DoesNotFit(f"{name} ran out of memory. Use a machine with more of it.")
    if found := NOT_FINITE.search(said):
        return not_finite(place_of_tensor(found["weight"] or found["inputs"]), f"{found[0]}, says {name}")
    # A warning among the last lines is noise; what names a failure is said.
    telling = [line for line in last if TELLING.search(line)] or last[-1:]
    ending = f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"
    return ToolFailed(f"{name} {ending}: {' | '.join(telling) or 'it said nothing'}")


@functools.cache  # the library keeps a bare pointer to it
def _log_callback() -> Any:
    """Return what relays llama.cpp's warnings and errors to the log.

    The binding's own takes one level for another: it prints thousands of lines about graphs and swallows errors.
    """
    import llama_cpp

    relayed = False

    def relay(level: int, text: bytes, _: Any) -> None:
        nonlocal relayed
        if level != LOG_CONTINUED:
            relayed = level >= LOG_WARNING
        if relayed:
            sys.stdout.write(text.decode("utf-8", "replace"))
            sys.stdout.flush()

    return llama_cpp.llama_log_callback(relay)


@contextlib.contextmanager
def load_model(path: Path, *, vocab_only: bool = False) -> Iterator[Any]:
    """Load a GGUF file through llama.cpp's C interface, and free it at the end.

    Yields:
        the ``llama_model`` pointer.

    Raises:
        ModelUnsupported: llama.cpp refuses the file.
    """
    import llama_cpp

    llama_cpp.llama_log_set(_log_callback(), None)
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = vocab_only
    params.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    if model is None:
        raise ModelUnsupported(f"llama.cpp cannot load {path.name}; its reason is in the log of this step.")
    try:
        yield model
    finally:
        llama_cpp.llama_model_free(model)


def tokenize(model: Any, text: str, *, add_special: bool = False) -> list[int]:
    """Return llama.cpp's ids of ``text``; a special token's name in it is ordinary text.

    Args:
        model: what ``load_model`` yields.
        text: any text.
        add_special: whether the tokens that the tokenizer puts around a text are added.
    """
    import llama_cpp

    vocabulary = llama_cpp.llama_model_get_vocab(model)
    raw = text.encode()
    ids = (llama_cpp.llama_token * (len(raw) + 8))()  # at most one token a byte, and a few around
    count = llama_cpp.llama_tokenize(vocabulary, raw, len(raw), ids, len(ids), add_special, False)
    if count < 0:
        raise ModelUnsupported("llama.cpp's tokenizer gives more tokens than the text has bytes.")
    return list(ids[:count])


def detokenize(model: Any, ids: Sequence[int]) -> str:
    """Return what ids say, the names of special tokens among it; what is no UTF-8 is replaced.

    Args:
        model: what ``load_model`` yields.
        ids: those that its vocabulary does not know say nothing.
    """
    import llama_cpp

    vocabulary = llama_cpp.llama_model_get_vocab(model)
    count = llama_cpp.llama_vocab_n_tokens(vocabulary)
    known = [one for one in ids if 0 <= one < count]  # any other would end the process
    given = (llama_cpp.llama_token * len(known))(*known)

    def write(room: int) -> tuple[int, bytes]:
        said = ctypes.create_string_buffer(room)
        return llama_cpp.llama_detokenize(vocabulary, given, len(known), said, room, False, True), said.raw

    size, said = write(8 * len(known))
    if size < 0:
        size, said = write(-size)
    return said[:size].decode("utf-8", "replace")
