"""The playground in a real browser: type, read the verdict; both languages, themes and sizes."""

import csv
import itertools
import json
import os
import shutil
import signal
import sys
import urllib.error
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import PROCESS, serving

import monju
from monju.runs.run import Run
from monju.ui.i18n.translator import TEXTS

sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))
import load  # noqa: E402


def answered(page, sentence):
    page.wait_for_function("sentence => document.querySelector('#panel .said')?.textContent == sentence", arg=sentence)


def test_an_example_is_already_answered_and_nothing_outside_is_asked(open_page, served):
    page = open_page(served)
    page.wait_for_selector("#details details")
    assert page.locator("#panel [data-who], #details [data-who]").count() == 8
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
    page.wait_for_function("() => document.querySelector('#sentence textarea').value")
    answered(page, box.input_value())
    assert chip.inner_text() in [text[0] for key, text in TEXTS.items() if key.startswith("case_")]


def test_the_verdict_follows_the_sentence(open_page, served, tiny_run):
    sentence = "an unusual sentence about nothing"
    reading = monju.load(tiny_run).read([sentence])[0]
    page = open_page(served)
    page.locator("#sentence textarea").fill(sentence)
    answered(page, sentence)
    shown = page.inner_text('[data-who="monju"] .answer')
    assert reading.monju.name in shown and f"{100 * reading.monju.probabilities.max():.1f}" in shown
    for expert, alpha in reading.alpha.items():
        assert page.inner_text(f'[data-who="{expert}"] .weight b') == f"{alpha:.3f}"


def test_a_sentence_is_one_request(open_page, served, quiet):
    page = open_page(served)
    page.wait_for_selector("#details details")
    quiet(page)  # what the page asks for by itself is done
    page.asked.clear()
    page.locator("#sentence textarea").fill("one film, one question")
    answered(page, "one film, one question")
    quiet(page)
    assert page.asked == [f"{served}gradio_api/run/predict"]


@contextmanager
def crowded(url, people=16):
    """So many visitors send one sentence after another, from an address of its own each."""
    number, given, _ = load.Functions.of(url).read
    addresses, going = (f"9.9.{n >> 8 & 255}.{n & 255}" for n in itertools.count()), [True]

    def ask(person):
        while going:
            body = json.dumps({"data": [load.sentence(), *given[1:]], "fn_index": number, "session_hash": uuid.uuid4().hex}).encode()
            try:
                urllib.request.urlopen(urllib.request.Request(f"{url}gradio_api/run/predict", body, {
                    "content-type": "application/json", "x-forwarded-for": next(addresses)})).read()
            except urllib.error.HTTPError as error:
                assert error.code == 503

    with ThreadPoolExecutor(people) as pool:
        asking = [pool.submit(ask, person) for person in range(people)]
        try:
            yield
        finally:
            going.clear()
    for each in asking:
        each.result()


@pytest.fixture(scope="module")
def narrow(tiny_run):
    """A page at which four may wait."""
    with serving(tiny_run, MONJU_QUEUE=4) as (url, _):
        yield url


@pytest.mark.parametrize("locale, words", [("en-US", "The page is busy"), ("ja-JP", "混み合っています")])
def test_who_is_refused_in_a_crowd_is_told_and_answered_after_it(open_page, narrow, locale, words):
    page = open_page(narrow, locale=locale)
    page.wait_for_selector("#details details")
    assert not page.is_visible("#busy")
    with crowded(narrow):
        for n in itertools.count():
            page.locator("#sentence textarea").fill(f"sentence {n} of many")
            page.wait_for_timeout(100)
            if words in page.evaluate("(told => told.checkVisibility() ? told.innerText : '')(document.getElementById('busy'))"):
                break
            assert n < 600
    page.locator("#sentence textarea").fill("a film after all")
    answered(page, "a film after all")
    page.wait_for_selector("#busy", state="hidden")
    assert page.errors == []


def test_markup_is_shown_as_text(open_page, served):
    page = open_page(served)
    nasty = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
    page.locator("#sentence textarea").fill(nasty)
    answered(page, nasty)
    assert page.locator("#panel img, #panel script").count() == 0 and page.title() != "taken"


def test_nothing_jumps_while_typing(open_page, served, quiet):
    page = open_page(served)
    tops = """() => [...document.querySelectorAll('#panel [data-who]')]
        .map(card => Math.round(card.getBoundingClientRect().top))"""
    before = quiet(page, lambda: page.evaluate(tops))  # a page that has just opened may still settle
    for sentence in ("a", "bad", "A rather longer sentence, with a clause, that never wants to end."):
        page.locator("#sentence textarea").fill(sentence)
        answered(page, sentence)
        assert page.evaluate(tops) == pytest.approx(before, abs=1)  # pixels; halves are rounded either way


@pytest.mark.parametrize("locale, label, verdict", [("en-US", "Your sentence", "Baseline"),
                                                    ("ja-JP", "文を入力", "ベースライン")])
def test_labels_and_answers_are_in_the_browsers_language(open_page, served, locale, label, verdict):
    page = open_page(served, locale)
    assert label in page.inner_text("#sentence") and verdict in page.inner_text("#panel")
    assert page.evaluate("document.documentElement.lang") == locale[:2]
    assert "__i18n__" not in page.inner_text("body")


@pytest.mark.parametrize("theme, locale", [("light", "en-US"), ("dark", "ja-JP")])
def test_a_phone_shows_it_all_without_sideways_scrolling(open_page, served, theme, locale):
    page = open_page(f"{served}?__theme={theme}", locale, width=390, height=844)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    spilling = page.evaluate("""() => [...document.querySelectorAll('#panel .voice, #panel .best, #panel .verdict, #details .card, #turn')]
        .filter(box => box.scrollWidth > box.clientWidth + 1 || box.getBoundingClientRect().right > innerWidth)
        .length""")
    assert spilling == 0


def test_the_gate_is_turned_and_its_worth_told(open_page, served):
    page = open_page(served)
    alphas = lambda: page.locator("#panel .weight b").all_inner_texts()  # noqa: E731
    page.wait_for_selector("#effect .effect")
    before = alphas()
    number = page.locator("#sharpness input[type=number]")
    number.fill("0")
    number.press("Enter")
    page.wait_for_function("() => document.querySelector('#effect').innerText.includes('p =')")
    assert alphas() == ["0.333"] * 3 != before
    assert "On 40 held-out sentences" in page.inner_text("#effect")
    page.locator("#gate input").click()
    page.get_by_role("option", name="softmax of distance").click()
    page.wait_for_function("() => document.querySelector('#details').textContent.includes('softmax')")
    assert page.locator("#temperature").is_visible() and not page.locator("#sharpness").is_visible()
    page.locator("#reset").click()
    page.wait_for_function("before => document.querySelector('#panel .weight b').innerText == before", arg=before[0])
    assert page.locator("#sharpness").is_visible() and page.errors == []


def test_a_link_opens_the_same_sentence_and_settings(open_page, served):
    page = open_page(served)
    page.locator("#sentence textarea").fill("to be & not to be?")
    answered(page, "to be & not to be?")
    page.get_by_label("probabilities").check()
    page.wait_for_function("() => document.querySelector('#details').textContent.includes('probability')")
    page.locator("#link").click()
    page.wait_for_url("**fusion=probabilities**")
    again = open_page(page.url)
    answered(again, "to be & not to be?")
    again.wait_for_selector('#fusion input[value="probabilities"]:checked')
    nonsense = open_page(f"{served}?run=../../etc&gate=none&sharpness=x&text=%3Cscript%3E")
    answered(nonsense, "<script>")
    assert nonsense.errors == []


def on_screen(page):
    """All that the controls and what is drawn from them show."""
    return page.evaluate("""() => ({
        controls: ['#gate input', '#sharpness input', '#temperature input', '#fusion input:checked'].map(
            part => document.querySelector(part)?.value ?? null),
        ...Object.fromEntries(['#panel', '#details', '#effect'].map(part => [part, document.querySelector(part).textContent]))})""")


def turn(page, setting, value):
    number = page.locator(f"#{setting} input[type=number]")
    number.fill(str(value))
    number.press("Enter")


@pytest.fixture
def settled(quiet):
    """A function: what is shown when nothing is on its way any more."""
    return lambda page: quiet(page, lambda: on_screen(page))


def test_as_trained_is_what_it_says_after_the_list_of_gates_was_opened(open_page, served, settled):
    page = open_page(served)
    page.wait_for_function("() => document.querySelector('#effect').innerText.includes('Move the slider')")
    first = settled(page)
    for _ in range(3):
        turn(page, "sharpness", 20)
        page.wait_for_function("() => document.querySelector('#details').textContent.includes('20')"
                               " && document.querySelector('#effect').innerText.includes('p =')")
        page.locator("#gate input").click()
        page.get_by_role("option", name="softmax of distance").wait_for()
        page.keyboard.press("Escape")
        page.locator("#reset").click()
        assert settled(page) == first
    assert page.errors == []


@pytest.mark.parametrize("way", ["distance", "membership"])
def test_a_link_opens_exactly_what_is_on_the_screen(open_page, served, settled, way):
    page = open_page(served)
    page.locator("#sentence textarea").fill("a film of few words & many")
    answered(page, "a film of few words & many")
    if way == "membership":
        page.locator("#gate input").click()
        page.get_by_role("option", name="softmax of distance").click()
        page.wait_for_selector("#temperature", state="visible")
        turn(page, "temperature", 0.03)
    else:
        turn(page, "sharpness", 32)
        page.locator("#gate input").click()
        page.keyboard.press("Escape")
        page.get_by_label("probabilities").check()
    shown = settled(page)
    page.locator("#link").click()
    page.wait_for_url("**sharpness=**")
    assert settled(page) == shown
    page = open_page(page.url)
    for _ in range(300):  # a minute, for a slow machine
        if on_screen(page) == shown:
            break
        page.wait_for_timeout(200)
    assert settled(page) == shown


FAR = {"sharp": {"sharpness": 40.0}, "flat": {"sharpness": 0.3}, "warm": {"gate": "membership", "temperature": 2.0},
       "cold": {"gate": "membership", "temperature": 0.005}}


@pytest.fixture(scope="module")
def far(tiny_run, tmp_path_factory):
    """A page on runs whose settings are beyond the usual."""
    folder = tmp_path_factory.mktemp("far")
    for name, settings in FAR.items():
        run = Run.open(shutil.copytree(tiny_run, folder / name))
        run.manifest["config"].update(settings)
        run.finish()
    with serving(folder / name, MONJU_RUNS=folder) as (url, _):
        yield url


@pytest.mark.parametrize("run", FAR)
def test_a_run_whose_setting_is_beyond_the_usual_is_shown_and_turned(open_page, far, settled, run):
    name, value = list(FAR[run].items())[-1]
    page = open_page(f"{far}?run={run}")
    page.wait_for_selector("#effect .effect")
    first = settled(page)
    assert float(page.input_value(f"#{name} input[type=number]")) == value == float(page.input_value(f"#{name} input[type=range]"))
    assert "Move the slider" in first["#effect"]
    page.get_by_label("probabilities").check()
    page.wait_for_function("() => document.querySelector('#effect').innerText.includes('p =')")
    turned = settled(page)
    assert turned["controls"] == [*first["controls"][:3], "probabilities"] and turned["#details"] != first["#details"]
    turn(page, name, 0.5)
    page.wait_for_function("old => document.querySelector('#details').textContent != old", arg=turned["#details"])
    page.locator("#batch button").first.click()
    page.locator("#batch-lines textarea").fill("a quiet triumph")
    page.get_by_role("button", name="Classify all").click()
    page.wait_for_function("() => document.querySelector('#batch-status').innerText.includes('1 sentence')")
    page.locator("#reset").click()
    assert settled(page) == first and page.errors == []


def test_the_sessions_sentences_are_kept_and_downloaded(open_page, served):
    page = open_page(served)
    page.locator("#sentence textarea").fill("kept for later")
    answered(page, "kept for later")
    page.locator("#history button").first.click()
    page.wait_for_selector("#history td")
    assert "kept for later" in page.inner_text("#history")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as CSV").first.click()
    rows = list(csv.DictReader(open(download.value.path(), encoding="utf-8-sig")))
    assert rows[-1]["text"] == "kept for later" and float(rows[-1]["alpha_AB"]) > 0


def test_many_sentences_at_once(open_page, served, tmp_path):
    page = open_page(served)
    page.locator("#batch button").first.click()
    start = page.get_by_role("button", name="Classify all")
    start.click()
    page.wait_for_function("() => document.querySelector('#batch-status').innerText.includes('no sentence yet')")
    page.locator("#batch-lines textarea").fill("a quiet triumph\n\n<b>dull</b>")
    start.click()
    page.wait_for_function("() => document.querySelector('#batch-status').innerText.includes('2 sentences read')")
    assert "<b>dull</b>" in page.inner_text("#batch-table")
    with page.expect_download() as download:
        page.locator("#batch-save").click()
    assert [row["text"] for row in csv.DictReader(open(download.value.path(), encoding="utf-8-sig"))] == ["a quiet triumph", "", "<b>dull</b>"]
    assert "2,000" in page.inner_text("#batch-lines") and "Rows without a sentence: 1" in page.inner_text("#batch-status")
    (tmp_path / "many.txt").write_text("\n".join(f"sentence {i}" for i in range(70)), encoding="utf-8")
    page.locator("#batch-lines textarea").fill("")
    page.locator("#batch-file input[type=file]").set_input_files(tmp_path / "many.txt")
    page.wait_for_function("() => document.querySelector('#batch-file').innerText.includes('many')")
    start.click()
    page.wait_for_function("() => document.querySelector('#batch-status').innerText.includes('70 sentences read')")
    (tmp_path / "文の 一覧.csv").write_text("id,tweet,stars\n101,a quiet triumph,-1\n102,,+2\n103,dull and long,3\n", encoding="utf-8")
    page.locator("#batch-file button[aria-label]").first.click()
    page.locator("#batch-file input[type=file]").set_input_files(tmp_path / "文の 一覧.csv")
    page.wait_for_function("() => document.querySelector('#batch-file').innerText.includes('文の 一覧')")
    start.click()
    page.wait_for_function("() => document.querySelector('#batch-status').innerText.includes('column “tweet”')")
    with page.expect_download() as download:
        page.locator("#batch-save").click()
    rows = list(csv.DictReader(open(download.value.path(), encoding="utf-8-sig")))
    assert [(row["id"], row["tweet"], row["stars"], bool(row["monju"])) for row in rows] == [
        ("101", "a quiet triumph", "-1", True), ("102", "", "+2", False), ("103", "dull and long", "3", True)]
    assert page.errors == []


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("broken") / "none") as (url, _):
        yield url


def test_what_is_typed_while_the_models_load_stays_and_is_answered(visit, tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "loading")
    PROCESS.start()
    os.kill(PROCESS._process.pid, signal.SIGSTOP)  # it loads as slowly as can be
    try:
        with serving(run, MONJU_RUNS=tmp_path) as (url, _):
            page = visit(url)
            page.wait_for_selector("#panel .spinner")
            page.locator("#sentence textarea").fill("a quiet triumph")
            page.wait_for_timeout(300)
            os.kill(PROCESS._process.pid, signal.SIGCONT)
            answered(page, "a quiet triumph")
            page.wait_for_selector("#effect .effect")  # all has come
            page.wait_for_timeout(500)
            assert page.input_value("#sentence textarea") == page.inner_text("#panel .said") == "a quiet triumph"
            assert page.errors == []
    finally:
        os.kill(PROCESS._process.pid, signal.SIGCONT)


@pytest.mark.parametrize("locale, said", [("en-US", "This run cannot be shown."), ("ja-JP", "このランは表示できません。")])
def test_a_broken_run_is_a_calm_page(open_page, broken, locale, said):
    page = open_page(broken, locale)
    assert said in page.inner_text("#panel") and "python -m monju train" in page.inner_text("#panel")
    assert "Traceback" not in page.inner_text("body")


def test_the_experts_merged_into_one_answer_for_the_sentence(open_page, served, tiny_run):
    from monju.evaluation import merge_methods
    from monju.evaluation.merge_runner import MergeRunner
    from monju.inference.pipeline import Monju

    sentence = "a quiet triumph"
    page = open_page(served)
    page.locator("#sentence textarea").fill(sentence)
    answered(page, sentence)
    page.click("#ask-singles")
    page.wait_for_selector("#singles tr[data-single], #singles .faint", timeout=120_000)
    merger = MergeRunner(Monju.load(tiny_run, "cpu"))
    soup = merger.logits(merge_methods.TABLE["uniform soup"](merger), [sentence])[0]
    shown = page.inner_text('#singles tr[data-single="uniform soup"]')
    share = np.exp(soup - soup.max()) / np.exp(soup - soup.max()).sum()
    assert ("negative", "positive")[soup.argmax()] in shown and f"{100 * share.max():.1f}" in shown
    page.locator("#sentence textarea").fill("two hours of my life, gone")
    page.wait_for_function("() => !document.querySelector('#singles tr')")  # it was of another sentence
