"""The pages of sweeps, without a browser."""

import re
from collections.abc import Sequence
from html import unescape

import pytest
from apiflask import APIFlask

from api.portal.loss_chart import BOTTOM, LEFT, RIGHT, TOP, Result, draw
from api.services import services_of
from db.session import Database
from tests.portal.conftest import Visitor, shown
from tests.portal.sweep_stories import RECIPES, submit_sweep

FORM = {"source": "file:///models/tiny", "recipes": "gguf:Q8_0\ngguf:Q4_K_M", "evaluation.domains": "code"}


def send(visitor: Visitor, **fields: str) -> str:
    """Submit a sweep by the form, and return its page's address."""
    response = visitor.post("/sweeps/new", **(FORM | fields))
    assert response.status_code == 303, response.text
    return response.headers["Location"]


def jobs_of(visitor: Visitor, sweep: str) -> list[str]:
    found = re.findall(r'id="open-job_\w+" href="(/jobs/\w+)"', visitor.get(sweep).text)
    return list(dict.fromkeys(found))


def test_an_empty_list_says_what_a_sweep_is(visitor: Visitor) -> None:
    assert "Submit the first sweep" in shown(visitor.get("/sweeps"))


def test_the_list_is_paged_newest_first(visitor: Visitor) -> None:
    made = [
        send(visitor, labels="nightly"),
        send(visitor, recipes="gguf"),
        send(visitor, preset="gpu-4bit", recipes=""),
    ]
    page = visitor.get("/sweeps?limit=2")
    assert re.findall(r'href="(/sweeps/sweep_\w+)"', page.text) == made[:0:-1]
    assert "gpu-4bit" in shown(page)
    assert "1 recipe ," in shown(page)
    older = re.search(r'rel="next" href="([^"]+)"', page.text)
    assert older
    last = visitor.get(unescape(older[1]))
    assert re.findall(r'href="(/sweeps/sweep_\w+)"', last.text) == made[:1]
    assert "2 recipes , " in shown(last)
    assert "nightly" in shown(last)
    assert "Newest" in shown(last)


def test_a_finished_sweep_says_which_result_to_ship(visitor: Visitor, database: Database) -> None:
    page = visitor.get(submit_sweep(database, visitor.key, finished=5))
    text = shown(page)
    assert "gguf:Q4_K_M (4.9 GB) is the smallest of 5 results that keeps" in text
    assert "provisional" not in text.lower()
    assert "By the usual conditions, as the sweep has no gate: perplexity_ratio <= 1.02; agreement >= 0.95." in text
    assert "gguf:Q4_K_M ★ recommended ◆ Pareto" in text
    assert text.count("★ recommended") == 1
    assert "prose 1.0120 1.0096 to 1.0156" in text
    assert len(jobs_of(visitor, "/sweeps/" + page.request.path.rpartition("/")[2])) == len(RECIPES)
    for title in ("Size against perplexity ratio on prose", "Size against perplexity ratio on code"):
        assert title in page.text
    assert 'data-refresh-seconds="5"' not in page.text
    assert "Cancel the sweep" not in page.text


def test_a_sweep_that_runs_is_provisional_and_followed(visitor: Visitor, database: Database) -> None:
    page = visitor.get(submit_sweep(database, visitor.key, finished=3))
    text = shown(page)
    assert "Provisional, as 2 of 5 jobs are not over: gguf:Q4_K_M" in text
    assert "running 2 queued, 3 succeeded" in text
    assert 'data-refresh-seconds="5"' in page.text


def test_where_the_gate_blocks_all_the_nearest_is_named(visitor: Visitor, database: Database) -> None:
    text = shown(visitor.get(submit_sweep(database, visitor.key, finished=2, blocked=True)))
    assert "None of the 2 results meets the conditions." in text
    assert "Go to the one that comes nearest" in text
    assert text.count("gate: blocked") == 2
    assert "By the sweep's gate: perplexity_ratio <= 1.02." in text
    assert "★ recommended" not in text


def test_without_any_result_nothing_is_drawn(visitor: Visitor) -> None:
    page = visitor.get(send(visitor))
    assert "no result has been measured yet" in shown(page)
    assert "<figure>" not in page.text


def test_costs_are_shown_where_prices_are_set(visitor: Visitor, app: APIFlask, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = send(visitor)
    assert "Cost," not in shown(visitor.get(sweep))
    settings = services_of(app).settings
    monkeypatch.setitem(settings.__dict__, "price_cpu_hour", 1.0)
    monkeypatch.setitem(settings.__dict__, "price_currency", "CHF")
    assert "Cost, CHF" in shown(visitor.get(sweep))


def test_everything_in_the_form_is_asked_of_each_job(visitor: Visitor) -> None:
    fields = {"gate": "code: perplexity_ratio <= 1.05", "labels": "a\nb", "metadata": "who=me", "max_attempts": "2"}
    sweep = send(visitor, **fields, **{"benchmark": "on", "benchmark.context_tokens": "128", "evaluation.windows": "8"})
    asked = "code ; 8 windows each gate code: perplexity_ratio <= 1.05 labels a b who me attempts at most 2"
    addresses = jobs_of(visitor, sweep)
    assert len(addresses) == 2
    for address in (sweep, *addresses):
        text = shown(visitor.get(address))
        assert asked in text
        assert "speed measured after 128 tokens" in text
    assert "Tokens/s" in shown(visitor.get(sweep))


def test_a_job_leads_to_its_sweep_and_the_list_to_the_jobs_of_one(visitor: Visitor) -> None:
    sweep, alone = send(visitor), visitor.submit()
    addresses = jobs_of(visitor, sweep)
    assert f'href="{sweep}"' in visitor.get(addresses[0]).text
    assert "part of" not in shown(visitor.get(alone))
    page = visitor.get(f"/jobs?sweep={sweep.rpartition('/')[2]}")
    assert sorted(re.findall(r'href="(/jobs/job_\w+)"', page.text)) == sorted(addresses)
    assert "Only jobs of the sweep" in shown(page)
    assert "Show all" in shown(page)


@pytest.mark.parametrize(
    ("fields", "where", "says"),
    [
        ({"source": ""}, "source", "This is required."),
        ({"recipes": ""}, "recipes", "Name recipes, or a preset in their place"),
        ({"preset": "gguf-all"}, "recipes", "Name recipes, or a preset in their place"),
        ({"recipes": "gguf\ngptq:5bit"}, "recipes", "gptq:5bit: "),
        ({"recipes": "gguf\nnothing"}, "recipes", "nothing: "),
        ({"recipes": "gguf:Q8_0\ngguf:Q8_0"}, "recipes", "gguf:Q8_0: This is gguf:Q8_0, as recipes/0 is."),
        ({"recipes": "gguf\n" * 65}, "recipes", "At most 64"),
        ({"preset": "best", "recipes": ""}, "preset", "gguf-all"),
        ({"max_attempts": "many"}, "max_attempts", "whole number"),
        ({"gate": "speed < 1"}, "gate", "condition such as"),
        ({"publish_to": "file:///elsewhere"}, "publish_to", "publishes to no folders"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_beside_its_field_and_kept(
    visitor: Visitor, fields: dict[str, str], where: str, says: str
) -> None:
    response = visitor.post("/sweeps/new", **(FORM | {"labels": "kept"} | fields))
    assert response.status_code == 422
    error = re.search(rf'id="{re.escape(where)}-error">(.*?)</p>', response.text, re.DOTALL)
    assert error, response.text
    assert says in error[1]
    assert "kept" in response.text
    assert "Not submitted: New sweep" in response.text
    assert "no sweeps yet" in shown(visitor.get("/sweeps"))


def test_recipes_are_added(visitor: Visitor) -> None:
    sweep = send(visitor)
    assert visitor.post(sweep, recipes="gguf:Q6_K\n\n gguf:Q2_K ").headers["Location"] == sweep
    text = shown(visitor.get(sweep))
    assert "queued 4 jobs" in text
    assert "gguf:Q2_K" in text


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("", "At least 1 must be given."),
        ("gguf:Q6_K\ngguf:Q8_0", "gguf:Q8_0: This is gguf:Q8_0, which the sweep has already."),
        ("gguf:Q99", "gguf:Q99: "),
        ("gguf:Q6_K\n" * 63, "A sweep takes 64 recipes, and this one has 2 already."),
    ],
)
def test_recipes_that_are_refused_are_kept_and_told(visitor: Visitor, typed: str, says: str) -> None:
    sweep = send(visitor)
    response = visitor.post(sweep, recipes=typed)
    assert response.status_code == 422
    assert says in shown(response)
    assert typed.partition("\n")[0] in response.text
    assert "Not added:" in response.text
    assert "queued 2 jobs" in shown(visitor.get(sweep))


def test_a_sweep_is_cancelled(visitor: Visitor) -> None:
    sweep = send(visitor)
    assert visitor.post(f"{sweep}/cancel").headers["Location"] == sweep
    page = visitor.get(sweep)
    assert "cancelled 2 jobs" in shown(page)
    assert "Cancel the sweep" not in page.text


def test_its_report_is_a_file(visitor: Visitor, database: Database) -> None:
    sweep = submit_sweep(database, visitor.key, finished=5)
    report = visitor.get(f"{sweep}/report")
    assert report.headers["Content-Disposition"] == f'attachment; filename="{sweep.rpartition("/")[2]}-report.html"'
    assert "<svg" in report.text
    assert f'href="{sweep}/report"' in visitor.get(sweep).text


def test_another_teams_sweep_is_not_there(visitor: Visitor, stranger: Visitor) -> None:
    sweep = send(visitor)
    assert stranger.get(sweep).status_code == 404
    assert stranger.get(f"{sweep}/report").status_code == 404
    assert stranger.post(f"{sweep}/cancel").status_code == 404
    assert stranger.post(sweep, recipes="gguf:Q6_K").status_code == 404
    assert sweep not in stranger.get("/sweeps").text
    assert "No job is like that" in shown(stranger.get(f"/jobs?sweep={sweep.rpartition('/')[2]}"))
    assert "queued 2 jobs" in shown(visitor.get(sweep))


def result(number: int, size_bytes: int, ratio: float, low: float | None = None, high: float | None = None) -> Result:
    return Result(number, f"recipe {number}", size_bytes, ratio, low, high, is_best=True, is_chosen=False)


def test_what_was_not_measured_is_not_drawn() -> None:
    assert draw([]) is None
    assert draw([result(1, 10, 0.0), result(2, 10, float("inf"))]) is None


@pytest.mark.parametrize(
    "results",
    [
        [result(1, 4_000_000_000, 1.02, 1.01, 1.03)],
        [result(1, 0, 1.0)],
        [result(1, 5, 1.0), result(2, 5, 1.0)],
        [result(number, 10**9 + number, 1 + 1e-12 * number) for number in range(1, 20)],
        [result(number, 10**9 * number, 1.5**number, 1.4**number, 1.6**number) for number in range(1, 64)],
        [result(1, 10**13, 1e-9, 1e-300, 1e300), result(2, 1, 1e9)],
        [result(1, 10, 1.0, None, 2.0), result(2, 20, 1.0, 0.5, None)],
    ],
)
def test_every_point_and_number_is_within_the_drawing(results: Sequence[Result]) -> None:
    chart = draw(results)
    assert chart is not None
    assert [point.result for point in chart.points] == sorted(results, key=lambda one: (one.size_bytes, one.number))
    for point in chart.points:
        assert LEFT <= point.x <= RIGHT
        assert TOP <= point.y_high <= point.y <= point.y_low <= BOTTOM
        assert LEFT <= point.label_x <= RIGHT
        assert TOP <= point.label_y <= BOTTOM
    for ticks in (chart.size_ticks, chart.ratio_ticks):
        assert 1 <= len(ticks) <= 20
        assert len({tick.text for tick in ticks}) == len(ticks)


def test_numbers_keep_apart() -> None:
    chart = draw([result(number, 4_000_000_000, 1.02 + 0.0001 * number) for number in range(4)])
    assert chart is not None
    places = {(round(point.label_x), round(point.label_y)) for point in chart.points}
    assert len(places) == 4
