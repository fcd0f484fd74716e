import datetime as dt

import pytest

from api.portal.job_view import readable
from api.portal.layer_chart import BOTTOM, HEIGHT, LEFT, LINES_MAX, RIGHT, TOP, WIDTH, draw, kind_of
from api.portal.wording import ago, change, duration, left, size


def test_nothing_measured_is_nothing_drawn() -> None:
    assert draw([]) is None


def test_the_largest_loss_is_on_top_and_told() -> None:
    chart = draw([(layer, name, 0.1 * (layer + 1)) for layer in range(3) for name in ("q", "k")] + [(1, "k", 500.0)])
    assert chart is not None
    assert chart.largest == (1, "k", 500.0)
    assert [line.kind for line in chart.lines] == ["k", "q"]
    assert [tick.text for tick in chart.layer_ticks] == ["0", "1", "2"]
    assert [tick.text for tick in chart.value_ticks] == ["0.1", "1", "10", "100", "1000"]
    highest = min(chart.lines[0].points, key=lambda point: point.y)
    assert (highest.layer, highest.value) == (1, 500.0)


@pytest.mark.parametrize("losses", [[0.5], [0.0], [1e-300, 1e300], [1.0, 1.0], [0.0, -1.0]])
def test_every_point_is_within_the_drawing(losses: list[float]) -> None:
    chart = draw((layer, "q", loss) for layer, loss in enumerate(losses))
    assert chart is not None
    for line in chart.lines:
        for point in line.points:
            assert LEFT <= point.x <= RIGHT
            assert TOP - 0.01 <= point.y <= BOTTOM + 0.01
    assert all(0 <= tick.at <= HEIGHT for tick in chart.value_ticks)
    assert all(0 <= tick.at <= WIDTH for tick in chart.layer_ticks)
    assert 2 <= len(chart.value_ticks) <= 12


def test_experts_are_one_line_of_their_worst() -> None:
    names = [f"model.layers.7.mlp.experts.{number}.up_proj" for number in range(128)]
    chart = draw((7, name, float(number)) for number, name in enumerate(names))
    assert chart is not None
    assert chart.table == {(7, "mlp.experts.*.up_proj"): 127.0}


def test_very_many_kinds_are_cut_and_counted() -> None:
    chart = draw((layer, f"kind_{number}", number + 1.0) for layer in range(100) for number in range(100))
    assert chart is not None
    assert (len(chart.lines), chart.left_out) == (LINES_MAX, 100 - LINES_MAX)
    assert len(chart.layer_ticks) <= 9


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        ("model.layers.3.self_attn.q_proj", "self_attn.q_proj"),
        ("self_attn.q_proj", "self_attn.q_proj"),
        ("transformer.h.11.mlp.c_fc2", "mlp.c_fc2"),
        ("mlp.experts.5.w1", "mlp.experts.*.w1"),
        ("5", "*"),
    ],
)
def test_kinds_of_modules(module: str, kind: str) -> None:
    assert kind_of(module) == kind


def test_what_is_left_is_said_roughly() -> None:
    assert [left(s) for s in (5, 59, 61, 170, 3599, 3600, 5000, 7300)] == [
        *("less than a minute left", "less than a minute left", "about 1 min left", "about 3 min left"),
        *("about 60 min left", "about 1 h left", "about 1 h 25 min left", "about 2 h left"),
    ]


def test_words_for_numbers() -> None:
    assert [size(n) for n in (None, 0, 999, 12_345_678, 2e15)] == ["–", "0 B", "999 B", "12.3 MB", "2,000.0 TB"]  # noqa: RUF001
    assert [duration(s) for s in (0.04, 12.3, 75, 3700, 90_000)] == [
        "0.0 s",
        "12 s",
        "1 min 15 s",
        "1 h 1 min",
        "1 d 1 h",
    ]
    assert [change(a, b) for a, b in ((4, 12), (12, 4), (1, None), (1, 0))] == ["−66.67 %", "+200.00 %", "–", "–"]  # noqa: RUF001
    now = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    moments = [now - dt.timedelta(seconds=seconds) for seconds in (-1, 59, 119, 3600, 200_000)]
    assert [ago(moment, now) for moment in moments] == ["just now", "just now", "1 min ago", "1 h ago", "2 d ago"]


def test_a_log_reads_as_on_a_terminal() -> None:
    assert readable("\x1b[31mred\x1b[0m\r\n 10 %\r 20 %\r100 %\r\ndone") == "red\n100 %\ndone"
