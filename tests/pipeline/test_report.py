"""The report of a result: one page that asks nobody for anything, has all its parts, and does nothing by itself."""

import html
import re
from html.parser import HTMLParser
from typing import Any

from pipeline import pictures
from pipeline.pictures import Interval, Loss, SizeAndLoss, Speed
from pipeline.provenance import Provenance
from pipeline.report import job_report
from pipeline.retracing import retrace
from tests.pipeline.record import (
    CALIBRATED,
    CARD,
    CHECKS,
    MADE_WITH,
    MODEL,
    TASK,
    WRITTEN,
    documenting,
    done,
    judged_by_a_task,
)

WILD = '<script>alert(1)</script>" onload="x'
CONDITION = {"metric": "perplexity_ratio", "domain": "prose", "max": 1.02, "min": None}
BLOCKED = {
    "verdict": "blocked",
    "gate": [{**CONDITION, "measured": {"value": 1.0304, "low": 1.0251, "high": 1.0359}, "decision": "blocked"}],
}
SPREAD = {"median": 812.5, "min": 800.0, "max": 820.0}
MEASURED = {
    "runtime": "llama.cpp",
    "hardware": {"device": "cpu", "cpu": "a processor", "gpu": None, "threads": 2},
    "is_serving_speed": True,
    "note": "Alone on its host.",
    "load_seconds": 0.25,
    "peak_memory_bytes": 10**8,
    "peak_vram_bytes": None,
    "points": [
        {
            "context_tokens": 512,
            "batch_size": 4,
            "prompt_tokens_per_second": SPREAD,
            "generation_tokens_per_second": SPREAD,
            "time_to_first_token_seconds": SPREAD,
        }
    ],
}
GENERATION = {"domain": "prose", "prompt": "Once upon", "baseline": "a time there was", "result": "a hill there lay"}


class Elements(HTMLParser):
    """Every element of a page with its attributes, as a browser finds them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def made(**changes: Any) -> Provenance:
    everything = {
        "evaluate": done({"device": "cpu", **BLOCKED}, scores=dict(documenting("gguf").done["evaluate"].scores)),
        "verify": done({"checks": CHECKS, "generations": [GENERATION]}),
        "benchmark": done(MEASURED),
    }
    return retrace(documenting("gguf:Q4_K_M", "model.gguf", **{**everything, **changes}))


def words(page: str) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", page)))


def test_every_part_is_there() -> None:
    page = job_report(made())
    told = words(page)
    for said in (
        *("llama, gguf:Q4_K_M", "4.0 MB in place of 12.3 MB (5.04 bits per weight)", "gate blocked"),
        *("+3.04 % [+2.51, +3.59]", "0.0321 [0.0302, 0.0344]", "0.410 [0.380, 0.460]", "92.1 % [91.4, 92.8]"),
        *("perplexity_ratio <= 1.02", "1.0304 [1.0251, 1.0359]"),
        *("812.5 (800 to 820)", "llama.cpp on a processor, 2 threads", "Alone on its host."),
        *("Once upon", "a time there was", "a hill there lay"),
        *("It loads, and all its answers are finite.", "sha256:" + "d" * 64, "a" * 64, "torch 2.13.0", "3.00 GB"),
        *("mlp.up_proj", "0.25", "apache-2.0"),
    ):
        assert said in told, said
    assert page.count("<svg ") == 3


def test_tasks_have_a_table_where_there_are_some() -> None:
    told = words(job_report(retrace(judged_by_a_task())))
    for said in (
        f"{TASK}; 200 items of each",
        f"accuracy lost 2.1 [1.2, 3.0] points on {TASK}; gate blocked",
        f"{TASK} accuracy 73.1 % 71.0 % [64.0, 77.0] 2.1 [1.2, 3.0] 180",
        f"{TASK} ROUGE-L 85.2 % 84.1 % [82.0, 86.0] 1.1 [0.2, 2.0] 180",
        f"accuracy_drop <= 0.01 {TASK} 0.0210 [0.0120, 0.0300] blocked",
    ):
        assert said in told, said
    assert "ROUGE-L" not in words(job_report(made()))


def test_what_is_not_known_is_left_out() -> None:
    score = {"perplexity": 24.405, "windows": 40, "tokens": 10_200, "measures": None}
    old = made(
        quantize=done(WRITTEN, "model.gguf"),
        verify=done({"checks": CHECKS}),
        evaluate=done({}, scores={"prose": score}),
    ).model_dump(mode="json")
    for later in ("benchmark", "generations"):
        del old[later]
    page = job_report(Provenance.model_validate(old))
    assert "<svg" not in page
    for part in ("Speed", "How each goes on", "Loss of each layer", "gate blocked"):
        assert part not in words(page)
    assert "+3.04 %" in page


def test_what_others_wrote_is_shown_and_does_nothing() -> None:
    card = {**CARD, "licenses": [WILD], "license_name": WILD}
    losses = [{"layer": 0, "module": WILD, "loss": 0.25}]
    page = job_report(
        made(
            fetch=done({"model": {**MODEL, "architecture": WILD}, "card": card}, "model.safetensors"),
            quantize=done({**WRITTEN, **MADE_WITH, "losses": losses, "tensor_types": {WILD: 1}}, WILD),
            verify=done({"checks": [{**CHECKS[0], "detail": WILD}], "generations": [{**GENERATION, "result": WILD}]}),
            benchmark=done({**MEASURED, "note": WILD}),
        )
    )
    elements = Elements(page).found
    assert not [tag for tag, _ in elements if tag in {"script", "iframe", "object", "img", "link", "form"}]
    assert not [name for _, attributes in elements for name in attributes if name.startswith("on")]
    assert page.count("&lt;script&gt;") >= 6


def test_it_asks_nobody_for_anything() -> None:
    for _, attributes in (elements := Elements(job_report(made())).found):
        for name, value in attributes.items():
            if name in {"href", "src", "xlink:href"} or "url(" in (value or ""):
                assert (value or "").startswith(("#", "url(#", "fill: url(#")), (name, value)
    (policy,) = [one["content"] for tag, one in elements if tag == "meta" and "http-equiv" in one]
    assert (policy or "").startswith("default-src 'none'; style-src 'unsafe-inline'")
    names = [one["id"] for _, one in elements if "id" in one]
    assert len(names) == len(set(names))
    used = {one["xlink:href"] for _, one in elements if "xlink:href" in one}
    assert used <= {f"#{name}" for name in names}


def test_a_text_of_ones_own_and_the_folders_of_this_place_are_not_told() -> None:
    own = {"method": "gptq", "calibration_text": "text_01k5y3h8w9z2x4v6b7n8m9q0rs"}
    text = job_report(
        retrace(documenting(own, "model.safetensors", source="file:///secret/llama", calibrate=done(CALIBRATED)))
    )
    assert "secret" not in text
    assert "a text of its maker" in text


def test_a_picture_is_the_same_each_time_and_names_what_it_shows() -> None:
    points = [
        SizeAndLoss("gguf:Q8_0 $a$ <b>", 6_700_000, Interval(1.001, 1.0005, 1.002)),
        SizeAndLoss("gguf:Q2_K", 2_900_000, Interval(1.7, None, None)),
    ]
    drawn = pictures.size_against_loss(points, "one", "Size & loss", limit=1.02)
    assert drawn == pictures.size_against_loss(points, "one", "Size & loss", limit=1.02)
    assert 'role="img" aria-label="Size &amp; loss"><title>Size &amp; loss</title>' in drawn
    for label in ("gguf:Q8_0 $a$ &lt;b&gt;", "gguf:Q2_K", "limit of the gate", "size, MB"):
        assert f">{label}</text>" in drawn
    assert "<style" not in drawn


def test_of_many_kinds_of_module_those_that_lost_most_are_drawn() -> None:
    losses = [Loss(layer, f"model.layers.{layer}.kind_{kind}", kind / 10) for layer in (0, 1) for kind in range(1, 12)]
    drawn = pictures.loss_per_layer(losses, "layers", "Loss")
    shown = re.findall(r">(kind_\d+)</text>", drawn)
    assert shown == [f"kind_{kind}" for kind in range(11, 3, -1)]


def test_speeds_stand_beside_their_names() -> None:
    drawn = pictures.speed_bars({"tokens/s": [Speed("512", 60.0, 58.0, 61.0), Speed("2048", 51.5)]}, "speed", "Speed")
    for said in ("512", "2048", "60", "51.5", "tokens/s"):
        assert f">{said}</text>" in drawn
