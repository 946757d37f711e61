"""The playground in a real browser: type, read the verdict; both languages, themes and sizes."""

import shutil
import time

import pytest

import monju
from monju.ui import gr, launch

sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright's Python package")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("needs chromium", allow_module_level=True)

QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run"]
PATIENCE = 60_000  # milliseconds, for a busy machine


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def served(tiny_run):
    _, url, _ = launch(tiny_run, prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    yield url
    gr.close_all()


@pytest.fixture
def open_page(browser):
    """Opens a URL in a context of its own; notes what went wrong in it."""
    contexts = []

    def go(url, locale="en-US", width=1280, height=720):
        context = browser.new_context(locale=locale, viewport={"width": width, "height": height})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.asked, page.errors = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.goto(url)
        page.wait_for_selector("#panel .verdicts, #panel code")
        return page

    yield go
    for context in contexts:
        context.close()


def answered(page, sentence):
    page.wait_for_function("sentence => document.querySelector('#panel .said')?.textContent == sentence", arg=sentence)


def test_an_example_is_already_answered_and_nothing_outside_is_asked(open_page, served):
    page = open_page(served)
    assert page.locator("#panel [data-who]").count() == 8
    assert page.inner_text("#panel .said") == page.input_value("#sentence textarea")
    assert "100 training sentences" in page.inner_text("#about")
    assert [url for url in page.asked if not url.startswith((served, "data:", "blob:"))] == []
    assert page.errors == []


def test_typing_pasting_deleting_and_choosing_all_answer(open_page, served):
    page = open_page(served)
    box = page.locator("#sentence textarea")
    box.press("Control+a")
    page.keyboard.type("dull", delay=40)
    answered(page, "dull")
    page.keyboard.insert_text(" but 良い")  # as a paste or an input method does
    answered(page, "dull but 良い")
    box.press("Control+a")
    box.press("Delete")
    page.wait_for_selector("#panel .note")
    assert "choose an example" in page.inner_text("#panel")
    chip = page.locator(".chip").nth(1)
    chip.focus()
    page.keyboard.press("Enter")
    answered(page, chip.inner_text())
    assert box.input_value() == chip.inner_text()


def test_the_verdict_follows_the_sentence(open_page, served, tiny_run):
    sentence = "an unusual sentence about nothing"
    reading = monju.load(tiny_run).read([sentence])[0]
    page = open_page(served)
    page.locator("#sentence textarea").fill(sentence)
    answered(page, sentence)
    shown = page.inner_text('[data-who="monju"] .answer')
    assert reading.monju.name in shown and f"{100 * reading.monju.probabilities.max():.1f}" in shown
    for expert, alpha in reading.alpha.items():
        assert f"α = {alpha:.3f}" in page.inner_text(f'[data-who="{expert}"] .alpha')


def test_markup_is_shown_as_text(open_page, served):
    page = open_page(served)
    nasty = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
    page.locator("#sentence textarea").fill(nasty)
    answered(page, nasty)
    assert page.locator("#panel img, #panel script").count() == 0 and page.title() != "taken"


def test_nothing_jumps_while_typing(open_page, served):
    page = open_page(served)
    tops = """() => [...document.querySelectorAll('#panel [data-who]')]
        .map(card => Math.round(card.getBoundingClientRect().top))"""
    before = page.evaluate(tops)
    for sentence in ("a", "bad", "A rather longer sentence, with a clause, that never wants to end."):
        page.locator("#sentence textarea").fill(sentence)
        answered(page, sentence)
        assert page.evaluate(tops) == before


@pytest.mark.parametrize("locale, label, verdict", [("en-US", "Your sentence", "Baseline"),
                                                    ("ja-JP", "文を入力", "ベースライン")])
def test_labels_and_answers_are_in_the_browsers_language(open_page, served, locale, label, verdict):
    page = open_page(served, locale)
    assert label in page.inner_text("#sentence") and verdict in page.inner_text("#panel")
    assert page.evaluate("document.documentElement.lang") == locale[:2]
    assert "__i18n__" not in page.inner_text("body")


@pytest.mark.parametrize("locale", ["en-US", "ja-JP"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_shows_it_all_without_sideways_scrolling(open_page, served, theme, locale):
    page = open_page(f"{served}?__theme={theme}", locale, width=390, height=844)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    spilling = page.evaluate("""() => [...document.querySelectorAll('#panel .card, #panel .scores')]
        .filter(box => box.scrollWidth > box.clientWidth + 1 || box.getBoundingClientRect().right > innerWidth)
        .length""")
    assert spilling == 0


def test_a_verdict_comes_quickly(open_page, served):
    page = open_page(served)
    seconds = []
    for sentence in ("one", "one two", "one two three", "a longer sentence on a film that was fine", "end"):
        page.locator("#sentence textarea").fill(sentence)
        began = time.perf_counter()
        answered(page, sentence)
        seconds.append(time.perf_counter() - began)
    assert sorted(seconds)[len(seconds) // 2] < 1.0  # the goal is 0.3 s on a quiet machine; a busy one must still pass


@pytest.mark.parametrize("locale, said", [("en-US", "This run cannot be shown."), ("ja-JP", "このランは表示できません。")])
def test_a_broken_run_is_a_calm_page(open_page, tmp_path, locale, said):
    _, url, _ = launch(tmp_path / "none", prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    page = open_page(url, locale)
    assert said in page.inner_text("#panel") and "python -m monju train" in page.inner_text("#panel")
    assert "Traceback" not in page.inner_text("body")
