"""GPTQ and AWQ that are broken off and go on in another process and folder: the files are those of an unbroken run."""

import dataclasses
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from engines import source
from engines.context import EngineContext, Measurement, Progress, Suspended
from engines.families import FAMILIES, REFUSED, RESUMED_BY_GPTQMODEL, family
from engines.gptqmodel_checkpoint import CURRENT, OBJECTS, Pace
from engines.methods.base import Material
from engines.recipe import parse_recipe
from tests.engines import conftest, families, making
from tests.engines.breaking_off import SAVED, Break, break_off, watched

pytestmark = pytest.mark.filterwarnings("default")

QUICK = {"calibration_samples": 8, "calibration_tokens": 64}
GPTQ: Mapping[str, Any] = {"method": "gptq", **QUICK}
AWQ: Mapping[str, Any] = {"method": "awq", **QUICK}
RULES = {
    "desc_act": True,
    "group_size": 64,
    "modules": [{"match": r".*\.down_proj", "bits": 8}, {"match": r"model\.layers\.0\..*", "skip": True}],
}
# One of each family; the first has an output head that is quantized, too.
SAMPLES = (
    "llama, sentencepiece",
    "llama, float16, shards",
    "mistral, float32",
    "qwen2, tied",
    "qwen3",
    "qwen3-moe",
    "gemma2",
    "gemma3",
)


@dataclasses.dataclass(frozen=True)
class Run:
    """What came of a run: its files, how far it was at each report, the layers that it measured, and all losses."""

    files: Mapping[str, bytes]
    done: list[float]
    measured: set[int]
    losses: Mapping[tuple[int, str], float | None]


def finish(recipe: Mapping[str, Any], material: Mapping[Material, Path], context: EngineContext) -> Run:
    """Make a recipe's result, from what the context's checkpoint holds."""
    reports: list[Progress] = []
    measured: list[Measurement] = []
    recalled: list[Measurement] = []
    parsed = parse_recipe(recipe)
    heard = dataclasses.replace(context, report=reports.append, measure=measured.append, recall=recalled.append)
    parsed.method.quantize(heard, material, parsed.params)
    files = {path.name: path.read_bytes() for path in context.output.iterdir()}
    losses = {(one.layer, one.module): one.values.get("loss") for one in [*recalled, *measured]}
    return Run(files, [one.done for one in reports], {one.layer for one in measured}, losses)


def require_same(resumed: Run, whole: Run) -> None:
    names = resumed.files.keys() | whole.files.keys()
    assert not [name for name in names if resumed.files.get(name) != whole.files.get(name)]
    assert resumed.losses == whole.losses


def with_checkpoint(context: EngineContext, saved: Path) -> EngineContext:
    """Give a context what an attempt had saved, as a worker does."""
    shutil.copytree(saved, context.checkpoint, dirs_exist_ok=True)
    return context


@pytest.mark.parametrize(
    ("recipe", "layers", "when"),
    [
        (GPTQ, 6, Break(dies_at=3.3)),
        pytest.param({**GPTQ, **RULES}, 3, Break(leaves_after=2), marks=pytest.mark.slow),
        pytest.param(AWQ, 2, Break(dies_at=1.3), marks=pytest.mark.slow),
        (GPTQ, 2, Break(leaves_after=2)),
    ],
    ids=[
        "gptq, killed",
        "gptq with rules, told to leave",
        "awq, killed",
        "gptq, told to leave when only saving is left",
    ],
)
def test_what_was_broken_off_becomes_the_same_files(
    recipe: Mapping[str, Any], layers: int, when: Break, tmp_path: Path, make_context: conftest.MakeContext
) -> None:
    model = conftest.cut_to_layers(conftest.TINY, tmp_path / "model", layers)
    material = making.material_of(parse_recipe(recipe), model, make_context)
    whole = finish(recipe, material, make_context())
    (tmp_path / "broken").mkdir()
    saved = break_off(recipe, material, tmp_path / "broken", when)
    resumed = finish(recipe, material, with_checkpoint(make_context(), saved))
    require_same(resumed, whole)
    first = int(when.leaves_after or when.dies_at)
    assert resumed.measured == set(range(first, layers))
    assert next(done for done in resumed.done if done) == first


@pytest.fixture(scope="module")
def begun(two_layers: Path, make_context: conftest.MakeContext) -> tuple[Mapping[Material, Path], bytes, Path]:
    """What GPTQ reads, the weights that it makes, and what it has saved after the first of two layers."""
    material = making.material_of(parse_recipe(GPTQ), two_layers, make_context)
    whole = finish(GPTQ, material, make_context())
    return material, whole.files["model.safetensors"], left_after(1, GPTQ, material, make_context())


def left_after(
    layers: int, recipe: Mapping[str, Any], material: Mapping[Material, Path], context: EngineContext
) -> Path:
    """Leave after some layers, and return the folder with what was saved."""
    parsed = parse_recipe(recipe)
    with pytest.raises(Suspended):
        parsed.method.quantize(watched(context, Break(leaves_after=layers)), material, parsed.params)
    return context.output.parent / SAVED


def cut_short(saved: Path) -> None:
    path = max((saved / OBJECTS).iterdir(), key=lambda path: path.stat().st_size)
    path.write_bytes(path.read_bytes()[:-8])


def changed(saved: Path) -> None:
    path = max((saved / OBJECTS).iterdir(), key=lambda path: path.stat().st_size)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def without_an_object(saved: Path) -> None:
    min((saved / OBJECTS).iterdir(), key=lambda path: path.stat().st_size).unlink()


def of_nonsense(saved: Path) -> None:
    (saved / CURRENT).write_text("{}")


@pytest.mark.parametrize("damage", [cut_short, changed, without_an_object, of_nonsense])
def test_a_damaged_checkpoint_is_not_used_and_the_log_says_so(
    damage: Callable[[Path], None],
    begun: tuple[Mapping[Material, Path], bytes, Path],
    tmp_path: Path,
    make_context: conftest.MakeContext,
    caplog: pytest.LogCaptureFixture,
) -> None:
    material, weights, saved = begun
    spoilt = Path(shutil.copytree(saved, tmp_path / "spoilt"))
    damage(spoilt)
    resumed = finish(GPTQ, material, with_checkpoint(make_context(), spoilt))
    assert resumed.files["model.safetensors"] == weights
    assert resumed.measured == {0, 1}
    assert "all layers are done anew" in caplog.text


@pytest.mark.parametrize("change", ["work", "recipe", "version"])
def test_the_checkpoint_of_other_work_is_not_used(
    change: str,
    begun: tuple[Mapping[Material, Path], bytes, Path],
    make_context: conftest.MakeContext,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    material, weights, saved = begun
    context = with_checkpoint(make_context(), saved)
    recipe = {**GPTQ, "damp_percent": 0.02} if change == "recipe" else GPTQ
    if change == "version":
        monkeypatch.setattr("engines.gptqmodel.VERSION", "gptqmodel 7.6.1")
    resumed = finish(recipe, material, dataclasses.replace(context, work="other" if change == "work" else context.work))
    assert (resumed.files["model.safetensors"] == weights) == (change != "recipe")
    assert resumed.measured == {0, 1}
    assert "all layers are done anew" in caplog.text


def test_a_checkpoint_that_cannot_be_made_fails_nothing(
    begun: tuple[Mapping[Material, Path], bytes, Path],
    make_context: conftest.MakeContext,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from gptqmodel.looper.continuation import ContinuationCodec

    def refuse(state: Any) -> bytes:
        if isinstance(state, dict):
            raise TypeError("unsupported continuation value")
        return b"calibration"

    material, weights, _ = begun
    monkeypatch.setattr(ContinuationCodec, "dumps", staticmethod(refuse))
    saves: list[None] = []
    context = dataclasses.replace(make_context(), save=lambda: saves.append(None))
    with caplog.at_level(logging.WARNING):
        assert finish(GPTQ, material, context).files["model.safetensors"] == weights
    assert not saves
    assert "no checkpoint can be kept" in caplog.text


def test_checkpoints_take_a_small_part_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    cheap, dear = Pace(0.1), Pace(30)
    assert (cheap.is_due(), dear.is_due()) == (True, False)
    now = 599
    assert not dear.is_due()
    now = 600
    assert dear.is_due()
    with dear.measured():
        now += 10
    now += 199
    assert not dear.is_due()
    now += 1
    assert dear.is_due()


def test_every_family_that_goes_on_is_tried() -> None:
    tried = {FAMILIES[families.SAMPLES[name].architecture] for name in SAMPLES}
    assert tried == RESUMED_BY_GPTQMODEL


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gptq", "awq"])
@pytest.mark.parametrize("name", SAMPLES)
def test_a_family_goes_on_to_the_same_files(
    name: str, method: str, tmp_path: Path, make_context: conftest.MakeContext
) -> None:
    model = tmp_path / "model"
    families.build(model, families.SAMPLES[name])
    if family(source.inspect(model)) in REFUSED[method]:
        pytest.skip("it is refused")
    has_head = method == "gptq" and name == SAMPLES[0]
    recipe = {"method": method, **QUICK, **({"lm_head": True} if has_head else {})}
    material = making.material_of(parse_recipe(recipe), model, make_context)
    whole = finish(recipe, material, make_context())
    saved = left_after(1, recipe, material, make_context())
    resumed = finish(recipe, material, with_checkpoint(make_context(), saved))
    require_same(resumed, whole)
    assert resumed.measured == ({1, 2} if has_head else {1})
