"""From the form to the file in a real browser, on the whole stack."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.conftest import TINY_LLAMA
from tests.e2e.conftest import Up

FINISHED_MS = 240_000


@pytest.mark.slow
def test_a_job_is_submitted_followed_and_downloaded(up: Up, chromium: Browser, tmp_path: Path) -> None:
    context = chromium.new_context(viewport={"width": 390, "height": 800}, base_url=up.url)
    page = context.new_page()
    page.goto("/jobs/new")
    page.get_by_label("API key").fill(up.api_key)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Source").fill(TINY_LLAMA.as_uri())
    page.get_by_label("Type", exact=True).select_option("Q8_0")
    page.get_by_label("code", exact=True).uncheck()
    page.get_by_label("Windows").fill("4")
    page.get_by_role("button", name="Submit the job").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("gguf:Q8_0")
    expect(page.get_by_role("status")).to_contain_text("succeeded", timeout=FINISHED_MS)
    expect(page.get_by_role("row", name="Perplexity, prose")).to_contain_text("%")
    with page.expect_download() as downloading:
        page.get_by_role("link", name="model-Q8_0.gguf").click()
    downloading.value.save_as(tmp_path / "model.gguf")
    assert (tmp_path / "model.gguf").read_bytes()[:4] == b"GGUF"
    context.close()
