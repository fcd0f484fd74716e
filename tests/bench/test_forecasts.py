"""What is forecast of large models is what was measured on a GPU, within what is promised."""

import pytest

from bench.forecasts import MEASURED, compared
from bench.gpu.results import Results
from bench.quantize_speed import RESULTS as QUANTIZE_SPEED
from engines.gguf_types import MAIN, MILLION_WEIGHTS_A_SECOND, TensorType

CLOSE = {"RAM": 0.15, "VRAM": 0.15, "scratch": 0.15, "result": 0.01, "seconds": 0.15}
RUNS = list(compared(Results(MEASURED).rows))


@pytest.mark.parametrize(
    ("what", "forecast", "measured"), [run[1:] for run in RUNS], ids=[f"{run}, {what}" for run, what, *_ in RUNS]
)
def test_a_forecast_is_near_what_was_measured(what: str, forecast: float, measured: float) -> None:
    assert forecast == pytest.approx(measured, rel=CLOSE[what])


@pytest.mark.parametrize("tensor_type", sorted(set(MAIN.values())))
def test_the_speed_of_each_type_of_gguf_is_what_was_measured(tensor_type: TensorType) -> None:
    (row,) = (row for row in Results(QUANTIZE_SPEED).rows if row["name"] == tensor_type)
    assert MILLION_WEIGHTS_A_SECOND[tensor_type] == pytest.approx(row["million weights a second"], rel=0.05)


def test_every_engine_was_measured_on_a_large_model() -> None:
    assert len({run for run, *_ in RUNS}) == 12
