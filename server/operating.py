"""What operators do to a service that runs: keys, workers, pools and quotas, as commands of ``fewbitsd``.

Each command is one transaction on the database of this process's settings, and loads only what it needs.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from core.errors import NotFound
from db.states import POOLS, Quota

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from core.ids import TeamId
    from db.workers import Seen

T = TypeVar("T")

DEFAULT = "default"  # in the place of a number: the limit of teams that have none of their own
COUNT_MAX = 2**31 - 1  # what Postgres keeps
NOTHING = "-"

pool_argument = click.argument("pool", metavar="POOL", type=click.Choice(POOLS))


@click.group()
def keys() -> None:
    """Make, list and revoke API keys."""


@keys.command("create")
@click.option("--team", required=True, help="The team it acts for; made if there is none of that name.")
@click.option("--name", default="", help="A label to know it by.")
def create(team: str, name: str) -> None:
    """Make a key and print it, once."""
    from db.keys import create_key

    key_id, key = _run(lambda session: create_key(session, team, name))
    click.echo(key)
    click.echo(f"This is key {key_id} of team {team}. It is not kept and cannot be shown again.", err=True)


@keys.command("list")
def list_keys() -> None:
    """List all keys: id, team, label, state."""
    from db import keys

    for key in _run(keys.list_keys):
        click.echo(f"{key.id}\t{key.team.name}\t{key.label}\t{'revoked' if key.revoked_at else 'active'}")


@keys.command("revoke")
@click.argument("key_id")
def revoke(key_id: str) -> None:
    """End a key at once."""
    from db.keys import revoke_key

    _run(lambda session: revoke_key(session, key_id))


@click.group()
def workers() -> None:
    """List and drain workers."""


@workers.command("list")
def list_workers() -> None:
    """List the workers of the last week.

    One that is live or drained is there; one that is gone has fallen silent, one that is stopped has ended in order.
    The complaint says why a live one claims nothing. What a drained one still runs stands under running.
    """
    from db.workers import seen

    columns = ["worker", "pool", "host", "device", "running", "memory", "gpu memory", "scratch", "state", "complaint"]
    _table(columns, [_worker_row(one) for one in _run(seen)])


@workers.command("drain")
@click.argument("worker_id", metavar="ID")
def drain(worker_id: str) -> None:
    """Have a worker claim nothing more; what it runs goes on.

    One that is gone, since it has fallen silent, is held to it should it come back; for one that is stopped there is
    nothing to do, and that is an error.
    """
    from db.workers import drain

    _note_silence(worker_id, "nothing more", is_there=_run(lambda session: drain(session, worker_id)))


@workers.command("undrain")
@click.argument("worker_id", metavar="ID")
def undrain(worker_id: str) -> None:
    """Have a drained worker claim again."""
    from db.workers import drain

    _note_silence(worker_id, "again", is_there=_run(lambda session: drain(session, worker_id, claims_again=True)))


@click.group()
def pools() -> None:
    """List, pause and resume pools."""


@pools.command("list")
def list_pools() -> None:
    """List the pools.

    Of each: whether it is open or paused, its live workers and how many of them are drained, what they run of their
    slots, and how much is ready to be run.
    """
    _table(["pool", "state", "workers", "drained", "running", "ready"], _run(_pool_rows))


@pools.command("pause")
@pool_argument
def pause(pool: str) -> None:
    """Have no worker of POOL, cpu or gpu, claim anything more; what they run goes on."""
    from db.workers import pause

    _run(lambda session: pause(session, pool))


@pools.command("resume")
@pool_argument
def resume(pool: str) -> None:
    """Have the workers of POOL, cpu or gpu, claim again."""
    from db.workers import resume

    _run(lambda session: resume(session, pool))


@click.group()
def quotas() -> None:
    """Show and set what a team may have at once."""


@quotas.command("list")
@click.argument("team")
def list_quotas(team: str) -> None:
    """List the limits of TEAM, and what it uses of each.

    Where it has none of its own, the default of this shell's environment is shown; the service may have others.
    """
    from api.quotas import default_quotas
    from core.settings import settings
    from db.quotas import shares

    defaults = default_quotas(settings())
    found = _run(lambda session: shares(session, _team(session, team), defaults))
    rows = [[s.name.value, str(s.used), "no limit" if s.maximum is None else str(s.maximum)] for s in found]
    _table(["quota", "used", "maximum"], rows)


def _count_or_default(_context: click.Context, _param: click.Parameter, value: str) -> int | None:
    if value == DEFAULT:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= len(str(COUNT_MAX)) and int(value) <= COUNT_MAX):
        raise click.BadParameter(f"{value!r} is neither a number from 0 to {COUNT_MAX} nor '{DEFAULT}'.")
    return int(value)


# So that -1 is refused as the number that it is.
@quotas.command("set", context_settings={"ignore_unknown_options": True})
@click.argument("team")
@click.argument("name", metavar="NAME", type=click.Choice([quota.value for quota in Quota]))
@click.argument("maximum", callback=_count_or_default)
def set_quota(team: str, name: str, maximum: int | None) -> None:
    """Give TEAM a limit of its own; the MAXIMUM 'default' takes it back.

    NAME is queued_jobs, for jobs of which no step has started, or datasets, for those that it keeps: further ones
    are refused. Or it is running_cpu or running_gpu, for what runs at once in that pool: further work waits. A MAXIMUM
    of 0 lets nothing through.
    """
    from db.quotas import set_quota

    _run(lambda session: set_quota(session, _team(session, team), Quota(name), maximum))


GROUPS = (keys, workers, pools, quotas)


def _run(verb: "Callable[[Session], T]") -> T:
    from core.settings import settings
    from db.session import UNAVAILABLE, Database

    database = Database(settings().database_url.get_secret_value(), connections_max=1)
    try:
        return database.run(verb)
    except UNAVAILABLE as error:
        raise click.ClickException(f"Postgres does not answer: {str(error).splitlines()[0]}") from error
    finally:
        database.dispose()


def _note_silence(worker_id: str, what: str, *, is_there: bool) -> None:
    if not is_there:
        click.echo(
            f"Worker {worker_id} is gone: it has fallen silent, and others take over what it ran. Should it come back, "
            f"it claims {what}. One that is started in its place has another id, and claims as usual.",
            err=True,
        )


def _team(session: "Session", name: str) -> "TeamId":
    from sqlalchemy import select

    from core.ids import TeamId
    from db.tables import Team

    team_id = session.scalar(select(Team.id).where(Team.name == name))
    if team_id is None:
        raise NotFound(f"There is no team {name!r}. 'fewbitsd keys list' shows the teams that have keys.")
    return TeamId(team_id)


def _worker_row(seen: "Seen") -> list[str]:
    from db.room import gigabytes

    worker = seen.worker
    return [
        *(worker.id, worker.pool, worker.host, worker.device, f"{seen.running}/{worker.slots}"),
        gigabytes(worker.memory_bytes),
        gigabytes(worker.vram_bytes) if worker.vram_bytes else NOTHING,
        *(gigabytes(worker.scratch_bytes), _state(seen), worker.complaint or ""),
    ]


def _state(seen: "Seen") -> str:
    if seen.worker.stopped_at is not None:
        return "stopped"
    if not seen.is_live:
        return "gone" if seen.worker.drained_at is None else "gone, drained"
    return "live" if seen.worker.drained_at is None else "drained"


def _pool_rows(session: "Session") -> list[list[str]]:
    from db.demand import ready
    from db.workers import paused, seen

    waiting, held, workers = ready(session), paused(session), seen(session)
    rows = []
    for pool in POOLS:
        live = [one for one in workers if one.worker.pool == pool and one.is_live]
        running, slots = sum(one.running for one in live), sum(one.worker.slots for one in live)
        state = "paused" if pool in held else "open"
        drained = sum(one.worker.drained_at is not None for one in live)
        rows.append([pool, state, str(len(live)), str(drained), f"{running}/{slots}", str(waiting[pool])])
    return rows


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns, without control characters: a host's name and a complaint come from elsewhere."""
    cells = [[_one_line(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _one_line(cell: Any) -> str:
    return "".join(character if character.isprintable() else " " for character in str(cell))
