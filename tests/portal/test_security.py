"""Who may see and do what through the portal, and what another site can have a browser do."""

import pytest
from apiflask import APIFlask
from sqlalchemy import text

from api.portal import browser
from db import keys, portal_sessions
from db.session import Database
from tests.api.conftest import new_key
from tests.portal.conftest import Visitor, shown

HTML = {"Accept": "text/html"}


def test_without_a_session_every_page_leads_to_the_sign_in(app: APIFlask, subtests: pytest.Subtests) -> None:
    client = app.test_client()
    for path in ("/", "/jobs", "/jobs/new?method=gguf", "/jobs/job_1", "/jobs/job_1/events", "/nothing/here"):
        with subtests.test(path=path):
            response = client.get(path, headers=HTML)
            assert response.status_code == 303
            assert response.headers["Location"].startswith("/sign-in?next=/jobs")
    assert client.get("/datasets?limit=5").headers["Location"] == "/sign-in?next=/datasets?limit%3D5"
    assert client.post("/datasets", data={"name": "x"}).headers["Location"] == "/sign-in?next=/jobs"
    assert client.get("/jobs/new?method=gguf").headers["Location"] == "/sign-in?next=/jobs/new?method%3Dgguf"
    assert client.get("/jobs/job_1/events", headers={"Accept": "text/event-stream"}).status_code == 401
    assert client.post("/jobs/new", data={"source": "x"}).status_code == 303


def test_a_key_that_is_not_known_signs_nobody_in(app: APIFlask) -> None:
    client = app.test_client()
    response = client.post("/sign-in", data={"key": "fb_wrong"})
    assert response.status_code == 422
    assert "not known or was revoked" in shown(response)
    assert "fb_wrong" not in response.text
    assert "Set-Cookie" not in response.headers


def test_the_cookie_is_out_of_reach(app: APIFlask, database: Database) -> None:
    visitor = Visitor(app.test_client(), new_key(database, "ours"))
    cookie = visitor.sign_in().headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert "Secure" not in cookie
    assert visitor.key not in cookie
    secure = visitor.client.post("/sign-in", data={"key": visitor.key}, headers={"X-Forwarded-Proto": "https"})
    assert "Secure" in secure.headers["Set-Cookie"]
    kept = database.run(lambda session: session.execute(text("SELECT sha256 FROM portal_sessions")).scalars().all())
    assert all(sha256 not in cookie for sha256 in kept)


def test_a_cookie_is_good_for_pages_alone(visitor: Visitor) -> None:
    assert visitor.get("/jobs").status_code == 200
    assert visitor.get("/v1/jobs").status_code == 401
    assert visitor.client.post("/v1/jobs", json={}).status_code == 401
    bearer = {"Authorization": f"Bearer {visitor.key}"}
    assert visitor.client.application.test_client().get("/jobs", headers=bearer).status_code == 303


@pytest.mark.parametrize(
    "end",
    ["UPDATE api_keys SET revoked_at = now()", "UPDATE portal_sessions SET expires_at = now()"],
    ids=["revoked", "expired"],
)
def test_a_session_ends_with_its_key_and_its_time(visitor: Visitor, database: Database, end: str) -> None:
    with database.transaction() as session:
        session.execute(text(end))
    assert visitor.get("/jobs").status_code == 303


def test_signing_out_ends_the_session_on_the_server(visitor: Visitor) -> None:
    cookie = visitor.client.get_cookie(browser.SESSION_COOKIE)
    assert cookie is not None
    response = visitor.post("/sign-out")
    assert response.headers["Location"] == "/sign-in"
    assert visitor.client.get_cookie(browser.SESSION_COOKIE) is None
    visitor.client.set_cookie(browser.SESSION_COOKIE, cookie.value)
    assert visitor.get("/jobs").status_code == 303


def test_expired_sessions_are_forgotten(visitor: Visitor, database: Database) -> None:
    with database.transaction() as session:
        session.execute(text("UPDATE portal_sessions SET expires_at = now()"))
    database.run(lambda session: portal_sessions.sign_in(session, visitor.key, 60))
    assert database.run(lambda session: session.scalar(text("SELECT count(*) FROM portal_sessions"))) == 1


def test_a_form_of_another_site_does_nothing(visitor: Visitor, subtests: pytest.Subtests) -> None:
    job = visitor.submit()
    token = visitor.token()
    sweeps = ("/sweeps/new", "/sweeps/sweep_1", "/sweeps/sweep_1/cancel")
    foreign: list[tuple[dict[str, str], dict[str, str]]] = [
        ({}, {}),
        ({"form_token": "0" * 64}, {}),
        ({"form_token": token}, {"Sec-Fetch-Site": "cross-site"}),
        ({"form_token": token}, {"Sec-Fetch-Site": "same-site"}),
        ({"form_token": token}, {"Origin": "https://evil.example"}),
        ({"form_token": token}, {"Origin": "null"}),
        ({"form_token": "ü"}, {"Origin": "http://localhost"}),
    ]
    for fields, headers in foreign:
        with subtests.test(fields=fields, headers=headers):
            for path in (f"{job}/cancel", f"{job}/retry", "/jobs/new", *sweeps, "/sign-out"):
                response = visitor.client.post(path, data=fields, headers=headers)
                assert response.status_code == 422
                assert "Nothing was done" in response.text or "earlier session" in response.text
    assert visitor.client.post("/sign-in", data={"key": visitor.key}, headers={"Origin": "null"}).status_code == 422
    assert visitor.client.post(
        f"{job}/cancel", data={"form_token": token}, headers={"Origin": "http://localhost"}
    ).status_code == (303)


def test_the_token_of_another_session_is_no_good(visitor: Visitor, stranger: Visitor) -> None:
    response = visitor.client.post("/sign-out", data={"form_token": stranger.token()})
    assert response.status_code == 422


@pytest.mark.parametrize(
    ("wanted", "led_to"),
    [
        ("/jobs/job_1", "/jobs/job_1"),
        ("/jobs?status=failed&after=job_1", "/jobs?status=failed&after=job_1"),
        ("/datasets?after=dataset_1", "/datasets?after=dataset_1"),
        ("/sweeps/sweep_1", "/sweeps/sweep_1"),
        ("/datasetserver", "/jobs"),
        ("https://evil.example", "/jobs"),
        ("//evil.example", "/jobs"),
        ("/\\evil.example", "/jobs"),
        ("/jobs/../v1/jobs", "/jobs"),
        ("/jobs\r\nSet-Cookie: a=b", "/jobs"),
        ("javascript:alert(1)", "/jobs"),
        ("/v1/jobs", "/jobs"),
        ("", "/jobs"),
    ],
)
def test_signing_in_leads_only_to_pages_of_the_portal(
    app: APIFlask, database: Database, wanted: str, led_to: str
) -> None:
    key = new_key(database, "ours")
    response = app.test_client().post("/sign-in", data={"key": key, "next": wanted})
    assert response.headers["Location"] == led_to


def test_another_teams_job_is_not_there(visitor: Visitor, stranger: Visitor, subtests: pytest.Subtests) -> None:
    job = visitor.submit()
    for path in (job, f"{job}/events", f"{job}/files/art_1/model.gguf", f"/jobs/new?like={job.rpartition('/')[2]}"):
        with subtests.test(path=path):
            assert stranger.get(path).status_code == 404
    for action in ("cancel", "retry"):
        assert stranger.post(f"{job}/{action}").status_code == 404
    assert job not in stranger.get("/jobs").text
    assert job in visitor.get("/jobs").text
    assert "cancel" in visitor.get(job).text


def test_every_page_forbids_what_it_does_not_need(visitor: Visitor, subtests: pytest.Subtests) -> None:
    lists_and_forms = ("/sign-in", "/jobs", "/jobs/new", "/datasets", "/sweeps", "/sweeps/new")
    for path in (*lists_and_forms, visitor.submit(), "/jobs/job_0"):
        with subtests.test(path=path):
            response = visitor.get(path)
            policy = response.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert response.headers["Cache-Control"] == "no-store"
            assert " style=" not in response.text
            assert "<script>" not in response.text


def test_a_revoked_key_can_sign_in_nobody(app: APIFlask, database: Database) -> None:
    key = new_key(database, "ours")
    database.run(lambda session: keys.revoke_key(session, keys.list_keys(session)[0].id))
    assert app.test_client().post("/sign-in", data={"key": key}).status_code == 422
