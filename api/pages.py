"""What a client is sent where it asks for many: pages of the API's objects."""

from typing import Literal

from pydantic import BaseModel

from api import responses


class JobPage(BaseModel):
    """Jobs, newest first."""

    object: Literal["list"] = "list"
    data: list[responses.Job]
    has_more: bool


class EventPage(BaseModel):
    """Events, oldest first."""

    object: Literal["list"] = "list"
    data: list[responses.Event]
    has_more: bool


class LogPage(BaseModel):
    """Pieces of the log, oldest first."""

    object: Literal["list"] = "list"
    data: list[responses.LogChunk]
    has_more: bool


class MetricPage(BaseModel):
    """Metrics, oldest first."""

    object: Literal["list"] = "list"
    data: list[responses.Metric]
    has_more: bool


class AttemptPage(BaseModel):
    """Every attempt of every step, by its start."""

    object: Literal["list"] = "list"
    data: list[responses.Attempt]
    has_more: bool


class QuotaPage(BaseModel):
    """Every limit of the team."""

    object: Literal["list"] = "list"
    data: list[responses.Quota]
    has_more: bool


class ArtifactPage(BaseModel):
    """What a job has made."""

    object: Literal["list"] = "list"
    data: list[responses.Artifact]
    has_more: bool


class DatasetPage(BaseModel):
    """Datasets, newest first."""

    object: Literal["list"] = "list"
    data: list[responses.Dataset]
    has_more: bool


class MethodPage(BaseModel):
    """Every method there is."""

    object: Literal["list"] = "list"
    data: list[responses.Method]
    has_more: bool
