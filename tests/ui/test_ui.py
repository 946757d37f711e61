"""The page without a browser: what is drawn from a reading, the two languages, the run on show, the endpoint."""

import ast
import csv as csv_format
import io
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from xml.dom.minidom import parseString

import gradio_client
import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from monju.config import Config
from monju.data.notes import Note
from monju.ensemble import fusion, gates
from monju.ensemble.outputs import Reading
from monju.errors import MonjuError
from monju.evaluation import combiners
from monju.inference.reader import SentenceReader
from monju.inference.run_cache import RunCache
from monju.reporting import report
from monju.runs.run import Run
from monju.ui import OPTIONS, ROOT, build, gr, launch
from monju.ui.components import batch, cards, csv_export, flow, history
from monju.ui.components.ternary import triangle
from monju.ui.i18n import translator
from monju.ui.i18n.translator import LANGUAGES, TEXTS, Translator
from monju.ui.tabs import playground

SAY = Translator("en")
NASTY = "<script>alert(1)</script> & 'so' on 🎭 مرحبا"


def opened(k=3, m=2, labels=("negative", "positive"), members=("seed0", "seed1", "seed2"), **settings):
    """A run as the page sees it, with no models behind it."""
    manifest = {"config": Config(k=k, subset_size=m, **settings).to_json(),
                "data": {"labels": list(range(len(labels))), "label_names": list(labels), "train": 300},
                "models": {"baseline": list(members)}}
    turn = 2 * np.pi * np.arange(k) / k
    clusterer = SimpleNamespace(centres_=np.stack([np.sin(turn), np.cos(turn)], axis=1))
    return SentenceReader(Run("trained/try", manifest), SimpleNamespace(clusterer=clusterer))


def read(monju, experts, members=None, distances=(1.0, 2.0, 5.0), text="a quiet triumph"):
    """A Reading from the experts' and members' logits, fused with the run's own gate."""
    logits = np.array(experts, float)
    alpha = gates.make(monju.config)(np.array([distances]), monju.subsets)
    baseline = None if members is None else monju.verdict(np.mean(members, axis=0))
    named = {**dict(zip(monju.experts, logits)), **dict(zip(monju.members, np.array(members or [], float)))}
    mix = fusion.TABLE[monju.config.fusion]
    return Reading(text=text, vector=np.zeros(2), distances=dict(zip(monju.clusters, distances)),
                   alpha=dict(zip(monju.experts, alpha[0].tolist())),
                   logits=named, monju=monju.verdict(mix(logits[None], alpha)[0]), baseline=baseline)


def text_of(html):
    """What a reader sees: tags gone."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html))


def formulas(found, monju):
    """The formulas under a reading as they read: tags and white space gone."""
    return [re.sub(r"\s", "", text_of(formula)) for formula in re.findall(r"<math.*?</math>", cards.details(found, monju, SAY), re.S)]


POSITIVE, NEGATIVE = [0, 2], [2, 0]
MEMBERS = [POSITIVE, POSITIVE, POSITIVE]


def test_the_formula_carries_the_sentences_own_numbers():
    monju = opened()
    assert formulas(read(monju, [POSITIVE] * 3, MEMBERS), monju)[:3] == ["αAB=dCdA+dB+dC=5.0001.000+2.000+5.000=0.625",  # α_AB = d_C / (d_A + d_B + d_C) = 5 / 8
                    "αBC=dAdA+dB+dC=1.0001.000+2.000+5.000=0.125",
                    "αCA=dBdA+dB+dC=2.0001.000+2.000+5.000=0.250"]


def test_the_formula_in_its_general_form():
    monju = opened(k=4, m=2, sharpness=2.0)
    found = read(monju, [POSITIVE] * 6, MEMBERS, distances=(1.0, 2.0, 3.0, 4.0))
    [row] = formulas(found, monju)
    # six experts: the loudest alone; AB has not seen C and D: (9 + 16) / (3 · (1 + 4 + 9 + 16)) = 25 / 90
    assert row == "αAB=dC2+dD23·(dA2+dB2+dC2+dD2)=3.0002+4.00023·(1.0002+2.0002+3.0002+4.0002)=0.278"


def test_the_membership_gate_has_its_own_formula():
    monju = opened(gate="membership", temperature=0.5)
    rows = formulas(read(monju, [POSITIVE] * 3, MEMBERS), monju)
    assert rows[0].startswith("αAB=qA+qB2=") and "softmax(−d2/0.5)" in rows[0]


def test_no_division_by_zero_is_written_where_every_centre_is_on_the_sentence():
    monju = opened()
    html = cards.details(read(monju, [POSITIVE] * 3, MEMBERS, distances=(0.0, 0.0, 0.0)), monju, SAY)
    assert "All experts weigh the same" in html and "αAB=0.333" in re.sub(r"\s", "", text_of(html))


def test_the_fusion_is_written_out():
    monju = opened()
    found = read(monju, [[-1, 1], [0, 2], [3, -2]], MEMBERS)
    # 0.625 · 1 + 0.125 · 2 + 0.25 · (−2) = 0.375
    assert formulas(found, monju)[-1] == "logitpositive=0.625·1.00+0.125·2.00+0.250·(−2.00)=0.38"
    mixing = opened(fusion="probabilities")
    expected = float(np.dot([0.625, 0.125, 0.25], [softmax(logits)[1] for logits in ([-1, 1], [0, 2], [3, -2])]))
    found = read(mixing, [[-1, 1], [0, 2], [3, -2]], MEMBERS)
    assert formulas(found, mixing)[-1].endswith(f"={expected:.2f}")


@pytest.mark.parametrize("experts, members, baseline, said", [
    ([POSITIVE] * 3, MEMBERS, "agrees", "All 3 experts agree."),
    ([POSITIVE, NEGATIVE, POSITIVE], MEMBERS, "agrees", "BC alone says negative and was outvoted."),
    ([POSITIVE] * 3, [NEGATIVE] * 3, "disagrees", "All 3 experts agree."),
    ([[0, 9], [0.1, 0], [0.1, 0]], MEMBERS, "agrees", "Overruled by AB, with more weight or more confidence: BC and CA (negative)."),
    ([POSITIVE] * 3, None, None, "All 3 experts agree."),
])
def test_agreement_and_outvoted_experts_in_words(experts, members, baseline, said):
    monju = opened(members=() if members is None else ("seed0", "seed1", "seed2"))
    html = flow.flow(read(monju, experts, members), monju, SAY)
    assert text_of(re.search(r'<p class="told.*?</p>', html, re.S)[0]) == said
    line = re.search(r'<p class="baseline.*?</p>', html, re.S)
    assert (line and text_of(line[0]).split()[-1]) == baseline


def test_a_label_that_nobody_puts_first_is_a_compromise():
    monju = opened(labels=("a", "b", "c", "d"))
    found = read(monju, [[9, 0, 0, 8], [0, 9, 0, 8], [0, 0, 9, 8]], distances=(1.0, 1.0, 1.0))
    assert found.monju.name == "d" and "best compromise" in flow.flow(found, monju, SAY)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("k, m, labels", [(3, 2, 2), (3, 1, 6), (5, 3, 3), (2, 1, 9), (3, 2, 150)])
def test_any_run_can_be_drawn(k, m, labels, language):
    names = tuple(f"label {i}" for i in range(labels))
    monju = opened(k, m, names, members=())
    logits = np.random.default_rng(0).normal(size=(len(monju.experts), labels))
    found = read(monju, logits, distances=np.arange(1.0, k + 1))
    others = np.full((20, len(monju.experts)), 1 / len(monju.experts))
    html = flow.flow(found, monju, Translator(language)) + cards.details(found, monju, Translator(language), others)
    assert ("ternary" in html) == (len(monju.experts) == 3)
    assert set(re.findall(r'data-who="(\w+)"', html)) <= {"monju", *monju.experts}
    assert html.count('data-part="expert"') == min(6, len(monju.experts))
    shown, more = (labels, 0) if labels <= 6 else (3, min(12, labels - 3))  # the verdict's card can be unfolded
    assert html.count('<th scope="row">label') == shown + more
    assert (Translator(language)("more_labels", n=labels - shown - more) in html) == (labels > shown + more) and "{" not in html
    _well_formed(f"<div>{html}</div>")


def test_of_many_labels_the_likeliest_three_come_first():
    monju = opened(labels=tuple(f"label {i}" for i in range(150)))
    logits = np.full((3, 150), -9.0)
    logits[:, [140, 7, 80]] = 3.0, 5.0, 4.0
    html = flow.flow(read(monju, logits), monju, SAY)
    assert re.findall(r'<th scope="row">(label \d+)', html)[:3] == ["label 7", "label 80", "label 140"]
    assert html.count("<details") == 1 and "and 135 less likely labels" in html


@pytest.mark.parametrize("below, told", [(None, False), (0.5, False), (0.99, True)])
def test_a_verdict_less_sure_than_nearly_all_held_out_ones_is_told(below, told):
    found = read(opened(), [[0, 1.0]] * 3)  # 73 %
    assert ("perhaps no label fits" in flow.flow(found, opened(), SAY, below)) == told


def test_an_expert_shows_its_clusters_its_weight_and_whether_it_met_the_nearest():
    html = flow.flow(read(opened(), [POSITIVE, NEGATIVE, POSITIVE], MEMBERS), opened(), SAY)  # nearest: A, which BC never saw
    ab, bc = (html.split(f'data-name="{name}"')[1].split("</article>")[0] for name in ("AB", "BC"))
    assert ab.count("not trained on C") == 1 and "has never met" not in ab and "--alpha:0.6250" in ab and ">0.625<" in ab
    assert "has never met cluster A" in bc and 'class="says other"' in bc and 'class="says"' in ab


@pytest.mark.parametrize("k, m, settings, said", [
    (3, 2, {}, "α_AB = 5.000 / (1.000 + 2.000 + 5.000) = 0.625"),
    (3, 2, {"sharpness": 2.0}, "α_AB = 5.000^2 / (1.000^2 + 2.000^2 + 5.000^2) = 0.833"),
    (3, 1, {}, "α_A = (2.000 + 5.000) / (2 · (1.000 + 2.000 + 5.000)) = 0.437"),
    (3, 2, {"gate": "membership"}, "α_AB = 0.500"),
])
def test_a_number_carries_its_arithmetic(k, m, settings, said):
    monju = opened(k, m, **settings)
    html = flow.flow(read(monju, [POSITIVE] * 3, MEMBERS), monju, SAY)
    assert re.findall(r'data-n="a_\w+" data-from="d" data-say="(.*?)"', html)[0] == said
    if not settings and m == 2:  # 0.625 · 2 + 0.125 · 2 + 0.25 · 2
        assert 'data-n="monju" data-from="a p" data-say="logit positive: 0.625 · 2.00 + 0.125 · 2.00 + 0.250 · 2.00 = 2.00"' in html


def test_where_the_sharpness_turns_the_verdict_is_marked():
    monju = opened()
    # distances 1, 2, 5: at p = 0 all weigh 1/3 and positive wins 3 : 2.5; AB alone, nearly all of α from p = 1.2 on, says negative
    html = flow.flow(read(monju, [[2.5, 0], [0, 1.5], [0, 1.5]], MEMBERS), monju, SAY)
    at = float(re.search(r"turns at sharpness p = (\d+(?:\.\d+)?)", html)[1])
    weigh = [gates.Distance(p)(np.array([[1.0, 2.0, 5.0]]), monju.subsets)[0] @ [2.5, -1.5, -1.5] for p in (at - 0.51, at)]
    assert weigh[0] < 0 < weigh[1]
    assert "No sharpness from 0 to" in flow.flow(read(monju, [POSITIVE] * 3, MEMBERS), monju, SAY)
    other = opened(gate="membership")
    assert "sharpness p" not in flow.flow(read(other, [POSITIVE] * 3, MEMBERS), other, SAY)


def test_the_small_map_keeps_what_is_nearest_nearest_and_all_within():
    monju = opened()
    centre = monju.clustering.clusterer.centres_[1]
    found = read(monju, [POSITIVE] * 3, MEMBERS)
    for vector, near in ((centre * 0.9, 1), (centre * 50, 1), (np.zeros(2), None)):
        drawn = flow.place(replace(found, vector=vector), monju)
        distances = [np.hypot(x - drawn["here"][0], y - drawn["here"][1]) for _, x, y, _ in drawn["centres"]]
        assert near is None or np.argmin(distances) == near
        assert 0 < drawn["here"][0] < drawn["width"] and 0 < drawn["here"][1] < drawn["height"]


def test_of_many_experts_the_loudest_are_drawn():
    monju = opened(k=5, m=2)
    html = flow.flow(read(monju, [POSITIVE] * 10, MEMBERS, distances=(1.0, 2, 3, 4, 5)), monju, SAY)
    assert html.count('data-part="expert"') == 6 and "and 4 with less weight" in html


def test_close_to_equal_weights_are_called_so():
    near = read(opened(), [POSITIVE] * 3, distances=(1.0, 1.05, 1.1))
    far = read(opened(), [POSITIVE] * 3, distances=(1.0, 2.0, 5.0))
    assert "close to equal" in cards.loudest(near, SAY) and "close to equal" not in cards.loudest(far, SAY)
    assert "Nearest cluster: A. Most weight: AB." in cards.loudest(far, SAY)


def test_sentences_and_labels_are_escaped():
    monju = opened(labels=("<b>bad</b>", "<img src=x onerror=alert(1)>"))
    html = flow.flow(read(monju, [POSITIVE, NEGATIVE, POSITIVE], MEMBERS, text=NASTY), monju, SAY)
    assert "<script" not in html and "<img" not in html and "<b>bad" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp;" in html and "🎭 مرحبا" in html
    _well_formed(html)


def test_both_languages_have_every_text_with_the_same_values():
    for key, texts in TEXTS.items():
        assert len(texts) == len(LANGUAGES) and all(texts), key
        assert len({frozenset(re.findall(r"{(\w+)}", text)) for text in texts}) == 1, key
    folders = (Path(cards.__file__).parents[1], Path(report.__file__).parent)
    used = {call for folder in folders for file in [*folder.rglob("*.py"), *folder.rglob("*.html")]
            for call in re.findall(r'(?<![\w.])(?:t|self|I18N)\("(\w+)"(?! ~)', file.read_text(encoding="utf-8"))}
    assert len(used) > 200 and used <= set(TEXTS)


@pytest.mark.parametrize("header, language", [("ja-JP,ja;q=0.9,en;q=0.8", "ja"), ("ja", "ja"), ("en-GB,ja;q=0.5", "en"),
                                              ("fr-FR,fr;q=0.9,ja;q=0.1", "en"), ("", "en")])
def test_the_browser_chooses_the_language(header, language):
    class Request:
        headers = {"accept-language": header}

    assert translator.asked(Request()).language == language


def test_nothing_typed_is_answered_with_a_hint(tiny_run):
    shelf = RunCache(tiny_run)
    for nothing in ("", "  \n\t ", None):
        assert Translator("ja")("hint") in answered(shelf, nothing, Translator("ja"))


def test_a_broken_run_is_told_calmly_and_tried_again(tmp_path, tiny_run):
    shelf = RunCache(tmp_path / "run")
    html = answered(shelf, "fine", Translator("ja"))
    assert Translator("ja")("trouble") in html and "python -m monju train" in html and "Traceback" not in html
    assert playground.describe(shelf, shelf.start, SAY) == ""
    (tmp_path / "run").symlink_to(tiny_run)
    assert 'data-who="AB"' in answered(shelf, "fine", SAY)


def test_the_run_is_opened_once_however_many_ask(tiny_run):
    shelf = RunCache(tiny_run)
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(lambda _: id(shelf.open(shelf.start)), range(4)))) == 1


@pytest.mark.parametrize("text", ["good " * 20_000, NASTY, "👩‍👩‍👧" * 50, "‮right to left‬", "a{b}%s\0"])
def test_unusual_sentences_are_answered(tiny_run, text):
    html = answered(_shelf(tiny_run), text, SAY)
    assert html.count('data-who="') == 8 and len(html) < 60_000  # two verdicts, three experts, three members
    _well_formed(f"<div>{html}</div>")


def test_the_line_under_the_page_tells_the_run_and_its_worth(tiny_run):
    metrics = Run.open(tiny_run).read_json("metrics.json")
    line = text_of(playground.describe(_shelf(tiny_run), "tiny", SAY))
    data = Path(Run.open(tiny_run).config.data).name  # a file's name, never where it stood on the machine that trained
    assert f"Run tiny: tiny-bert on {data}, 100 training sentences." in line
    low, high = metrics["baseline"]["interval"]
    assert f"Baseline {100 * metrics['baseline']['accuracy']:.1f} % ({100 * low:.1f}–{100 * high:.1f})" in line
    assert f"On {metrics['n']} held-out" in line and "exact McNemar" in line


# ---- the gate's controls ----------------------------------------------------------------------------------------


def test_turning_the_gate_changes_the_answer_and_asks_no_model_again(tiny_run, monkeypatch):
    shelf = RunCache(tiny_run)
    before = answered(shelf, "a quiet triumph", SAY)
    monkeypatch.setattr(shelf.open(shelf.start), "outputs", lambda *_: pytest.fail("the models were asked again"))
    after = answered(shelf, "a quiet triumph", SAY, sharpness=0.0)
    assert "All experts weigh the same" in after and "All experts weigh the same" not in before
    assert "softmax" in answered(shelf, "a quiet triumph", SAY, gate="membership")


def test_what_the_settings_are_worth_is_counted_on_the_stored_predictions(tiny_run):
    shelf = _shelf(tiny_run)
    own = dict(gate="distance", sharpness=1.0, temperature=0.1, fusion="logits")
    assert "Move the slider" in playground.measure(shelf, "tiny", SAY, own)
    votes, labels = shelf.open("tiny").held_out()
    found = combiners.effect(shelf.open("tiny"), **own | {"gate": "membership", "temperature": 0.01})
    uniform, sharp = votes.decide(gates.Distance(1.0)), votes.decide(gates.Membership(0.01, 2.0, None))
    assert found["before"] == (uniform.monju.argmax(1) == labels).mean()
    assert found["after"] == (sharp.monju.argmax(1) == labels).mean()
    assert found["changed"] == (uniform.monju.argmax(1) != sharp.monju.argmax(1)).sum() and not found["own"]
    told = text_of(playground.measure(shelf, "tiny", SAY, own | {"gate": "membership", "temperature": 0.01}))
    assert f"{found['changed']} changed, p = " in told and f"{100 * found['after']:.1f} %" in told


def test_learned_gates_are_offered_and_answer(tiny_run):
    opened = _shelf(tiny_run).open("tiny")
    assert {"distance", "membership", "MoE linear", "MoE network", "stacking", "KNORA-U", "OLA"} <= set(combiners.offered(opened))
    assert not {"posterior", "c-BTM", "oracle", "uniform", "distance p=2"} & set(combiners.offered(opened))
    for name in combiners.offered(opened):
        assert f"gate_{name}" in TEXTS
        view = combiners.view(opened, gate=name, fusion="logits")
        found = opened.read_one("a quiet triumph", view)
        assert view.gate == name and sum(found.alpha.values()) == pytest.approx(1) and found.monju.probabilities.sum() == pytest.approx(1)
        drawn = text_of(cards.details(found, view, SAY, combiners.held_out_alpha(opened, gate=name)))
        assert "α" in drawn and combiners.effect(opened, gate=name)["n"] == 40
    knora = combiners.view(opened, gate="KNORA-U")
    assert "KNORA-U" in csv_export.to_csv([csv_export.row(opened.read_one("dull", knora), knora)])
    assert playground.needed("distance") == (True, False, True) and playground.needed("membership") == (False, True, True)
    assert playground.needed("KNORA-U") == (False, False, False) and playground.needed("stacking") == (False, False, True)
    assert not combiners.effect(opened, gate="stacking")["own"] and combiners.effect(opened, gate="distance")["own"]


def test_a_gate_added_here_is_offered_by_the_page(tiny_run, monkeypatch):
    @dataclass(frozen=True)
    class Shy:
        """All weight on the expert that does not know the nearest cluster."""

        def __call__(self, distances, experts, posterior=None):
            return 1.0 * np.array([[c not in subset for subset in experts] for c in distances.argmin(axis=1)])

    monkeypatch.setitem(gates.TABLE, "shy", Shy)
    shelf = RunCache(tiny_run)
    assert "shy" in combiners.offered(shelf.open("tiny"))
    drawn = playground.show(shelf, "tiny", "a quiet triumph", SAY, {"gate": "shy"})
    assert drawn[2]["value"] == "shy" and ("shy", "shy") in drawn[2]["choices"] and "α" in drawn[1]


def test_a_link_asks_for_settings_and_nonsense_in_it_is_passed_over(tiny_run):
    config = _shelf(tiny_run).open("tiny")
    own = dict(gate="distance", sharpness=1.0, temperature=0.1, fusion="logits")
    assert playground.asked_for(config, {"sharpness": "8", "fusion": "probabilities", "k": "9"}) \
        == own | {"sharpness": 8.0, "fusion": "probabilities"}
    for nonsense in ({"sharpness": "x"}, {"gate": "<script>"}, {"temperature": "-1"}, {"gate": "posterior"}, {"sharpness": "nan"}):
        assert playground.asked_for(config, nonsense) == own


def test_the_triangle_puts_alpha_where_it_belongs():
    corner = triangle(["AB", "BC", "CA"], [1, 0, 0], np.eye(3), "t")
    x, y = (float(re.search(rf'{axis}="([\d.]+)"', corner)[1]) for axis in ("cx", "cy"))
    left, right, top = ((float(px), float(py)) for px, py in re.findall(r"[ML]([\d.]+) ([\d.]+)", corner)[:3])
    assert (x, y) == left
    middle = triangle(["AB", "BC", "CA"], [1 / 3] * 3, np.eye(3), "t")
    x, y = (float(re.search(rf'{axis}="([\d.]+)"', middle)[1]) for axis in ("cx", "cy"))
    assert x == pytest.approx((left[0] + right[0] + top[0]) / 3, abs=0.1) and y == pytest.approx((2 * left[1] + top[1]) / 3, abs=0.1)
    assert corner.count("h0") == 3  # each other sentence is a dot


# ---- runs, history, many sentences ------------------------------------------------------------------------------


def test_the_shelf_knows_every_finished_run_and_no_path(tiny_run, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).symlink_to(tiny_run)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    shelf = RunCache(tmp_path / "one")
    assert shelf.names()[0] == "one" and set(shelf.names()) == {"one", "two"}
    for name in ("../one", "/etc", "", ".", "..", "a/b", "a\0b", None):
        with pytest.raises(MonjuError):
            shelf.path(name)
    with pytest.raises(MonjuError, match="no run folder"):
        shelf.open("gone")


def test_a_deleted_run_is_told_and_the_others_answer_on(tiny_run, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "mine")
    shelf = RunCache(tiny_run, tmp_path)
    own = dict(gate="distance", sharpness=1.0, temperature=0.1, fusion="logits")
    assert 'data-who="AB"' in playground.respond(shelf, "mine", "fine", SAY, own)[0][0]
    shutil.rmtree(tmp_path / "mine")
    assert SAY("trouble") in playground.respond(shelf, "mine", "fine", SAY, own)[0][0]
    assert 'data-who="AB"' in playground.respond(shelf, shelf.start, "fine", SAY, own)[0][0]


def test_the_history_keeps_what_was_rested_on_and_not_what_was_typed_through(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(history, "time", SimpleNamespace(time=lambda: clock[0]))
    rows = []
    for wait, text in ((0, "a"), (0.5, "a fi"), (0.5, "a film"), (10, "a film!"), (10, "a film!")):
        clock[0] += wait
        rows = history.noted(rows, {"text": text})
    assert [row["text"] for row in rows] == ["a film", "a film!"]


def test_a_csv_holds_every_number_and_runs_no_formula(tiny_run):
    opened_run = _shelf(tiny_run).open("tiny")
    rows = [csv_export.row(opened_run.read_one(text), opened_run) for text in ("=1+1", "fine, \"quoted\"\nlines", "@SUM(A1)")]
    read_back = pd.read_csv(io.StringIO(csv_export.to_csv(rows)))
    assert list(read_back["text"]) == ["'=1+1", "fine, \"quoted\" lines", "'@SUM(A1)"]
    assert {"monju", "baseline", "alpha_AB", "d_A", "p_seed0_positive", "gate", "run"} <= set(read_back.columns)
    assert "<script" not in csv_export.table([{**rows[0], "text": NASTY}], SAY)


def test_many_sentences_are_read_with_progress(tiny_run, tmp_path):
    shelf, own = _shelf(tiny_run), dict(gate="distance", sharpness=1.0, temperature=0.1, fusion="logits")
    lines = "\n\n".join(f"a film number {i}" for i in range(40))
    steps = list(batch.answers(shelf, "tiny", lines, None, SAY, own))
    assert len(steps) == 3 and "32 of 40" in steps[1][0] and "40 sentences read" in steps[-1][0]
    assert pd.read_csv(io.StringIO(steps[-1][2]))["monju"].notna().tolist() == [i % 2 == 0 for i in range(79)]
    (tmp_path / "list.csv").write_text("text,stars\n\"one, two\",3\nthree,4\n")
    (tmp_path / "plain.csv").write_text("a quiet triumph\ndull\n")
    (tmp_path / "lines.txt").write_text("a quiet triumph\n\ndull\n", encoding="utf-8-sig")
    assert batch.rows_of("", str(tmp_path / "list.csv"))[0] == ["one, two", "three"]
    assert batch.rows_of("", str(tmp_path / "plain.csv"))[0] == ["a quiet triumph", "dull"]
    assert batch.rows_of(None, str(tmp_path / "lines.txt"))[0] == ["a quiet triumph", "", "dull"]


# cases/16_lines.txt, 17_batch_ids.csv, 18_batch_header.csv, 45_minus_one_one.csv, in small
def batched(run, folder, name, content, t=SAY):
    """(status as text, the CSV's rows) of a file that was uploaded to the batch."""
    (folder / name).write_text(content, encoding="utf-8", newline="")
    *_, (status, _, csv, _) = batch.answers(_shelf(run), "tiny", "", str(folder / name), t, {})
    return text_of(status), list(csv_format.DictReader(io.StringIO(csv, newline="")))


def test_a_line_ends_at_line_breaks_alone(tiny_run, tmp_path):
    text = "not good\x0cbut great\nsecond, dull\u2028(until the end)\r\nthird\x85with NEL\rfourth\n"
    assert batch.split(text) == ["not good\x0cbut great", "second, dull\u2028(until the end)", "third\x85with NEL", "fourth"]
    status, rows = batched(tiny_run, tmp_path, "lines.txt", text)
    assert len(rows) == 4 and "4 sentences read" in status and rows[1]["text"] == "second, dull\u2028(until the end)"


def test_every_row_has_its_row_with_its_own_cells_in_order(tiny_run, tmp_path):
    status, rows = batched(tiny_run, tmp_path, "ids.csv",
                           "id,review,monju,delta\n101,a quiet triumph,x,-1\n102,,y,+3.5\n103,dull and long,z,-0.5e3\n104,warm,=1+1,007\n")
    assert list(rows[0])[:5] == ["id", "review", "given_monju", "delta", "monju"] and "text" not in rows[0]
    assert [row["id"] for row in rows] == ["101", "102", "103", "104"]
    assert [row["delta"] for row in rows] == ["-1", "+3.5", "-0.5e3", "007"]  # numbers, no formulas
    assert [row["given_monju"] for row in rows] == ["x", "y", "z", "'=1+1"]
    assert [bool(row["monju"]) for row in rows] == [True, False, True, True] and rows[1]["review"] == ""
    assert "3 sentences read" in status and "column “review”" in status and "Rows without a sentence: 1." in status


@pytest.mark.parametrize("content, column, texts, told", [
    ("tweet\na quiet triumph\n\ntwo hours gone\n", "tweet", ["a quiet triumph", "", "two hours gone"], "“tweet” was taken for the column’s heading"),
    ("a quiet triumph\ntwo hours gone\n", "text", ["a quiet triumph", "two hours gone"], "“a quiet triumph”, was taken for a sentence"),
    ("Text\nfine film\ndull\n", "Text", ["fine film", "dull"], "2 sentences read"),
    ("nr;opinion\n1;a quiet triumph\n2;two hours gone\n", "opinion", ["a quiet triumph", "two hours gone"], "column “opinion”")])
def test_how_a_header_was_taken_is_told(tiny_run, tmp_path, content, column, texts, told):
    status, rows = batched(tiny_run, tmp_path, "list.csv", content)
    assert [row[column] for row in rows] == texts and told in status


def test_what_is_not_read_of_a_sentence_is_told_beside_the_verdict_and_counted_in_the_batch(tmp_path, monkeypatch):
    monju = opened()
    found = read(monju, [POSITIVE] * 3, MEMBERS)
    object.__setattr__(found, "notes", (Note("sentence_unknown", {"n": 7, "tokens": 8, "backbone": "all-MiniLM-L6-v2"}),
                                        Note("sentence_cut", {"n": 300, "limit": 128})))
    html = flow.flow(found, monju, SAY)
    assert 'role="status"' in html and "7 of 8 tokens of this sentence are unknown to all-MiniLM-L6-v2" in html
    assert "先頭" in flow.flow(found, monju, Translator("ja")) or "最初の 128 トークン" in flow.flow(found, monju, Translator("ja"))
    assert "unread" not in flow.flow(read(monju, [POSITIVE] * 3, MEMBERS), monju, SAY)
    assert batch.counts(["a", "", "b"], [found, read(monju, [POSITIVE] * 3)]) == {"batch_blank": 1, "batch_cut": 1, "batch_unknown": 1}


@pytest.mark.parametrize("lines, content, said", [
    ("", None, "no sentence yet"), ("x\n" * 2001, None, "2,001 sentences are more than 2,000"),
    ("\n" * 2000 + "x", None, "2,001 sentences are more than 2,000"), ("", b"text\n\xe9 broken\n", "UTF-8"),
    ("", b"a,b\n1,2\n", "None of the columns holds text: a, b."), ("", b"text,text\na b,c d\n", "same name: text"), ("", b"", "no rows")])
def test_many_sentences_that_cannot_be_read_are_told_calmly(tiny_run, tmp_path, lines, content, said):
    path = None
    if content is not None:
        path = str(tmp_path / "upload.csv")
        Path(path).write_bytes(content)
    [(status, table, csv, _)] = batch.answers(_shelf(tiny_run), "tiny", lines, path, SAY, {})
    assert said in status and str(tmp_path) not in status and (table, csv) == ("", "")


@pytest.fixture(scope="module")
def client(tiny_page):
    return gradio_client.Client(tiny_page, verbose=False)


def test_predict_over_the_network_is_the_reading(client, tiny_run):
    answer = client.predict("a quiet triumph", api_name="/predict")
    expected = _shelf(tiny_run).open("tiny").read(["a quiet triumph"])[0].to_json()
    assert set(answer) == {"text", "distances", "alpha", "logits", "monju", "baseline", "notes"}
    assert answer["monju"]["label"] == expected["monju"]["label"]
    for part in ("distances", "alpha"):
        assert answer[part] == pytest.approx(expected[part], abs=1e-5)
    assert answer["logits"]["BC"] == pytest.approx(expected["logits"]["BC"], abs=1e-5)


def test_predict_documents_its_types_and_refuses_nothing_calmly(client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert {"/predict", "/results"} <= set(endpoints)
    assert endpoints["/predict"]["parameters"][0]["python_type"]["type"] == "str"
    assert "alpha" in endpoints["/predict"]["description"]
    with pytest.raises(Exception, match="type at least one word"):
        client.predict("   ", api_name="/predict")


def test_results_over_the_network_are_the_stored_table(client, tiny_run):
    assert client.predict(api_name="/results") == Run.open(tiny_run).read_json("metrics.json")
    assert client.predict("tiny", api_name="/results")["n"] == 40
    for name in ("gone", "../tiny"):
        with pytest.raises(Exception, match="there is no run"):
            client.predict(name, api_name="/results")


def test_a_taken_port_is_one_sentence(tiny_run, monkeypatch):
    monkeypatch.setattr(gr.Blocks, "launch", lambda *_, **__: (_ for _ in ()).throw(OSError("Cannot find empty port")))
    with pytest.raises(MonjuError, match="GRADIO_SERVER_PORT"):
        launch(tiny_run)


def test_the_page_asks_nothing_of_the_outside():
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    page = build(RunCache(ROOT))
    assert page.analytics_enabled is False and page.delete_cache and page.max_threads
    assert OPTIONS["ssr_mode"] is False and OPTIONS["enable_monitoring"] is False
    assert not re.search(r"https?://|@import", (ROOT / "assets" / "style.css").read_text(encoding="utf-8"))
    assert not OPTIONS["theme"]._stylesheets


def test_the_entry_is_short_and_only_the_page_imports_gradio():
    assert len((ROOT / "app.py").read_text(encoding="utf-8").splitlines()) <= 30
    for file in (ROOT / "monju").glob("*.py"):
        imported = {alias.name for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
                    if isinstance(node, ast.Import | ast.ImportFrom)
                    for alias in [*node.names, ast.alias(getattr(node, "module", None) or "")]}
        assert not any(name.split(".")[0] == "gradio" for name in imported), file


def answered(shelf, text, t, **settings):
    """Both panels for a sentence, as one piece of HTML."""
    own = dict(gate="distance", sharpness=1.0, temperature=0.1, fusion="logits")
    return "".join(playground.respond(shelf, shelf.start, text, t, own | settings)[0])


@cache
def _shelf(run):
    return RunCache(run)


def _well_formed(html):
    """Every tag that is opened is closed, in order."""
    parseString(re.sub(r"[\x00-\x08]", "", html))
