"""The one reader of the environment: every setting, validated once when a process starts.

Each field is set by the variable ``FEWBITS_`` and its name in capitals. A value that cannot be used ends the
process with a message that names the variable.
"""

import functools
import re
import socket
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

YEAR_SECONDS = 366 * 24 * 3600  # a time without a limit would leave the range of Postgres's timestamps
RESCUES_PER_LEASE = 4  # rescue's looks must be so close that none is missed by chance
_REFUSAL = "fewbits cannot start:\n  "
_STORE = re.compile(r"file:///.*|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?")


class Settings(BaseSettings):
    """All that an operator can set. Frozen: a process never changes its mind."""

    model_config = SettingsConfigDict(env_prefix="FEWBITS_", frozen=True, extra="ignore")

    database_url: SecretStr = Field(description="Postgres, as postgresql://user:password@host:port/name")
    broker_url: SecretStr = Field(
        default=SecretStr(""), description="A Redis-compatible broker, as redis://:password@host:port/0"
    )
    store_url: str = Field(
        default="", description="Where blobs are kept: file:///an/absolute/folder or s3://bucket/prefix"
    )
    s3_endpoint_url: str = Field(default="", description="The S3 endpoint of an s3:// store; by default that of AWS")
    s3_public_endpoint_url: str = Field(
        default="", description="How clients reach that endpoint, for downloads; by default as the service does"
    )
    s3_region: str = Field(default="", description="The bucket's region; by default as boto3 finds it")
    s3_access_key_id: SecretStr = Field(
        default=SecretStr(""), description="Who asks; by default as boto3 finds it, such as the pod's role"
    )
    s3_secret_access_key: SecretStr = Field(
        default=SecretStr(""), validate_default=True, description="The secret of that access key"
    )
    cache_root: Path = Field(
        default=Path("/var/tmp/fewbits-cache"),  # noqa: S108
        description="Where the workers of a machine keep copies of what is in an s3:// store, and compiled kernels",
    )
    cache_bytes_max: int = Field(
        default=100 * 10**9, ge=1, description="How large those copies may be together; the inputs of a step must fit"
    )
    source_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(), description="Folders under which file:// sources may lie, separated by ':'; none by default"
    )
    publish_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(), description="Folders under which results may be published, separated by ':'; none by default"
    )
    scratch_root: Path = Field(default=Path("/var/tmp/fewbits"), description="Where a worker's children may write")  # noqa: S108
    scratch_bytes_max: int | None = Field(
        default=None, ge=1, description="What of the scratch disk a worker may fill; by default all that is free"
    )
    host_name: str = Field(
        default_factory=socket.gethostname,
        min_length=1,
        description="The machine of a worker: workers of one name do not disturb what must be alone on its host",
    )
    child_threads: int | None = Field(
        default=None, ge=1, description="CPU threads of a child; by default the worker's cores, shared by its slots"
    )
    method_modules: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Python modules that register further methods, separated by ':'"
    )
    api_host: str = Field(default="127.0.0.1", description="The address that the API listens on")
    api_port: int = Field(default=8080, ge=0, le=65535, description="The port that the API listens on")
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Least severe log level")
    heartbeat_file: Path | None = Field(
        default=None, description="A file that workers, dispatch and rescue touch each time their loop turns"
    )
    lease_seconds: float = Field(
        default=30,
        ge=3,
        le=3600,
        description="How long a worker may be silent before its execution is given to another",
    )
    poll_seconds: float = Field(
        default=5, gt=0, le=60, description="How often a worker looks for work without being told"
    )
    rescue_seconds: float = Field(
        default=2, gt=0, le=60, description="How often rescue looks for expired leases; at most a quarter of a lease"
    )
    shutdown_seconds: float = Field(
        default=30,
        ge=5,
        le=3600,
        description="Within this a worker that is told to stop has ended; most of it is its children's",
    )
    attempts_limit: int = Field(default=10, ge=1, le=100, description="The most attempts that a job may ask for")
    attempts_max: int = Field(
        default=3,
        ge=1,
        le=100,
        description="Attempts of work that goes wrong, where a job does not ask for another number",
    )
    deaths_max: int = Field(
        default=3,
        ge=1,
        le=100,
        description="Workers that may die over one execution before it is held to have killed them",
    )
    retry_backoff_seconds: float = Field(
        default=5,
        ge=0,
        le=3600,
        description="Wait before the second attempt, give or take half; doubles with each further one",
    )
    max_runtime_seconds: int | None = Field(
        default=None,
        ge=1,
        le=YEAR_SECONDS,
        description="How long a job may run that does not say so itself; by default for ever",
    )
    max_pending_seconds: int | None = Field(
        default=None,
        ge=1,
        le=YEAR_SECONDS,
        description="How long a job may wait that does not say so itself; by default for ever",
    )
    dataset_bytes_max: int = Field(
        default=16 * 2**20, ge=1, le=2**30, description="How large a dataset may be that a team uploads"
    )
    reference_bytes_max: int = Field(
        default=8 * 2**30,
        ge=0,
        description="How much is kept of what full precision answers to a job's texts, to compare results with",
    )
    team_queued_jobs_max: int | None = Field(
        default=1000, ge=0, description="Jobs of a team that may wait at once, unless the team has a quota of its own"
    )
    team_running_max: int | None = Field(
        default=None,
        ge=0,
        description="Executions of a team that may run at once in a pool, unless it has a quota; by default any number",
    )
    team_datasets_max: int | None = Field(
        default=100, ge=0, description="Datasets that a team may keep, unless the team has a quota of its own"
    )
    code_execution: bool = Field(
        default=False,
        description="Whether programs that models have written are run, to judge by datasets of kind code",
    )
    scratch_free_bytes_min: int = Field(
        default=10**9, ge=0, description="With less free on its scratch disk a worker claims nothing, and says so"
    )
    garbage_grace_seconds: float = Field(
        default=3600, ge=0, le=YEAR_SECONDS, description="How long a blob that nothing uses is kept"
    )
    idempotency_seconds: float = Field(
        default=86400,
        ge=60,
        le=YEAR_SECONDS,
        description="How long the answer to a request with an idempotency key is remembered",
    )
    history_seconds: float = Field(
        default=90 * 86400,
        ge=3600,
        le=10 * YEAR_SECONDS,
        description="How long the events and logs of jobs that are over are kept",
    )

    price_cpu_hour: float | None = Field(
        default=None, ge=0, description="What an hour of work of the cpu pool costs; by default no costs are shown"
    )
    price_gpu_hour: float | None = Field(default=None, ge=0, description="Likewise of the gpu pool")
    price_gib_month: float | None = Field(
        default=None, ge=0, description="What it costs to keep a GiB of results for a month"
    )
    price_currency: str = Field(default="USD", pattern="^[A-Z]{3}$", description="What these prices are in")

    @field_validator("source_roots", "publish_roots", "method_modules", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part for part in value.split(":") if part) if isinstance(value, str) else value

    @field_validator("source_roots", "publish_roots")
    @classmethod
    def _absolute(cls, roots: tuple[Path, ...]) -> tuple[Path, ...]:
        for root in roots:
            if not root.is_absolute():
                raise ValueError(f"{root} is not an absolute path")
        return tuple(root.resolve() for root in roots)

    @field_validator("store_url")
    @classmethod
    def _known_store(cls, url: str) -> str:
        if url and not _STORE.fullmatch(url):
            raise ValueError(
                "must be file:/// and an absolute folder, or s3:// and a bucket, which a prefix may follow"
            )
        return url

    @field_validator("s3_endpoint_url", "s3_public_endpoint_url")
    @classmethod
    def _endpoint(cls, url: str) -> str:
        if url and not url.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return url

    @field_validator("s3_secret_access_key")
    @classmethod
    def _both_or_neither(cls, secret: SecretStr, known: ValidationInfo) -> SecretStr:
        if bool(secret) != bool(known.data.get("s3_access_key_id")):
            raise ValueError("must be set if and only if FEWBITS_S3_ACCESS_KEY_ID is")
        return secret

    @field_validator("rescue_seconds")
    @classmethod
    def _often_enough(cls, seconds: float, known: ValidationInfo) -> float:
        if seconds > known.data.get("lease_seconds", seconds * RESCUES_PER_LEASE) / RESCUES_PER_LEASE:
            raise ValueError("must be at most a quarter of FEWBITS_LEASE_SECONDS")
        return seconds

    @field_validator("attempts_max")
    @classmethod
    def _within_limit(cls, attempts: int, known: ValidationInfo) -> int:
        if attempts > known.data.get("attempts_limit", attempts):
            raise ValueError("must be at most FEWBITS_ATTEMPTS_LIMIT")
        return attempts

    @field_validator("database_url")
    @classmethod
    def _postgres(cls, url: SecretStr) -> SecretStr:
        if not url.get_secret_value().startswith("postgresql://"):
            raise ValueError("must begin with postgresql://")
        return url


def settings(*needed: str) -> Settings:
    """Return this process's settings.

    Args:
        needed: fields that may be empty in other processes, and not in this one.

    Raises:
        SystemExit: a variable is missing or cannot be used; the message names each.
    """
    values = _read()
    missing = [f"{_variable(name)}: must be set for this process" for name in needed if not getattr(values, name)]
    if missing:
        raise SystemExit(_REFUSAL + "\n  ".join(missing))
    return values


@functools.cache
def _read() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        lines = [f"{_variable(str(e['loc'][0]))}: {e['msg']}" for e in error.errors()]
        raise SystemExit(_REFUSAL + "\n  ".join(lines)) from None


def _variable(name: str) -> str:
    return f"FEWBITS_{name.upper()}"
