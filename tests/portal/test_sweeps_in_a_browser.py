"""The pages of sweeps in a real browser, wide and narrow."""

import re
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from db.session import Database
from tests.api.work import Workers
from tests.portal.conftest import WIDTHS
from tests.portal.stories import submit
from tests.portal.sweep_stories import RECIPES, submit_sweep
from tests.portal.test_browser import DANGLING, DOUBLE_IDS, FOCUSED, NAMELESS, OVERFLOW, SMALL, tab_order

both_widths = pytest.mark.parametrize("width", WIDTHS)


@both_widths
def test_every_page_fits_and_is_named(page: Page, database: Database, key: str, subtests: pytest.Subtests) -> None:
    finished = submit_sweep(database, key, finished=len(RECIPES))
    blocked = submit_sweep(database, key, finished=2, blocked=True)
    for path in (
        "/sweeps",
        "/sweeps/new",
        blocked,
        finished,
        submit_sweep(database, key),
        f"/jobs?sweep={finished[8:]}",
    ):
        page.goto(path)
        for details in page.locator("details").all():
            details.evaluate("one => one.open = true")
        with subtests.test(path=path):
            assert page.evaluate(OVERFLOW) <= 0
            assert page.evaluate(SMALL) == 0
            for found in (NAMELESS, DOUBLE_IDS, DANGLING):
                assert page.evaluate(found) == []
            assert page.locator("h1").count() == 1
            levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(one => +one.tagName[1])")
            assert all(later - earlier <= 1 for earlier, later in zip([0, *levels], levels, strict=False))


def recipes_of(page: Page) -> Locator:
    """The field into which recipes are typed."""
    return page.get_by_role("textbox", name="Recipes")


@both_widths
def test_a_sweep_is_submitted_by_the_form_extended_and_cancelled(page: Page) -> None:
    page.get_by_role("link", name="Sweeps").click()
    page.get_by_role("link", name="Submit the first sweep").click()
    page.get_by_label("Source").fill("file:///models/tiny")
    recipes_of(page).fill("gguf:Q8_0\ngguf:Q99")
    page.get_by_role("button", name="Submit the sweep").click()
    expect(page.get_by_role("alert")).to_be_focused()
    page.get_by_role("link", name="Recipes").click()
    expect(recipes_of(page)).to_be_focused()
    expect(recipes_of(page)).to_have_accessible_description(re.compile("gguf:Q99: "))
    recipes_of(page).fill("gguf:Q8_0\ngguf:Q6_K")
    page.get_by_role("button", name="Submit the sweep").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sweep: 2 recipes")
    address = page.url

    recipes_of(page).fill("gguf:Q8_0")
    page.get_by_role("button", name="Add the recipes").click()
    expect(page.get_by_role("alert")).to_contain_text("which the sweep has already")
    recipes_of(page).fill("gguf:Q4_K_M")
    page.get_by_role("button", name="Add the recipes").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sweep: 3 recipes")
    page.get_by_role("link", name="3. gguf:Q4_K_M").click()
    page.get_by_role("link", name="a sweep").click()
    assert page.url == address

    now = page.get_by_role("button", name="Cancel the sweep")
    expect(now).to_be_hidden()
    page.get_by_text("Cancel …").click()
    now.click()
    expect(page.get_by_role("status")).to_contain_text("cancelled")


@both_widths
def test_a_page_follows_its_sweep_and_keeps_what_is_typed(page: Page, database: Database, key: str) -> None:
    page.goto(submit_sweep(database, key))
    recipes_of(page).fill("gguf:Q6_K")
    expect(page.get_by_role("status")).to_contain_text("queued")
    Workers(database).start("fetch")
    expect(page.get_by_role("status")).to_contain_text("running", timeout=15_000)
    expect(recipes_of(page)).to_have_value("gguf:Q6_K")


def test_a_page_is_not_fetched_again_once_all_is_over(page: Page, database: Database, key: str) -> None:
    page.clock.install()
    page.goto(submit_sweep(database, key, finished=len(RECIPES)))
    fetched: list[str] = []
    page.on("request", lambda sent: fetched.append(sent.url))
    page.clock.run_for(60_000)
    assert page.url not in fetched


def test_a_screen_reader_hears_what_is_seen_and_the_keyboard_reaches_it(
    page: Page, database: Database, key: str
) -> None:
    page.goto(submit_sweep(database, key, finished=3))
    for text, loss in (("prose", "1.0120"), ("code", "1.0120")):
        drawing = page.get_by_role("img", name=f"Size against perplexity ratio on {text}")
        expect(drawing).to_have_accessible_description(
            f"The smallest is gguf:Q4_K_M, 4.9 GB at {loss}. gguf:Q8_0 loses least, 8.5 GB at 1.0008."
        )
    table = page.get_by_role("table", name="Each recipe and what came of it")
    expect(table.get_by_role("row", name="gguf:Q4_K_M")).to_contain_text("recommended")
    order = list(tab_order(page))
    assert order[:6] == ["Skip to the content", "fewbits", "Jobs", "Sweeps", "New job", "Datasets"]
    assert order[7:] == [
        *("Sweeps", "Go to the recommended result", "Cancel …", "Its jobs", "Report", "Each recipe"),
        *(f"{number}. {recipe}" for number, recipe in enumerate(RECIPES, 1)),
        *("nightly", "Recipes (required)", "Add the recipes"),
    ]
    page.get_by_text("Cancel …").press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED) == "Cancel the sweep"


def test_a_sweep_is_seen_and_cancelled_without_scripts(page: Page, database: Database, key: str) -> None:
    sweep = submit_sweep(database, key, finished=2)
    submit(database, key)
    cookies: Any = page.context.cookies()
    browser, address = page.context.browser, page.url.rpartition("/")[0]
    assert browser
    context = browser.new_context(java_script_enabled=False, base_url=address)
    context.add_cookies(cookies)
    plain = context.new_page()
    plain.goto(sweep)
    expect(plain.get_by_role("link", name="Reload")).to_be_visible()
    expect(plain.get_by_role("img", name="Size against perplexity ratio on code")).to_be_visible()
    plain.get_by_text("Cancel …").click()
    plain.get_by_role("button", name="Cancel the sweep").click()
    expect(plain.get_by_role("status")).to_contain_text("3 cancelled, 2 succeeded")
    context.close()


def test_a_sweep_is_printed_without_what_only_a_screen_is_for(page: Page, database: Database, key: str) -> None:
    page.goto(submit_sweep(database, key, finished=2))
    page.emulate_media(media="print", color_scheme="dark")
    for hidden in ("header", "#jobs", "#recipes"):
        expect(page.locator(hidden)).to_be_hidden()
    expect(page.get_by_role("img", name="Size against perplexity ratio on prose")).to_be_visible()
    assert page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--card').trim()") == "#fff"
