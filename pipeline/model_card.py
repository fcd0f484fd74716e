"""The model card of a result: a README.md as the Hugging Face Hub reads it, made of its provenance alone.

https://huggingface.co/docs/hub/model-cards says what the metadata may hold. What users or a source's author wrote is
escaped. The source's own card speaks of another model; its licence is carried over, the rest stays with the source.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from engines.comparison import AGREEMENT, KL_DIVERGENCE
from engines.datasets import is_own
from engines.gates import Condition
from engines.recipe import Recipe, parse_recipe
from pipeline import speed
from pipeline.figures import (
    NOTHING,
    TASK_COLUMNS,
    change,
    headline,
    interval,
    model_name,
    perplexity,
    size,
    task_rows,
)
from pipeline.loading_guide import how_to_load
from pipeline.markdown import block, code, plain, table
from pipeline.provenance import PROVENANCE_NAME, REPORT_NAME, Benchmark, Comparison, Provenance

HUB = "https://huggingface.co"


def model_card(made: Provenance) -> str:
    """Return the card's text."""
    sections = (
        f"---\n{_metadata(made)}---",
        f"# {plain(model_name(made.source))}, {plain(made.recipe.short)}",
        _what_it_is(made),
        "## What was lost",
        _what_was_lost(made),
        *_how_fast_it_is(made.benchmark),
        "## What was verified",
        _what_was_verified(made),
        "## How to load it",
        how_to_load(made.result.format, [file.name for file in made.result.files], _recipe(made).runtimes),
        "## How it was made",
        _how_it_was_made(made),
        "## Licence",
        _licence(made),
    )
    return "\n\n".join(sections) + "\n"


def _metadata(made: Provenance) -> str:
    """Return YAML; a JSON value is one, whatever is in it."""
    source, licenses = made.source, made.source.licenses
    fields: Mapping[str, Any] = {
        "license": licenses[0] if len(licenses) == 1 else licenses,
        "license_name": source.license_name,
        "license_link": _license_link(made),
        "base_model": source.hub_id,
        "base_model_relation": source.hub_id and "quantized",
        "library_name": "gguf" if made.result.format == "gguf" else "transformers",
        "pipeline_tag": source.pipeline_tag,
        "tags": _tags(made),
    }
    return "".join(f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in fields.items() if value)


def _tags(made: Provenance) -> list[str]:
    bits = made.recipe.parameters.get("bits")
    return list(dict.fromkeys([made.result.format, made.recipe.method, *([f"{bits}-bit"] if bits else []), "fewbits"]))


def _license_link(made: Provenance) -> str | None:
    """Return where the licence is: a URL, or a file of the result's own. One of the source's alone is on the Hub."""
    link, source = made.source.license_link, made.source
    if link is None or link.startswith(("http://", "https://")):
        return link
    if link in {file.name for file in made.result.files}:
        return link
    return None if source.hub_id is None else f"{HUB}/{source.hub_id}/blob/{source.revision or 'main'}/{link}"


def _what_it_is(made: Provenance) -> str:
    source, result = made.source, made.result
    if source.hub_id is None:
        base = code(model_name(source))
    else:
        at = f" at {code(source.revision)}" if source.revision else ""
        base = f"[{plain(source.hub_id)}]({HUB}/{source.hub_id}){at}"
    bits = "" if result.bits_per_weight is None else f", {result.bits_per_weight:.2f} bits per weight"
    return (
        f"This is {base} ({code(source.architecture)}, {source.parameter_count / 1e6:,.1f} million parameters in "
        f"{source.dtype}), quantized by {code(made.recipe.short)} into {result.format}: {size(result.size_bytes)} in "
        f"place of {size(source.weight_bytes)}{bits}."
    )


def _what_was_lost(made: Provenance) -> str:
    rows = [
        [plain(one.domain), perplexity(one.baseline), perplexity(one.result), change(one), *_measures(one)]
        for one in made.report
    ]
    columns = ["text", "full precision", "this", "change", "KL divergence", "same token likeliest", "windows"]
    said = (
        "Perplexity, lower is better; full precision is the source in float32. In brackets the 95 % interval, of both "
        "on the same tokens. Windows of plain text are those of llama.cpp's `llama-perplexity`."
    )
    report = f"> {plain(headline(made))}\n\n[The report]({REPORT_NAME}) has it in pictures, beside this file."
    tasks = [_tasks(made)] if made.tasks else []
    gate = [] if made.verdict is None else [_gate(made)]
    return "\n\n".join([report, table(columns, rows), said, *tasks, *gate])


def _tasks(made: Provenance) -> str:
    rows = [[plain(cell) for cell in row] for row in task_rows(made.tasks)]
    said = (
        "Datasets of its maker's own, put to it and to full precision: accuracy is the part of the answers that are "
        "right, ROUGE-L their likeness to those that are known. In brackets the 95 % interval."
    )
    return f"{table(TASK_COLUMNS, rows)}\n\n{said}"


def _measures(one: Comparison) -> list[str]:
    divergence, agreement = (one.measures.get(metric) for metric in (KL_DIVERGENCE, AGREEMENT))
    return [interval(divergence, 1, 4, ""), interval(agreement, 100, 1, " %"), _windows(one)]


def _gate(made: Provenance) -> str:
    rows = [
        [
            code(Condition(one.metric, one.domain, one.max, one.min, one.task).short),
            interval(one.measured, 1, 4, ""),
            plain(one.decision),
        ]
        for one in made.gate
    ]
    return f"Its gate: **{made.verdict}**.\n\n" + table(["condition", "measured", "decision"], rows)


def _recipe(made: Provenance) -> Recipe:
    return parse_recipe({"method": made.recipe.method, **made.recipe.parameters})


def _windows(one: Comparison) -> str:
    return NOTHING if one.result is None else str(one.result.windows)


def _how_fast_it_is(found: Benchmark | None) -> Sequence[str]:
    """Return the section on speed; nothing where it was not measured."""
    if found is None:
        return ()
    measured = table(speed.COLUMNS, [[plain(cell) for cell in row] for row in speed.rows(found)])
    said = "Medians of the repeats, in brackets the least and the most. To be compared only with what the same runtime "
    return ("## How fast it is", measured, plain(speed.circumstances(found)), f"{said}did on the same hardware.")


def _what_was_verified(made: Provenance) -> str:
    rows = [[plain(check.name), plain(check.detail)] for check in made.verification]
    return table(["check", "what was found"], rows)


def _how_it_was_made(made: Provenance) -> str:
    parameters = json.dumps({"method": made.recipe.method, **made.recipe.parameters}, indent=2, ensure_ascii=False)
    where = [] if made.hardware is None else [f"on {plain(made.hardware.gpu or made.hardware.cpu)}"]
    sentences = [" ".join([f"By {plain(made.software.engine)}", *where]) + ", by this recipe:"]
    after = [_calibrated(made)] if made.calibration is not None else []
    after.append(
        f"`{PROVENANCE_NAME}` beside this file has the digests of source and result, the versions of all libraries, "
        "the loss of each module and what the work took. `fewbits reproduce` makes the same again from it."
    )
    return "\n\n".join([*sentences, block(parameters, "json"), *after])


def _calibrated(made: Provenance) -> str:
    looked_at = made.calibration
    assert looked_at is not None  # noqa: S101 - asked before
    text = "a text of its maker's own" if is_own(looked_at.text) else f"the text {code(looked_at.text)}"
    return (
        f"The method looked at {text} (SHA-256 {code(looked_at.text_sha256)}): {looked_at.samples} samples of "
        f"{looked_at.tokens} tokens, chosen by seed {made.seed}."
    )


def _licence(made: Provenance) -> str:
    source, link = made.source, _license_link(made)
    if not source.licenses:
        return "The source's card names no licence. What holds for the source holds for this: ask whoever made it."
    named = _listed(source.licenses) + (f" ({plain(source.license_name)})" if source.license_name else "")
    where = f" Its text: <{link}>." if link is not None and link.startswith("http") else ""
    return f"The source's: {named}. It holds for this result, too.{where}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(code(name) for name in names)
