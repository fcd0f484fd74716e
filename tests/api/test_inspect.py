"""A look at a model before anything is asked for, and what is said of runtimes when something is."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from core.settings import Settings
from db.session import Database
from fewbits_client.cli import main
from tests.api.conftest import Caller, new_key, pointers, problem_of
from tests.api.serving import serving
from tests.conftest import TINY_LLAMA


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"source_roots": (tmp_path,)})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY_LLAMA, tmp_path / "model"))


def look(caller: Caller, source: str) -> dict[str, Any]:
    response = caller.post("/v1/models/inspect", {"source": source})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.get_json()
    return found


def fits(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["recipe"]: one for one in found["recipes"]}


def test_what_a_model_is_and_what_goes_with_it(caller: Caller, model: Path) -> None:
    (model / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    found = look(caller, model.as_uri())
    recipes = fits(found)
    assert {name: value for name, value in found.items() if name != "recipes"} == {
        "object": "model",
        "source": model.as_uri(),
        "architecture": "LlamaForCausalLM",
        "model_type": "llama",
        "parameter_count": 6163712,
        "size_bytes": 12327424,
        "dtype": "bfloat16",
        "layer_count": 6,
        "hidden_size": 256,
        "vocabulary_size": 4096,
        "context_length": 2048,
        "tied_embeddings": True,
        "experts": None,
        "experts_per_token": None,
        "tokenizer": {
            "kind": "BPE",
            "vocabulary_size": 4096,
            "special_tokens": {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|pad|>"},
        },
        "has_chat_template": False,
        "licence": "apache-2.0",
    }
    assert all(one["fits"] for one in recipes.values())
    assert recipes["gptq:4bit-g128"]["served_by"] == ["vLLM", "SGLang", "transformers"]
    assert {"gguf:Q4_K_M", "gguf:attention-high", "awq:4bit-g128", "fp8", "int8:w8a8", "int4:w4a16-g128"} <= set(
        recipes
    )


def test_every_default_and_preset_is_judged_as_a_submit_would(caller: Caller, model: Path) -> None:
    config = model / "config.json"
    config.write_text(config.read_text().replace("LlamaForCausalLM", "Phi3ForCausalLM"))
    listed = caller.get("/v1/methods").get_json()["data"]
    recipes = fits(look(caller, model.as_uri()))
    assert set(recipes) == {
        name for one in listed for name in (one["default"], *(preset["recipe"] for preset in one["presets"]))
    }
    assert {name for name, one in recipes.items() if not one["fits"]} == {"gptq:4bit-g128", "awq:4bit-g128"}
    for name, one in recipes.items():
        response = caller.post("/v1/jobs", {"source": model.as_uri(), "recipe": name, "wait_for_capacity": True})
        assert (response.status_code == 201) == one["fits"], response.text
        if one["fits"]:
            assert one["error"] is None
        else:
            problem = problem_of(response)
            assert (one["error"]["code"], one["error"]["message"]) == (problem["code"], problem["detail"])
            assert one["served_by"] == []


def test_what_a_job_would_be_told_first_is_told_here(caller: Caller, model: Path) -> None:
    config = model / "config.json"
    config.write_text(config.read_text().replace("LlamaForCausalLM", "OlmoForCausalLM"))
    [warning] = fits(look(caller, model.as_uri()))["gguf:Q4_K_M"]["warnings"]
    assert "gguf was not tried on OlmoForCausalLM" in warning


def test_a_model_that_changes_is_looked_at_anew(caller: Caller, model: Path) -> None:
    assert look(caller, model.as_uri())["licence"] is None
    (model / "LICENSE").write_text("MIT License\n")
    assert look(caller, model.as_uri())["licence"] == "MIT License"


@pytest.mark.parametrize(
    ("source", "code", "says"),
    [
        ("{root}/nowhere", "source_invalid", "submit a job"),
        ("file:///etc", "source_refused", "is not under a folder that the operator allows"),
        ("{root}/model/../../x", "invalid_request", "neither '..'"),
        ("s3://bucket/model", "invalid_request", "file:///an/absolute/folder"),
        ("hf://org/name", "invalid_request", "file:///an/absolute/folder"),
    ],
)
def test_what_cannot_be_seen_says_what_to_do(source: str, code: str, says: str, caller: Caller, tmp_path: Path) -> None:
    response = caller.post("/v1/models/inspect", {"source": source.format(root=tmp_path.as_uri())})
    assert response.status_code == 422
    problem = problem_of(response)
    assert problem["code"] == code
    assert says in problem["detail"]
    assert pointers(response) == ["/source"]


def test_a_folder_that_is_no_model_is_a_problem_of_the_source(caller: Caller, model: Path, tmp_path: Path) -> None:
    (model / "config.json").write_text("[" * 100_000)
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("/etc")
    for name in ("model", "model/config.json", "empty", "link"):
        response = caller.post("/v1/models/inspect", {"source": (tmp_path / name).as_uri()})
        assert response.status_code == 422, response.text
        assert pointers(response) == ["/source"]


@pytest.mark.parametrize("body", [{}, {"source": ""}, {"source": 3}, {"source": "file:///x", "recipe": "gguf"}])
def test_a_body_that_is_not_of_the_form_is_refused(body: dict[str, Any], caller: Caller) -> None:
    assert caller.post("/v1/models/inspect", body).status_code == 422


def test_a_recipe_that_no_server_serves_is_warned_of_and_taken(caller: Caller, model: Path) -> None:
    job = caller.submit("gptq:3bit-g128", source=model.as_uri(), wait_for_capacity=True)
    events = caller.get(f"/v1/jobs/{job['id']}/events").get_json()["data"]
    assert (events[1]["level"], events[1]["type"]) == ("warn", "message")
    assert "No server that is known here can serve what gptq:3bit-g128 makes" in events[1]["message"]


def test_a_recipe_that_a_server_serves_is_not_warned_of(caller: Caller, model: Path) -> None:
    job = caller.submit("gptq:4bit-g128", source=model.as_uri(), wait_for_capacity=True)
    events = caller.get(f"/v1/jobs/{job['id']}/events").get_json()["data"]
    assert "No server" not in json.dumps(events)


def test_the_command_asks_the_real_server(
    database_url: str, database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = new_key(database, "ours")
    with serving(database_url, tmp_path, FEWBITS_SOURCE_ROOTS=str(TINY_LLAMA.parent)) as server:
        with pytest.raises(SystemExit) as ended:
            main(["inspect", str(TINY_LLAMA), "--url", server.url, "--api-key", key])
        shown = capsys.readouterr().out
        assert ended.value.code == 0, shown
        with pytest.raises(SystemExit) as ended:
            main(["inspect", "hf://org/name", "--url", server.url, "--api-key", key])
        assert ended.value.code
        assert "file:///an/absolute/folder" in capsys.readouterr().err
    assert "LlamaForCausalLM (llama)" in shown
    assert "BPE, 4,096 tokens" in shown
    row = next(line.split() for line in shown.splitlines() if line.startswith("gguf:Q4_K_M"))
    assert row == ["gguf:Q4_K_M", "yes", "vLLM,", "SGLang,", "llama.cpp,", "transformers"]
