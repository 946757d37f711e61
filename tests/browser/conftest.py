"""A real browser and a real page, for all tabs."""

import functools
import shutil
import time

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run"]
PATIENCE = 60_000  # milliseconds, for a busy machine


@pytest.fixture(scope="session")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright's Python package")
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def served(tiny_page):
    return tiny_page


@pytest.fixture(scope="session")
def context(browser):
    """A function: the browser's one context of a locale, so that its pages read Gradio's scripts once."""
    @functools.cache
    def context(locale):
        return browser.new_context(locale=locale, accept_downloads=True)

    return context


@pytest.fixture
def visit(context):
    """Opens a URL in a page of its own, to which nothing is left from earlier ones; notes what it asks for, what is not answered
    yet, and what goes wrong in it."""
    pages = []

    def go(url, locale="en-US", width=1280, height=720):
        page = context(locale).new_page()
        pages.append(page)
        page.set_viewport_size({"width": width, "height": height})
        page.set_default_timeout(PATIENCE)
        page.asked, page.errors, page.pending = [], [], set()
        page.on("request", lambda request: (page.asked.append(request.url), page.pending.add(request)))
        page.on("requestfinished", lambda request: page.pending.discard(request))
        page.on("requestfailed", lambda request: page.pending.discard(request))
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda said: page.errors.append(said.text) if "Content Security Policy" in said.text else None)
        page.goto(url)
        return page

    yield go
    for page in pages:
        if page.url.startswith("http"):
            page.evaluate("localStorage.clear(), sessionStorage.clear()")
        page.context.clear_cookies()
        page.close()


@pytest.fixture
def quiet():
    """A function (page, what it shows) that waits until nothing is on its way and what the page shows has not changed for
    almost half a second; returns that. A stream of answers that stays open while nothing changes is waited for 15 s: seen once in
    some hundred pages on a busy machine, with everything answered."""
    def quiet(page, shown=lambda: None):
        before, since, end = None, 0, time.monotonic() + PATIENCE / 1000
        while since < (150 if before and before[1] else 4):
            assert time.monotonic() < end, ("not quiet", sorted(request.url for request in page.pending))
            page.wait_for_timeout(100)
            asked = [request.url for request in page.pending if "/heartbeat/" not in request.url]
            now = shown(), any("/queue/data" in url for url in asked)
            since = since + 1 if now == before and len(asked) == now[1] else 0
            before = now
        return before[0]

    return quiet


@pytest.fixture
def open_page(visit):
    """Visits a page and waits for its first answer."""
    def go(url, *where, **how):
        page = visit(url, *where, **how)
        page.wait_for_selector("#panel .outcome, #panel code")
        return page

    return go
