"""What work, keeping and serving cost."""

import pytest

from pipeline.pricing import Prices


def test_work_is_paid_by_the_hour_of_its_pool() -> None:
    prices = Prices("EUR", cpu_hour=0.1, gpu_hour=3.0)
    assert prices.of_work({"cpu": 7200.0, "gpu": 600.0}) == pytest.approx(0.7)
    assert prices.of_work({}) == 0


def test_what_has_no_price_is_not_made_up() -> None:
    assert not Prices("EUR").are_set
    assert Prices("EUR").of_work({"cpu": 1.0}) is None
    assert Prices("EUR").of_work({}) is None
    only_gpu = Prices("EUR", gpu_hour=3.0)
    assert only_gpu.of_work({"cpu": 1.0, "gpu": 1.0}) is None
    assert only_gpu.of_work({"gpu": 3600.0}) == 3.0
    assert only_gpu.of_keeping(2**30) is None
    assert only_gpu.of_a_million_tokens(100.0, "cpu") is None


def test_results_are_paid_by_the_gib_and_month() -> None:
    prices = Prices("EUR", gib_month=0.02)
    assert prices.are_set
    assert prices.of_keeping(5 * 2**30) == pytest.approx(0.1)
    assert prices.of_keeping(None) is None


def test_a_million_tokens_take_the_time_that_they_take() -> None:
    prices = Prices("EUR", cpu_hour=0.36, gpu_hour=3.6)
    assert prices.of_a_million_tokens(1000.0, "gpu") == pytest.approx(1.0)
    assert prices.of_a_million_tokens(1000.0, "cpu") == pytest.approx(0.1)
    assert prices.of_a_million_tokens(None, "gpu") is None
    assert prices.of_a_million_tokens(0.0, "gpu") is None
