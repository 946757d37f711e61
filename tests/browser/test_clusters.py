"""The map in a real browser: point, type, drag, tap, search; on a phone; both languages; nothing from outside."""

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

MAP = "window.monjuMap"


@pytest.fixture
def open_map(open_page):
    """Opens the Clusters tab and waits for the marker."""
    def go(*where, **how):
        page = open_page(*where, **how)
        to_the_map(page)
        return page

    return go


def to_the_map(page):
    page.locator("#clusters-button").last.click()
    page.wait_for_selector(".map-pin:not([hidden])")
    page.wait_for_selector("#map-side .answer")
    page.wait_for_function(f"{MAP}.state.sentences?.run == {MAP}.state.data.run")


def pin(page):
    box = page.locator(".map-pin").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def alpha(page):
    return page.inner_text('#map-side [data-part="alpha"]')


def another_alpha(page, before):
    page.wait_for_function("old => document.querySelector('#map-side [data-part=alpha]').innerText != old", arg=before)


def say(page, sentence):
    page.locator("#map-sentence textarea").fill(sentence)
    page.wait_for_function("text => document.querySelector('#map-side .said')?.textContent == text", arg=sentence)
    page.wait_for_function("text => document.querySelector('.map-pin').title == text", arg=sentence)


def spot(page, place):
    """Where a point is on the screen, [x, y]."""
    x, y = page.evaluate(f"place => {MAP}.placed(place)", place)
    box = page.locator(".map-plot").bounding_box()
    return box["x"] + x, box["y"] + y


def free_point(page, number=0):
    """A point of the sample that nothing covers and that no other is nearer to, the number-th of them."""
    return page.evaluate("""number => {
        const { placed, view, state } = window.monjuMap, pin = document.querySelector('.map-pin'), found = []
        const all = Array.from({ length: state.data.n }, (_, i) => placed(i))
        all.forEach(([x, y], i) => {
            if (x < 20 || y < 60 || x > view.width - 70 || y > view.height - 20) return
            if (Math.hypot(x - pin.offsetLeft - 13, y - pin.offsetTop - 13) < 40) return
            if (all.every(([a, b], j) => i == j || Math.hypot(x - a, y - b) > 8)) found.push(i)
        })
        return found[number % found.length] }""", number)


def rest_on(page, place):
    page.mouse.move(*spot(page, place))
    page.wait_for_function("place => document.querySelector('.map-tip').dataset.place == place", arg=str(place))


def texts_of(run):
    run = Run.open(run)
    return [load_run_data(run).train.texts[row] for row in ClusterMap.load(run).rows]


def test_the_pointer_over_a_point_tells_its_sentence(open_map, served, tiny_run):
    page = open_map(served)
    texts = texts_of(tiny_run)
    for number in (0, 5, 11):
        place = free_point(page, number)
        rest_on(page, place)
        assert page.inner_text('[data-part="point-text"]') == texts[place]
    page.mouse.move(*pin(page))
    page.wait_for_selector(".map-tip", state="hidden")
    assert page.errors == []


def test_a_typed_sentence_moves_the_marker_and_zoom_and_layers_stay(open_map, served):
    page = open_map(served)
    say(page, "a quiet triumph")
    first, other = pin(page), alpha(page)
    page.locator(".map-zoom button").first.click()
    page.locator('#map-layers [value="density"]').check()
    page.locator('#map-layers [value="points"]').uncheck()
    before = page.evaluate(f"({{...{MAP}.view}})")
    say(page, "two hours of my life, gone")
    assert pin(page) != first and alpha(page) != other
    assert page.evaluate(f"({{...{MAP}.view}})") == before
    assert page.locator('#map-layers [value="density"]').is_checked() and not page.locator('#map-layers [value="points"]').is_checked()
    assert page.locator("#map-side .near li").count() == 5 and page.errors == []


def test_every_layer_is_drawn_and_taken_away(open_map, served):
    page = open_map(served)
    picture = "document.querySelector('.map-plot canvas').toDataURL() + document.querySelector('.map-over').innerHTML"
    for layer in ("points", "density", "names", "borders", "alpha"):
        box, before = page.locator(f'#map-layers [value="{layer}"]'), page.evaluate(picture)
        box.click()
        page.wait_for_function(f"before => {picture} != before", arg=before)
        box.click()
        page.wait_for_function(f"before => {picture} == before", arg=before)
    assert page.errors == []


def test_dragging_and_clicking_move_a_hypothetical_sentence_and_it_is_put_back(open_map, served):
    page = open_map(served)
    say(page, "a quiet triumph")
    x, y = pin(page)
    before = alpha(page)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 50, steps=6)
    page.mouse.up()
    another_alpha(page, before)
    page.wait_for_selector("text=What if it lay here")
    assert pin(page) == pytest.approx((x + 60, y + 50), abs=3)
    page.click("#map-keep")  # what is pinned while it is moved says so
    page.wait_for_function("document.querySelector('.map-over').textContent.includes('what if: a quiet triumph')")
    dragged = alpha(page)
    box = page.locator(".map-plot").bounding_box()
    page.mouse.click(box["x"] + 40, box["y"] + box["height"] - 40)
    another_alpha(page, dragged)
    assert pin(page) == pytest.approx((box["x"] + 40, box["y"] + box["height"] - 40), abs=3)
    page.click('#map-side [data-act="back"]')
    page.wait_for_function("old => document.querySelector('#map-side [data-part=alpha]').innerText == old", arg=before)
    assert pin(page) == pytest.approx((x, y), abs=3)
    page.click("#map-clear")
    page.wait_for_function("!document.querySelector('.map-over').textContent.includes('what if')")
    assert page.errors == []


def test_search_lights_counts_steps_and_isolates(open_map, served, tiny_run):
    texts, word = texts_of(tiny_run), "film"
    hits = [i for i, text in enumerate(texts) if word in text.casefold()]
    page = open_map(served)
    page.fill("#map-search", word)
    assert page.inner_text("#map-found") == f"{len(hits)} of 100" and page.evaluate(f"{MAP}.state.hits") == hits
    page.press("#map-search", "Enter")
    assert page.inner_text('[data-part="point-text"]') == texts[hits[0]]
    page.click("#map-before")
    assert page.inner_text('[data-part="point-text"]') == texts[hits[-1]]
    page.check("#map-only")
    other = next(place for number in range(100) if (place := free_point(page, number)) not in hits)
    page.mouse.move(*spot(page, other))
    page.wait_for_timeout(200)
    assert page.get_attribute(".map-tip", "data-place") != str(other)  # what nearly vanished is not pointed at
    page.click("#map-next")
    page.click(".map-tip button")  # the sentence is read as if it had been typed
    page.wait_for_function("text => document.querySelector('#map-side .said')?.textContent == text.slice(0, 200)", arg=texts[hits[0]])
    page.fill("#map-search", "no sentence has this")
    assert page.inner_text("#map-found") == "not on this map" and page.locator("#map-next").is_hidden()
    assert page.errors == []


def test_a_neighbour_is_a_sentence_that_leads_to_its_point(open_map, served, tiny_run):
    texts = texts_of(tiny_run)
    page = open_map(served)
    for _ in range(7):
        page.locator(".map-zoom button").first.click()  # so near that hardly a point is in view
    near = page.locator("#map-side .near button").nth(2)
    place = int(near.get_attribute("data-place"))
    near.focus()  # by keys alone
    assert page.get_attribute(".map-tip", "data-place") == str(place)
    near.press("Enter")
    x, y = page.evaluate(f"place => {MAP}.placed(place)", place)
    box = page.locator(".map-plot").bounding_box()
    assert 0 < x < box["width"] and 0 < y < box["height"]
    assert page.inner_text('[data-part="point-text"]') == texts[place] and page.errors == []


def test_the_sentence_goes_to_the_playground_and_comes_back(open_map, served):
    page = open_map(served)
    say(page, "typed on the map")
    page.get_by_role("tab", name="Playground").click()
    page.wait_for_function("document.querySelector('#sentence textarea').value == 'typed on the map'")
    page.fill("#sentence textarea", "typed in the playground")
    page.locator("#clusters-button").last.click()
    page.wait_for_function("document.querySelector('#map-side .said')?.textContent == 'typed in the playground'")
    assert page.input_value("#map-sentence textarea") == "typed in the playground"


def test_the_side_view_is_true_to_scale_and_tells_its_lesson(open_map, served, tiny_run):
    page = open_map(served)
    say(page, "a quiet triumph")
    found = monju.load(tiny_run).read(["a quiet triumph"])[0].distances
    page.wait_for_selector('[data-part="lesson"]')
    lines = page.eval_on_selector_all(".side-view .way", "all => all.map(line => Math.hypot(line.x2.baseVal.value - line.x1.baseVal.value, line.y2.baseVal.value - line.y1.baseVal.value))")
    longest = max(found.values())
    assert [line / max(lines) for line in lines] == pytest.approx([d / longest for d in found.values()], abs=0.01)
    lesson = page.inner_text('[data-part="lesson"]')
    assert "In all 32 dimensions" in lesson and f"{longest:.2f}" in lesson


def test_every_view_and_colour_is_drawn_with_its_line(open_map, served):
    page = open_map(served)
    for name, told in (("pca", "spread most"), ("umap", "Neighbours stay"), ("plane", "exact")):
        page.select_option("#map-projection", name)
        page.wait_for_function("told => document.querySelector('.map-about').textContent.includes(told)", arg=told)
    for name, legend in (("label", "positive"), ("correct", "Monju wrong"), ("differ", "different answers")):
        page.select_option("#map-colour", name)
        assert legend in page.inner_text(".map-legend")
    assert page.errors == []


@pytest.fixture
def phone(browser, tiny_page):
    """A page on the map in a phone's browser: 390 × 844, touched."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(tiny_page)
    page.wait_for_selector("#panel .outcome")
    to_the_map(page)
    yield page
    context.close()


def swipe(session, *ways):
    """Moves one finger a way, a list of places [x, y], or several at once."""
    for kind, places in (("touchStart", [way[0] for way in ways]), *(("touchMove", now) for now in zip(*ways)), ("touchEnd", [])):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(places)]})


def test_one_finger_scrolls_the_page_two_move_the_map_and_a_tap_tells(phone, tiny_run):
    page, session = phone, phone.context.new_cdp_session(phone)
    page.evaluate("document.querySelector('.map-plot').scrollIntoView({ block: 'center' })")
    box, before = page.locator(".map-plot").bounding_box(), page.evaluate(f"({{...{MAP}.view}})")
    x, y = box["x"] + 150, box["y"] + 300
    scrolled = page.evaluate("scrollY")
    swipe(session, [(x, y - 20 * i) for i in range(11)])
    page.wait_for_function("before => scrollY > before + 100", arg=scrolled)  # the page went
    assert page.evaluate(f"({{...{MAP}.view}})") == before  # and the map stayed
    page.wait_for_timeout(500)  # until it has come to rest

    page.evaluate("document.querySelector('.map-plot').scrollIntoView({ block: 'center' })")
    box, scrolled = page.locator(".map-plot").bounding_box(), page.evaluate("scrollY")
    x, y = box["x"] + 150, box["y"] + 200
    swipe(session, *([(x + apart + 5 * i, y - 5 * i) for i in range(9)] for apart in (0, 60)))
    assert page.evaluate("scrollY") == scrolled
    assert page.evaluate(f"{MAP}.view.x") < before["x"] and page.evaluate(f"{MAP}.view.y") < before["y"]

    place = free_point(page)
    page.touchscreen.tap(*spot(page, place))
    page.wait_for_selector('[data-part="point-text"]')
    assert page.inner_text('[data-part="point-text"]') in texts_of(tiny_run)
    assert "Two fingers" in page.inner_text(".map-about")
    tip, frame = page.locator(".map-tip").bounding_box(), page.locator(".map-plot").bounding_box()
    assert frame["x"] <= tip["x"] and tip["x"] + tip["width"] <= frame["x"] + frame["width"]


@pytest.mark.parametrize("locale, width, told", [("en-US", 1280, "characteristic words"), ("ja-JP", 390, "特徴的な語")])
def test_both_languages_a_phone_and_nothing_from_outside(open_map, served, locale, width, told):
    page = open_map(served, locale, width, 844)
    assert told in page.inner_text("#map-figures") and "__i18n__" not in page.inner_text("body")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = [url for url in page.asked if not url.startswith(("data:", "blob:")) and urlparse(url).hostname != "127.0.0.1"]
    assert outside == [] and page.errors == []


def test_no_text_on_the_map_stands_on_another(open_map, served):
    page = open_map(served)
    for sentence in ("a quiet triumph", "bad", "the film is long and the cast is good"):
        say(page, sentence)
        crossing = page.evaluate("""() => {
            const boxes = [...document.querySelectorAll('.map-over text')].map(text => [text.textContent, text.getBoundingClientRect()])
            return boxes.flatMap(([one, a], i) => boxes.slice(i + 1).filter(([, b]) =>
                a.left < b.right - 6 && b.left < a.right - 6 && a.top < b.bottom - 6 && b.top < a.bottom - 6).map(([other]) => [one, other])) }""")
        assert crossing == []


def test_locate_over_the_network(served, tiny_run):
    answer = gradio_client.Client(served, verbose=False).predict("a quiet triumph", api_name="/locate")
    reading = monju.load(tiny_run).read(["a quiet triumph"])[0]
    assert answer["distances"] == pytest.approx(reading.distances, abs=1e-5)
    assert answer["alpha"] == pytest.approx(reading.alpha, abs=1e-5)
    assert set(answer["coordinates"]) == {"plane", "pca", "umap"} and len(answer["nearest"]) == 8
    assert set(answer["nearest"][0]) == {"place", "row", "label", "cluster", "distance", "text"}
    assert json.dumps(answer)


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


def test_points_tell_their_sentences_whatever_was_shown_before(open_map, tiny_run, several):
    texts = texts_of(tiny_run)
    page = open_map(several[0])
    said = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    for name in ("two", "bare", "one"):  # the map's value is updated, and is what it was
        choose_run(page, name)
        page.wait_for_function(f"name => {MAP}.state.data?.run == name && {MAP}.state.marker.run == name && {MAP}.state.sentences?.run == name", arg=name)
        place = free_point(page, 3)
        page.mouse.move(0, 0)
        rest_on(page, place)
        assert page.locator('[data-part="point-text"]').is_visible() == (name != "bare")
        assert name == "bare" or page.inner_text('[data-part="point-text"]') == texts[place]
    page.get_by_role("tab", name="Playground").click()
    to_the_map(page)
    place = free_point(page, 8)
    rest_on(page, place)
    assert page.inner_text('[data-part="point-text"]') == texts[place]
    assert said == [] and page.errors == []


def test_without_sentences_there_is_no_dead_control(open_map, several):
    url, folder = several
    page = open_map(f"{url}?run=bare")
    atlas, place = ClusterMap.load(Run.open(folder / "bare")), free_point(page, 5)
    rest_on(page, place)
    label, cluster = ("negative", "positive")[atlas.labels[place]], "ABC"[atlas.clusters[place]]
    assert page.inner_text(".map-tip").startswith(f"cluster {cluster} · {label}")
    assert page.locator("#map-search").is_hidden() and page.locator("#map-side .near").count() == 0
    assert "cannot be had here" in page.inner_text(".map-gone") and "prefetch bare" in page.inner_text(".map-gone")
    assert "×" in page.inner_text('[data-part="near-labels"]') and "row" not in page.inner_text("#map-side") and page.errors == []


def test_after_a_drag_the_panel_is_that_of_the_last_place(open_map, served):
    page = open_map(served)
    say(page, "a quiet triumph")
    for across, down in ((90, 60), (-120, 40), (60, -90)):
        x, y = pin(page)
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + across, y + down, steps=25)
        page.mouse.up()
        page.wait_for_function("""() => { const of = numbers => numbers.map(d => d.toFixed(3)).join(), { marker } = window.monjuMap.state
            return of(marker.distances) == [...document.querySelectorAll('[data-part=distances] td:last-child')].map(cell => cell.textContent).join() }""")
