"""Around the tabs: language, theme, the tab in the address, arrow keys, a small window, the picture of a reading."""

import io

import numpy as np
import pytest
from PIL import Image

TABS = ("playground", "clusters", "training", "results")


def on_show(page):
    return page.get_attribute('#tabs [role="tab"][aria-selected="true"]', "data-tab-id")


def until(page, tab):
    page.wait_for_selector(f'#{tab}-button[aria-selected="true"]')


def test_the_language_is_switched_with_all_that_was_chosen(open_page, served):
    page = open_page(served)
    page.locator("#sentence textarea").fill("a film & a lamp")
    page.wait_for_function("() => document.querySelector('#panel .said').textContent == 'a film & a lamp'")
    page.click("#results-button")
    page.wait_for_selector("#results .headline")
    page.click("#language")
    page.wait_for_url("**lang=ja**")
    page.wait_for_selector("#panel .outcome", state="attached")
    until(page, "results")
    page.wait_for_function("() => document.querySelector('#results').innerText.includes('文殊')")
    assert "結果" in page.inner_text("#results-button") and page.evaluate("document.documentElement.lang") == "ja"
    assert page.input_value("#sentence textarea") == "a film & a lamp"
    # and it stays so at the next visit, without a word in the address
    page.goto(served)
    page.wait_for_selector("#panel .outcome")
    assert "ベースライン" in page.inner_text("#panel") and "クラスタ" in page.inner_text("#clusters-button")
    page.click("#language")
    page.wait_for_url("**lang=en**")
    page.wait_for_selector("#panel .outcome")
    assert "Baseline" in page.inner_text("#panel") and page.errors == []


def test_the_theme_is_turned_and_kept(open_page, served):
    page = open_page(f"{served}?__theme=light")
    page.click("#theme")
    assert "dark" in page.get_attribute("body", "class") and "__theme=dark" in page.url
    page.goto(served)
    page.wait_for_selector("#panel .outcome")
    assert "dark" in page.get_attribute("body", "class")
    page.click("#theme")
    assert "dark" not in page.get_attribute("body", "class")


def test_arrow_keys_go_through_the_tabs_and_the_address_names_the_one_on_show(open_page, served):
    page = open_page(served)
    page.focus("#playground-button")
    for key, tab in (("ArrowRight", "clusters"), ("End", "results"), ("ArrowRight", "playground"), ("ArrowLeft", "results"), ("ArrowLeft", "training")):
        page.keyboard.press(key)
        until(page, tab)
        assert page.evaluate("document.activeElement.id") == f"{tab}-button"
        page.wait_for_function("tab => (new URLSearchParams(location.search).get('tab') ?? 'playground') == tab", arg=tab)
    again = open_page_anywhere(page, served + "?tab=training")
    until(again, "training")
    assert again.errors == []


def open_page_anywhere(page, url):
    page.goto(url)
    page.wait_for_selector("#panel .outcome", state="attached")
    return page


def test_a_tab_opens_at_its_top(open_page, served):
    page = open_page(served, height=400)
    page.evaluate("scrollTo(0, 10_000)")
    assert page.evaluate("scrollY") > 100
    page.evaluate("document.querySelector('#results-button').click()")
    until(page, "results")
    page.wait_for_function("() => scrollY == 0")


def test_a_projectors_zoom_still_shows_sentence_and_verdict(open_page, served):
    page = open_page(served, width=1280 * 2 // 3, height=720 * 2 // 3)
    for part in ("sentence", "monju"):
        box = page.locator(f'[data-part="{part}"]').first.bounding_box()
        assert box["y"] >= 0 and box["y"] + 60 < 480
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280 * 2 // 3


def test_on_a_phone_the_slider_stands_with_the_verdict_and_targets_are_large(browser, served):
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(served)
    page.wait_for_selector("#panel .outcome")
    page.wait_for_timeout(500)
    verdict, slider = (page.locator(where).bounding_box() for where in ('[data-part="monju"]', "#sharpness"))
    assert 0 <= verdict["y"] < slider["y"] < verdict["y"] + 600
    small = page.evaluate("""() => [...document.querySelectorAll('#header button, #tabs [role=tab], #playground button')]
        .filter(node => node.checkVisibility() && node.getBoundingClientRect().height < 43.5 && !node.closest('.reset-button, #sharpness'))
        .map(node => node.id || node.textContent)""")
    assert small == []
    context.close()


def test_the_first_answer_moves_nothing(visit, served):
    """The layout shift of a visit as the browser counts it."""
    page = visit("about:blank")
    page.add_init_script("""window.moved = 0; new PerformanceObserver(list => { for (const entry of list.getEntries())
        if (!entry.hadRecentInput) window.moved += entry.value }).observe({type: 'layout-shift', buffered: true})""")
    page.goto(served)
    page.wait_for_selector("#panel .outcome")
    page.wait_for_selector("#effect .effect")
    page.wait_for_timeout(1000)
    assert page.evaluate("window.moved") < 0.02


@pytest.mark.parametrize("width", [1280, 390])
def test_a_reading_is_copied_as_a_picture(open_page, served, width):
    page = open_page(served, width=width)
    page.evaluate("""() => { navigator.clipboard.write = async ([item]) => {
        const bytes = new Uint8Array(await (await item.getType('image/png')).arrayBuffer())
        window.copied = Array.from(bytes, byte => byte.toString(16).padStart(2, '0')).join('') } }""")
    page.click("#picture")
    assert "clipboard" in page.wait_for_selector(".toast-body").inner_text()
    drawn = Image.open(io.BytesIO(bytes.fromhex(page.evaluate("window.copied")))).convert("RGB")
    assert drawn.width == 2480 and drawn.height > 600
    # verdict and experts are drawn: dark ink in the right third and in the middle
    dark = [int((np.asarray(drawn.crop(box).resize((124, 62))).max(axis=2) < 60).sum())
            for box in ((820, 100, 1640, drawn.height), (1700, 100, 2480, drawn.height))]
    assert min(dark) > 50, dark


def test_where_the_clipboard_is_refused_the_picture_is_a_file(open_page, served):
    page = open_page(served)
    page.evaluate("() => { navigator.clipboard.write = async () => { throw new Error('refused') } }")
    with page.expect_download() as download:
        page.click("#picture")
    assert Image.open(download.value.path()).format == "PNG"
