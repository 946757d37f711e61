"""The Writer in a real browser: a text appears token by token, each says who would have written it, and it stops."""

import shutil

import pytest
from conftest import serving

from monju.inference.language import LanguageRun
from monju.inference.writer import Ended, Request, Token, Writer
from monju.runs.run import Run


@pytest.fixture(scope="module")
def both(tiny_run, tiny_writer, tmp_path_factory):
    """A page on a run of each task."""
    folder = tmp_path_factory.mktemp("both")
    shutil.copytree(tiny_run, folder / "labels")
    shutil.copytree(tiny_writer, folder / "writes")
    with serving(folder / "labels", MONJU_RUNS=folder) as (url, _):
        yield url


@pytest.fixture
def desk(visit, both):
    def go(locale="en-US", **size):
        page = visit(f"{both}?run=writes&tab=writer", locale, **size)
        page.wait_for_selector("#write")
        return page

    return go


def tokens(page, stream="monju"):
    return page.evaluate("stream => [...document.querySelectorAll(`#text [data-stream=${stream}] .tok`)].map(token => token.textContent)", stream)


def test_the_text_is_the_writers_and_each_token_says_its_voices(desk, tiny_writer):
    page = desk()
    page.fill("#prompt textarea", "a quiet film")
    page.click("#write")
    page.wait_for_function("() => document.querySelector('#text .status')?.textContent.startsWith('Ended')")
    events = list(Writer(LanguageRun.load(tiny_writer, "cpu")).write(Request("a quiet film")))
    for stream in ("monju", "baseline"):
        assert "".join(tokens(page, stream)).startswith(next(event.text for event in events if isinstance(event, Ended) and event.stream == stream).rstrip("\ufffd")[:40])
    third = [event for event in events if isinstance(event, Token) and event.stream == "monju"][2]
    page.locator("#text [data-stream=monju] .tok").nth(2).hover()
    shown = page.inner_text("#text .token")
    for name, alpha in third.alpha.items():
        assert name in shown and f"{alpha:.3f}" in shown
    assert f"{100 * third.probability:.1f} %" in shown
    # arrow keys go on from the token that has the focus
    page.focus("#text .tok[tabindex='0']")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.index") == "1"
    assert page.locator("#text .path polygon").count() == 6 and page.locator("#text .walk .centre").count() == 3
    assert page.errors == []


def test_stop_ends_it_and_the_next_text_starts_afresh(desk):
    page = desk()
    page.click("#write-settings button")
    page.fill("#write-length input[type=number]", "60")
    page.click("#write")
    page.wait_for_function("() => document.querySelectorAll('#text .tok').length > 2")
    page.click("#write-stop")
    page.wait_for_function("() => /Stopped|Ended/.test(document.querySelector('#text .status').textContent)")
    page.wait_for_timeout(1500)
    before = tokens(page)
    page.wait_for_timeout(1500)
    assert tokens(page) == before
    page.fill("#prompt textarea", "something else")
    page.press("#prompt textarea", "Enter")
    page.wait_for_function("() => document.querySelector('#text .given')?.textContent == 'something else'")
    assert page.errors == []


def test_an_empty_prompt_and_settings_that_cannot_be_are_told(desk):
    page = desk()
    page.fill("#prompt textarea", "")
    page.click("#write")
    page.wait_for_function("() => document.querySelector('#text .unread')?.textContent.includes('beginning-of-text')")
    page.wait_for_function("() => document.querySelector('#text .status')?.textContent.startsWith('Ended')")
    page.click("#write-settings button")
    page.fill("#write-seed input", "-5")
    page.click("#write")
    page.wait_for_function("() => document.querySelector('#text .note, #text .status')?.textContent.length")
    assert "Traceback" not in page.inner_text("#text") and page.errors == []


@pytest.mark.parametrize("locale, here, there", [("en-US", "To write, choose writes", "Here choose labels"),
                                                 ("ja-JP", "文章を書くには writes", "ここでは labels")])
def test_a_tab_that_a_run_cannot_feed_names_one_that_can(visit, both, tiny_writer, locale, here, there):
    page = visit(f"{both}?run=labels&tab=writer", locale)
    page.wait_for_function("words => document.querySelector('#writer-about')?.innerText.includes(words)", arg=here)
    assert not page.locator("#write").is_visible()
    page.goto(f"{both}?run=writes")
    page.wait_for_function("words => document.querySelector('#panel')?.innerText.includes(words)", arg=there)
    page.click("#clusters-button")
    page.wait_for_function("words => document.querySelector('#clusters').innerText.includes(words)", arg=there)
    page.goto(f"{both}?run=writes&tab=results")  # its own table, and nothing that only classifiers have
    perplexity = f"{Run.open(tiny_writer).metrics()['monju']['perplexity']:.1f}"
    page.wait_for_function("number => document.querySelector('#results-table .claim')?.innerText.includes(number)", arg=perplexity)
    page.wait_for_timeout(1000)  # whatever else comes late
    assert perplexity in page.inner_text("#results-table .claim") and page.locator("#turned .monju, #runs-table .monju").count() == 0
    page.click("#results-table summary")
    assert page.locator("#results-table tbody tr").count() > 8 and not page.is_visible("#take-csv")
    assert page.errors == []


def test_a_phone_shows_both_texts_without_sideways_scrolling(desk):
    page = desk("ja-JP", width=390, height=844)
    page.click("#write")
    page.wait_for_function("() => document.querySelectorAll('#text .tok').length > 10")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390 and "続きを書く" in page.inner_text("#write")


def test_more_than_two_take_turns(context, both):
    pages = [context("en-US").new_page() for _ in range(3)]  # a browser opens six connections to a server
    try:
        for page in pages:
            page.set_default_timeout(60_000)
            page.goto(f"{both}?run=writes&tab=writer")
            page.wait_for_selector("#write")
            page.evaluate("""() => { const text = document.querySelector('#text'); window.said = [];
              new MutationObserver(() => window.said.push(text.innerText)).observe(text, {childList: true, subtree: true, characterData: true}) }""")
        for page in pages:  # at once: the texts are short
            page.evaluate("setTimeout(() => document.querySelector('#write').click())")
        for page in pages:
            page.wait_for_function("() => document.querySelector('#text .status')?.textContent.startsWith('Ended')")
        assert any(page.evaluate("window.said.some(said => said.includes('Waiting for a turn'))") for page in pages)
        assert len({page.inner_text("#text [data-stream=monju] .text") for page in pages}) == 1  # of one seed
    finally:
        for page in pages:
            page.close()
