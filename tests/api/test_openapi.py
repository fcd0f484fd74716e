import re
from typing import Any

import pytest
from apiflask import APIFlask

from api.auth import OPEN_ENDPOINTS
from tests.api.conftest import Caller


@pytest.fixture
def document(app: APIFlask) -> dict[str, Any]:
    response = app.test_client().get("/openapi.json", headers={"Host": "evil.example"})
    assert "evil.example" not in response.text
    document: dict[str, Any] = response.get_json()
    return document


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(inner) for inner in value.values()))
    if isinstance(value, list):
        return set().union(*(references(item) for item in value))
    return set()


def test_the_document_is_openapi_31_and_whole(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references(document) <= known
    assert {"Job", "Step", "Event", "Problem", "JobRequest"} <= document["components"]["schemas"].keys()
    assert not [name for name in document["components"]["schemas"] if "." in name]


def test_every_route_is_documented_with_its_security(app: APIFlask, document: dict[str, Any]) -> None:
    documented = {
        (path, method.upper()): operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith(("docs.", "openapi.", "portal.")):
            continue
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            operation = documented.pop((path, method))
            assert ("security" in operation) is (rule.endpoint not in OPEN_ENDPOINTS)
            assert operation["summary"]
    assert documented == {}


def test_problems_are_documented_as_problems(document: dict[str, Any]) -> None:
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                assert int(status) < 400 or list(answer["content"]) == ["application/problem+json"]


def test_requests_and_answers_have_the_documented_form(caller: Caller, document: dict[str, Any]) -> None:
    submit = document["paths"]["/v1/jobs"]["post"]
    assert submit["requestBody"]["required"]
    assert submit["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/JobRequest"}
    job = caller.submit()
    assert list(document["components"]["schemas"]["Job"]["properties"]) == list(job)
    assert {"201", "400", "401", "409", "413", "415", "422", "429", "500", "503"} == submit["responses"].keys()
    stream = document["paths"]["/v1/jobs/{job_id}/events"]["get"]["responses"]["200"]["content"]
    assert stream.keys() == {"application/json", "text/event-stream"}


def test_the_docs_need_no_other_host(app: APIFlask, subtests: pytest.Subtests) -> None:
    client = app.test_client()
    page = client.get("/docs")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assets = re.findall(r'(?:src|href)="(?!data:)([^"]+)"', page.text)
    assert len(assets) == 3
    start = client.get("/docs/start.js").text
    assert "//" not in page.text + start
    for name in assets:
        with subtests.test(name=name):
            response = client.get("/" + name, buffered=True)
            assert response.status_code == 200
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.mimetype in {"text/css", "text/javascript"}
    for name in ("../plugins.py", "..%2f__init__.py", "nothing.js"):
        assert client.get(f"/docs/{name}").status_code in {401, 404}
