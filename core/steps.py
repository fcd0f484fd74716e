"""What passes between the rows of a step and the work that it stands for: all that a child knows of the rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Input:
    """A finished step's output, as a later step's key and work see it."""

    artifact_id: str
    digest: str
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class UnboundStep:
    """A ready step and all that its key may depend on; ``inputs`` by the kind of the step that made each."""

    id: str
    job_id: str
    team_id: str
    kind: str
    pool: str
    source: str
    params: Mapping[str, Any]
    inputs: Mapping[str, Input]


@dataclass(frozen=True)
class EvaluationRow:
    """A measured perplexity, with each window's summed negative log-likelihood in nats."""

    domain: str
    perplexity: float
    window_count: int
    token_count: int
    window_nll: Sequence[float]
