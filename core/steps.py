"""What passes between the rows of a step and the work that it stands for: all that a child knows of the rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.manifest import StoredFile


@dataclass(frozen=True)
class Input:
    """A finished step's output, as a later step's key and work see it."""

    artifact_id: str
    digest: str
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Done:
    """What is on record of a finished step, for one that writes down how a result came about.

    Attributes:
        facts: what its work found out.
        digest: of the manifest of the files that it made; None where it made none.
        files: those, by name.
        scores: by domain, each a ``perplexity`` with how many ``windows`` and ``tokens`` were scored.
        forecast: ``memory_bytes``, ``vram_bytes`` and ``scratch_bytes`` that were kept free for it.
        peak: the most that it took of the same; None where nobody measured, or nobody knows any more.
    """

    facts: Mapping[str, Any]
    digest: str | None
    files: Sequence[StoredFile]
    scores: Mapping[str, Mapping[str, Any]]
    forecast: Mapping[str, int]
    peak: Mapping[str, int | None]


@dataclass(frozen=True)
class UnboundStep:
    """A ready step and all that its key may depend on.

    Attributes:
        inputs: what the steps that it needs have made, by the kind of each.
        done: what is on record of every finished step of its job, by the kind of each; empty but for kinds that ask.
        sweep_id: the sweep that its job is part of; None where it stands alone.
    """

    id: str
    job_id: str
    team_id: str
    kind: str
    pool: str
    source: str
    params: Mapping[str, Any]
    inputs: Mapping[str, Input]
    done: Mapping[str, Done] = field(default_factory=dict)
    sweep_id: str | None = None


@dataclass(frozen=True)
class EvaluationRow:
    """A measured perplexity, with each window's summed negative log-likelihood in nats.

    Attributes:
        measures: what was lost against full precision, by metric: a ``value`` with the ``low`` and ``high`` end of its
            95 % interval, which are None where there was too little to tell. None of full precision itself.
    """

    domain: str
    perplexity: float
    window_count: int
    token_count: int
    window_nll: Sequence[float]
    measures: Mapping[str, Mapping[str, float | None]] | None = None
