"""The map in a real browser: type, drag, click, zoom, search; both languages; nothing from outside."""

import json
import shutil
from urllib.parse import urlparse

import gradio_client
import pytest
from conftest import serving

import monju
from monju.evaluation.cluster_map import ClusterMap
from monju.runs.run import Run
from monju.runs.run_data import load_run_data


@pytest.fixture
def open_map(open_page):
    """Opens the Clusters tab and waits for the marker."""
    def go(*where, **how):
        page = open_page(*where, **how)
        assert not any("plotly.min.js" in url for url in page.asked)  # only who opens the map pays for it
        page.locator("#clusters-button").last.click()
        page.wait_for_selector(".map-pin:not([hidden])")
        page.wait_for_selector("#map-side .answer")
        return page

    return go


def pin(page):
    box = page.locator(".map-pin").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def alpha(page):
    return page.inner_text('#map-side [data-part="alpha"]')


def t(page, sentence):
    page.locator("#map-sentence textarea").fill(sentence)
    page.wait_for_function("text => document.querySelector('#map-side .said')?.textContent == text", arg=sentence)
    page.wait_for_function("text => document.querySelector('.map-pin').title == text", arg=sentence)


def test_a_typed_sentence_moves_the_marker_and_zoom_stays(open_map, served):
    page = open_map(served)
    t(page, "a quiet triumph")
    first, other = pin(page), alpha(page)
    page.evaluate("Plotly.relayout(document.querySelector('.map-plot'), {'xaxis.range': [-0.3, 0.31]})")
    zoom = "() => [...document.querySelector('.map-plot')._fullLayout.xaxis.range]"
    before = page.evaluate(zoom)
    t(page, "two hours of my life, gone")
    assert pin(page) != first and alpha(page) != other
    assert page.evaluate(zoom) == before
    assert page.locator("#map-side .near li").count() == 8 and page.errors == []


def test_dragging_and_clicking_move_a_hypothetical_sentence(open_map, served):
    page = open_map(served)
    t(page, "a quiet triumph")
    x, y = pin(page)
    before = alpha(page)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 50, steps=6)
    page.mouse.up()
    page.wait_for_function("old => document.querySelector('#map-side [data-part=alpha]').innerText != old", arg=before)
    page.wait_for_selector("text=What if it lay here")
    assert pin(page) == pytest.approx((x + 60, y + 50), abs=3)
    dragged = alpha(page)
    box = page.locator(".map-plot").bounding_box()
    page.mouse.click(box["x"] + 120, box["y"] + box["height"] - 90)
    page.wait_for_function("old => document.querySelector('#map-side [data-part=alpha]').innerText != old", arg=dragged)
    assert pin(page) == pytest.approx((box["x"] + 120, box["y"] + box["height"] - 90), abs=3) and page.errors == []


def test_search_lights_the_sentences_that_hold_a_word(open_map, served, tiny_run):
    word = "film"
    expected = sum(word in text.casefold() for text in load_run_data(monju.load(tiny_run).run).train.texts)
    page = open_map(served)
    page.locator("#map-search textarea, #map-search input").first.fill(word)
    page.wait_for_function("""n => document.querySelector('.map-plot').data.some(trace => trace.name == 'found'
                              && trace.x.length == n)""", arg=expected)
    assert f"{expected} of 100" in page.inner_text("#map-found")


def test_every_projection_and_colour_is_drawn_with_its_line(open_map, served):
    page = open_map(served)
    for name, told in (("pca", "spread most"), ("umap", "Neighbours stay"), ("plane", "exact")):
        page.locator(f'#map-projection input[value="{name}"]').check()
        page.wait_for_function("told => document.querySelector('.map-about').textContent.includes(told)", arg=told)
    for name, legend in (("label", "positive"), ("correct", "Monju wrong"), ("differ", "different answers")):
        page.locator(f'#map-colour input[value="{name}"]').check()
        page.wait_for_function("name => document.querySelector('.map-plot').data.some(trace => trace.name == name)", arg=legend)
    assert page.errors == []


@pytest.mark.parametrize("locale, width, told", [("en-US", 1280, "characteristic words"), ("ja-JP", 390, "特徴的な語")])
def test_both_languages_a_phone_and_nothing_from_outside(open_map, served, locale, width, told):
    page = open_map(served, locale, width, 844)
    assert told in page.inner_text("#map-figures") and "__i18n__" not in page.inner_text("body")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = [url for url in page.asked if not url.startswith(("data:", "blob:")) and urlparse(url).hostname != "127.0.0.1"]
    assert outside == [] and page.errors == []


def test_locate_over_the_network(served, tiny_run):
    answer = gradio_client.Client(served, verbose=False).predict("a quiet triumph", api_name="/locate")
    reading = monju.load(tiny_run).read(["a quiet triumph"])[0]
    assert answer["distances"] == pytest.approx(reading.distances, abs=1e-5)
    assert answer["alpha"] == pytest.approx(reading.alpha, abs=1e-5)
    assert set(answer["coordinates"]) == {"plane", "pca", "umap"} and len(answer["nearest"]) == 8
    assert set(answer["nearest"][0]) == {"row", "label", "cluster", "distance", "text"}
    assert json.dumps(answer)


def hovered(page, number):
    """Rests the pointer on a point of the map, the number-th of those that nothing covers; its place in the sample."""
    x, y = page.evaluate("""number => {
        const plot = document.querySelector('.map-plot'), { xaxis, yaxis } = plot._fullLayout, box = plot.getBoundingClientRect()
        const pin = document.querySelector('.map-pin').getBoundingClientRect(), found = []
        for (const points of plot.data) points.customdata?.forEach((_, i) => {
            const x = box.left + xaxis._offset + xaxis.l2p(points.x[i]), y = box.top + yaxis._offset + yaxis.l2p(points.y[i])
            if (x > box.left + 20 && x < box.right - 20 && y > box.top + 60 && y < Math.min(box.bottom, innerHeight) - 20
                && Math.hypot(x - pin.left - 13, y - pin.top - 13) > 40) found.push([x, y])
        })
        return found[number % found.length] }""", number)
    page.evaluate("delete document.querySelector('.map-tip').dataset.place")
    for nudge in range(200):  # a map that is just being drawn does not look at the pointer
        page.mouse.move(x + nudge % 2, y)
        page.wait_for_timeout(50)
        if page.get_attribute(".map-tip", "data-place"):
            break
    return int(page.get_attribute(".map-tip", "data-place"))


def tells(page, sentence):
    page.wait_for_function("text => document.querySelector('.map-tip').textContent.startsWith(text + '\\n')", arg=sentence)


def choose_run(page, name):
    page.click("#run input")
    page.get_by_role("option", name=name, exact=True).click()
    page.wait_for_function("name => document.querySelector('#run input').value == name", arg=name)


@pytest.fixture(scope="module")
def several(tiny_run, tmp_path_factory):
    """(the URL of a page on the tiny run twice, one and two, and on one whose sentences cannot be had, bare; their folder)."""
    folder = tmp_path_factory.mktemp("several")
    for name in ("one", "two", "bare"):
        shutil.copytree(tiny_run, folder / name)
    run = Run.open(folder / "bare")
    run.manifest["config"]["data"], run.manifest["data"]["fingerprint"] = "gone/reviews", "of other sentences"
    run.finish()
    with serving(folder / "one", MONJU_RUNS=folder) as (url, _):
        yield url, folder


def test_the_pointer_over_a_point_tells_its_sentence_whatever_was_shown_before(open_map, tiny_run, several):
    run = Run.open(tiny_run)
    texts, rows = load_run_data(run).train.texts, ClusterMap.load(run).rows
    page = open_map(several[0])
    said = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    for place in (0, 7, 60):
        tells(page, texts[rows[hovered(page, place)]])
    for name in ("two", "one"):  # the map's value is updated, and is what it was
        choose_run(page, name)
        page.wait_for_function("name => document.querySelector('.map').dataset.run == name", arg=name)
        for place in (60, 7):
            tells(page, texts[rows[hovered(page, place)]])
    page.get_by_role("tab", name="Playground").click()
    page.locator("#clusters-button").last.click()
    page.wait_for_selector(".map-pin:not([hidden])")
    tells(page, texts[rows[hovered(page, 42)]])
    assert said == [] and page.errors == []


def test_a_point_whose_sentence_cannot_be_had_tells_its_row_and_facts(open_map, several):
    url, folder = several
    page = open_map(f"{url}?run=bare")
    said = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.asked.clear()
    place = hovered(page, 5)
    atlas = ClusterMap.load(Run.open(folder / "bare"))
    page.wait_for_timeout(500)
    label, cluster = ("negative", "positive")[atlas.labels[place]], "ABC"[atlas.clusters[place]]
    assert page.inner_text(".map-tip") == f"{label} · cluster {cluster} · row {atlas.rows[place]}"
    assert said == [] and page.errors == [] and not [url for url in page.asked if "component_server" in url]


def test_after_a_drag_the_panel_is_that_of_the_last_place(open_map, served):
    page = open_map(served)
    t(page, "a quiet triumph")
    for across, down in ((90, 60), (-120, 40), (60, -90)):
        x, y = pin(page)
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + across, y + down, steps=25)
        page.mouse.up()
        page.wait_for_function("""() => { const of = parts => [...parts].map(part => part.textContent).sort().join()
            return of(document.querySelectorAll('.map-over .length'))
                == of(document.querySelectorAll('#map-side [data-part=distances] td:last-child')) }""")
