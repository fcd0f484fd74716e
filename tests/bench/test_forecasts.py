"""What is forecast of large models is what was measured on a GPU, within what is promised."""

import pytest

from bench.forecasts import MEASURED, compared
from bench.gpu.results import Results

CLOSE = {"RAM": 0.15, "VRAM": 0.15, "scratch": 0.15, "result": 0.01, "seconds": 0.15}
RUNS = list(compared(Results(MEASURED, "").rows))


@pytest.mark.parametrize(
    ("what", "forecast", "measured"), [run[1:] for run in RUNS], ids=[f"{run}, {what}" for run, what, *_ in RUNS]
)
def test_a_forecast_is_near_what_was_measured(what: str, forecast: float, measured: float) -> None:
    assert forecast == pytest.approx(measured, rel=CLOSE[what])


def test_every_engine_was_measured_on_a_large_model() -> None:
    assert len({run for run, *_ in RUNS}) == 9
