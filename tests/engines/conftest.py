"""Real small models: tiny-llama-6m, and variants of it that differ in one thing."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from engines import calibration, convert, imatrix, methods, probe
from engines.calibration import Calibration
from engines.context import EngineContext, Measurement, Progress
from engines.domains import TEXTS
from engines.gguf_file import gguf_in
from engines.llama_cpp import run_tool
from engines.methods.base import Material
from engines.probe import Answers
from engines.recipe import parse_recipe
from engines.runtimes import open_runtime

TRIES = 15  # of a tool that may end before it has printed its last
TINY = Path(__file__).parents[2] / "demo" / "tiny-llama-6m"

MakeContext = Callable[..., EngineContext]
Quantize = Callable[[str], Path]
ToolPerplexity = Callable[[Path, str, int], float]
ToolDivergence = Callable[[str, str, int], dict[str, float]]

os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # as a worker sets it for its children

methods.load()


@pytest.fixture(scope="session", autouse=True)
def _close_what_the_binding_leaves_open() -> Iterator[None]:
    """Close two files that llama_cpp opens when it is imported: warnings are errors here."""
    yield
    if (binding := sys.modules.get("llama_cpp._utils")) is not None:
        binding.outnull_file.close()
        binding.errnull_file.close()


@pytest.fixture(scope="session")
def make_context(tmp_path_factory: pytest.TempPathFactory) -> MakeContext:
    """Return a maker of contexts with fresh folders; what is reported and measured goes to the lists it is given."""

    def make(reports: list[Progress] | None = None, measured: list[Measurement] | None = None) -> EngineContext:
        return dataclasses.replace(
            context_in(tmp_path_factory.mktemp("context")),
            report=(reports if reports is not None else []).append,
            measure=(measured if measured is not None else []).append,
        )

    return make


@pytest.fixture(scope="session")
def two_layers(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first two layers of tiny-llama-6m: enough to see how a layer is written."""
    return cut_to_two_layers(tiny, tmp_path_factory.mktemp("two") / "model")


@pytest.fixture(scope="session")
def answers_of_two_layers(two_layers: Path, make_context: MakeContext) -> Answers:
    """What they answer in full precision."""
    with open_runtime("safetensors", two_layers, make_context()) as runtime:
        return probe.ask(runtime, probe.read_windows(two_layers))


def context_in(root: Path, threads: int = 2, device: str = "cpu") -> EngineContext:
    """Return a context with fresh folders in one that has none yet; nobody hears what is reported and measured."""
    (root / "output").mkdir()
    (root / "scratch").mkdir()
    (root / "checkpoint").mkdir()
    return EngineContext(
        output=root / "output",
        scratch=root / "scratch",
        checkpoint=root / "checkpoint",
        work="work",
        threads=threads,
        device=device,
        report=lambda _: None,
        measure=lambda _: None,
        recall=lambda _: None,
        save=lambda: None,
        must_leave=lambda: False,
    )


@pytest.fixture(scope="session")
def tiny() -> Path:
    return TINY


@pytest.fixture
def tiny_copy(tmp_path: Path) -> Path:
    """A copy of tiny-llama-6m that a test may spoil."""
    return Path(shutil.copytree(TINY, tmp_path / "model"))


@pytest.fixture(scope="session")
def namespaces() -> None:
    """Skip where the kernel lets nobody make namespaces, as in some containers; bubblewrap must be installed."""
    if subprocess.run(["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"], check=False).returncode != 0:
        pytest.skip("bubblewrap may make no namespaces here")


@pytest.fixture(scope="session")
def converted(tiny: Path, make_context: MakeContext) -> Path:
    context = make_context()
    convert.convert(context, tiny)
    return context.output / convert.FILE_NAME


@pytest.fixture(scope="session")
def material(converted: Path, tiny: Path, make_context: MakeContext) -> Mapping[Material, Path]:
    """Return all that gguf may read of tiny-llama-6m: the conversion, and an importance matrix on a little prose."""
    samples, weighed = make_context(), dataclasses.replace(make_context(), threads=1)
    calibration.write_samples(samples.output, tiny, Calibration("prose", 32, 256, 0), {})
    imatrix.write_imatrix(weighed, converted.parent, samples.output)
    return {"gguf": converted.parent, "samples": samples.output, "imatrix": weighed.output}


@pytest.fixture(scope="session")
def quantized(converted: Path, make_context: MakeContext) -> Quantize:
    """Return a function from a recipe's short form to the folder of the result, made once a session."""
    made: dict[str, Path] = {}

    def quantize(short: str) -> Path:
        if short not in made:
            context, recipe = make_context(), parse_recipe(short)
            recipe.method.quantize(context, {"gguf": converted.parent}, recipe.params)
            made[short] = context.output
        return made[short]

    return quantize


@pytest.fixture(scope="session")
def tool_perplexity(tmp_path_factory: pytest.TempPathFactory) -> ToolPerplexity:
    """Return llama.cpp's own judgement of a model: a file, a text's domain and a number of windows."""
    work = tmp_path_factory.mktemp("perplexity")

    def judge(model: Path, domain: str, windows: int) -> float:
        options = ["-f", TEXTS / f"{domain}_eval.txt", "--chunks", windows]
        return float(run_perplexity(model, options, r"Final estimate: PPL = ([\d.]+)", work)[0])

    return judge


@pytest.fixture(scope="session")
def tool_divergence(quantized: Quantize, tmp_path_factory: pytest.TempPathFactory) -> ToolDivergence:
    """Return what llama.cpp's own tool says of a GGUF recipe beside F16: a text's domain and a number of windows."""
    work = tmp_path_factory.mktemp("divergence")

    def judge(recipe: str, domain: str, windows: int) -> dict[str, float]:
        base = work / f"{domain}.{windows}"
        options = ["--chunks", windows, "--kl-divergence-base", base]
        if not base.exists():
            of_text = [*options, "-f", TEXTS / f"{domain}_eval.txt"]
            run_perplexity(gguf_in(quantized("gguf:F16")), of_text, "Final estimate", work)
        line = r"^([A-Z0-9][\w .%]+?): +(-?[\d.]+) *(?:±|$|%)"
        file, last = gguf_in(quantized(recipe)), "Same top p:"
        found = run_perplexity(file, [*options, "--kl-divergence"], line, work, last)
        return {name: float(value) for name, value in found}

    return judge


def run_perplexity(model: Path, options: Sequence[object], line: str, work: Path, last: str = "") -> list[Any]:
    """Return all that a pattern finds in what llama-perplexity prints, which must hold ``last``, too."""
    # One thread: with all cores busy the tool's own logging thread often has not printed its last when it exits.
    known: list[str | Path] = ["-m", model, "-c", "512", "-b", "512", "-t", "1"]
    for _ in range(TRIES):
        lines: list[str] = []
        run_tool("llama-perplexity", [*known, *map(str, options)], cwd=work, on_line=lines.append)
        said = "".join(lines)
        if last in said and (found := re.findall(line, said, re.MULTILINE)):
            return found
    pytest.fail(f"llama-perplexity ended {TRIES} times without its estimate")


def edit_json(path: Path, **changes: Any) -> None:
    """Set top-level fields of a JSON file; None removes one."""
    document = json.loads(path.read_text(encoding="utf-8"))
    document.update(changes)
    path.write_text(json.dumps({k: v for k, v in document.items() if v is not None}), encoding="utf-8")


def store_as(folder: Path, dtype: str) -> None:
    """Store the weights of a model folder in another precision."""
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    save_file(
        {k: v.to(getattr(torch, dtype)) for k, v in weights.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    edit_json(folder / "config.json", dtype=dtype)


def shard(folder: Path) -> None:
    """Split the weights of a model folder into two files and an index."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    index = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, folder / file, {"format": "pt"})
        index.update(dict.fromkeys(part, file))
    document = {"metadata": {"total_size": 12327424}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(document), encoding="utf-8")


def untie(folder: Path) -> None:
    """Give a model folder an output head of its own, a copy of its embedding."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    edit_json(folder / "config.json", tie_word_embeddings=False)


def add_bos_and_chat_template(folder: Path) -> None:
    """Give the tokenizer what most instruction models have: a token that begins each text, and a chat template."""
    template = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}},
    }
    edit_json(folder / "tokenizer.json", post_processor=template)
    edit_json(
        folder / "tokenizer_config.json",
        chat_template="{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}",
    )


def linked(folder: Path, target: Path) -> Path:
    """Make a folder of links to the files of another, as a step finds its inputs."""
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).symlink_to(path)
    return target


def cut_to_two_layers(source: Path, target: Path) -> Path:
    """Copy a model folder, and leave out all layers but the first two."""
    return cut_to_layers(source, target, 2)


def cut_to_layers(source: Path, target: Path, count: int) -> Path:
    """Copy a model folder, and leave out all layers but the first ``count``."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, target)
    weights = load_file(target / "model.safetensors")
    layers = {name: re.search(r"\.layers\.(\d+)\.", name) for name in weights}
    kept = {name: weights[name] for name, layer in layers.items() if layer is None or int(layer[1]) < count}
    save_file(kept, target / "model.safetensors", {"format": "pt"})
    edit_json(target / "config.json", num_hidden_layers=count)
    return target
