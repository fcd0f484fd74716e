"""How much a team may have at once: jobs that wait, executions that run, datasets. Limits of its own go first."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Row, delete, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.errors import QuotaExceeded
from core.ids import TeamId
from db import artifacts, datasets, locks
from db.datasets import NewDataset
from db.locks import Purpose
from db.states import ExecutionStatus, Quota
from db.tables import Dataset, Execution, TeamQuota

RUNNING: Mapping[str, Quota] = {"cpu": Quota.RUNNING_CPU, "gpu": Quota.RUNNING_GPU}
CLOSE = 500  # more than Postgres answers at once: further from its limit than this a team's requests need no turns


@dataclass(frozen=True)
class Share:
    """One of a team's limits, and how much of it is used; ``maximum`` None where there is no limit."""

    name: Quota
    used: int
    maximum: int | None


def shares(session: Session, team_id: TeamId, defaults: Mapping[Quota, int | None]) -> list[Share]:
    """Return every limit of a team."""
    limits = _limits(session, team_id, defaults)
    used = {Quota.QUEUED_JOBS: _queued(session, team_id, defaults).used, Quota.DATASETS: _datasets(session, team_id)}
    running = select(Execution.pool, func.count()).where(
        Execution.team_id == team_id, Execution.status == ExecutionStatus.RUNNING.value
    )
    counts = {row[0]: row[1] for row in session.execute(running.group_by(Execution.pool))}
    used |= {quota: counts.get(pool, 0) for pool, quota in RUNNING.items()}
    return [Share(quota, used[quota], limits[quota]) for quota in Quota]


def datasets_share(session: Session, team_id: TeamId, defaults: Mapping[Quota, int | None]) -> Share:
    """Return a team's limit on its datasets."""
    return Share(Quota.DATASETS, _datasets(session, team_id), _limits(session, team_id, defaults)[Quota.DATASETS])


def require_place(session: Session, team_id: TeamId, defaults: Mapping[Quota, int | None], job_count: int = 1) -> None:
    """Return if a team may queue so many more jobs; close to its limit, requests take turns to the transaction's end.

    Raises:
        QuotaExceeded: it has as many as it may, or would have more.
    """
    place = _queued(session, team_id, defaults)
    if place.maximum is None or place.used + job_count - 1 + CLOSE < place.maximum:
        return
    locks.wait_for(session, Purpose.QUOTA, f"{team_id} {Quota.QUEUED_JOBS}")
    place = _queued(session, team_id, defaults)  # read anew: what the last holder of the lock has committed counts
    if place.maximum is not None and place.used + job_count > place.maximum:
        more = "" if job_count == 1 else f"; {job_count} more were asked for"
        raise QuotaExceeded(
            f"Your team has {place.used} queued jobs, and may have {place.maximum}{more}. Wait until some have "
            "started, or cancel some. GET /v1/quotas shows the limits; your operator can change them."
        )


def require_place_for_dataset(
    session: Session, team_id: TeamId, new: NewDataset, defaults: Mapping[Quota, int | None]
) -> None:
    """Return if a team may announce a dataset: its announcements take turns to the transaction's end.

    One that it has announced before needs no further place.

    Raises:
        QuotaExceeded: it has as many as it may.
    """
    maximum = _limits(session, team_id, defaults)[Quota.DATASETS]
    if maximum is None:
        return
    artifacts.expect(session, new.sha256, new.size_bytes)  # what may wait for a collection does so before its turn
    locks.wait_for(session, Purpose.QUOTA, f"{team_id} {Quota.DATASETS}")
    if not datasets.is_announced(session, team_id, new) and (used := _datasets(session, team_id)) >= maximum:
        raise QuotaExceeded(
            f"Your team has {used} datasets, uploads that are under way included, and may have {maximum}. Delete some "
            "that no job needs, by 'fewbits datasets delete DATASET', DELETE /v1/datasets/DATASET, or on the portal's "
            "page Datasets. GET /v1/quotas shows the limits; your operator can change them."
        )


def set_quota(session: Session, team_id: TeamId, name: Quota, maximum: int | None) -> None:
    """Give a team a limit of its own; None takes it back, so that the default counts again."""
    if maximum is None:
        session.execute(delete(TeamQuota).where(TeamQuota.team_id == team_id, TeamQuota.name == name.value))
        return
    new = insert(TeamQuota).values(team_id=team_id, name=name.value, maximum=maximum)
    session.execute(new.on_conflict_do_update(index_elements=["team_id", "name"], set_={"maximum": maximum}))


def try_turn(session: Session, team_id: str, pool: str) -> bool:
    """Let no other claim for a team go on before this transaction ends; return whether none does already."""
    return locks.try_for(session, Purpose.QUOTA, f"{team_id} {RUNNING[pool]}")


def wait_for_turn(session: Session, team_id: str, pool: str) -> None:
    """Likewise, once no other does."""
    locks.wait_for(session, Purpose.QUOTA, f"{team_id} {RUNNING[pool]}")


def may_run(session: Session, team_id: str, pool: str, maximum: int) -> bool:
    """Return whether a team, whose turn it is, may run another execution."""
    count = session.scalar(_RUNNING, {"team_id": team_id, "pool": pool})
    return bool(count is not None and count < maximum)


_QUEUED = text(f"""
    SELECT
        (SELECT count(*) FROM jobs WHERE team_id = :team_id AND status = 'queued') AS used,
        coalesce(
            (SELECT maximum FROM team_quotas WHERE team_id = :team_id AND name = '{Quota.QUEUED_JOBS}'),
            CAST(:default_maximum AS integer)
        ) AS maximum
""")
_RUNNING = text("""
    SELECT count(*) FROM executions WHERE status = 'running' AND team_id = :team_id AND pool = :pool
""")


def _limits(session: Session, team_id: TeamId, defaults: Mapping[Quota, int | None]) -> dict[Quota, int | None]:
    own = session.execute(select(TeamQuota.name, TeamQuota.maximum).where(TeamQuota.team_id == team_id))
    limits = {quota: defaults.get(quota) for quota in Quota}
    return limits | {Quota(name): maximum for name, maximum in own}


def _datasets(session: Session, team_id: TeamId) -> int:
    """Return how many datasets a team has, or is about to have: what is announced has its place already."""
    return session.scalars(select(func.count()).select_from(Dataset).where(Dataset.team_id == team_id)).one()


def _queued(session: Session, team_id: TeamId, defaults: Mapping[Quota, int | None]) -> Row[int, int | None]:
    """Return how many queued jobs a team has, ``used``, and may have, ``maximum``."""
    return session.execute(_QUEUED, {"team_id": team_id, "default_maximum": defaults.get(Quota.QUEUED_JOBS)}).one()
