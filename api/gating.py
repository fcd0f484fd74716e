"""The conditions of a gate as a client may send them: in short form, or as objects."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

_OF_TEXT = r"(?:[A-Za-z0-9_.-]{1,64} *: *)?"
_LOSS = (
    r"(?:perplexity_ratio|kl_divergence|kl_divergence_p99) *<= *(?:[1-9][0-9]{0,5}(?:\.[0-9]{1,9})?|0\.[0-9]{0,8}[1-9])"
)
_LIKENESS = r"agreement *>= *(?:0\.[0-9]{0,8}[1-9]|1)"
SHORT = f"^{_OF_TEXT}(?:{_LOSS}|{_LIKENESS})$"
DOMAIN = Field(default=None, max_length=64, description="The text on which it is measured; null for each")


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


def _long_form(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if not re.fullmatch(SHORT, value.strip()):
        raise PydanticCustomError(
            "condition",
            'Input should be a condition such as "perplexity_ratio <= 1.02" or, of one text, "code: agreement >= 0.95"'
            ", or with kl_divergence or kl_divergence_p99",
        )
    rest, sign, limit = value.strip().partition("<=") if "<=" in value else value.strip().partition(">=")
    domain, _, metric = rest.rpartition(":")
    return {
        "metric": metric.strip(),
        "domain": domain.strip() or None,
        "max" if sign == "<=" else "min": float(limit),
    }


Condition = Annotated[
    AtMost | AtLeast,
    Field(discriminator="metric"),
    BeforeValidator(
        _long_form, json_schema_input_type=Annotated[str, StringConstraints(pattern=SHORT)] | AtMost | AtLeast
    ),
]
