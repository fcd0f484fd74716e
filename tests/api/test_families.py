"""What is said at submit of a model's architecture."""

import shutil
from pathlib import Path

import pytest

from core.settings import Settings
from tests.api.conftest import Caller, pointers, problem_of
from tests.conftest import TINY_LLAMA


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"source_roots": (tmp_path,)})


def model_called(architecture: str, folder: Path) -> str:
    model = Path(shutil.copytree(TINY_LLAMA, folder / architecture))
    config = model / "config.json"
    config.write_text(config.read_text().replace("LlamaForCausalLM", architecture))
    return model.as_uri()


def test_what_cannot_work_is_refused_with_the_reason(caller: Caller, tmp_path: Path) -> None:
    source = model_called("Phi3ForCausalLM", tmp_path)
    response = caller.post("/v1/jobs", {"source": source, "recipe": "gptq:4bit-g128"})
    assert response.status_code == 422, response.text
    assert problem_of(response)["code"] == "model_unsupported"
    assert "gate_up_proj" in problem_of(response)["detail"]
    assert pointers(response) == ["/recipe/method"]


def test_what_was_not_tried_is_taken_and_said_first(caller: Caller, tmp_path: Path) -> None:
    source = model_called("OlmoForCausalLM", tmp_path)
    response = caller.post("/v1/jobs", {"source": source, "recipe": "gguf:Q4_K_M", "wait_for_capacity": True})
    assert response.status_code == 201, response.text
    job = response.get_json()["id"]
    events = caller.get(f"/v1/jobs/{job}/events").get_json()["data"]
    assert (events[1]["level"], events[1]["type"]) == ("warn", "message")
    assert "gguf was not tried on OlmoForCausalLM" in events[1]["message"]
