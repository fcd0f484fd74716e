"""The errors that the sentinel is told, by what they are by definition."""

import math

import pytest
import torch
from torch import Tensor

from engines import output_error


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def energy(matrix: Tensor) -> float:
    return float(matrix.double().square().sum())


def test_gptqs_loss_less_its_damping_is_the_error_of_the_outputs() -> None:
    """Round column by column as GPTQ does, and look at what comes out on the inputs themselves."""
    weight, inputs = torch.randn(24, 32), torch.randn(200, 32) @ torch.randn(32, 32)
    inputs[:, 5] = 0  # of a dead column GPTQ makes zeros
    hessian, damp = 2 / 200 * inputs.T @ inputs, 0.01
    weighed = output_error.weigh(weight, hessian)
    rounded, loss = rounded_by_gptq(weight, hessian.clone(), damp)
    lost, whole = (energy(inputs @ matrix.T) for matrix in (weight - rounded, weight))
    assert lost > 0
    assert weighed.error(loss, damp, weight, rounded) == pytest.approx(lost / whole, rel=1e-3)


@pytest.mark.parametrize("columns", [1, 5, 32, 100])
def test_energy_is_that_of_the_outputs_however_it_is_multiplied(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_error, "MULTIPLIED_COLUMNS", columns)
    monkeypatch.setattr(output_error, "MULTIPLIED_ELEMENTS", 7 * 32)
    weight, inputs = torch.randn(24, 32).bfloat16(), torch.randn(200, 32) @ torch.randn(32, 32)
    found = output_error.weigh(weight, inputs.T @ inputs).output_energy
    assert found == pytest.approx(energy(inputs @ weight.float().T), rel=1e-5)


def rounded_by_gptq(weight: Tensor, hessian: Tensor, damp: float) -> tuple[Tensor, float]:
    """Round to the nearest whole halves by Frantar et al.'s algorithm, and return its loss, too."""
    left, dead = weight.clone(), hessian.diagonal() == 0
    hessian.diagonal()[dead] = 1
    left[:, dead] = 0
    hessian.diagonal().add_(damp * hessian.diagonal().mean())
    factor = torch.linalg.cholesky(torch.linalg.inv(hessian), upper=True)
    rounded, loss = torch.zeros_like(left), 0.0
    for column in range(left.shape[1]):
        rounded[:, column] = (left[:, column] * 2).round() / 2
        residual = (left[:, column] - rounded[:, column]) / factor[column, column]
        loss += energy(residual) / 2
        left[:, column:] -= residual[:, None] * factor[column, column:]
    return rounded, loss


def test_answers_to_some_inputs_give_the_error_of_the_outputs() -> None:
    weight, inputs = torch.randn(24, 32), torch.randn(4, 50, 32)
    rounded = weight.round()
    found = output_error.answers(weight, output_error.sample(inputs)).error(rounded)
    rows = inputs.reshape(-1, 32)
    assert found == pytest.approx(energy(rows @ (weight - rounded).T) / energy(rows @ weight.T), rel=1e-5)
    assert len(output_error.sample(torch.randn(5000, 32))) < 2 * output_error.SAMPLED_ROWS


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_chunks_change_nothing(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(10, 4)
    whole = output_error.weight_error(weight, weight.round().__getitem__)
    monkeypatch.setattr(output_error, "CHUNK_ELEMENTS", rows * 4)
    assert output_error.weight_error(weight, weight.round().__getitem__) == pytest.approx(whole, rel=1e-12)
    assert whole == pytest.approx(energy(weight - weight.round()) / energy(weight), rel=1e-6)


def test_zeros_lose_all_and_of_nothing_nothing_is_lost() -> None:
    zeros, weight = torch.zeros(4, 4), torch.randn(4, 4)
    assert output_error.weight_error(weight, zeros.__getitem__) == 1
    assert output_error.weight_error(zeros, zeros.__getitem__) == 0
    assert output_error.weight_error(zeros, weight.__getitem__) == math.inf
    assert math.isnan(output_error.weight_error(weight, (weight * math.nan).__getitem__))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_spread_is_nothing_for_multiples_of_one_vector_alone(dtype: torch.dtype) -> None:
    one, tokens = torch.randn(64).to(dtype), torch.randn(4096, 1).to(dtype)
    alike, text = (one * torch.ones(4096, 1, dtype=dtype)).float(), torch.randn(4096, 64)
    assert abs(output_error.spread(alike.T @ alike)) < 1e-6
    assert abs(output_error.spread((tokens.float() * one.float()).T @ (tokens.float() * one.float()))) < 1e-6
    assert output_error.spread(text.T @ text) > 0.9
    text[0] *= 1000  # as of the first token of a text in some models: all else is a thousandth of it
    assert output_error.spread(text.T @ text) > 1e-3
    assert output_error.spread(torch.zeros(4, 4)) == 0
    assert not math.isfinite(output_error.spread(torch.full((4, 4), math.nan)))
    assert not math.isfinite(output_error.spread(torch.full((4, 4), math.inf)))
