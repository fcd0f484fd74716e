"""A look at a model by the SDK and the command, and what serves a job's result."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fewbits_client import Client, Problem
from tests.client.fake_api import FakeApi, a_job

Fewbits = Callable[..., int]
Captured = pytest.CaptureFixture[str]
PATH = "/v1/models/inspect"


def a_model(**fields: Any) -> dict[str, Any]:
    """A model as the contract describes it."""
    refused = {"code": "model_unsupported", "message": "awq cannot work on it.", "param": "recipe.method"}
    return {
        "object": "model",
        "source": "file:///models/tiny",
        "architecture": "MixtralForCausalLM",
        "model_type": "mixtral",
        "parameter_count": 6_163_712,
        "size_bytes": 12_327_424,
        "dtype": "bfloat16",
        "layer_count": 6,
        "hidden_size": 256,
        "vocabulary_size": 4096,
        "context_length": 2048,
        "tied_embeddings": True,
        "experts": 8,
        "experts_per_token": 2,
        "tokenizer": {"kind": "BPE", "vocabulary_size": 4097, "special_tokens": {"eos_token": "</s>\x1b[2J"}},
        "has_chat_template": True,
        "licence": "apache-2.0\x1b[2J",
        "recipes": [
            {
                "recipe": "gguf:Q4_K_M",
                "method": "gguf",
                "fits": True,
                "error": None,
                "warnings": ["gguf was not tried on it."],
                "served_by": ["vLLM", "llama.cpp"],
            },
            {
                "recipe": "awq:4bit-g128",
                "method": "awq",
                "fits": False,
                "error": refused,
                "warnings": [],
                "served_by": [],
            },
        ],
        "a_field_of_a_newer_server": True,
        **fields,
    }


def test_the_sdk_sends_the_source_and_gives_what_came(api: FakeApi, client: Client) -> None:
    api.answers("POST", PATH, a_model())
    assert client.inspect("file:///models/tiny") == a_model()
    assert [seen.body for seen in api.requests(PATH)] == [{"source": "file:///models/tiny"}]


def test_what_the_server_cannot_see_is_a_problem(api: FakeApi, client: Client) -> None:
    api.refuses("POST", PATH, 422, code="source_invalid", detail="The API cannot see it.")
    with pytest.raises(Problem, match="cannot see it"):
        client.inspect("file:///nowhere")


def test_the_command_shows_the_model_and_its_recipes(
    api: FakeApi, fewbits: Fewbits, capsys: Captured, tmp_path: Path
) -> None:
    api.answers("POST", PATH, a_model())
    assert fewbits("inspect", str(tmp_path)) == 0
    shown = capsys.readouterr().out
    assert api.requests(PATH)[0].body == {"source": tmp_path.as_uri()}
    for line in (
        "architecture   MixtralForCausalLM (mixtral)",
        "parameters     6,163,712",
        "size           12.3 MB, bfloat16",
        "vocabulary     4,096, tied to the output head",
        "context        2,048 tokens",
        "chat template  yes",
        "experts        8 a layer, 2 for each token",
    ):
        assert f"{line}\n" in shown
    assert "BPE, 4,097 tokens; eos </s>" in shown
    assert "\x1b" not in shown
    rows = [" ".join(line.split()) for line in shown.splitlines()]
    assert "gguf:Q4_K_M yes vLLM, llama.cpp gguf was not tried on it." in rows
    assert "awq:4bit-g128 no - awq cannot work on it." in rows


def test_what_a_model_does_not_tell_is_a_dash(api: FakeApi, fewbits: Fewbits, capsys: Captured) -> None:
    unknown: dict[str, Any] = dict.fromkeys(("model_type", "context_length", "experts", "experts_per_token", "licence"))
    tokenizer: dict[str, Any] = {"kind": None, "vocabulary_size": None, "special_tokens": {}}
    api.answers("POST", PATH, a_model(**unknown, tokenizer=tokenizer, has_chat_template=False))
    assert fewbits("inspect", "s3://bucket/model") == 0
    shown = capsys.readouterr().out
    for line in ("architecture   MixtralForCausalLM", "context        -", "licence        -", "chat template  no"):
        assert f"{line}\n" in shown
    assert "experts " not in shown


def test_json_is_what_the_server_sent(api: FakeApi, fewbits: Fewbits, capsys: Captured) -> None:
    api.answers("POST", PATH, a_model())
    assert fewbits("inspect", "file:///models/tiny", "--json") == 0
    assert json.loads(capsys.readouterr().out) == a_model()


def test_a_folder_that_is_not_there_is_a_usage_error(fewbits: Fewbits, tmp_path: Path) -> None:
    assert fewbits("inspect", str(tmp_path / "none")) == 2
    assert fewbits("inspect") == 2


def test_a_job_shows_what_serves_its_result(api: FakeApi, fewbits: Fewbits, capsys: Captured) -> None:
    job = a_job()
    job["result"]["runtimes"] = [
        {
            "runtime": "vLLM",
            "version": "1.2",
            "serves": True,
            "gpus": "NVIDIA from Turing (7.5)",
            "how": "Marlin kernels",
            "why_not": None,
            "sources": ["vLLM 1.2: a.py"],
        },
        {
            "runtime": "llama.cpp",
            "version": "3",
            "serves": False,
            "gpus": None,
            "how": None,
            "why_not": "does not read gptq",
            "sources": [],
        },
    ]
    api.answers("GET", "/v1/jobs/job_1", job)
    assert fewbits("show", "job_1") == 0
    rows = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "vLLM 1.2 yes NVIDIA from Turing (7.5) Marlin kernels" in rows
    assert "llama.cpp 3 no - does not read gptq" in rows
