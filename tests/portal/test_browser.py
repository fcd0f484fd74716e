"""The pages in a real browser, wide and narrow: what is seen, reached by keyboard, read out, and kept up to date."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import FilePayload, Page, Route, expect
from sqlalchemy import update

from api.portal.fields import fields_of
from api.portal.job_form import RECIPE
from db.session import Database
from db.tables import Attempt
from engines import methods
from engines.domains import domains
from engines.recipe import preset_recipe
from tests.api.work import Workers
from tests.portal.conftest import WIDTHS
from tests.portal.stories import begin_anew, begin_quantizing, end_badly, end_well, submit

# Controls that have no name, and elements that carry an id twice.
NAMELESS = """() => [...document.querySelectorAll("a[href], button, input, select, textarea, summary")]
  .filter((one) => one.type !== "hidden")
  .filter((one) => !(one.labels?.length || one.textContent.trim() || one.getAttribute("aria-label")))
  .map((one) => one.outerHTML)"""
DOUBLE_IDS = """() => [...document.querySelectorAll("[id]")].map((one) => one.id)
  .filter((id, index, all) => all.indexOf(id) !== index)"""
DANGLING = """() => [...document.querySelectorAll("[aria-describedby], [aria-labelledby], label[for]")]
  .flatMap((one) => [one.getAttribute("aria-describedby"), one.getAttribute("aria-labelledby"), one.htmlFor])
  .filter(Boolean).flatMap((ids) => ids.split(" ")).filter((id) => !document.getElementById(id))"""
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
SMALL = """() => [...document.querySelectorAll("button, .button, input:not([type=hidden], [type=checkbox]), select")]
  .map((one) => one.getBoundingClientRect()).filter((box) => box.width && box.height < 44).length"""
FOCUSED = """() => { const one = document.activeElement;
  return one.labels?.[0]?.textContent.trim() || one.getAttribute("aria-label") || one.textContent.trim(); }"""

pytestmark = pytest.mark.slow

both_widths = pytest.mark.parametrize("width", WIDTHS)


@pytest.fixture
def jobs(database: Database, key: str) -> dict[str, str]:
    """The addresses of a job in each state."""
    work = Workers(database)
    failed = submit(database, key)
    end_badly(work)
    done = submit(database, key, "nightly", metadata={"a-name-without-any-space" * 2: "a value without any space" * 4})
    end_well(work, begin_quantizing(work))
    running = submit(database, key, source="file:///models/" + "a-long-name-" * 12)
    begin_quantizing(work)
    ids = {"failed": failed, "done": done, "running": running, "queued": submit(database, key)}
    return {state: f"/jobs/{job_id}" for state, job_id in ids.items()}


def tab_order(page: Page) -> Iterator[str]:
    """What has the focus, key by key, from the beginning of the page until it leaves it."""
    page.evaluate("document.activeElement.blur()")
    for _ in range(100):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            return
        name: str = page.evaluate(FOCUSED)
        yield name


def upload(page: Page, name: str, content: str) -> None:
    """Upload a dataset by the form."""
    page.goto("/datasets")
    page.get_by_label("File", exact=False).set_input_files(file_of(name, content))
    page.get_by_role("button", name="Upload").click()
    expect(page.locator("#notice")).to_contain_text(f"{name} is uploaded.")
    page.wait_for_url("**/datasets?uploaded=*")


def file_of(name: str, content: str) -> FilePayload:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content.encode()}


@both_widths
def test_every_page_fits_and_is_named(page: Page, jobs: dict[str, str], subtests: pytest.Subtests) -> None:
    upload(page, "a-name-without-any-space-" * 8 + ".txt", "text")
    paths = (
        "/jobs",
        "/jobs?status=cancelled",
        "/jobs/new",
        "/jobs/new?method=odd",
        "/jobs/new?method=gptq",
        "/datasets",
        "/sweeps",
        "/sweeps/new",
    )
    for path in (*paths, "/datasets?after=dataset_0", "/jobs/job_0", *jobs.values()):
        page.goto(path)
        for details in page.locator("details").all():
            details.evaluate("one => one.open = true")
        with subtests.test(path=path):
            assert page.evaluate(OVERFLOW) <= 0
            assert page.evaluate(SMALL) == 0
            assert page.evaluate(NAMELESS) == []
            assert page.evaluate(DOUBLE_IDS) == []
            assert page.evaluate(DANGLING) == []
            assert page.locator("h1").count() == 1
            assert page.locator("main").count() == 1
            assert page.title().endswith("· fewbits")
            levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(one => +one.tagName[1])")
            assert all(later - earlier <= 1 for earlier, later in zip([0, *levels], levels, strict=False))


@both_widths
def test_the_keyboard_goes_through_a_page_in_order(page: Page, jobs: dict[str, str]) -> None:
    page.goto("/jobs/new")
    page.evaluate("document.querySelector('details').open = true")
    order = list(tab_order(page))
    gguf = methods.get("gguf")
    assert order[:6] == ["Skip to the content", "fewbits", "Jobs", "Sweeps", "New job", "Datasets"]
    assert order[6:] == [
        "Sign out",
        *("awq", "fp8", "gguf", "gptq", "int4", "int8", "odd"),
        *(preset_recipe(gguf, preset)[0] for preset in gguf.presets),
        *("Source (required)", *(field.label for field in fields_of(gguf.schema(), RECIPE))),
        *(*domains(), "Windows"),
        *("Task items", "Benchmark", "Context tokens", "Batch sizes", "Generated tokens", "Repeats", "Advanced"),
        *("Gate", "Metadata", "Labels"),
        *("Priority", "Max runtime (seconds)", "Max pending (seconds)"),
        *("Max attempts", "Wait for capacity", "Publish to", "Submit the job", "Forecast", "Back to the jobs"),
    ]
    page.goto(jobs["done"])
    order = list(tab_order(page))[7:]
    assert order[:3] == ["Jobs", "Retry", "Change and submit again"]
    assert order[-1] == "End of the log"
    page.goto(jobs["running"])
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED) == "Jobs"  # the first thing in the content, past the header


def test_a_screen_reader_hears_what_is_seen(page: Page, jobs: dict[str, str]) -> None:
    page.goto(jobs["running"])
    expect(page.get_by_role("status")).to_contain_text("running")
    bar = page.get_by_role("progressbar", name="Progress of quantize")
    expect(bar).to_have_attribute("value", "4.0")
    expect(page.get_by_role("img", name="Loss per layer")).to_have_accessible_description(
        "The largest is 1.09, in layer 11, mlp.down_proj."
    )
    page.locator("summary", has_text="Seconds").click()
    expect(page.get_by_role("img", name="Seconds per layer")).to_be_visible()
    page.goto(jobs["done"])
    table = page.get_by_role("table", name="The result beside full precision")
    expect(table.get_by_role("row", name="Perplexity, prose")).to_contain_text("+3.04 %")
    page.goto("/jobs/new")
    expect(page.get_by_label("Windows")).to_have_accessible_description(
        "Windows of 512 tokens of each text, or items of a dataset of another kind; with a gate up to four times as "
        "many. From 1 to 10,000. Default: 40."
    )
    page.goto("/jobs")
    for header in ("Recipe", "Status", "Source"):
        assert page.locator("th[scope=col]", has_text=header).count() == 1
    expect(page.get_by_role("table", name="Jobs, newest first")).to_be_visible()


@both_widths
def test_a_job_is_submitted_by_the_form(page: Page) -> None:
    page.get_by_role("link", name="Submit the first job").click()
    page.get_by_label("Source").fill("file:///models/tiny")
    page.get_by_role("link", name="odd").click()
    expect(page.get_by_label("Source")).to_have_value("file:///models/tiny")
    page.get_by_label("Damp percent").fill("7")
    page.get_by_label("Bits").select_option("3")
    page.get_by_role("button", name="Submit the job").click()
    expect(page.get_by_role("alert")).to_be_focused()
    expect(page.get_by_label("Bits")).to_have_value("3")
    page.get_by_role("link", name="Damp percent").click()
    expect(page.get_by_label("Damp percent")).to_be_focused()
    page.keyboard.press("Control+A")
    page.keyboard.type("0.1")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("odd:3")
    expect(page.get_by_role("status")).to_contain_text("queued")


def test_what_is_no_number_is_said_beside_its_field_and_kept(page: Page, subtests: pytest.Subtests) -> None:
    wrong = {"0": "at least 1", "99999": "10 attempts at most", "x": "whole number", "1e": "whole number"}
    for typed, says in wrong.items():
        page.goto("/jobs/new")
        page.get_by_label("Source").fill("file:///models/tiny")
        page.get_by_label("prose").uncheck()
        page.get_by_text("Advanced").click()
        page.get_by_label("Labels").fill("nightly")
        page.get_by_label("Wait for capacity").check()
        page.get_by_label("Max attempts").press_sequentially(typed)
        page.keyboard.press("Enter")
        with subtests.test(typed=typed):
            expect(page.get_by_role("alert")).to_contain_text(says)
            page.get_by_role("link", name="Max attempts").click()
            field = page.get_by_label("Max attempts")
            expect(field).to_be_focused()
            expect(field).to_have_value(typed)
            expect(field).to_have_accessible_description(re.compile(says))
            expect(page.get_by_label("Source")).to_have_value("file:///models/tiny")
            expect(page.get_by_label("prose")).not_to_be_checked()
            expect(page.get_by_label("Labels")).to_have_value("nightly")
            expect(page.get_by_label("Wait for capacity")).to_be_checked()


@both_widths
def test_attempts_are_shown_with_where_and_why(page: Page, database: Database, key: str) -> None:
    work = Workers(database)
    job = f"/jobs/{submit(database, key)}"
    taken = begin_anew(work)
    host = "gpu-node-7." + "rack" * 15
    with database.transaction() as session:
        session.execute(update(Attempt).values(host=host))
    page.goto(job)
    section = page.get_by_role("region", name="Attempts")
    told = [
        ("fetch, attempt 1", "failed", "5.0 GB of memory", "The store does not answer."),
        ("fetch, attempt 2", "lost", "The worker that ran the step has died."),
        ("fetch, attempt 3", "released", "does not count as a failure"),
        ("fetch, attempt 4", "succeeded"),
        ("quantize, attempt 1", "failed", "a-folder-without-any-space"),
        ("quantize, attempt 2", "running"),
    ]
    attempts = section.get_by_role("listitem")
    expect(attempts).to_have_count(len(told))
    for attempt, texts in zip(attempts.all(), told, strict=True):
        for text in (*texts, f"Started just now on {host}, cpu"):
            expect(attempt).to_contain_text(text)
    assert page.evaluate(OVERFLOW) <= 0
    for steps in page.locator(".steps").all():
        assert steps.evaluate("one => one.scrollWidth - one.clientWidth") <= 0
        assert len({box["x"] for status in steps.locator(".status").all() if (box := status.bounding_box())}) == 1

    work.progress(taken, 9)
    end_well(work, taken)
    expect(attempts.last).to_contain_text("succeeded")


@both_widths
def test_a_page_follows_its_job(page: Page, database: Database, key: str) -> None:
    work = Workers(database)
    page.goto(f"/jobs/{submit(database, key)}")
    page.evaluate("window.sameDocument = true")
    expect(page.get_by_role("status")).to_contain_text("queued")
    taken = begin_quantizing(work)
    expect(page.get_by_role("status")).to_contain_text("quantize")
    bar = page.get_by_role("progressbar", name="Progress of quantize")
    expect(bar).to_have_attribute("value", "4.0")
    expect(page.get_by_role("img", name="Loss per layer")).to_be_visible()

    page.locator("summary", has_text="The numbers").first.click()
    log = page.get_by_role("region", name="End of the log")
    log.focus()
    log.evaluate("one => one.scrollTop = 20")
    work.log(taken, "a new line\n")
    work.progress(taken, 7)
    expect(bar).to_have_attribute("value", "7.0")
    expect(log).to_contain_text("a new line")
    expect(log).to_be_focused()
    assert log.evaluate("one => one.scrollTop") == 20
    expect(page.get_by_role("table", name="Loss of each layer by kind of module")).to_be_visible()

    end_well(work, taken)
    expect(page.get_by_role("status")).to_contain_text("succeeded")
    expect(page.get_by_role("link", name="model-4bit.gguf")).to_be_visible()
    expect(page.get_by_text("Verification: passed.")).to_be_visible()
    expect(page.get_by_role("button", name="Retry")).to_be_visible()
    assert page.evaluate("window.sameDocument")


def test_a_cancel_is_asked_for_twice(page: Page, jobs: dict[str, str]) -> None:
    page.goto(jobs["running"])
    now = page.get_by_role("button", name="Cancel the job")
    expect(now).to_be_hidden()
    page.get_by_text("Cancel …").click()
    now.click()
    expect(page.get_by_role("status")).to_contain_text("cancelling")
    page.goto("/jobs?status=cancelling")
    expect(page.get_by_role("row")).to_have_count(2)


def test_the_list_follows_its_jobs(page: Page, database: Database, key: str) -> None:
    submit(database, key)
    expect(page.get_by_role("cell", name="queued")).to_be_visible(timeout=15_000)


def test_a_page_whose_session_has_ended_leads_to_the_sign_in(page: Page, database: Database, key: str) -> None:
    page.goto(f"/jobs/{submit(database, key)}")
    page.context.clear_cookies()
    Workers(database).start("fetch")
    page.wait_for_url("**/sign-in?next=/jobs/job_*")


def test_pages_work_without_scripts(page: Page, jobs: dict[str, str]) -> None:
    cookies: Any = page.context.cookies()
    browser, address = page.context.browser, page.url.rpartition("/")[0]
    assert browser
    context = browser.new_context(java_script_enabled=False, base_url=address)
    context.add_cookies(cookies)
    plain = context.new_page()
    plain.goto(jobs["running"])
    expect(plain.get_by_role("link", name="Reload")).to_be_visible()
    expect(plain.get_by_role("img", name="Loss per layer")).to_be_visible()
    plain.get_by_text("Cancel …").click()
    plain.get_by_role("button", name="Cancel the job").click()
    expect(plain.get_by_role("status")).to_contain_text("cancelling")
    context.close()


@both_widths
def test_a_dataset_is_uploaded_chosen_by_name_and_deleted(page: Page) -> None:
    page.get_by_role("link", name="Datasets").click()
    page.get_by_label("File").set_input_files(file_of("chats.jsonl", '{"text": "one"}\nno'))
    page.get_by_label("Name", exact=True).focus()
    page.keyboard.type("Support")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_focused()
    expect(page.get_by_role("alert")).to_contain_text("Line 2 is not JSON")
    expect(page).to_have_title("Not uploaded: Datasets · fewbits")
    page.get_by_role("link", name="File").click()
    expect(page.get_by_label("File")).to_be_focused()
    expect(page.get_by_label("File")).to_have_accessible_description(re.compile("Line 2 is not JSON"))
    expect(page.get_by_label("Name", exact=True)).to_have_value("Support")
    page.get_by_label("File").set_input_files(file_of("chats.jsonl", '{"text": "one"}'))
    page.get_by_role("button", name="Upload").click()
    page.wait_for_url("**/datasets?uploaded=*")
    expect(page.get_by_role("status").filter(has_text="Support is uploaded.")).to_be_focused()

    page.get_by_role("link", name="New job", exact=True).click()
    page.get_by_role("link", name="gptq", exact=True).click()
    page.get_by_label("Source").fill("file:///models/tiny")
    page.get_by_label("Calibration text").select_option(label="Support, 15 B")
    page.get_by_role("button", name="Submit the job").click()
    expect(page.get_by_role("region", name="What was asked")).to_contain_text("Support (dataset_")
    job = page.url

    delete_the_text(page)
    expect(page.get_by_role("alert")).to_be_focused()
    expect(page.get_by_role("alert")).to_contain_text("needs the dataset and is not over")
    page.get_by_role("link", name="Go to the job").click()
    assert page.url == job
    page.get_by_text("Cancel …").click()
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.get_by_role("status")).to_contain_text("cancelled")
    delete_the_text(page)
    expect(page.get_by_role("status")).to_contain_text("is deleted")
    expect(page.get_by_text("no datasets of its own yet")).to_be_visible()


def delete_the_text(page: Page) -> None:
    page.goto("/datasets")
    now = page.get_by_role("button", name="Delete the dataset")
    expect(now).to_be_hidden()
    page.get_by_text("Delete …").click()
    now.click()


def test_a_dataset_says_what_it_is_to_a_screen_reader_and_by_keyboard(page: Page) -> None:
    upload(page, "chats.jsonl", '{"text": "one"}')
    page.goto("/datasets")
    row = page.get_by_role("table", name="Datasets, newest first").get_by_role("row", name="chats.jsonl")
    expect(row).to_contain_text("documents")
    order = list(tab_order(page))
    assert order[7:] == [
        *("new job", "File (required)", "Name", "Upload", "Kind", "Filter"),
        *("Copy the id of chats.jsonl", "Delete … chats.jsonl"),
    ]
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy the id of chats.jsonl").press("Enter")
    expect(page.locator("#copied")).to_have_text(re.compile("dataset_[0-9a-z]{26} is copied."))
    copied = page.evaluate("navigator.clipboard.readText()")
    expect(row).to_contain_text(copied)


def test_a_file_that_is_too_large_is_not_sent(page: Page) -> None:
    page.goto("/datasets")
    page.get_by_label("File").evaluate("one => one.dataset.bytesMax = 3")
    page.get_by_label("File").set_input_files(file_of("own.txt", "text"))
    page.get_by_role("button", name="Upload").click()
    said: str = page.get_by_label("File").evaluate("one => one.validationMessage")
    assert "The file is larger than the 16.8 MB that this service takes." in said
    expect(page.get_by_label("File")).to_be_focused()
    page.get_by_label("File").set_input_files(file_of("own.txt", "x"))
    page.get_by_role("button", name="Upload").click()
    page.wait_for_url("**/datasets?uploaded=*")


def test_an_upload_shows_how_far_it_is_and_may_be_sent_again(page: Page) -> None:
    held: list[Route] = []
    page.route("**/datasets", lambda route: held.append(route) if route.request.method == "POST" else route.continue_())
    page.goto("/datasets")
    page.get_by_label("File").set_input_files(file_of("own.txt", "text " * 10_000))
    button = page.get_by_role("button", name="Upload")
    bar = page.get_by_role("progressbar", name="Progress of the upload")
    expect(bar).to_be_hidden()
    with page.expect_request(lambda request: request.method == "POST"):
        button.click()
    expect(bar).to_be_visible()
    expect(button).to_be_disabled()
    held.pop().abort()
    expect(page.get_by_role("status")).to_contain_text("The connection broke")
    expect(bar).to_be_hidden()
    page.unroute("**/datasets")
    button.click()
    page.wait_for_url("**/datasets?uploaded=*")
