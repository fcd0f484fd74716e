"""The team's datasets that a job or a sweep names, so that pages call them by their names."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from core.ids import TeamId
from db import datasets
from engines.datasets import is_own


@dataclass(frozen=True)
class OwnText:
    """A dataset.

    Attributes:
        id: its id.
        name: what the team calls it; None where it has been deleted since.
    """

    id: str
    name: str | None

    @property
    def short(self) -> str:
        """What it is called where there is little room."""
        return self.name or self.id


def own_texts(session: Session, team_id: TeamId, named: Iterable[Any]) -> dict[str, OwnText]:
    """Return those of the texts that are datasets of the team, by id; built-in ones are not among them."""
    texts = {}
    for name in named:
        if isinstance(name, str) and is_own(name):
            dataset = datasets.find(session, team_id, name)
            texts[name] = OwnText(name, None if dataset is None else dataset.name or "without a name")
    return texts
