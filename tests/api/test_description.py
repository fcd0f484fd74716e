"""The API held to its own description: whatever is sent, nothing comes back that /openapi.json does not know.

Requests are made from the description by schemathesis: valid ones, invalid ones, and each edge of each parameter. Every
answer is checked for its status, content type, headers and schema, and what the description forbids must be refused.
The same requests are made in each run.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import pytest
import schemathesis
from apiflask import APIFlask
from flask import Response as FlaskResponse
from hypothesis import HealthCheck
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from schemathesis import APIOperation, Case, Response
from schemathesis.checks import positive_data_acceptance
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode

from api.app import create_app
from api.services import services_of
from core.errors import SourceInvalid
from core.manifest import StoredFile
from core.settings import Settings
from db.metrics import NewMetric
from db.session import Database
from tests.api.conftest import SOURCE, Caller, new_key
from tests.api.work import CHECKS, MODEL_FACTS, WRITTEN_FACTS, Workers
from tests.conftest import TINY_LLAMA

Operation = APIOperation[Any, Any, Any, Any]
Request = Case[Any]

EXAMPLES_MAX = 20
CONTENT = b"GGUF" * 100
NAME = "model.gguf"
DOCUMENTS = {"report.html": b"<!doctype html>", "fewbits.json": b"{}"}
EVENTS = "/v1/jobs/{job_id}/events"
FILE = "/v1/jobs/{job_id}/artifacts/{artifact_id}/files/{name}"
REPORTS = ("/v1/jobs/{job_id}/report", "/v1/sweeps/{sweep_id}/report")
INSPECT = "/v1/models/inspect"
SWEEPS = "/v1/sweeps"
EXTEND = "/v1/sweeps/{sweep_id}/recipes"
SEEDS = itertools.count()  # so that no recipe is named twice
OPEN = {"/healthz", "/readyz"}
# No schema can say which sources, destinations, recipes, jobs and keys are good, which texts and tasks a gate may
# name, what a model can read, and how much the operator allows: to refuse these contradicts nothing.
BEYOND_A_SCHEMA = {
    *("/source", "/publish_to", "/recipe/method", "/max_attempts", "/after", "/Idempotency-Key"),
    *("/evaluation/domains/*", "/evaluation/tasks/*", "/gate/*/domain", "/gate/*/task", "/gate/*/metric"),
    *("/recipes/*", "/recipes/*/method"),  # of one of them: which are there already, too
    "/preset",  # whether any of its recipes can be used, with the benchmark that is asked for, too
    *("/benchmark/context_tokens", "/benchmark/batch_sizes"),  # their product, too
}
# API keys are sent by the tests, and not made up from the description.
GENERATION = GenerationConfig(with_security_parameters=False)


class World(NamedTuple):
    """What there is to be found."""

    schema: Any
    headers: Mapping[str, str]
    places: list[dict[str, str]]

    @property
    def operations(self) -> list[Operation]:
        return [found.ok() for found in self.schema.get_all_operations()]

    def hold(self, case: Request, headers: Mapping[str, str] | None = None) -> Response:
        """Send a request and check its answer against the description."""
        sent = dict(self.headers if headers is None else headers)
        response = case.call(headers=sent)
        excluded = [positive_data_acceptance] if is_beyond_a_schema(response) else []
        case.validate_response(response, headers=sent, excluded_checks=excluded)
        return response

    def requests(self, operation: Operation, mode: GenerationMode) -> SearchStrategy[Request]:
        """Requests of one operation: on each of the places that there are, and on any other."""
        names = {parameter.name for parameter in operation.path_parameters}
        places = [{name: place[name] for name in names} for place in self.places]
        made = [operation.as_strategy(mode, path_parameters=place) for place in (places if names else [])]
        return st.one_of(*made, operation.as_strategy(mode))

    def draw(
        self, cases: SearchStrategy[Request], headers: Mapping[str, str] | None = None, examples_max: int = EXAMPLES_MAX
    ) -> set[int]:
        """Check so many requests, the same in each run, and return the statuses of their answers."""
        statuses = set()

        def check(case: Request) -> None:
            statuses.add(self.hold(case, headers).status_code)

        how = hypothesis.settings(
            max_examples=examples_max,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        )
        how(hypothesis.given(cases)(check))()
        return statuses

    def edges(self, operation: Operation) -> Iterator[Request]:
        yield from self.schema.iter_coverage_cases(
            operation, generation_modes=list(GenerationMode), generation_config=GENERATION
        )


def description_of(app: APIFlask) -> Any:
    config = SchemathesisConfig(projects=ProjectsConfig(default=ProjectConfig(generation=GENERATION)))
    return schemathesis.openapi.from_wsgi("/openapi.json", app, config=config)


def is_beyond_a_schema(response: Response) -> bool:
    if response.status_code != HTTPStatus.UNPROCESSABLE_ENTITY:
        return False
    pointers = {re.sub(r"/[0-9]+(?=/|$)", "/*", error["pointer"]) for error in response.json().get("errors", [])}
    return bool(pointers) and pointers <= BEYOND_A_SCHEMA


def with_what_exists(case: Request) -> Request:
    """Put a good source, recipe and destination into a valid body, which otherwise has some text in their places."""
    if case.operation.path == INSPECT:
        case.body = {"source": TINY_LLAMA.as_uri()}
    elif isinstance(case.body, dict):
        new = [{"method": "gptq", "seed": next(SEEDS)} for _ in range(2)]
        good: dict[str, Any] = {"source": SOURCE, "publish_to": "file:///published/model"}
        if case.operation.path == EXTEND:
            good = {"recipes": new}
        elif case.operation.path != SWEEPS:
            good["recipe"] = "gguf"
        elif "recipes" in case.body:
            good["recipes"] = new
        case.body = {**case.body, **good}
    return case


def upload(caller: Caller, text: str) -> str:
    headers = {**caller.headers, "Content-Type": "text/plain"}
    uploaded: str = caller.client.post("/v1/datasets", data=text, headers=headers).get_json()["id"]
    return uploaded


@schemathesis.serializer("application/jsonl")
def as_jsonl(_context: Any, value: Any) -> bytes:
    """What the description says is the text of a document."""
    return json.dumps({"text": value} if isinstance(value, str) else value).encode()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    roots = (*settings.source_roots, TINY_LLAMA)
    return settings.model_copy(update={"source_roots": roots, "team_queued_jobs_max": None})


@pytest.fixture
def world(app: APIFlask, caller: Caller, database: Database, tmp_path: Path) -> World:
    """A finished job with a file, logs and metrics, a failed one and a waiting one."""
    stored: dict[str, StoredFile] = {}
    for name, content in {NAME: CONTENT, **DOCUMENTS}.items():
        stored[name] = StoredFile(name, hashlib.sha256(content).hexdigest(), len(content))
        (tmp_path / "arrived").write_bytes(content)
        services_of(app).store.put(tmp_path / "arrived", stored[name].sha256)
    work = Workers(database)
    finished = caller.submit(labels=["a"], metadata={"a": "b"})["id"]
    work.do("fetch", MODEL_FACTS)
    work.do("convert")
    taken = work.start("quantize")
    work.log(taken, "one line\n")
    work.measure(taken, NewMetric(0, "mlp.up_proj", {"loss": 0.5}))
    work.finish(taken, WRITTEN_FACTS, files=[stored[NAME]])
    work.do("reference", perplexity={"prose": 23.7, "code": 7.5})
    work.do("verify", {"checks": CHECKS})
    work.do("evaluate", perplexity={"prose": 24.4, "code": 7.7})
    work.do("document", files=[stored[name] for name in DOCUMENTS])
    failed = caller.submit()["id"]
    work.fail(work.start("fetch"), SourceInvalid("It has no config.json."))
    artifact = caller.get(f"/v1/jobs/{finished}/artifacts").get_json()["data"][0]["id"]
    ids = (finished, failed, caller.submit()["id"])
    texts = [upload(caller, f"text {number}") for number, _ in enumerate(ids)]
    caller.submit({"method": "gptq", "calibration_text": texts[0]})
    asked = {"source": SOURCE, "recipes": ["gguf:Q8_0", "gguf:Q4_K_M"]}
    sweeps = [caller.post("/v1/sweeps", asked).get_json()["id"] for _ in ids]
    known = {"artifact_id": artifact, "name": NAME}
    places = [
        {"job_id": job_id, "dataset_id": dataset_id, "sweep_id": sweep_id, **known}
        for job_id, dataset_id, sweep_id in zip(ids, texts, sweeps, strict=True)
    ]
    return World(description_of(app), caller.headers, places)


def test_valid_requests(world: World, subtests: pytest.Subtests) -> None:
    for operation in world.operations:
        with subtests.test(operation=operation.label):
            statuses = world.draw(world.requests(operation, GenerationMode.POSITIVE).map(with_what_exists))
            assert statuses & {200, 201}, "no request has met what there is"


def test_invalid_requests(world: World, subtests: pytest.Subtests) -> None:
    for operation in world.operations:
        if not [*operation.iter_parameters(), *operation.body]:
            continue  # nothing to get wrong
        with subtests.test(operation=operation.label):
            world.draw(world.requests(operation, GenerationMode.NEGATIVE))


def test_each_edge_of_each_parameter(world: World, subtests: pytest.Subtests) -> None:
    for operation in world.operations:
        with subtests.test(operation=operation.label):
            for case in world.edges(operation):
                world.hold(case)


def test_without_a_good_key(world: World, subtests: pytest.Subtests) -> None:
    for headers in ({}, {"Authorization": "Bearer fb_wrong"}):
        for operation in world.operations:
            with subtests.test(operation=operation.label, headers=headers):
                statuses = world.draw(world.requests(operation, GenerationMode.POSITIVE), headers, examples_max=5)
                assert statuses == {200 if operation.path in OPEN else 401}


ASKED_BY_HEADERS = [
    (EVENTS, {"Accept": "text/event-stream"}, 200),
    (EVENTS, {"Accept": "text/event-stream", "Last-Event-ID": "2"}, 200),
    (EVENTS, {"Accept": "text/event-stream", "Last-Event-ID": "x"}, 422),
    (FILE, {}, 200),
    (FILE, {"Range": "bytes=4-7"}, 206),
    (FILE, {"Range": "bytes=400-"}, 416),
    (FILE, {"If-None-Match": f'"{hashlib.sha256(CONTENT).hexdigest()}"'}, 304),
    *((path, {"Accept": media_type}, 200) for path in REPORTS for media_type in ("text/html", "application/json")),
]


def test_answers_that_headers_ask_for(world: World, subtests: pytest.Subtests) -> None:
    for path, headers, status in ASKED_BY_HEADERS:
        with subtests.test(path=path, headers=headers):
            operation = world.schema[path]["GET"]
            place = {parameter.name: world.places[0][parameter.name] for parameter in operation.path_parameters}
            assert world.hold(operation.Case(path_parameters=place, headers=headers)).status_code == status


PAGE = {"object": "list", "data": [], "has_more": False}
NOT_DESCRIBED = [
    (202, PAGE, "application/json"),
    (404, {"title": "Nothing"}, "application/problem+json"),
    (500, PAGE, "application/json"),
    (200, PAGE, "text/html"),
    (200, {"object": "list", "data": []}, "application/json"),
    (200, {**PAGE, "has_more": "no"}, "application/json"),
]


def test_an_answer_that_is_not_described_is_found(
    settings: Settings, database: Database, subtests: pytest.Subtests
) -> None:
    """The checks above can fail."""
    app = create_app(settings, database)  # not the fixture, which has a check of its own
    planted: list[FlaskResponse] = []
    world = World(description_of(app), {"Authorization": f"Bearer {new_key(database, 'ours')}"}, [])
    app.view_functions["methods.list_methods"] = lambda **_: planted.pop()
    for status, body, media_type in NOT_DESCRIBED:
        with subtests.test(status=status, body=body, media_type=media_type):
            planted.append(FlaskResponse(json.dumps(body), status, mimetype=media_type))
            with pytest.raises(FailureGroup):
                world.hold(world.schema["/v1/methods"]["GET"].Case())
