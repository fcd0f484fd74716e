import pytest

from bench.forecasts import MEASURED
from bench.gpu.results import Results, Row
from bench.time_left import RESULTS as TIME_LEFT
from engines.context import Progress
from workers.time_left import TimeLeft

ERROR_MAX = 0.3
SECONDS_MIN = 5  # what is over sooner has no layers to speak of


def layers(done: float, total: float = 8) -> Progress:
    return Progress(done, total, "layers")


def test_nothing_is_said_before_a_whole_unit_is_done() -> None:
    time_left = TimeLeft()
    assert time_left.hear(layers(0), 0).seconds_left is None
    assert time_left.hear(layers(0.7), 30).seconds_left is None


def test_what_the_first_unit_took_longer_is_forgotten() -> None:
    time_left = TimeLeft()
    time_left.hear(layers(0), 0)
    assert time_left.hear(layers(1), 30).seconds_left == 210
    assert time_left.hear(layers(2), 35).seconds_left == 30
    assert time_left.hear(layers(2.5), 37).seconds_left == 28


def test_a_unit_that_takes_longer_counts_as_about_to_end() -> None:
    time_left = TimeLeft()
    for done, now in ((0, 0), (1, 10), (2, 20)):
        time_left.hear(layers(done), now)
    assert time_left.hear(layers(2.9), 60).seconds_left == 50


def test_nothing_is_said_of_what_follows_the_last_unit() -> None:
    time_left = TimeLeft()
    time_left.hear(layers(7), 0)
    assert time_left.hear(layers(8), 10).seconds_left is None


def test_a_report_that_comes_late_counts_as_the_unit_that_it_is_in() -> None:
    time_left = TimeLeft()
    for done, now in ((0, 0), (1.3, 30), (2, 37)):
        said = time_left.hear(layers(done), now)
    assert said.seconds_left == 60


def test_what_goes_on_after_some_layers_goes_by_its_own_pace() -> None:
    time_left = TimeLeft()
    time_left.hear(layers(0), 0)
    assert time_left.hear(layers(4), 10).seconds_left is None
    assert time_left.hear(layers(5), 22).seconds_left == 36


def test_what_is_left_is_never_less_than_nothing() -> None:
    time_left = TimeLeft()
    for done, now in ((0, 0), (1, 10), (7.4, 74)):
        time_left.hear(layers(done), now)
    assert time_left.hear(layers(7.9), 500).seconds_left == 0


@pytest.mark.parametrize("other", [Progress(1, 8, "windows"), Progress(1, 9, "layers"), Progress(1, 8, "layers")])
def test_another_kind_of_work_and_a_new_beginning_are_told_apart(other: Progress) -> None:
    time_left = TimeLeft()
    for done, now in ((0, 0), (1, 10), (2, 20)):
        time_left.hear(layers(done), now)
    assert time_left.hear(other, 30).seconds_left is None


ON_A_CPU = [row for row in Results(TIME_LEFT).rows if row["really"] > SECONDS_MIN]


@pytest.mark.parametrize("row", ON_A_CPU, ids=[row["name"] for row in ON_A_CPU])
def test_after_a_quarter_of_the_layers_what_was_left_on_a_cpu_was_known(row: Row) -> None:
    assert row["said"] == pytest.approx(row["really"], rel=ERROR_MAX)


def test_most_methods_were_measured_on_a_cpu() -> None:
    assert {"gptq", "awq", "int4", "int8"} <= {row["name"] for row in ON_A_CPU}


MEASURED_RUNS = {row["name"]: row for row in Results(MEASURED).rows if len(row.get("layers done at s", ())) >= 8}


@pytest.mark.parametrize("name", MEASURED_RUNS)
def test_after_a_quarter_of_the_layers_what_is_left_is_known_within_30_percent(name: str) -> None:
    row = MEASURED_RUNS[name]
    ends = row["layers done at s"]
    time_left = TimeLeft()
    time_left.hear(layers(0, len(ends)), 0)
    quarter = len(ends) // 4
    for done, now in enumerate(ends[:quarter], 1):
        said = time_left.hear(layers(done, len(ends)), now)
    really_left = row["engine s"] - ends[quarter - 1]
    assert said.seconds_left == pytest.approx(really_left, rel=ERROR_MAX)
