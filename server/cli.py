"""The ``fewbitsd`` command. Each subcommand loads only what it runs."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from core.errors import FewbitsError
from db.states import POOLS
from server import operating
from server.signals import StopRequested, StopSignals, end_at_once_if_told

if TYPE_CHECKING:
    from server.up import Running


class _Commands(click.Group):
    """Shows our own errors as what they are: messages for the person at the terminal."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except FewbitsError as error:
            raise click.ClickException(error.message) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Run fewbits: the whole stack on one machine, or one process of it."""


@main.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path(".data"),
    show_default=True,
    help="The folder that keeps everything.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), help="The API's port, 0 for any free one. [default: 8080 if it is free]"
)
@click.option("--json", "as_json", is_flag=True, help="When ready, print one line of JSON.")
@click.option(
    "--sources",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    multiple=True,
    help="A folder under which models may lie; repeatable. [default: /, whatever this user can read]",
)
def up(data: Path, port: int | None, as_json: bool, sources: tuple[Path, ...]) -> None:
    """Run the whole stack on this machine until Ctrl-C."""
    from server.up import Options, run_up

    announce = _announce_json if as_json else _announce
    run_up(Options(data, port, sources), os.environ, announce)


def _announce_json(running: "Running") -> None:
    click.echo(json.dumps(asdict(running)))


def _announce(running: "Running") -> None:
    click.echo(f"fewbits is ready at {running.url} and stops with Ctrl-C. To use it from another terminal:\n")
    click.echo(f"  export FEWBITS_URL={running.url} FEWBITS_API_KEY={running.api_key}\n")
    if running.database_url:
        click.echo("To operate it, by fewbitsd's commands keys, workers, pools and quotas:\n")
        click.echo(f"  export FEWBITS_DATABASE_URL={running.database_url}\n")


@main.command()
def api() -> None:
    """Serve the API."""
    end_at_once_if_told()
    from server.api import serve

    serve()


@main.command()
@click.option("--pool", type=click.Choice(POOLS), required=True, help="The pool whose work is done.")
@click.option("--slots", type=click.IntRange(1), help="Children at once. [default: by the machine]")
def worker(pool: str, slots: int | None) -> None:
    """Do the work of one pool."""
    end_at_once_if_told()
    from workers.worker import run_worker

    run_worker(pool, slots)


@main.command()
def dispatch() -> None:
    """Tell workers that there is work."""
    end_at_once_if_told()
    from workers.dispatch import main as run

    run()


@main.command()
def rescue() -> None:
    """Give back work whose worker is gone, and end what is overdue."""
    end_at_once_if_told()
    from workers.rescue import main as run

    run()


@main.command()
@click.option("--check", is_flag=True, help="Only prove, on a new Postgres, that migrations and tables agree.")
@click.option("--wait", is_flag=True, help="Only wait until another has brought it there.")
def migrate(check: bool, wait: bool) -> None:
    """Bring the database to the newest schema."""
    from server import migrate as schema

    if check:
        if difference := schema.check():
            raise click.ClickException(f"The migrations do not make what db/tables says: {difference}")
        click.echo("Migrations and tables agree.")
        return
    from core.settings import settings

    url = settings().database_url.get_secret_value()
    if wait:
        _wait_for_schema(url)
    else:
        schema.upgrade(url)


def _wait_for_schema(database_url: str) -> None:
    from server.migrate import wait_until_current

    with StopSignals() as signals:
        try:
            wait_until_current(database_url, lambda text: click.echo(text, err=True), signals.pause)
        except StopRequested:
            raise click.ClickException("Stopped before the schema was there.") from None


@main.command()
@click.argument("heartbeat", type=click.Path(path_type=Path))
@click.option("--within", "seconds", type=click.FloatRange(0), required=True, help="How old it may be.")
def alive(heartbeat: Path, seconds: float) -> None:
    """Fail if the file HEARTBEAT was not touched lately: the process of FEWBITS_HEARTBEAT_FILE is stuck."""
    from core.heartbeat import is_beating

    if not is_beating(heartbeat, seconds):
        raise click.ClickException(f"{heartbeat} was not touched within {seconds:g} s.")


for group in operating.GROUPS:
    main.add_command(group)
