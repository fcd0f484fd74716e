"""Verification of AWQ: the scales that it moves between tensors pass, and nothing else does."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from engines import verification
from engines.probe import Answers
from engines.recipe import parse_recipe
from engines.verification import Check
from engines.verification.folding import Folds
from engines.verification.subject import Fault, Subject
from tests.engines import conftest, making
from tests.engines.damage import edit, shuffle, tell

# GPTQModel takes a warning that is raised for a failure, and goes another way then.
pytestmark = pytest.mark.filterwarnings("default")

SKIPPED = "model.layers.0.self_attn.v_proj"
RECIPE = {
    "method": "awq",
    "calibration_samples": 4,
    "calibration_tokens": 32,
    "modules": [{"match": r"model\.layers\.0\.self_attn\.[qkv]_proj", "skip": True}],
}
Verify = Callable[[Path], Sequence[Check]]
UP, NORM = "model.layers.1.mlp.up_proj", "model.layers.1.post_attention_layernorm.weight"


@pytest.fixture(scope="module")
def result(two_layers: Path, make_context: conftest.MakeContext) -> Path:
    return making.result_of(RECIPE, two_layers, make_context)


def subject(result: Path, two_layers: Path) -> Subject:
    parameters = parse_recipe(RECIPE).parameters
    return Subject(written="awq", result=result, source=two_layers, lossless=None, promises=parameters)


@pytest.fixture
def verify(two_layers: Path, answers_of_two_layers: Answers, make_context: conftest.MakeContext) -> Verify:
    return lambda result: verification.verify(make_context(), subject(result, two_layers), answers_of_two_layers).checks


def test_a_sound_result_passes(result: Path, verify: Verify) -> None:
    """Also where modules were skipped."""
    checks = verify(result)
    assert [check.name for check in checks] == ["tensors", "tokenizer", "loads", "divergence", "generation"]
    assert all(check.passed for check in checks), checks


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "codes inverted": (edit(lambda t: t[f"{UP}.qweight"].bitwise_not_()), f"{UP}.weight differs from its original"),
    "codes shuffled": (shuffle(f"{UP}.qweight"), f"{UP}.weight differs from its original"),
    "zero points shuffled": (shuffle(f"{UP}.qzeros"), f"{UP}.weight differs from its original"),
    "scales too large": (edit(lambda t: t[f"{UP}.scales"].mul_(1.5)), f"rows of {UP}.weight are scaled"),
    "scales not finite": (edit(lambda t: t[f"{UP}.scales"].fill_(float("nan"))), f"{UP}.weight differs"),
    "norm doubled": (edit(lambda t: t[NORM].mul_(2)), "are scaled, and nothing in the layer makes up for it"),
    "last norm changed": (edit(lambda t: t["model.norm.weight"].mul_(1.01)), "model.norm.weight is not quantized"),
    "embedding changed": (edit(lambda t: t["model.embed_tokens.weight"][7].zero_()), "embed_tokens.weight is not"),
    "skipped one shuffled": (shuffle(f"{SKIPPED}.weight"), f"{SKIPPED}.weight differs from its original"),
    "skipped one doubled": (edit(lambda t: t[f"{SKIPPED}.weight"].mul_(2)), f"{SKIPPED}.weight are scaled"),
    "tensor missing": (edit(lambda t: t.pop(f"{UP}.qzeros")), f"{UP}.qzeros and 0 more tensors are missing"),
    "told otherwise": (tell(zero_point=False), "zero_point is False"),
    "not told what was skipped": (tell(modules_to_not_convert=None), "modules_to_not_convert is None"),
}


QUICK = ("codes shuffled", "norm doubled", "told otherwise")


@pytest.mark.parametrize(
    "fault", [pytest.param(fault, marks=[] if fault in QUICK else [pytest.mark.slow]) for fault in FAULTS]
)
def test_a_planted_fault_is_caught(fault: str, result: Path, two_layers: Path, tmp_path: Path) -> None:
    damage, says = FAULTS[fault]
    damaged = Path(shutil.copytree(result, tmp_path / "damaged"))
    damage(damaged)
    with pytest.raises(Fault) as caught:
        verification.awq.check_tensors(subject(damaged, two_layers))
    assert says in str(caught.value)


@pytest.mark.slow
def test_a_source_that_was_not_scaled_beside_scaled_norms_is_caught(
    result: Path, two_layers: Path, verify: Verify, tmp_path: Path
) -> None:
    """As if the norms had been taken for something to keep: each is the source's own, and the model is another."""
    from safetensors.torch import load_file, save_file

    damaged = Path(shutil.copytree(result, tmp_path / "damaged"))
    tensors, originals = (load_file(folder / "model.safetensors") for folder in (damaged, two_layers))
    tensors |= {name: weight for name, weight in originals.items() if name.endswith("layernorm.weight")}
    save_file(tensors, damaged / "model.safetensors", {"format": "pt"})
    failed = {check.name for check in verify(damaged) if not check.passed}
    assert "tensors" in failed


def factors(count: int) -> Any:
    import torch

    return torch.linspace(0.5, 2, count)


def test_factors_that_cancel_pass_and_others_do_not() -> None:
    """A norm, a matrix that it feeds, and one fed by that one's rows; the norm adds one to what it stores."""
    import torch

    torch.manual_seed(0)
    norm, first, second = torch.rand(64), torch.randn(96, 64), torch.randn(32, 96)
    columns, rows = factors(64), factors(96)

    def folded(*, made_up_for: bool) -> Folds:
        folds = Folds()
        folds.add_vector("norm.weight", (1 + norm) / columns - 1, norm)
        folds.add_matrix("first.weight", first * columns / rows[:, None], first, 0.01)
        folds.add_matrix("second.weight", second * rows if made_up_for else second, second, 0.01)
        return folds

    folded(made_up_for=True).require_cancelled()
    with pytest.raises(Fault, match=r"rows of first\.weight are scaled"):
        folded(made_up_for=False).require_cancelled()


def test_a_bias_goes_with_its_rows() -> None:
    import torch

    torch.manual_seed(0)
    bias, first, second, rows = torch.randn(96), torch.randn(96, 64), torch.randn(32, 96), factors(96)

    def folded(stored_bias: Any) -> Folds:
        folds = Folds()
        folds.add_vector("first.bias", stored_bias, bias)
        folds.add_matrix("first.weight", first / rows[:, None], first, 0.01)
        folds.add_matrix("second.weight", second * rows, second, 0.01)
        return folds

    folded(bias / rows).require_cancelled()
    with pytest.raises(Fault, match=r"first\.bias is not the source's own"):
        folded(bias * rows).require_cancelled()
    with pytest.raises(Fault, match=r"rows of first\.weight are scaled, and first\.bias is not"):
        folded(bias).require_cancelled()
