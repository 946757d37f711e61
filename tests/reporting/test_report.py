"""What is taken away: CSV that reads back, LaTeX that compiles, HTML that opens from disk."""

import csv
import io
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from toy import COST, LABELS, logits, toy

from monju.cli import main
from monju.config import Config
from monju.errors import MonjuError
from monju.evaluation.run_table import table
from monju.reporting import report
from monju.reporting.report import Results
from monju.runs.run import Run
from monju.ui.i18n.translator import Translator

SAY = Translator("en")


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
    lines = list(csv.DictReader(io.StringIO(report.csv(real))))
    assert [(line["ensemble"], line["model"]) for line in lines] == [
        ("Baseline", ""), *(("Baseline", f"seed{i}") for i in range(3)),
        ("Equal cost", ""), *(("Equal cost", f"equal-cost/seed{i}") for i in range(3)),
        ("Monju", ""), *(("Monju", name) for name in ("AB", "BC", "CA")), ("Majority class", "negative")]
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
    assert [tex.count(f"\\{rule}rule") for rule in ("top", "mid", "bottom")] == [1, 4, 1]
    assert r"Always the commonest label (negative) & 50.00 & & \\" in tex


def test_everything_that_tex_takes_for_its_own_is_escaped():
    assert report.tex(r"50% of_it & #1 {a} ~ ^ $ \x") == (
        r"50\% of\_it \& \#1 \{a\} \textasciitilde{} \textasciicircum{} \$ \textbackslash{}x")


@pytest.mark.parametrize("data", ["sst2", "../shared/data/sst2", "stanfordnlp/sst2", "data/SST-2.csv"])
def test_the_poster_stands_beside_the_runs_own_numbers(data):
    html = report.accuracy_table(results(data=data), SAY)
    ab = text_of(html.split('data-model="AB"')[1].split("</tr>")[0])
    assert "75.00" in ab and "93.12" in ab
    monju = text_of(html.split('data-row="monju"')[1].split("</tr>")[0])
    assert all(number in monju for number in ("79.17", "87.50", "+8.33", "82", "93.08", "94.04", "+0.96"))
    equal = text_of(html.split('data-row="equal_cost"')[1].split("</tr>")[0])
    assert equal.count("–") == 4  # the poster has none, and its cost was not counted


def test_members_unlike_the_posters_have_no_number_beside_them():
    html = report.accuracy_table(results(data="sst2", k=4, subset_size=2), SAY)
    assert "93.12" not in html and "94.04" in html


@pytest.mark.parametrize("language, title", [("en", "Accuracy of every model"), ("ja", "全モデルの正解率")])
@pytest.mark.parametrize("data", ["rotten-tomatoes", "hotels.csv", "sst2+imdb", "data/sst2/../hotels"])
def test_beside_other_data_than_the_posters_nothing_of_it_is_told(language, title, data):
    found, t = results(data=data), Translator(language)
    page = report.html(found, t).split("<script>")[0]
    assert "94.04" not in page and "RoBERTa" not in page and t("col_poster") not in page and title in page
    assert all(line.count("<td") == 4 for line in report.accuracy_table(found, t).split("<tr")[3:])


def test_the_commonest_label_is_named_also_for_a_run_that_stored_no_such_line(real, tiny_run, tmp_path):
    older = shutil.copytree(tiny_run, tmp_path / "run")
    metrics = json.loads((older / "metrics.json").read_text())
    assert metrics.pop("majority") == {"label": 0, "accuracy": 0.5}
    run = Run.open(older)
    run.write_json("metrics.json", metrics)
    run.finish()
    for found in (real, Results.of(run)):
        for language, words in (("en", "Always the commonest label, negative"), ("ja", "常に最も多いラベル（ネガティブ）")):
            line = text_of(report.accuracy_table(found, Translator(language)).split('data-row="majority"')[1])
            assert words in line and "50.00" in line
        assert "Always the commonest label (negative) & 50.00" in report.latex(found)
        last = list(csv.DictReader(io.StringIO(report.csv(found))))[-1]
        assert (last["ensemble"], last["model"], last["accuracy"]) == ("Majority class", "negative", "0.5")


@pytest.mark.parametrize("language, words", [("en", "Monju and Baseline answered no sentence differently"),
                                             ("ja", "判定が異なる文はありません")])
def test_where_no_sentence_was_answered_differently_no_luck_is_told(language, words):
    alike = toy(baseline=toy().monju, logits=toy().logits[:, [0, 1, 2, 0, 1, 5]])  # the baseline's members are Monju's
    found, t = results(predictions=alike, metrics=table(alike, LABELS)), Translator(language)
    said = text_of(report.interpretation(found, t))
    assert words in said and "+0.00, +0.00" not in said
    assert said.count(text_of(t("told_luck"))) == 1  # of the equal cost's
    assert "+0.00, +0.00" not in report.latex(found)


def test_an_interval_without_width_is_not_drawn():
    right = toy(**{name: logits("00001111") for name in ("monju", "baseline", "uniform")},
                logits=np.stack([logits("00001111")] * 6, axis=1))
    found = results(predictions=right, metrics=table(right, LABELS))
    for text in (report.accuracy_table(found, SAY), report.interpretation(found, SAY), report.latex(found)):
        assert "+0.00, +0.00" not in text and "100.0, 100.0" not in text
    assert "[67.6, 100.0]" in report.accuracy_table(found, SAY)  # Wilson's: 8 / (8 + 3.84)
    assert "every sentence gains as much" in text_of(report.interpretation(found, SAY))


def test_the_words_are_honest_about_luck():
    said = text_of(report.interpretation(results(data="sst2"), SAY))
    assert "Measured on 8 held-out sentences: one sentence is 12.50 points." in said
    assert "Monju − Baseline: +12.50 points" in said and "p = 1 (exact McNemar). This difference could be chance" in said
    assert "The interval includes zero" in said and "models trained anew" in said and "RoBERTa-base" in said
    metrics = table(toy(), LABELS)
    metrics["monju_vs_baseline"]["p_value"] = 0.01
    assert "Monju is better, by more than chance" in text_of(report.interpretation(results(metrics), SAY))
    metrics["monju_vs_baseline"]["difference"] = -0.1
    assert "Monju is worse, by more than chance" in text_of(report.interpretation(results(metrics), SAY))


def test_a_run_without_baseline_is_reported_too():
    alone = toy(members=[], equal_cost=[], baseline=None, equal_cost_ensemble=None)
    found = results(table(alone, LABELS), alone)
    assert "no baseline" in report.interpretation(found, SAY) and [len(ids) for ids in found.turned] == [0, 0]
    page = report.html(found, SAY)
    assert 'data-row="monju"' in page and 'data-row="baseline"' not in page
    assert report.latex(found).count("\\midrule") == 2 and len(report.csv(found).splitlines()) == 6


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
    page = report.html(real, Translator(language))
    tags = Tags(page)
    assert tags.open == [] and tags.asked == []
    assert page.count("plotly.js v") == 1 and "@import" not in page.split("<script>")[0]
    for name in ("clusters", "agreement", "calibration", "alpha"):
        assert f'<div id="{name}"' in page and f'draw("{name}",' in page
    assert f'lang="{language}"' in page and real.data["fingerprint"] in page and "tiny-bert" in page
    assert str(movies) not in page  # a name alone: no path of the machine that trained
    sentences = [line.rsplit(",", 1)[0].strip('"') for line in (movies / "validation.csv").read_text(encoding="utf-8").splitlines()[1:]]
    assert not any(sentence in page for sentence in sentences)


def test_names_from_a_run_cannot_break_out_of_the_report():
    nasty = "</script><script>alert(1)</script><img src=x>"
    found = results(data=nasty)
    found.data["label_names"] = [nasty, "b"]
    tags = Tags(report.html(found, SAY))
    assert tags.open == [] and tags.asked == []


@pytest.mark.parametrize("kind, name, content", [
    ([], "monju-tiny.html", lambda found: report.html(found, SAY)),
    (["--language", "ja"], "monju-tiny.html", lambda found: report.html(found, Translator("ja"))),
    (["--format", "csv"], "monju-tiny.csv", report.csv), (["--format", "latex"], "monju-tiny.tex", report.latex)])
def test_the_command_writes_what_the_page_gives(real, tiny_run, tmp_path, monkeypatch, capsys, kind, name, content):
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(tiny_run), *kind]) == 0 and capsys.readouterr().out == f"{name}\n"
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == content(real).encode()
    (tmp_path / "there").mkdir()
    assert main(["report", str(tiny_run), *kind, "--out", str(tmp_path / "there")]) == 0
    assert (tmp_path / "there" / name).read_bytes() == (tmp_path / name).read_bytes()


def test_the_ending_of_out_says_what_to_write(real, tiny_run, tmp_path):
    assert main(["report", str(tiny_run), "--out", str(tmp_path / "table.tex")]) == 0
    assert (tmp_path / "table.tex").read_text(encoding="utf-8") == report.latex(real)


@pytest.mark.parametrize("asked, why", [
    (["--out", "kept.csv"], "kept.csv is there already"), (["--out", "new.pdf"], "nor a name that ends in .html"),
    (["--out", "new.csv", "--format", "latex"], "nor a name that ends in .tex"), (["--out", "gone/new.csv"], "cannot be written"),
    (["--out", "new"], "neither an existing folder"), (["--format", "pdf"], "invalid choice")])
def test_the_command_refuses_in_a_sentence_and_writes_nothing(tiny_run, tmp_path, monkeypatch, capsys, asked, why):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kept.csv").write_text("kept")
    assert main(["report", str(tiny_run), *asked]) == 2
    said = capsys.readouterr()
    assert why in said.err and said.err.count("\n") == 1 and said.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["kept.csv"] and (tmp_path / "kept.csv").read_text() == "kept"


def test_a_run_that_is_none_cannot_be_reported(tmp_path, capsys):
    assert main(["report", str(tmp_path), "--out", str(tmp_path)]) == 2 and "not a run folder" in capsys.readouterr().err
