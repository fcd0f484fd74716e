"""What a client may send: bodies, query parameters and headers. What is not named here is refused, but for headers."""

import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from api.gating import Condition
from core.dataset_kinds import FOR_TASKS, DatasetKind, listed
from core.errors import InvalidRequest
from core.settings import YEAR_SECONDS
from db.states import JobStatus
from engines import benchmark
from engines.datasets import OWN_ID, is_own
from engines.domains import domains

DOMAINS_MAX = 16
TASKS_MAX = 16
TASK_ITEMS = 200
INT4_MAX = 2**31 - 1  # event numbers are Postgres integers
INT8_MAX = 2**63 - 1  # log chunks are counted over all jobs
# A string of structured fields (RFC 9651), as the draft has it, or the bare text that most clients send.
IDEMPOTENCY_KEY = r'"(?:[ !#-\[\]-~]|\\["\\]){1,255}"|[!#-+\--\[\]-~]{1,255}'
NO_NUL = r"^[^\x00]*$"  # Postgres keeps none
ID = "[A-Za-z0-9_]{1,64}"
LABEL = r"^[A-Za-z0-9][A-Za-z0-9._:/=-]*$"


def _whole(value: Any) -> Any:
    """Return 5 for 5.0, which JSON Schema takes for an integer, too."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# Bounds stand before it in an annotation, or they would be missing from the JSON Schema.
Whole = BeforeValidator(_whole)
Seconds = Annotated[int, Field(ge=1, le=YEAR_SECONDS), Whole]
Limit = Annotated[int, Field(ge=1, le=100, description="The most items that one page holds")]
Id = Annotated[str, StringConstraints(pattern=f"^{ID}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_.-]{1,64}$")]
Label = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=LABEL)]
MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=NO_NUL)]
MetadataValue = Annotated[str, StringConstraints(max_length=512, pattern=NO_NUL)]


def _text_of_a_time(value: Any) -> Any:
    if not re.match(r"\d{4}-\d\d-\d\d[Tt ]", value):  # Pydantic also takes seconds since 1970
        raise PydanticCustomError("time", "Input should be a time such as 2026-01-31T12:00:00Z")
    return value


def _text_or_object(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    if not isinstance(value, str | dict):
        raise PydanticCustomError("recipe", 'Input should be a text such as "gguf:Q4_K_M" or an object with a method')
    return check(value)


def _known_domain(name: str) -> str:
    known = domains()
    if name not in known and not is_own(name):
        raise PydanticCustomError(
            "domain",
            "Input should be one of {known}, or the id of a dataset of your team, which POST /v1/datasets gives, and "
            "'fewbits datasets upload FILE'",
            {"known": ", ".join(known)},
        )
    return name


Domain = Annotated[
    str,
    AfterValidator(_known_domain),
    Field(json_schema_extra={"pattern": f"^(?:{'|'.join(domains())}|{OWN_ID})$"}),
]


def _own_dataset(name: str) -> str:
    if not is_own(name):
        raise PydanticCustomError(
            "task",
            "Input should be the id of a dataset of your team, which POST /v1/datasets gives, and "
            "'fewbits datasets upload FILE'",
        )
    return name


Task = Annotated[str, AfterValidator(_own_dataset), Field(json_schema_extra={"pattern": f"^{OWN_ID}$"})]


def _without_repetition(names: list[Any]) -> list[Any]:
    if len(set(names)) < len(names):
        raise PydanticCustomError("repetition", "Nothing may be named twice")
    return names


Distinct = [AfterValidator(_without_repetition), Field(json_schema_extra={"uniqueItems": True})]


ContextTokens = Annotated[int, Field(ge=1, le=benchmark.TOKENS_MAX), Whole]
BatchSize = Annotated[int, Field(ge=1, le=benchmark.BATCH_MAX), Whole]


class Body(BaseModel):
    """The base of every body."""

    # Strict: "5" is no number and true is not 1.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _without_null(schema: dict[str, Any]) -> None:
    """Take null out of what parameters may be: they are texts, and one that is absent is not there at all."""
    for parameter in schema.get("properties", {}).values():
        for branch in parameter.pop("anyOf", []):
            parameter.update(branch if branch != {"type": "null"} else {})
        if parameter.get("default", "") is None:
            del parameter["default"]


class Query(BaseModel):
    """The base of every set of query parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=_without_null)


class EvaluationRequest(Body):
    """On what text and by which tasks the result is judged, beside full precision."""

    domains: Annotated[list[Domain], Field(min_length=1, max_length=DOMAINS_MAX), *Distinct] = Field(
        default=["prose", "code"],
        description=f"On what result and full precision are compared: {', '.join(domains())}, or the team's datasets",
    )
    windows: Annotated[int, Field(ge=1, le=10_000), Whole] = Field(
        default=40,
        description="Windows of 512 tokens of each text, or items of a dataset of another kind; with a gate up to "
        "four times as many",
    )
    tasks: Annotated[list[Task], Field(max_length=TASKS_MAX), *Distinct] = Field(
        default=[],
        description=f"The team's datasets of kind {listed(FOR_TASKS)} that result and full precision have to solve",
    )
    task_items: Annotated[int, Field(ge=1, le=10_000), Whole] = Field(
        default=TASK_ITEMS, description="How many items of each task; with a gate up to four times as many"
    )


class BenchmarkRequest(Body):
    """How the result's speed is measured, with nothing else going on where it is."""

    context_tokens: Annotated[list[ContextTokens], Field(min_length=1, max_length=8), *Distinct] = Field(
        default=[512], description="Lengths of prompts; what is generated comes behind them"
    )
    batch_sizes: Annotated[list[BatchSize], Field(min_length=1, max_length=8), *Distinct] = Field(
        default=[1], description="How many prompts are read, and gone on with, at once"
    )
    generated_tokens: Annotated[int, Field(ge=1, le=4096), Whole] = Field(
        default=64, description="Tokens that are added to each prompt"
    )
    repeats: Annotated[int, Field(ge=1, le=100), Whole] = Field(
        default=3, description="How often each is measured, after one time that does not count"
    )


Source = Annotated[
    str,
    Field(
        min_length=1,
        max_length=4096,
        description="Where the model is, such as file:///models/llama-3-8b",
        examples=["file:///models/llama-3-8b"],
    ),
]


class InspectRequest(Body):
    """A model to look at."""

    source: Source


RecipeForm = Annotated[str | dict[str, Any], WrapValidator(_text_or_object)]


class JobTerms(Body):
    """What a job is asked for, but for its recipe."""

    source: Source
    evaluation: EvaluationRequest = EvaluationRequest()
    gate: list[Condition] = Field(
        default=[],
        max_length=16,
        description="What the result must meet, beyond the noise, or it is blocked: nothing of it is published",
        examples=[["code: perplexity_ratio <= 1.02", {"metric": "agreement", "min": 0.95}]],
    )
    benchmark: BenchmarkRequest | None = Field(
        default=None,
        description="How the result's speed is measured, if it is: on a machine that does nothing else meanwhile",
    )
    metadata: dict[MetadataKey, MetadataValue] = Field(
        default={},
        max_length=16,
        description="Up to 16 names with values of your own, kept with the job",
        json_schema_extra={"additionalProperties": False},
    )
    labels: Annotated[list[Label], Field(max_length=16), *Distinct] = Field(
        default=[], description="Up to 16 words by which jobs can be found"
    )
    priority: Annotated[int, Field(ge=-100, le=100), Whole] = Field(
        default=0, description="Within the team; the highest is served first"
    )
    max_runtime_seconds: Seconds | None = Field(default=None, description="The job fails if it runs for longer")
    max_pending_seconds: Seconds | None = Field(default=None, description="The job fails if it waits for longer")
    max_attempts: Annotated[int, Field(ge=1), Whole] | None = Field(
        default=None,
        description="How often a step that goes wrong is tried; your operator sets the default and the limit",
    )
    wait_for_capacity: bool = Field(
        default=False, description="Accept the job even if no known worker could run it, and wait for one that can"
    )
    publish_to: str | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        description="A new folder for the result, once it is verified and judged, such as file:///published/llama-3-8b",
        examples=["file:///published/llama-3-8b-q4"],
    )


class JobRequest(JobTerms):
    """One recipe on one source."""

    recipe: RecipeForm = Field(
        description="A method and its parameters, in short form or as an object; GET /v1/methods lists them",
        examples=["gguf:Q4_K_M", {"method": "gguf", "type": "Q4_K_M"}],
    )


def _unquoted(key: str) -> str:
    """Return an idempotency key without the quotes that RFC 9651 puts around a string."""
    if not re.fullmatch(IDEMPOTENCY_KEY, key):
        raise InvalidRequest(
            "An idempotency key is 1 to 255 printable ASCII characters; one that holds a space, a comma, a quote or a "
            "backslash stands in quotes.",
            param="Idempotency-Key",
        )
    return re.sub(r"\\(.)", r"\1", key[1:-1]) if key.startswith('"') else key


class OnceHeaders(BaseModel):
    """What lets a request be sent again without acting again."""

    model_config = ConfigDict(frozen=True, json_schema_extra=_without_null)

    idempotency_key: Annotated[str | None, AfterValidator(_unquoted)] = Field(
        default=None,
        description="The same key with the same request gets the first answer again, instead of acting again",
        json_schema_extra={"pattern": f"^(?:{IDEMPOTENCY_KEY})$"},
        examples=['"8e03978e-40d5-43dd-bc93-6894a57f9324"'],
    )


class JobQuery(Query):
    """Which jobs a page holds."""

    limit: Limit = 50
    after: Id | None = Field(default=None, description="The last job seen so far")
    status: JobStatus | None = None
    method: Name | None = None
    created_after: Annotated[AwareDatetime, BeforeValidator(_text_of_a_time)] | None = None
    label: Label | None = Field(default=None, description="Only jobs that carry this label")
    sweep: Id | None = Field(default=None, description="Only jobs of this sweep")


class UploadQuery(Query):
    """What is said of a dataset that is uploaded."""

    name: Annotated[str, StringConstraints(max_length=255, pattern=NO_NUL)] = Field(
        default="", description="For people, such as its file's name"
    )


class DatasetQuery(Query):
    """Which datasets a page holds."""

    limit: Limit = 50
    after: Id | None = Field(default=None, description="The last dataset seen so far")
    kind: DatasetKind | None = None


class EventQuery(Query):
    """Which events a page holds, or a stream begins with."""

    limit: Limit = 50
    after: int = Field(default=0, ge=0, le=INT4_MAX, description="The number of the last event seen so far")


class LogQuery(Query):
    """Which chunks of the log a page holds."""

    limit: Limit = 50
    after: int = Field(default=0, ge=0, le=INT8_MAX, description="The id of the last chunk seen so far")
    step: Name | None = Field(default=None, description="The kind of one step")
    attempt: int | None = Field(default=None, ge=1, le=INT4_MAX, description="The number of one attempt")


class MetricQuery(Query):
    """Which metrics a page holds."""

    limit: Limit = 50
    after: int = Field(default=0, ge=0, le=INT8_MAX, description="The id of the last metric seen so far")


class NoQuery(Query):
    """No parameter is taken."""
