"""What is taken away: CSV that reads back, LaTeX that compiles, HTML that opens from disk."""

import csv
import io
import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from monju import report
from monju.config import Config
from monju.errors import MonjuError
from monju.evaluate import table
from monju.report import Results
from monju.run import Run
from monju.ui.words import Words
from toy import COST, LABELS, toy

SAY = Words("en")


def text_of(html):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def results(metrics=None, predictions=None, **settings):
    """Toy results with no folder behind them."""
    predictions = predictions or toy()
    manifest = {"config": Config(**settings).to_json(), "machine": {"device": "cpu"}, "versions": {"python": "3.11"},
                "clusters": {"A": 3, "B": 3, "C": 2}, "data": {"train": 20, "validation": 8, "labels": [0, 1], "overlap": 0,
                                                               "label_names": ["negative", "positive"], "fingerprint": "f00", "notes": []}}
    run = Run("trained/toy_run", manifest)
    return Results(run, run.config, metrics or table(predictions, LABELS, COST), predictions, LABELS)


@pytest.fixture(scope="module")
def real(tiny_run):
    return Results.of(Run.open(tiny_run))


def test_results_are_the_stored_ones(real, tiny_run):
    assert real.metrics == json.loads((tiny_run / "metrics.json").read_text())
    pair = real.metrics["monju_vs_baseline"]
    assert tuple(map(len, real.turned)) == (pair["rescued"], pair["broken"])
    assert real.gains["difference"] == pytest.approx(real.metrics["monju"]["gain"] - real.metrics["baseline"]["gain"])


@pytest.mark.parametrize("file", ["metrics.json", "predictions.parquet"])
def test_a_changed_or_missing_file_is_told(tiny_run, tmp_path, file):
    copy = shutil.copytree(tiny_run, tmp_path / "run")
    (copy / file).write_bytes((copy / file).read_bytes()[:-20])
    with pytest.raises(MonjuError, match="not the file that the run wrote"):
        Results.of(Run.open(copy))
    (copy / file).unlink()
    with pytest.raises(MonjuError, match="is missing"):
        Results.of(Run.open(copy))


def test_the_csv_holds_the_table(real):
    lines = list(csv.DictReader(io.StringIO(report.csv(real.metrics))))
    assert [(line["ensemble"], line["model"]) for line in lines] == [
        ("Baseline", ""), *(("Baseline", f"seed{i}") for i in range(3)),
        ("Equal cost", ""), *(("Equal cost", f"equal-cost/seed{i}") for i in range(3)),
        ("Monju", ""), *(("Monju", name) for name in ("AB", "BC", "CA"))]
    found = {(line["ensemble"], line["model"]): line for line in lines}
    assert float(found["Monju", "BC"]["accuracy"]) == real.metrics["experts"]["BC"]["accuracy"]
    assert float(found["Monju", ""]["gain"]) == real.metrics["monju"]["gain"]
    assert float(found["Baseline", ""]["mcnemar_p"]) == real.metrics["monju_vs_baseline"]["p_value"]
    assert found["Monju", "CA"]["trained_on"] == "{C,A}" and found["Monju", "CA"]["gain"] == ""


def test_the_latex_table_by_hand():
    tex = report.latex(results(data="my_data & more.csv"))
    assert r"\quad \{C,A\} & 75.00 " in tex and r"Monju & 79.17 mean & \textbf{87.50} " in tex
    assert r"of my\_data \& more.csv (all-MiniLM-L6-v2, $k = 3$, $m = 2$)" in tex
    assert "Monju $-$ baseline: $+12.50$ points" in tex and "One sentence is 12.50 points." in tex
    body = tex[tex.index("\\toprule") : tex.index("\\bottomrule")]
    assert {line.count("&") for line in body.splitlines() if line.endswith("\\\\")} == {3}
    assert tex.count("{") == tex.count("}")
    assert [tex.count(f"\\{rule}rule") for rule in ("top", "mid", "bottom")] == [1, 3, 1]


def test_everything_that_tex_takes_for_its_own_is_escaped():
    assert report.tex(r"50% of_it & #1 {a} ~ ^ $ \x") == (
        r"50\% of\_it \& \#1 \{a\} \textasciitilde{} \textasciicircum{} \$ \textbackslash{}x")


def test_the_poster_stands_beside_the_runs_own_numbers():
    html = report.accuracy_table(results(), SAY)
    ab = text_of(html.split('data-model="AB"')[1].split("</tr>")[0])
    assert "75.00" in ab and "93.12" in ab
    monju = text_of(html.split('data-row="monju"')[1].split("</tr>")[0])
    assert all(number in monju for number in ("79.17", "87.50", "+8.33", "82", "93.08", "94.04", "+0.96"))
    equal = text_of(html.split('data-row="equal_cost"')[1].split("</tr>")[0])
    assert equal.count("–") == 4  # the poster has none, and its cost was not counted


def test_members_unlike_the_posters_have_no_number_beside_them():
    html = report.accuracy_table(results(k=4, subset_size=2), SAY)
    assert "93.12" not in html and "94.04" in html


def test_the_words_are_honest_about_luck():
    said = text_of(report.told(results(), SAY))
    assert "Measured on 8 held-out sentences: one sentence is 12.50 points." in said
    assert "Monju − Baseline: +12.50 points" in said and "p = 1 (exact McNemar). Luck alone could give this much" in said
    assert "The interval holds zero" in said and "models trained anew" in said and "RoBERTa-base" in said
    metrics = table(toy(), LABELS)
    metrics["monju_vs_baseline"]["p_value"] = 0.01
    assert "Monju is better, by more than luck" in text_of(report.told(results(metrics), SAY))
    metrics["monju_vs_baseline"]["difference"] = -0.1
    assert "Monju is worse, by more than luck" in text_of(report.told(results(metrics), SAY))


def test_a_run_without_baseline_is_reported_too():
    alone = toy(members=[], equal_cost=[], baseline=None, equal_cost_ensemble=None)
    found = results(table(alone, LABELS), alone)
    assert "no baseline" in report.told(found, SAY) and [len(ids) for ids in found.turned] == [0, 0]
    page = report.html(found, SAY)
    assert 'data-row="monju"' in page and 'data-row="baseline"' not in page
    assert report.latex(found).count("\\midrule") == 1 and len(report.csv(found.metrics).splitlines()) == 5


class Tags(HTMLParser):
    """Tags in order, and whether each is closed."""

    def __init__(self, html):
        super().__init__()
        self.open, self.asked = [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.asked += [value for name, value in attributes if name in ("src", "href", "srcset", "action")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("language", ["en", "ja"])
def test_the_report_is_whole_and_asks_for_nothing(real, language, movies):
    page = report.html(real, Words(language))
    tags = Tags(page)
    assert tags.open == [] and tags.asked == []
    assert page.count("plotly.js v") == 1 and "@import" not in page.split("<script>")[0]
    for name in ("clusters", "agreement", "calibration", "alpha"):
        assert f'<div id="{name}"' in page and f'draw("{name}",' in page
    assert f'lang="{language}"' in page and real.data["fingerprint"] in page and "all-MiniLM-L6-v2" in page
    assert str(movies) not in page  # a name alone: no path of the machine that trained
    sentences = [line.rsplit(",", 1)[0].strip('"') for line in (movies / "validation.csv").read_text(encoding="utf-8").splitlines()[1:]]
    assert not any(sentence in page for sentence in sentences)


def test_names_from_a_run_cannot_break_out_of_the_report():
    nasty = "</script><script>alert(1)</script><img src=x>"
    found = results(data=nasty)
    found.data["label_names"] = [nasty, "b"]
    tags = Tags(report.html(found, SAY))
    assert tags.open == [] and tags.asked == []
