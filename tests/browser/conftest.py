"""A real browser and a real page, for all tabs."""

import shutil

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


@pytest.fixture
def visit(browser):
    """Opens a URL in a context of its own; notes what it asks for and what goes wrong in it."""
    contexts = []

    def go(url, locale="en-US", width=1280, height=720):
        context = browser.new_context(locale=locale, viewport={"width": width, "height": height}, accept_downloads=True)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.asked, page.errors = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.goto(url)
        return page

    yield go
    for context in contexts:
        context.close()


@pytest.fixture
def open_page(visit):
    """Visits a page and waits for its first answer."""
    def go(url, *where, **how):
        page = visit(url, *where, **how)
        page.wait_for_selector("#panel .verdicts, #panel code")
        return page

    return go
