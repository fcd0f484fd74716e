"""The one reader of the environment: every setting, validated once when a process starts.

Each field is set by the variable ``FEWBITS_`` and its name in capitals. A value that cannot be used ends the
process with a message that names the variable.
"""

import functools
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_REFUSAL = "fewbits cannot start:\n  "


class Settings(BaseSettings):
    """All that an operator can set. Frozen: a process never changes its mind."""

    model_config = SettingsConfigDict(env_prefix="FEWBITS_", frozen=True, extra="ignore")

    database_url: SecretStr = Field(description="Postgres, as postgresql://user:password@host:port/name")
    broker_url: SecretStr = Field(
        default=SecretStr(""), description="A Redis-compatible broker, as redis://:password@host:port/0"
    )
    store_url: str = Field(default="", description="Where blobs are kept: file:///an/absolute/folder")
    source_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(), description="Folders under which file:// sources may lie, separated by ':'; none by default"
    )
    scratch_root: Path = Field(default=Path("/var/tmp/fewbits"), description="Where a worker's children may write")  # noqa: S108
    child_threads: int | None = Field(
        default=None, ge=1, description="CPU threads of a child; by default the worker's cores, shared by its slots"
    )
    method_modules: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Python modules that register further methods, separated by ':'"
    )
    api_host: str = Field(default="127.0.0.1", description="The address that the API listens on")
    api_port: int = Field(default=8080, ge=0, le=65535, description="The port that the API listens on")
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Least severe log level")
    lease_seconds: float = Field(
        default=30,
        ge=3,
        le=3600,
        description="How long a worker may be silent before its execution is given to another",
    )
    poll_seconds: float = Field(
        default=5, gt=0, le=60, description="How often a worker looks for work without being told"
    )
    rescue_seconds: float = Field(default=2, gt=0, le=60, description="How often rescue looks for expired leases")
    attempts_max: int = Field(default=3, ge=1, le=20, description="Attempts of an execution before it fails")
    retry_backoff_seconds: float = Field(
        default=5, ge=0, le=3600, description="Wait before the second attempt; doubles with each further one"
    )
    garbage_grace_seconds: float = Field(default=3600, ge=0, description="How long a blob that nothing uses is kept")
    idempotency_seconds: float = Field(
        default=86400, ge=60, description="How long the answer to a request with an idempotency key is remembered"
    )

    @field_validator("source_roots", "method_modules", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part for part in value.split(":") if part) if isinstance(value, str) else value

    @field_validator("source_roots")
    @classmethod
    def _absolute(cls, roots: tuple[Path, ...]) -> tuple[Path, ...]:
        for root in roots:
            if not root.is_absolute():
                raise ValueError(f"{root} is not an absolute path")
        return tuple(root.resolve() for root in roots)

    @field_validator("store_url")
    @classmethod
    def _known_store(cls, url: str) -> str:
        if url and not url.startswith("file:///"):
            raise ValueError("must be file:/// and an absolute folder")
        return url

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
