"""`python -m demo.picture`: run one real job and take the picture of its page that the README shows.

A worker is killed in the middle of it, so that the page shows an attempt that was lost, and the name of this machine:
`sudo unshare --uts sh -c 'hostname node-1; …'` gives it another. With its colours reduced to a palette
the file is a third as large. Needs Debian's chromium: apt-get install -y chromium.
"""

import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

import psutil
from playwright.sync_api import sync_playwright

from demo.__main__ import DOMAINS, MODEL, SOURCES, say
from demo.stack import Stack
from fewbits_client import Client, Updated
from server.processes import COMMANDS

CHROMIUM = "/usr/bin/chromium"
PICTURE = SOURCES.parent / "docs" / "portal.png"
WIDTH, HEIGHT = 1280, 900
RECIPE = "gptq:4bit-g128"


def main() -> int:
    """Write the picture and return the exit status."""
    if not Path(CHROMIUM).exists():
        print("demo: there is no chromium; apt-get install -y chromium", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="models-", ignore_cleanup_errors=True) as folder:
        if os.geteuid() == 0:
            Path(folder).chmod(0o711)  # Postgres has a user of its own, who must pass through
        model = Path(shutil.copytree(MODEL, Path(folder) / MODEL.name))  # not to show where this checkout lies
        with Stack(Path(folder), model) as stack:
            say(f"Running {RECIPE} …")
            with Client(stack.url, stack.api_key) as client:
                job_id = client.submit(model.as_uri(), RECIPE, domains=DOMAINS)["id"]
                kill_worker_of(client, job_id)
                if client.wait(job_id)["status"] != "succeeded":
                    print(f"demo: the job failed:\n{stack.complaint()}", file=sys.stderr)
                    return 1
            take(stack, f"/jobs/{job_id}")
    say(f"{PICTURE} is new.")
    return 0


def kill_worker_of(client: Client, job_id: str) -> None:
    """Kill the worker that quantizes, once it has got somewhere."""
    for update in client.stream(job_id):
        if isinstance(update, Updated) and any(one["kind"] == "quantize" and one["progress"] for one in update.steps):
            break
    _, *arguments = COMMANDS["worker-gpu"]
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.cmdline()[-len(arguments) :] == arguments:
                process.kill()


def take(stack: Stack, page_path: str) -> None:
    """Sign in as a person does, and take the picture."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, base_url=stack.url)
        page.goto("/sign-in")
        page.get_by_label("API key").fill(stack.api_key)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/jobs")
        page.goto(page_path)
        page.screenshot(path=PICTURE, full_page=True)
        browser.close()


if __name__ == "__main__":
    raise SystemExit(main())
