from pathlib import Path

from apiflask import APIFlask
from sqlalchemy import text

from db.session import Database
from tests.api.conftest import problem_of


def test_a_ready_process_says_so(app: APIFlask) -> None:
    client = app.test_client()
    assert client.get("/healthz").get_json() == {"status": "ok"}
    assert client.get("/readyz").get_json() == {"status": "ok"}


def test_an_old_schema_is_not_ready(app: APIFlask, database: Database) -> None:
    with database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    response = app.test_client().get("/readyz")
    assert response.status_code == 503
    assert "migrate" in problem_of(response)["detail"]
    assert app.test_client().get("/healthz").status_code == 200


def test_a_lost_store_is_not_ready(app: APIFlask, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    response = app.test_client().get("/readyz")
    assert response.status_code == 503
    problem_of(response)
