"""The conditions of a gate as a client may send them: in short form, or as objects."""

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from engines.datasets import OWN_ID

TaskLoss = Literal["accuracy_drop", "rouge_l_drop"]
TaskScore = Literal["accuracy", "rouge_l"]
TASK_METRICS = (*get_args(TaskLoss), *get_args(TaskScore))

_SHARE = r"(?:0\.[0-9]{0,8}[1-9]|1)"
_OF_TEXT = r"(?:[A-Za-z0-9_.-]{1,64} *: *)?"
_LOSS = (
    r"(?:perplexity_ratio|kl_divergence|kl_divergence_p99) *<= *(?:[1-9][0-9]{0,5}(?:\.[0-9]{1,9})?|0\.[0-9]{0,8}[1-9])"
)
_LIKENESS = rf"agreement *>= *{_SHARE}"
_OF_TASK = f"(?:{OWN_ID} *: *)?"
_TASK_LOSS = f"(?:{'|'.join(get_args(TaskLoss))}) *<= *{_SHARE}"
_TASK_SCORE = f"(?:{'|'.join(get_args(TaskScore))}) *>= *{_SHARE}"
SHORT = f"^(?:{_OF_TEXT}(?:{_LOSS}|{_LIKENESS})|{_OF_TASK}(?:{_TASK_LOSS}|{_TASK_SCORE}))$"
DOMAIN = Field(default=None, max_length=64, description="The text on which it is measured; null for each")
TASK = Field(
    default=None,
    max_length=64,
    description="The task on which it is measured; null for each, and of rouge_l and rouge_l_drop for each of kind "
    "reference",
)


class _Condition(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class AtMost(_Condition):
    """A loss that a result may have at most."""

    metric: Literal["perplexity_ratio", "kl_divergence", "kl_divergence_p99"]
    domain: str | None = DOMAIN
    max: float = Field(gt=0, le=1e6, description="Perplexity by full precision's, such as 1.02, or nats for each token")


class AtLeast(_Condition):
    """A likeness to full precision that a result must have at least."""

    metric: Literal["agreement"]
    domain: str | None = DOMAIN
    min: float = Field(gt=0, le=1, description="The part of the tokens for which both find the same one likeliest")


class TaskAtMost(_Condition):
    """What a result may lose at most of full precision's score in a task."""

    metric: TaskLoss
    task: str | None = TASK
    max: float = Field(gt=0, le=1, description="Full precision's score less the result's, such as 0.01")


class TaskAtLeast(_Condition):
    """What a result must score at least in a task."""

    metric: TaskScore
    task: str | None = TASK
    min: float = Field(gt=0, le=1, description="The part of the answers that are right, or the mean ROUGE-L")


def _long_form(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if not re.fullmatch(SHORT, value.strip()):
        raise PydanticCustomError(
            "condition",
            'Input should be a condition such as "perplexity_ratio <= 1.02" or, of one text, "code: agreement >= 0.95"'
            ', or with kl_divergence or kl_divergence_p99; of tasks such as "accuracy_drop <= 0.01", or with accuracy, '
            "rouge_l or rouge_l_drop",
        )
    rest, sign, limit = value.strip().partition("<=") if "<=" in value else value.strip().partition(">=")
    where, _, metric = (part.strip() for part in rest.rpartition(":"))
    return {
        "metric": metric,
        "task" if metric in TASK_METRICS else "domain": where or None,
        "max" if sign == "<=" else "min": float(limit),
    }


_Form = AtMost | AtLeast | TaskAtMost | TaskAtLeast
Condition = Annotated[
    _Form,
    Field(discriminator="metric"),
    BeforeValidator(_long_form, json_schema_input_type=Annotated[str, StringConstraints(pattern=SHORT)] | _Form),
]
