"""Make and judge results, each in a process of its own, as steps are done in children.

GPTQModel and llm-compressor change how transformers builds, loads and saves models for as long as a process lives.
"""

import multiprocessing
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from core.errors import FewbitsError
from engines import methods, probe, verification
from engines.context import EngineContext
from engines.recipe import parse_recipe
from engines.runtimes import open_runtime
from engines.verification.subject import Subject
from tests.engines import making
from tests.engines.conftest import context_in, linked
from tests.engines.families import SAMPLES, build

P = ParamSpec("P")
R = TypeVar("R")

# Processes are forked from one that has imported what takes long and changes nothing.
_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload(["transformers.models.auto.modeling_auto", "tests.engines.trials"])


def apart(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Return what a function of a module returns in a new process."""
    with ProcessPoolExecutor(1, mp_context=_FORKED) as pool:
        return pool.submit(function, *args, **kwargs).result()


def build_all(folder: Path, names: list[str]) -> None:
    """Build samples, each in a folder ``model``, with its answers beside it where transformers can run it."""
    for name in names:
        build(folder / name / "model", SAMPLES[name])
        if SAMPLES[name].family != "Mistral3":  # no class of transformers for text alone takes it
            context = _context(folder / name)
            with open_runtime("safetensors", folder / name / "model", context) as runtime:
                (folder / name / "answers").mkdir()
                windows = probe.read_windows(folder / name / "model")
                probe.write(probe.ask(runtime, windows), folder / name / "answers")


def make(method: str, parameters: dict[str, object], sample: Path, result: Path) -> list[str]:
    """Make a result of a sample into a new folder, and return why it could not be, or nothing."""
    methods.load()
    recipe = parse_recipe({"method": method, **parameters})
    try:
        if not (sample / "answers").is_dir():
            with open_runtime("safetensors", sample / "model", _context(sample)):
                return []
        context = _context(sample)
        material = making.material_of(recipe, sample / "model", lambda: _context(sample))
        recipe.method.quantize(context, material, recipe.params)
    # What an engine has not foreseen comes as a RuntimeError of torch.
    except (FewbitsError, RuntimeError) as error:
        return [str(error)]
    linked(context.output, result)
    if "gguf" in material:
        linked(material["gguf"], result.with_name(f"{result.name}-lossless"))
    return []


def judge(method: str, parameters: dict[str, object], sample: Path, result: Path) -> list[str]:
    """Verify a result of a sample, and return what is wrong with it."""
    methods.load()
    recipe = parse_recipe({"method": method, **parameters})
    lossless = result.with_name(f"{result.name}-lossless")
    subject = Subject(
        written=recipe.method.writes(recipe.params),
        result=result,
        source=linked(sample / "model", result.with_name(f"{result.name}-source")),
        lossless=lossless if lossless.is_dir() else None,
        promises=recipe.method.promises(recipe.params),
    )
    checks = verification.verify(_context(sample), subject, probe.read(sample / "answers", sample / "model")).checks
    return [f"{check.name}: {check.detail}" for check in checks if not check.passed]


def _context(folder: Path) -> EngineContext:
    return context_in(Path(tempfile.mkdtemp(dir=folder)), threads=1)
