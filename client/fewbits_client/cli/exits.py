"""What the command's exit status says to a script."""

import enum
from collections.abc import Iterable

from fewbits_client.errors import FewbitsError, InvalidArgument, Problem, UnexpectedAnswer, Unreachable
from fewbits_client.objects import Job


class Exit(enum.IntEnum):
    """The statuses; `HELP` lists them for a reader."""

    OK = 0
    FAILED = 1
    USAGE = 2
    BLOCKED = 3
    CANCELLED = 4
    REFUSED = 5
    UNREACHABLE = 6
    INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it
    PIPE_CLOSED = 141  # 128 + SIGPIPE


HELP = """\b
Exit status:
  0    ok
  1    the job failed, a download could not be verified or written, or nothing was
       reproduced
  2    the command line is wrong
  3    the job succeeded, but its gate has blocked the result
  4    the job was cancelled
  5    the server refused the request
  6    the server cannot be reached
  130  interrupted; the jobs go on
"""


def exit_for_error(error: FewbitsError | OSError) -> Exit:
    """Return the status that an error ends the command with."""
    match error:
        case Problem():
            return Exit.REFUSED
        case Unreachable() | UnexpectedAnswer():
            return Exit.UNREACHABLE
        case InvalidArgument():
            return Exit.USAGE
        case _:
            return Exit.FAILED


def exit_for_jobs(jobs: Iterable[Job]) -> Exit:
    """Return the status for jobs that are over: a failure weighs most, and a cancellation more than a gate."""
    jobs = list(jobs)
    statuses = {job["status"] for job in jobs}
    if "failed" in statuses:
        return Exit.FAILED
    if "cancelled" in statuses:
        return Exit.CANCELLED
    return Exit.BLOCKED if any(job.get("verdict") == "blocked" for job in jobs) else Exit.OK
