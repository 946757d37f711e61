"""The results in a real browser: the table's numbers, the figures, the sentences that were turned, what is taken away."""

import csv
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from monju.data import sources
from monju.evaluation.comparison import compare
from monju.inference.pipeline import Monju
from monju.reporting import report
from monju.reporting.report import Results
from monju.runs import run_data as memory
from monju.runs.prediction_store import load_predictions
from monju.runs.run import Run
from monju.ui.i18n.texts.results import TEXTS
from monju.ui.i18n.translator import Translator

PATIENCE = 60_000  # milliseconds, for a busy machine
DRAWN = "() => document.querySelectorAll('.figures figure .main-svg').length >= 4"


@pytest.fixture
def open_results(open_page):
    """Opens the Results tab, waits for its headline and unfolds the tables and figures."""
    def go(*where, wait="#results-table .headline", **how):
        page = open_page(*where, **how)
        page.get_by_role("tab", name=re.compile("Results|結果")).click()
        page.wait_for_selector(wait)
        page.evaluate("document.querySelectorAll('#results-more details, #figures details').forEach(part => { part.open = true })")
        return page

    return go


def saved(page, selector):
    """The file that a click on the selector brings."""
    with page.expect_download() as arriving:
        page.click(selector)
    return arriving.value.suggested_filename, Path(arriving.value.path()).read_bytes()


@pytest.mark.parametrize("locale", ["en-US", "ja-JP"])
def test_the_table_is_the_stored_one_in_both_languages(open_results, served, tiny_run, locale):
    metrics = Run.open(tiny_run).read_json("metrics.json")
    page = open_results(served, locale)
    for key in ("baseline", "equal_cost", "monju"):
        row = page.inner_text(f'#results-more [data-row="{key}"]')
        low, high = metrics[key]["interval"]
        assert f"{100 * metrics[key]['accuracy']:.2f} [{100 * low:.1f}, {100 * high:.1f}]" in row
        assert f"{100 * metrics[key]['gain']:+.2f}".replace("-0.00", "+0.00").replace("-", "−") in row
    for name, model in metrics["experts"].items():
        assert f"{100 * model['accuracy']:.2f}" in page.inner_text(f'#results-more [data-model="{name}"]')
    said, pair = page.inner_text("#results-more"), metrics["monju_vs_baseline"]
    assert f"p = {pair['p_value']:.3g}" in said and "2.50" in said  # one of 40 sentences
    page.wait_for_function(DRAWN)
    language = ["en-US", "ja-JP"].index(locale)
    assert TEXTS["fig_alpha"][language] in page.inner_text("#figures") and "__i18n__" not in page.inner_text("body")
    assert TEXTS["take_report"][language] in page.inner_text("#take")
    assert [url for url in page.asked if not url.startswith((served, "data:", "blob:"))] == []
    assert page.errors == []


def test_the_figures_show_the_cells_and_mark_the_unseen(open_results, served, tiny_run):
    metrics = Run.open(tiny_run).read_json("metrics.json")
    page = open_results(served)
    page.wait_for_function(DRAWN)
    shown = page.inner_text('[data-figure="clusters"]')
    for expert in metrics["experts"].values():
        for cell in expert["clusters"].values():
            assert cell["accuracy"] is None or f"{100 * cell['accuracy']:.1f}" in shown
    unseen = sum(not cell["seen"] for expert in metrics["experts"].values() for cell in expert["clusters"].values())
    assert page.locator('[data-figure="clusters"] .shapelayer path').count() == unseen == 3
    assert "equal weight 0.333" in page.inner_text('[data-figure="alpha"]')


def test_a_turned_sentence_opens_in_the_playground(open_results, served, tiny_run):
    found = Results.of(Run.open(tiny_run))
    texts = sources.load(found.config.data).validation.texts
    page = open_results(served)
    page.wait_for_selector('#turned [data-list="broken"]')
    for title, ids in zip(("rescued", "broken"), found.turned):
        shown = page.locator(f'#turned [data-list="{title}"] .text').all_inner_texts()
        assert sorted(shown) == sorted(" ".join(texts[i].split()) for i in ids)
    ids = [i for some in found.turned for i in some]
    assert ids, "the tiny run's ensembles differ somewhere"
    page.click(f'#turned button[data-id="{ids[0]}"]')
    page.wait_for_function("text => document.querySelector('#sentence textarea')?.value == text", arg=texts[ids[0]])
    page.wait_for_function("text => text.startsWith(document.querySelector('#panel .said')?.textContent.replace(/…$/, '') || '-')",
                           arg=texts[ids[0]])
    assert page.locator("#panel .outcome").is_visible()
    assert page.get_by_role("tab", selected=True).inner_text() == "Playground"
    page.get_by_role("tab", name="Results").click()  # and back: all is still there
    assert page.locator('#results-more [data-row="monju"]').is_visible() and page.errors == []


def test_tables_and_the_report_are_taken_away(open_results, served, tiny_run, browser, tmp_path):
    metrics = Run.open(tiny_run).read_json("metrics.json")
    page = open_results(served)
    name, content = saved(page, "#take-csv")
    lines = list(csv.DictReader(content.decode().splitlines()))
    assert name == "monju-tiny.csv" and float(lines[-5]["accuracy"]) == metrics["monju"]["accuracy"]
    name, content = saved(page, "#take-latex")
    assert name == "monju-tiny.tex" and b"\\toprule" in content
    name, content = saved(page, "#take-report")
    assert name == "monju-tiny.html"
    (tmp_path / name).write_bytes(content)
    context = browser.new_context(offline=True)
    report = context.new_page()
    asked, errors = [], []
    report.on("request", lambda request: asked.append(request.url))
    report.on("pageerror", lambda error: errors.append(str(error)))
    report.goto((tmp_path / name).as_uri())
    report.wait_for_selector("#alpha .main-svg", timeout=PATIENCE)
    assert report.locator(".main-svg").count() >= 4 and errors == []
    assert f"{100 * metrics['monju']['accuracy']:.2f}" in report.inner_text('[data-row="monju"]')
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    context.close()


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("width", [1280, 1000, 768, 390])
def test_the_reports_tables_are_never_cut_off(visit, tiny_run, tmp_path, language, width):
    found = Results.of(Run.open(tiny_run))
    found = replace(found, config=replace(found.config, data="sst2"))  # with the poster's columns the widest there is
    (tmp_path / "report.html").write_text(report.html(found, Translator(language)), encoding="utf-8")
    page = visit((tmp_path / "report.html").as_uri(), width=width)
    sizes = page.eval_on_selector_all(".wide", "all => all.map(one => [one.scrollWidth, one.clientWidth])")
    assert len(sizes) == 2 and all(wanted <= there for wanted, there in sizes), sizes
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cells = page.locator('[data-row="monju"] td')
    assert cells.count() == 7 and all(cell.is_visible() for cell in cells.all())


def test_every_figure_is_saved_as_png_and_svg(open_results, served):
    page = open_results(f"{served}?__theme=dark")
    page.wait_for_function(DRAWN)
    for figure in ("clusters", "agreement", "calibration", "alpha"):
        name, content = saved(page, f'[data-figure="{figure}"] [data-format="png"]')
        assert name == f"monju-tiny-{figure}.png" and content.startswith(b"\x89PNG") and len(content) > 5_000
        name, content = saved(page, f'[data-figure="{figure}"] [data-format="svg"]')
        assert name == f"monju-tiny-{figure}.svg" and content.startswith(b"<svg")
        assert b"rgb(23, 32, 46)" in content and b"rgb(238, 242, 248)" not in content  # light ink, whatever the page's theme


def test_a_phone_shows_the_tables_whole(open_results, served):
    page = open_results(served, width=390, height=844)
    page.wait_for_function(DRAWN)
    page.wait_for_selector("#turned [data-list]")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    sizes = page.eval_on_selector_all("#results-more .wide", "all => all.map(one => [one.scrollWidth, one.clientWidth])")
    assert len(sizes) == 2 and all(wanted <= there for wanted, there in sizes), sizes  # cells stand below each other
    assert page.locator('#results-more [data-row="monju"] td').first.evaluate("cell => getComputedStyle(cell, '::before').content") == '"Accuracy"'
    spilling = page.evaluate("""() => [...document.querySelectorAll('#results figure, #turned .card, #take button')]
        .filter(box => box.getBoundingClientRect().right > innerWidth).length""")
    assert spilling == 0


@pytest.fixture
def second(tiny_run, tiny_shelf):
    """Another run beside the first, which tests may damage."""
    copy = shutil.copytree(tiny_run, tiny_shelf / "second")
    yield copy
    shutil.rmtree(copy, ignore_errors=True)


def choose(page, name):
    box = page.locator("#run input")
    box.fill(name)
    box.press("Enter")


def test_a_run_whose_sentences_are_gone_says_so_in_one_line(open_results, served, second):
    run = Run.open(second)
    run.manifest["config"]["data"] = "/nowhere/films.csv"
    run.finish()
    page = open_results(served)
    page.wait_for_selector("#turned button[data-id]")
    memory._read.clear()  # the two runs have the same sentences, and the first one's were just read
    choose(page, "second")
    page.wait_for_selector("#turned .gone")
    told = page.inner_text("#turned")
    assert "“films.csv” cannot be had here now" in told and "Bring “films.csv” back" in told
    assert all(f" {len(ids)} " in told for ids in Results.of(run).turned)
    assert page.locator("#turned li, #turned button").count() == 0
    assert "/nowhere" not in page.inner_text("body") and page.errors == []


def test_runs_are_compared_in_a_table_and_by_their_curves(open_results, served, second):
    metrics = Run.open(second).read_json("metrics.json")
    page = open_results(served)
    assert page.locator("#runs-table table").count() == 0
    page.click("#compare-runs input")
    page.get_by_role("option", name="second", exact=True).click()
    for name in ("tiny", "second"):
        assert f"{100 * metrics['monju']['accuracy']:.2f}" in page.inner_text(f'#runs-table [data-run="{name}"]')
    page.wait_for_function("() => document.querySelectorAll('#run-curves .main-svg').length >= 2")
    for figure in ("training-held_out_accuracy", "training-loss"):
        boxes = page.eval_on_selector_all(f'[data-figure="{figure}"] .annotation-text-g', "all => all.map(one => (box => [box.top, box.bottom])(one.getBoundingClientRect()))")
        assert len(boxes) == 4  # experts and baseline of two runs with the same curves: named apart all the same
        assert all(one[1] <= next[0] + 1 for one, next in zip(sorted(boxes), sorted(boxes)[1:]))
    chart = page.locator('[data-figure="training-loss"]')
    chart.scroll_into_view_if_needed()
    box = chart.locator(".nsewdrag").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector('[data-figure="training-loss"] .hoverlayer .legendtext, [data-figure="training-loss"] .hoverlayer text')
    assert "second, experts" in page.text_content('[data-figure="training-loss"] .hoverlayer') and page.errors == []


def test_a_damaged_and_a_deleted_run_are_told_calmly(open_results, served, second):
    (second / "metrics.json").write_text("{}")
    page = open_results(served, "ja-JP")
    page.wait_for_function(DRAWN)
    for damage in (lambda: None, lambda: shutil.rmtree(second)):
        damage()
        choose(page, "second")
        page.wait_for_selector("#results-table .note p")
        assert "このランは表示できません。" in page.inner_text("#results-table") and "Traceback" not in page.inner_text("body")
        assert page.locator(".figures figure").count() == 0 and page.locator("#turned .monju").count() == 0
        choose(page, "tiny")
        page.wait_for_selector("#results-table .headline")
        page.wait_for_function(DRAWN)
    assert page.errors == []


@pytest.fixture(scope="module")
def compared(tiny_run):
    votes, labels = load_predictions(Run.open(tiny_run))
    return {row["name"]: row for row in compare(Monju.load(tiny_run, "cpu"), labels, outputs=votes)["rows"]}


@pytest.mark.parametrize("locale", ["en-US", "ja-JP"])
def test_every_system_that_needs_no_model_stands_side_by_side(open_results, served, compared, locale):
    page = open_results(served, locale)
    page.click("#compare")
    page.wait_for_selector("#comparison tr[data-system]", timeout=PATIENCE)
    shown = page.eval_on_selector_all("#comparison tr[data-system]", "rows => rows.map(row => [row.dataset.system, row.innerText])")
    assert {name for name, _ in shown} == set(compared)
    for name, text in shown:
        assert f"{100 * compared[name]['accuracy']:.2f}" in text
        difference = f"{100 * compared[name]['difference']:+.2f}".replace("-0.00", "+0.00").replace("-", "−")
        same = TEXTS["compare_same"][["en-US", "ja-JP"].index(locale)]
        assert name == "baseline" or (difference if compared[name]["changed"] else same) in text
    assert [compared[name]["accuracy"] for name, _ in shown] == sorted((row["accuracy"] for row in compared.values()), reverse=True)
