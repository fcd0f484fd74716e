"""The `fewbits` command: its group, and the edges where it meets a shell."""

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from fewbits_client.cli.capacity import attempts, quotas
from fewbits_client.cli.datasets import datasets
from fewbits_client.cli.downloading import download
from fewbits_client.cli.exits import HELP, Exit
from fewbits_client.cli.following import cancel, watch
from fewbits_client.cli.inspecting import inspect
from fewbits_client.cli.looking import jobs, logs, methods, metrics, show
from fewbits_client.cli.planning import plan
from fewbits_client.cli.reporting import report
from fewbits_client.cli.reproducing import reproduce
from fewbits_client.cli.submitting import retry, submit
from fewbits_client.cli.sweeping import sweep


class Program(click.Group):
    """A group that ends as a shell expects when its reader or its user goes away."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _drop_output()
            ctx.exit(Exit.PIPE_CLOSED)
        except KeyboardInterrupt:
            ctx.exit(Exit.INTERRUPTED)


@click.group(
    cls=Program,
    help="Ask a fewbits server for smaller models.\n\nFEWBITS_URL and FEWBITS_API_KEY say which server and as whom.",
    epilog=HELP,
)
@click.version_option(package_name="fewbits-client")
def program() -> None:
    """Only a group: the commands do the work."""


LOOKING = (jobs, show, watch, logs, metrics, attempts, methods, quotas)
for command in (inspect, plan, submit, *LOOKING, cancel, retry, download, report, reproduce, sweep, datasets):
    program.add_command(command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and end the process with its exit status.

    Args:
        arguments: the command line after the program's name; the process's own where None.

    Raises:
        SystemExit: always; `exits` says which statuses there are.
    """
    with Path(os.devnull).open("w") as nowhere:
        # A shell's >&- leaves no stream to write to.
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # A terminal that cannot show a character gets its escape, not a traceback.
                stream.reconfigure(errors="backslashreplace")
        try:
            program.main(args=arguments, prog_name="fewbits")
        finally:
            try:
                sys.stdout.flush()
            except OSError:
                _drop_output()
    raise SystemExit(Exit.OK)


def _drop_output() -> None:
    """Forget what is buffered and cannot be written: the interpreter would try again when it ends, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
