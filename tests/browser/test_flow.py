"""The flow: all of it on one screen, what a number comes from is lit, what changes moves, a surprise is one."""

import numpy as np
import pytest

import monju
from monju.ensemble import gates

PARTS = ("sentence", "case", "cluster-map", "expert", "alpha", "monju", "baseline", "gate", "sharpness")


@pytest.mark.parametrize("locale", ["en-US", "ja-JP"])
def test_everything_of_one_sentence_is_on_one_screen(open_page, served, locale):
    page = open_page(served, locale, width=1280, height=720)
    page.wait_for_selector('[data-part="sharpness"]')
    for part in PARTS:
        boxes = page.evaluate("part => [...document.querySelectorAll(`[data-part=${part}]`)].map(node => node.getBoundingClientRect().toJSON())", part)
        assert boxes, part
        assert all(box["top"] >= 0 and box["bottom"] <= 720 for box in boxes), (part, boxes)
    assert page.locator('[data-part="expert"]').count() == 3 and page.errors == []


def answered(page, sentence):
    page.wait_for_function("sentence => document.querySelector('#panel .said')?.textContent == sentence", arg=sentence)


def lit(page):
    return set(page.evaluate("[...document.querySelectorAll('.flow .lit')].map(node => node.dataset.n)"))


def test_a_number_lights_what_it_comes_from_and_what_it_feeds_and_says_its_arithmetic(open_page, served, tiny_run):
    page = open_page(served)
    page.locator("#sentence textarea").fill("a film about a lamp")
    answered(page, "a film about a lamp")
    reading = monju.load(tiny_run).read(["a film about a lamp"])[0]
    distances, alphas = {f"d_{c}" for c in reading.distances}, {f"a_{name}" for name in reading.alpha}
    page.hover('[data-n="a_AB"]')
    assert lit(page) == distances | {"a_AB", "monju"}
    said = page.inner_text(".flow .arithmetic")
    assert said.startswith("α_AB = ") and said.endswith(f"= {reading.alpha['AB']:.3f}") and f"{reading.distances['C']:.3f}" in said
    page.focus('[data-n="monju"]')
    assert lit(page) == alphas | {f"p_{name}" for name in reading.alpha} | {"monju"}
    best = int(reading.monju.logits.argmax())
    assert page.inner_text(".flow .arithmetic").endswith(f"= {reading.monju.logits[best]:.2f}")
    page.focus('b[data-n="d_B"]')
    assert lit(page) == {"d_B"} | alphas
    page.focus("#sentence textarea")
    page.mouse.move(5, 5)
    assert lit(page) == set() and "Point at a number" in page.inner_text(".flow .arithmetic")


def test_what_changes_moves_and_what_is_unfolded_stays(open_page, served):
    page = open_page(served)
    page.evaluate("""() => { window.pipe = document.querySelector('.pipe'); window.here = document.querySelector('.flow .here')
        document.querySelector('#details details').open = true }""")
    page.locator("#sentence textarea").fill("something else altogether")
    answered(page, "something else altogether")
    assert page.evaluate("window.pipe.isConnected && window.here.isConnected && document.querySelector('#details details').open")
    assert page.evaluate("getComputedStyle(window.pipe).transitionDuration") == "0.2s"
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate("getComputedStyle(window.pipe).transitionDuration") == "0s"


def test_the_strip_says_where_the_sharpness_turns_the_verdict(open_page, served, tiny_run):
    """For held-out sentences of the run, whatever the strip says holds of the gate itself."""
    run = monju.load(tiny_run)
    page = open_page(served)
    for text in ("dull but kind", "a good film, badly made", "not bad at all"):
        page.locator("#sentence textarea").fill(text)
        answered(page, text)
        reading = run.read([text])[0]
        logits = [reading.logits[name] for name in reading.alpha]

        def verdict(p):
            alpha = gates.Distance(p)(np.array([[*reading.distances.values()]]), run.subsets)[0]
            return int((alpha @ np.array(logits)).argmax())

        said = page.inner_text(".flow .turns p")
        if "No sharpness" in said:
            assert len({verdict(p) for p in range(33)}) == 1
        else:
            at = float(said.split("p = ")[1].rstrip(".").split(",")[0])
            assert verdict(at) != verdict(at - 0.5)
    assert page.errors == []


def test_a_surprise_is_a_held_out_sentence_on_which_they_differ(open_page, served, tiny_run):
    page = open_page(served)
    before = page.input_value("#sentence textarea")
    page.click("#surprise")
    page.wait_for_function("before => document.querySelector('#sentence textarea').value != before", arg=before)
    text = page.input_value("#sentence textarea")
    answered(page, text)
    reading = monju.load(tiny_run).read([text])[0]
    assert reading.monju.label != reading.baseline.label and "disagrees" in page.inner_text(".flow .baseline")
    assert page.errors == []
