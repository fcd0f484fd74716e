"""What every command shares: how it finds its server, and how its errors become an exit status."""

import contextlib
import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fewbits_client.cli.exits import Exit, exit_for_error
from fewbits_client.cli.output import Output
from fewbits_client.client import Client
from fewbits_client.connection import identifier
from fewbits_client.errors import FewbitsError, InvalidArgument

URL_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

_MISSING = "{what} is missing: set {variable} or give {option}; `make up` prints both the address and a key"


def checked_id(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """Return an id that stands on the command line, known to be one."""
    try:
        return identifier(value)
    except InvalidArgument as error:
        raise click.BadParameter(str(error)) from None


def _source_url(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """Return the source as a URL; only the server can judge one that was given as such."""
    if URL_SCHEME.match(value):
        return value
    # Links are followed, as the server does with the folders that it allows.
    path = Path(value).expanduser().resolve()
    if not path.is_dir():
        problem = "is not a folder" if path.exists() else "does not exist"
        raise click.BadParameter(f"{path} {problem} on this machine; a folder of the server's is {path.as_uri()}")
    return path.as_uri()


job_argument = click.argument("job_id", metavar="JOB", callback=checked_id)
source_argument = click.argument("source", callback=_source_url)


def talks_to_server(function: Callable[..., Exit]) -> Callable[..., None]:
    """Give a command ``--url``, ``--api-key`` and ``--json``, and call it with a `Client` and an `Output`.

    The function returns its exit status; an error of the SDK or of the disk is said on stderr, stands as one JSON
    object on stdout where JSON was asked for, and ends the command with its own status.
    """

    @click.option("--url", envvar="FEWBITS_URL", metavar="URL", help="The server.  [env: FEWBITS_URL]")
    @click.option(
        "--api-key",
        envvar="FEWBITS_API_KEY",
        metavar="KEY",
        help="The team's key; other users can see a command line, so prefer the variable.  [env: FEWBITS_API_KEY]",
    )
    @click.option("--json", "as_json", is_flag=True, help="Write JSON on stdout and nothing else there.")
    @click.pass_context
    @functools.wraps(function)
    def command(
        ctx: click.Context, /, *args: Any, url: str | None, api_key: str | None, as_json: bool, **options: Any
    ) -> None:
        if not url:
            raise click.UsageError(
                _MISSING.format(what="the server's address", variable="FEWBITS_URL", option="--url"), ctx
            )
        if not api_key:
            raise click.UsageError(
                _MISSING.format(what="the API key", variable="FEWBITS_API_KEY", option="--api-key"), ctx
            )
        output = Output(as_json)
        try:
            with Client(url, api_key) as client:
                status = function(client, output, *args, **options)
        except BrokenPipeError:
            raise
        except (FewbitsError, OSError) as error:
            output.complain(f"fewbits: {error}")
            if as_json:
                with contextlib.suppress(OSError):  # where stdout is what failed, stderr has said it
                    output.document(output.failure(error))
            status = exit_for_error(error)
        ctx.exit(status)

    return command
