"""A chromium and a dashboard for it; tests that need them are skipped where there is none."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
CHROMIUM = os.environ.get("BROWSER_PATH") or shutil.which("chromium") or "/usr/bin/chromium"


@pytest.fixture(scope="session")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install playwright)")
    if not Path(CHROMIUM).is_file():
        pytest.skip(f"no chromium at {CHROMIUM}: apt install chromium, or set BROWSER_PATH")
    with sync_api.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def open_page(browser):
    """open_page(url, outside): an empty tab; what it asks of other hosts than `url` is put into `outside`."""

    def make(url, outside):
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.on(
            "request",
            lambda r: (
                None if r.url.startswith((url, "data:", "blob:", "ws://127")) else outside.append(r.url)
            ),
        )
        return page

    return make


@pytest.fixture(scope="session")
def serve(browser):
    """serve(script, runs): a context in which a streamlit script runs, and its address; after `browser` may skip."""

    @contextmanager
    def run(script, runs):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        command = [sys.executable, "-m", "streamlit", "run", str(script), f"--server.port={port}"]
        quiet = ["--server.address=127.0.0.1", "--server.headless=true", "--server.fileWatcherType=none"]
        process = subprocess.Popen(
            [*command, *quiet, "--", "--runs", str(runs)], cwd=ROOT, stdout=subprocess.DEVNULL
        )
        try:
            _wait(f"http://127.0.0.1:{port}/_stcore/health")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=20)

    return run


def _wait(url, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise TimeoutError(f"streamlit did not answer at {url} within {seconds} s")


def click(page, chart, trace, point):
    """Click on a mark: number `point` of the trace `trace` of those that have marks."""
    page.locator(f".st-key-{chart} .js-plotly-plot .main-svg").first.wait_for(timeout=60_000)
    traces = page.locator(f".st-key-{chart} .scatterlayer .trace").filter(has=page.locator("path.point"))
    mark = traces.nth(trace).locator("path.point").nth(point)
    box = settled(page, mark)
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def settled(page, mark):
    """Where a mark is, in view, once it stays there: a chart that is drawn anew takes its marks away."""
    error = pytest.importorskip("playwright.sync_api").Error
    before = None
    for _ in range(40):
        with suppress(error):
            mark.scroll_into_view_if_needed(timeout=5_000)
            now = mark.bounding_box()
            if now is not None and now == before:
                return now
            before = now
        page.wait_for_timeout(500)
    raise AssertionError("the mark was drawn anew again and again")
