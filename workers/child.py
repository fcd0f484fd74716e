"""The child: runs one step and dies. The only module that runs an engine.

Started as ``python -m workers.child FD SPEC``, leader of a process group of its own, with standard input a pipe from
its supervisor. Before anything heavy is loaded it forks a guard that waits for that pipe to end and then kills the
group: nothing outlives a killed worker, whatever native code is running here.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from core.errors import DoesNotFit, FewbitsError, WorkError, os_error
from engines import methods
from engines.context import EngineContext, Progress, Suspended
from engines.peaks import peak_memory_bytes, peak_vram_bytes
from pipeline.kinds import KINDS
from pipeline.step_kind import Outcome, StepContext
from workers.protocol import MESSAGES_FD, SCRATCH_FULL, ChildSpec, Failure, Left, Message, Saved, Taken, encode

REPORT_SECONDS = 0.2  # progress more often than this is dropped


def main() -> None:
    """Run the spec named on the command line and write what came of it to descriptor 3."""
    descriptor, spec_path = int(sys.argv[1]), Path(sys.argv[2])
    if descriptor != MESSAGES_FD:
        os.dup2(descriptor, MESSAGES_FD)
        os.close(descriptor)
    os.set_inheritable(MESSAGES_FD, False)
    _fork_guard()
    spec = ChildSpec.read(spec_path)
    os.chdir(spec.folder)
    outcome = _run(spec)
    _send(Taken(peak_memory_bytes(), peak_vram_bytes()))
    try:
        _send(outcome)
    except ValueError as error:
        _send(Failure(WorkError(f"The step's result cannot be kept: {error}.").document()))


def _run(spec: ChildSpec) -> Outcome | Failure | Left:
    try:
        with _explain():
            methods.load(spec.method_modules)
            return KINDS[spec.kind].run(_context(spec))
    except Suspended:
        return Left()
    except FewbitsError as error:
        with contextlib.suppress(OSError):  # the log lies on the disk that may be full
            traceback.print_exc()
        return Failure(error.document())


@contextlib.contextmanager
def _explain() -> Iterator[None]:
    """Turn what no engine has explained into an error with a kind: the broad catch at the edge of the process."""
    try:
        yield
    except (FewbitsError, Suspended):
        raise
    except MemoryError as error:
        raise DoesNotFit("The step ran out of memory.") from error
    except OSError as error:
        raise os_error(error, "The step failed", full=DoesNotFit(SCRATCH_FULL)) from error
    except Exception as error:
        raise WorkError(f"The step failed: {type(error).__name__}: {error}. Its log has the details.") from error


def _context(spec: ChildSpec) -> StepContext:
    last_report = 0.0

    def report(progress: Progress) -> None:
        nonlocal last_report
        if progress.done >= progress.total or time.monotonic() - last_report >= REPORT_SECONDS:
            last_report = time.monotonic()
            _send(progress)

    return StepContext(
        params=spec.params,
        inputs={name: Path(folder) for name, folder in spec.inputs.items()},
        source_roots=tuple(Path(root) for root in spec.source_roots),
        publish_roots=tuple(Path(root) for root in spec.publish_roots),
        engine=EngineContext(
            output=spec.output,
            scratch=spec.scratch,
            checkpoint=spec.checkpoint,
            work=spec.work,
            threads=spec.threads,
            device=spec.device,
            report=report,
            measure=_send,
            recall=lambda _: None,  # the attempt that measured it has sent it
            save=_Saving(spec).save,
            must_leave=_Notice().was_given,
            code_execution=spec.code_execution,
        ),
    )


class _Saving:
    """Puts aside what the checkpoint holds, and tells the supervisor, which stores it while the work goes on."""

    def __init__(self, spec: ChildSpec) -> None:
        self._spec = spec
        self._count = 0

    def save(self) -> None:
        self._count += 1
        shutil.copytree(self._spec.checkpoint, self._spec.saved(self._count), copy_function=os.link)
        _send(Saved(self._count))


class _Notice:
    """Whether the child is to leave. Only an engine that asks is given the time: SIGTERM ends any other at once."""

    def __init__(self) -> None:
        self._given = False
        self._is_expected = False

    def was_given(self) -> bool:
        if not self._is_expected:
            signal.signal(signal.SIGTERM, self._give)
            self._is_expected = True
        return self._given

    def _give(self, *_: object) -> None:
        self._given = True


def _send(message: Message) -> None:
    line = encode(message)
    while line:
        line = line[os.write(MESSAGES_FD, line) :]


def _fork_guard() -> None:
    if os.fork() == 0:
        os.close(MESSAGES_FD)
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        os.killpg(0, signal.SIGKILL)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


if __name__ == "__main__":
    main()
