"""A result is made again from what came with it, by a team that has nothing to reuse, and is the same to the byte."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from jsonschema import Draft202012Validator

from db import keys
from db.session import Database
from pipeline.provenance import CARD_NAME, PROVENANCE_NAME, REPORT_NAME
from tests.conftest import TINY_LLAMA
from tests.e2e.conftest import Up

pytestmark = pytest.mark.slow

RECIPES: dict[str, Any] = {
    "gguf": {"method": "gguf", "type": "Q3_K_M", "imatrix": True, "calibration_samples": 16},
    "gptq": {"method": "gptq", "calibration_samples": 32},
}


@pytest.fixture(scope="module")
def stranger(up: Up) -> Iterator[str]:
    """The key of another team, which shares no work with the first."""
    database = Database(up.database_url)
    _, key = database.run(lambda session: keys.create_key(session, "others", ""))
    yield key
    database.dispose()


@pytest.fixture(scope="module", params=RECIPES)
def folder(up: Up, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A downloaded result."""
    options = (
        "--domain",
        "prose",
        "--windows",
        "2",
        "--publish-to",
        str(Path(up.data_dir, "published", request.param)),
    )
    answer = up.cli("submit", TINY_LLAMA, json.dumps(RECIPES[request.param]), *options, "--wait", "--json")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    (job,) = json.loads(answer.stdout)["data"]
    to = tmp_path_factory.mktemp(request.param)
    assert up.cli("download", job["id"], "--to", to).returncode == 0
    published = {path.name: path.read_bytes() for path in Path(up.data_dir, "published", request.param).iterdir()}
    assert {path.name: path.read_bytes() for path in to.iterdir()}.items() <= published.items()
    return to


def test_what_describes_a_result_comes_with_it(up: Up, folder: Path) -> None:
    written = json.loads((folder / PROVENANCE_NAME).read_text())
    headers = {"Authorization": f"Bearer {up.api_key}"}
    schema = httpx.get(f"{up.url}/v1/schemas/{PROVENANCE_NAME}", headers=headers, timeout=20).raise_for_status().json()
    assert not list(Draft202012Validator(schema).iter_errors(written))
    assert digests(folder) == {file["name"]: file["sha256"] for file in written["result"]["files"]}
    source = {file["name"]: file["sha256"] for file in written["source"]["files"]}
    assert source == {path.name: sha256(path) for path in TINY_LLAMA.iterdir()}
    assert written["hardware"]["device"] == "cpu"
    assert {"python", "torch", "transformers"} <= written["software"]["libraries"].keys()
    assert all(check["passed"] for check in written["verification"])
    assert written["report"][0]["baseline"]["perplexity"] < written["report"][0]["result"]["perplexity"]
    assert len(written["losses"]) == (6 * 7 if written["recipe"]["method"] == "gptq" else 0)
    costs = {cost["step"]: cost for cost in written["costs"]}
    assert costs["quantize"]["peak"]["memory_bytes"] > 0
    assert costs["quantize"]["peak"]["scratch_bytes"] >= written["result"]["size_bytes"]
    assert costs["quantize"]["forecast"]["memory_bytes"] > 0


def test_nothing_of_the_service_itself_is_in_it(up: Up, folder: Path) -> None:
    for name in (PROVENANCE_NAME, CARD_NAME, REPORT_NAME):
        text = (folder / name).read_text()
        assert up.data_dir not in text
        assert up.api_key not in text
        assert not [prefix for prefix in ("job_", "team_", "exec_", "art_", "step_") if f'"{prefix}0' in text]


def test_the_card_is_one_that_the_hub_reads(folder: Path) -> None:
    card = (folder / CARD_NAME).read_text()
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert metadata["library_name"] == ("gguf" if list(folder.glob("*.gguf")) else "transformers")
    assert "fewbits" in metadata["tags"]


def test_another_team_makes_the_same(up: Up, stranger: str, folder: Path, tmp_path: Path) -> None:
    answer = up.cli("reproduce", folder, "--wait", "--json", key=stranger)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    job = json.loads(answer.stdout)
    assert not any(step["reused"] for step in job["steps"] if step["kind"] == "quantize")
    assert job["reproduced"]
    assert all(job["reproduced"].values())
    assert up.cli("download", job["id"], "--to", tmp_path, key=stranger).returncode == 0
    assert digests(tmp_path) == digests(folder)
    first, second = (json.loads((place / PROVENANCE_NAME).read_text()) for place in (folder, tmp_path))
    assert {**first, "costs": None} == {**second, "costs": None}


def test_ones_own_team_is_told_that_it_was_reused(up: Up, folder: Path) -> None:
    answer = up.cli("reproduce", folder, "--wait")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "was reused" in answer.stderr
    assert "DIFFERENT" not in answer.stdout


def test_a_result_that_is_another_is_told(up: Up, folder: Path, tmp_path: Path) -> None:
    written = json.loads((folder / PROVENANCE_NAME).read_text())
    written["result"]["files"][0]["sha256"] = "0" * 64
    (tmp_path / PROVENANCE_NAME).write_text(json.dumps(written))
    answer = up.cli("reproduce", tmp_path, "--wait")
    assert answer.returncode == 1
    assert answer.stdout.count("DIFFERENT") == 1


def digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file, but for those that describe a result."""
    return {
        path.name: sha256(path)
        for path in folder.iterdir()
        if path.name not in (PROVENANCE_NAME, CARD_NAME, REPORT_NAME)
    }


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
