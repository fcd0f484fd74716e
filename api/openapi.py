"""The OpenAPI document: what APIFlask makes of the models, with problems, security and plain schema names."""

from http import HTTPStatus
from typing import Any

from apiflask import APIFlask

from api.problems import MEDIA_TYPE, Problem
from api.requests import ID

SCHEMAS = "#/components/schemas/"
KEY_SCHEME = "key"
OPEN_PATHS = ("/healthz", "/readyz")
DESCRIPTION = "Ask for a smaller model; get files that load, and a report of what was lost."
EVERYWHERE = (401, 500, 503)  # what any address that needs a key may answer
# The headers that each answer has, and those that belong to a status.
_ALWAYS_TEXT = {"schema": {"type": "string"}, "required": True}
_REQUEST_ID = {"X-Request-Id": {"description": "Names the request in the server's log", **_ALWAYS_TEXT}}
_HEADERS = {
    "401": {"WWW-Authenticate": {"description": "That a key is needed", **_ALWAYS_TEXT}},
    "503": {"Retry-After": {"description": "Seconds to wait before the next try", **_ALWAYS_TEXT}},
}


# What is sent where it is no JSON, which APIFlask does not know of.
_A_TEXT = {"schema": {"type": "string", "pattern": r"^[^\x00]*[^\s\x00][^\x00]*$"}}
_FILES = {"/v1/datasets": {"content": {"text/plain": _A_TEXT, "application/jsonl": _A_TEXT}}}


def problems(*statuses: int) -> dict[int, Any]:
    """Return the documentation of answers that are problems, for ``APIBlueprint.doc``."""
    content = {MEDIA_TYPE: {"schema": {"$ref": f"{SCHEMAS}Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def configure(app: APIFlask) -> None:
    """Set what APIFlask derives the document from."""
    app.config.update(
        OPENAPI_VERSION="3.1.0",
        DESCRIPTION=DESCRIPTION,
        AUTO_SERVERS=False,  # it would keep the Host header of whoever asks first
        AUTO_404_RESPONSE=False,
        AUTO_VALIDATION_ERROR_RESPONSE=False,
        AUTO_OPERATION_ID=True,
        SECURITY_SCHEMES={KEY_SCHEME: {"type": "http", "scheme": "bearer", "description": "An API key, fb_…"}},
    )
    app.spec_processor(_complete)


def _complete(document: Any) -> dict[str, Any]:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    problem = Problem.model_json_schema(ref_template=f"{SCHEMAS}{{model}}")
    schemas.update({**problem.pop("$defs"), "Problem": problem})
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path" and parameter["name"].endswith("_id"):
                    parameter["schema"] = {"type": "string", "pattern": f"^{ID}$"}
            if method == "post" and path in _FILES:
                operation["requestBody"] = dict(_FILES[path])
            if "requestBody" in operation:
                operation["requestBody"]["required"] = True
            if path not in OPEN_PATHS:
                operation["security"] = [{KEY_SCHEME: []}]
                for status, answer in problems(*EVERYWHERE).items():
                    operation["responses"].setdefault(str(status), answer)
            for status, answer in operation["responses"].items():
                answer["headers"] = {**_REQUEST_ID, **_HEADERS.get(status, {}), **answer.get("headers", {})}
    completed: dict[str, Any] = _with_plain_names(document)
    completed["components"]["schemas"] = {_plain(name): schema for name, schema in schemas.items()}
    completed["components"]["schemas"] = _with_plain_names(completed["components"]["schemas"])
    return completed


def _with_plain_names(value: Any) -> Any:
    """Rename ``JobPage.Job`` to ``Job``: a model has one name here, wherever it is used."""
    if isinstance(value, dict):
        return {
            name: SCHEMAS + _plain(inner.removeprefix(SCHEMAS))
            if name == "$ref" and isinstance(inner, str)
            else _with_plain_names(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_with_plain_names(item) for item in value]
    return value


def _plain(name: str) -> str:
    return name.rsplit(".", 1)[-1]
