"""All that the page of one sweep shows, read in one transaction."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.portal.loss_chart import Chart, Result, draw
from api.portal.own_texts import OwnText, own_texts
from api.routes.sweeps import read_sweep
from api.sweep_objects import Recommendation, Sweep, SweepRow
from core.ids import TeamId
from db import clock
from db.states import JobStatus, is_terminal


@dataclass(frozen=True)
class SweepView:
    """One sweep.

    Attributes:
        sweep: as the API shows it.
        recommendation: which result to ship.
        rows: its recipes, by the numbers that they have in the drawings.
        now: by the database's clock.
        texts: the team's datasets that it is judged on or by, by id.
        charts: drawings of size against loss, by text.
    """

    sweep: Sweep
    recommendation: Recommendation
    rows: Mapping[int, SweepRow]
    now: dt.datetime
    texts: Mapping[str, OwnText]
    charts: Mapping[str, Chart]

    @property
    def is_over(self) -> bool:
        """Whether nothing will change by itself any more."""
        return all(is_terminal(row.status) for row in self.rows.values())

    @property
    def can_be_cancelled(self) -> bool:
        """Whether a job is neither over nor being cancelled."""
        return any(row.status in (JobStatus.QUEUED, JobStatus.RUNNING) for row in self.rows.values())

    @property
    def has_speeds(self) -> bool:
        """Whether speed was measured, or will be."""
        return self.sweep.benchmark is not None


def view(session: Session, team_id: TeamId, sweep_id: str) -> SweepView:
    """Return what is known of a sweep.

    Raises:
        NotFound: there is none of that id in this team.
    """
    sweep = read_sweep(session, team_id, sweep_id)
    if sweep.rows is None or sweep.recommendation is None:
        raise AssertionError("A sweep that is read by itself has rows.")
    rows = dict(enumerate(sweep.rows, 1))
    charts = {domain: _chart(rows, sweep.recommendation, domain) for domain in sweep.evaluation.domains}
    return SweepView(
        sweep=sweep,
        recommendation=sweep.recommendation,
        rows=rows,
        now=session.scalars(select(clock.now())).one(),
        texts=own_texts(session, team_id, [*sweep.evaluation.domains, *sweep.evaluation.tasks]),
        charts={domain: chart for domain, chart in charts.items() if chart is not None},
    )


def _chart(rows: Mapping[int, SweepRow], recommendation: Recommendation, domain: str) -> Chart | None:
    results = []
    for number, row in rows.items():
        comparison = (row.comparison or {}).get(domain)
        ratio = None if comparison is None else comparison.perplexity_ratio
        if row.size_bytes is None or ratio is None:
            continue
        is_chosen = row.job == recommendation.job
        results.append(
            Result(number, row.recipe, row.size_bytes, ratio.value, ratio.low, ratio.high, row.pareto, is_chosen)
        )
    return draw(results)
