"""The model card: metadata that the Hub reads, commands for the format, and nothing that strangers' words could do."""

import re
from typing import Any

import pytest
import yaml

from pipeline.figures import NOTHING
from pipeline.markdown import block, code
from pipeline.model_card import model_card
from pipeline.retracing import retrace
from tests.api.benchmarks import MEASURED
from tests.pipeline.record import CALIBRATED, CARD, CHECKS, MODEL, TASK, documenting, done, judged_by_a_task

SOURCE = "hf://org/name@v1"
RECIPES = [
    ("gguf:Q4_K_M", ["model-Q4_K_M.gguf"]),
    ("gptq:4bit-g128", ["config.json", "model.safetensors"]),
    ("awq:4bit-g128", ["config.json", "model.safetensors"]),
    ("fp8", ["config.json", "model.safetensors"]),
]


def card(recipe: Any = "gguf:Q4_K_M", *files: str, **changes: Any) -> str:
    return model_card(retrace(documenting(recipe, *(files or ("model-Q4_K_M.gguf",)), **changes)))


def metadata(text: str) -> dict[str, Any]:
    begin, between, _ = text.split("---\n", 2)
    assert begin == ""
    loaded: dict[str, Any] = yaml.safe_load(between)
    return loaded


def carded(**said: Any) -> Any:
    return done({"model": MODEL, "card": {**CARD, **said}}, "model.safetensors")


def test_the_hub_is_told_what_it_is_made_of() -> None:
    assert metadata(card("gptq:4bit-g128", "model.safetensors", source=SOURCE)) == {
        "license": "apache-2.0",
        "base_model": "org/name",
        "base_model_relation": "quantized",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["gptq", "4-bit", "fewbits"],
    }


def test_what_was_lost_in_tasks_is_told_where_there_are_some() -> None:
    text = model_card(retrace(judged_by_a_task())).replace("\\", "")
    assert f"| {TASK} | accuracy | 73.1 % | 71.0 % [64.0, 77.0] | 2.1 [1.2, 3.0] | 180 |" in text
    assert f"| {TASK} | ROUGE-L | 85.2 % |" in text
    assert f"{TASK}: accuracy_drop <= 0.01" in text
    assert "ROUGE-L" not in card()


def test_a_folder_is_no_name_on_the_hub_and_is_not_told() -> None:
    text = card(source="file:///secret/place/llama-7b")
    assert not metadata(text).keys() & {"base_model", "base_model_relation"}
    assert "# llama-7b, gguf:Q4" in text.replace("\\", "")
    assert "secret" not in text


def test_the_licence_is_the_sources() -> None:
    other = {"licenses": ["other"], "license_name": "llama3.1", "license_link": "LICENSE"}
    of_hub = metadata(card(source=SOURCE, fetch=carded(**other)))
    assert (of_hub["license"], of_hub["license_name"]) == ("other", "llama3.1")
    assert of_hub["license_link"] == "https://huggingface.co/org/name/blob/v1/LICENSE"
    with_file = metadata(card("gptq:4bit-g128", "LICENSE", "model.safetensors", source=SOURCE, fetch=carded(**other)))
    assert with_file["license_link"] == "LICENSE"
    assert "license_link" not in metadata(card(fetch=carded(**other)))
    assert metadata(card(fetch=carded(licenses=["mit", "cc-by-4.0"])))["license"] == ["mit", "cc-by-4.0"]
    none = card(fetch=done({"model": MODEL}, "model.safetensors"))
    assert "license" not in metadata(none)
    assert "names no licence" in none


def test_it_says_what_was_lost() -> None:
    text = card()
    measured = "+3.04 % [+2.51, +3.59] | 0.0321 [0.0302, 0.0344] | 92.1 % [91.4, 92.8] | 40"
    assert f"| prose | 23.686 | 24.405 | {measured} |" in text
    assert f"| code | 7.500 | {' | '.join([NOTHING] * 5)} |" in text
    assert "gate" not in text


def test_it_says_what_became_of_the_gate() -> None:
    condition = {"metric": "perplexity_ratio", "domain": "prose", "max": 1.02, "min": None}
    measured = {"value": 1.0304, "low": 1.0251, "high": 1.0359}
    facts = {"verdict": "blocked", "gate": [{**condition, "measured": measured, "decision": "blocked"}]}
    text = card(evaluate=done(facts))
    assert "Its gate: **blocked**." in text
    assert "| `prose: perplexity_ratio <= 1.02` | 1.0304 [1.0251, 1.0359] | blocked |" in text


def test_it_says_how_fast_it_is_where_that_was_measured() -> None:
    text = card(benchmark=done(MEASURED))
    assert "| 512 \N{MULTIPLICATION SIGN} 4 | 5,000 (2,500 to 10,000) | 40 (20 to 80) | 250 (125 to 500) |" in text
    assert "on a processor, 8 threads; loaded in 1.50 s, 900.0 MB of memory at most." in text
    assert "How fast" not in card()


def test_it_says_what_was_lost_where_an_earlier_version_has_evaluated() -> None:
    score = {"perplexity": 24.405, "windows": 40, "tokens": 10_200, "measures": None}
    text = card(evaluate=done(scores={"prose": score}))
    assert f"| prose | 23.686 | 24.405 | +3.04 % | {NOTHING} | {NOTHING} | 40 |" in text
    assert "4.0 MB in place of 12.3 MB, 5.04 bits per weight" in text


@pytest.mark.parametrize(("recipe", "files"), RECIPES)
def test_it_says_how_to_load_it(recipe: str, files: list[str]) -> None:
    text = card(recipe, *files)
    of_llama_cpp = ("llama-cli -m model-Q4_K_M.gguf", "llama-server -m model-Q4_K_M.gguf", "Llama(")
    of_folders = ("AutoModelForCausalLM.from_pretrained", "vllm serve", "sglang.launch_server --model-path")
    wanted, other = (of_llama_cpp, of_folders) if recipe.startswith("gguf") else (of_folders, of_llama_cpp)
    assert all(command in text for command in wanted)
    assert not any(command in text for command in other)
    for language in ("sh", "python"):
        for lines in text.split(f"```{language}\n")[1:]:
            if language == "python":
                compile(lines.partition("\n```")[0], "card", "exec")


def test_no_command_is_given_for_a_program_that_does_not_serve_it() -> None:
    text = card({"method": "gptq", "bits": 2, "group_size": 64}, "model.safetensors")
    assert "vllm serve" not in text
    assert "AutoModelForCausalLM.from_pretrained" in text
    assert re.search(r"\| vLLM [0-9.]+ \| does not serve bits 2", text)


def test_of_a_set_of_files_the_first_is_named() -> None:
    names = [f"model-Q4_K_M-0000{part}-of-00002.gguf" for part in (2, 1)]
    assert "llama-cli -m model-Q4_K_M-00001-of-00002.gguf" in card("gguf:Q4_K_M", *names)


def test_an_own_text_is_known_by_its_digest_alone() -> None:
    own = "dataset_" + "0" * 26
    looked_at = done({**CALIBRATED, "text": "own"})
    text = card({"method": "gptq", "calibration_text": own}, "model.safetensors", calibrate=looked_at)
    assert f"a text of its maker's own (SHA-256 `{'7' * 64}`)" in text


def test_what_strangers_wrote_does_nothing() -> None:
    evil = "<script>alert(1)</script> | [x](javascript:1) ![y](http://e.vil/z) `a` **b**\n\n# no heading \u202e"
    looked_at = done({"checks": [{**CHECKS[0], "detail": evil}]})
    text = card(source="file:///m/%3Cimg%20src=x%3E%0A%23%20no%60", verify=looked_at)
    assert "\n# no" not in text
    assert "<script" not in text.replace("\\<script", "")
    assert "<img" not in text.replace("\\<img", "").replace("`` <img", "")
    assert "\u202e" not in text
    row = next(line for line in text.splitlines() if line.startswith("| loads"))
    assert row.replace("\\|", "").count("|") == 3
    assert "](http" not in row.replace("\\]", "")


@pytest.mark.parametrize("text", ["a", "a`b", "``a", "a```", "`"])
def test_code_ends_where_it_should(text: str) -> None:
    shown = code(text)
    ticks = shown[: len(shown) - len(shown.lstrip("`"))]
    assert shown.endswith(ticks)
    assert ticks not in shown[len(ticks) : -len(ticks)].replace(f" {text} ", text) or ticks not in text
    fence, *_, last = block(text, "").splitlines()
    assert fence == last
    assert fence not in text
