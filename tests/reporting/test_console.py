"""The terminal's tables: every number where it belongs, no line too long."""

import re
import time

import numpy as np
import pytest
from toy import COST, LABELS, logits, toy, verdicts

from monju.data.notes import Note
from monju.ensemble.gates import Membership
from monju.ensemble.outputs import Reading, Verdict
from monju.evaluation.run_table import table
from monju.reporting.console import print_comparison, print_sweep, show, tables, tell
from monju.training.progress import Phase, Progress, Stage
from monju.training.reports import Step


def shown(metrics: dict) -> str:
    from rich.console import Console

    console = Console(width=80)
    with console.capture() as capture:
        console.print(tables(metrics))
    return capture.get()


def row(text: str, name: str, after: str = "") -> list[str]:
    """The words of the first line that starts with `name`, looking behind the heading `after`."""
    lines = text[text.index(after) :].splitlines()
    return next(line.strip().removeprefix(name).split() for line in lines if line.strip().startswith(name))


@pytest.mark.parametrize("terminal", [True, False])
def test_a_training_that_waits_for_the_processor_and_its_phases_are_told(monkeypatch, capsys, terminal):
    def events():
        yield Stage("Training [AB] on 400 sentences.")
        yield Progress("AB", Step(1, 100, 32, 400, 0.7, 1e-4, 1.0), 32.0, 0.5, 90.0)
        time.sleep(1.2)
        yield Phase("Drawing the map.", "map", 0.9, 20.0)
        time.sleep(1.2)
        told.append(capsys.readouterr().err)

    told = []
    monkeypatch.setenv("TTY_COMPATIBLE", str(int(terminal)))
    monkeypatch.setenv("COLUMNS", "120")
    assert Progress("AB", Step(1, 100, 32, 400, 0.7, 1e-4, 1.0), 32.0, 0.5, 90.0).patience == 20
    assert Progress("AB", Step(10, 4000, 320, 4000, 0.7, 1e-4, 20.0), 16.0, 0.1, 9.0).patience == 120
    monkeypatch.setattr(Progress, "patience", 0.2)
    show(events())
    assert "Training [AB] on 400 sentences.\n" in told[0] and "Drawing the map.\n" in told[0]
    assert re.search(r"50%.* AB 1/100, loss 0.700, 32 sentences/s, about 1:30 left for the run", told[0])
    assert re.search(r"no step for \d+ s: probably waiting for a free processor", told[0])
    assert re.search(r"90%.* map, about 0:20 left for the run", told[0]) and "100%" not in told[0]
    assert "100%" in capsys.readouterr().err
    assert ("\x1b" in told[0]) == terminal  # a file or a pipe gets plain lines


def test_a_pipe_gets_a_line_a_percent(monkeypatch, capsys):
    monkeypatch.setenv("TTY_COMPATIBLE", "0")
    show(Progress("AB", Step(i + 1, 1000, 32, 400, 0.7, 1e-4, 1.0), 32.0, i / 1000, 9.0) for i in range(500))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 51 and lines[0].startswith("  0% AB 1/1000") and lines[-1] == "100% done"


def test_the_view_shows_the_numbers():
    metrics = table(toy(), LABELS, COST)
    metrics["monju"]["gate"] = "distance [p=1]"
    text = shown(metrics)
    assert row(text, "{C,A}")[0] == "75.00" and row(text, "{B,C}")[0] == "87.50"
    assert row(text, "Monju")[:3] == ["79.17", "mean", "87.50"] and "+8.33" in row(text, "Monju")
    assert row(text, "Baseline")[5] == "+0.00"
    assert "Monju − baseline: +12.50 points" in text and "one sentence is 12.50 points" in text
    assert "1 of 8 labels changed: 1 rescued, 0 broken; exact McNemar p = 1." in text
    assert "Monju − equal cost: −12.50 points" in text
    assert row(text, "{A,B}", "by nearest cluster") == ["100.00", "66.67", "*50.00"]
    assert row(text, "{B,C}", "by nearest cluster") == ["*66.67", "100.00", "100.00"]
    assert row(text, "sentences", "by nearest cluster") == ["3", "3", "2"]
    assert row(text, "{A,B,C} seed1", "Cost of training") == ["900", "2,000", "30", "2.2"]
    # 1000 + 1100 + 1200 tokens of 2 · 2000
    assert row(text, "Monju", "Cost of training") == ["1,800", "3,300", "60", "4.5", "82.50", "%"]
    assert row(text, "Baseline", "Cost of training") == ["1,800", "4,000", "60", "4.4", "100.00", "%"]
    assert "Equal cost" not in text[text.index("Cost of training") :]  # its members were not counted
    assert "Gate distance [p=1]: mean sorted α 0.15 / 0.30 / 0.55" in text
    assert "changed 1 of 8 labels" in " ".join(text.split())


def test_the_commonest_label_stands_under_the_ensembles():
    assert row(shown(table(toy(), LABELS)), "Always the commonest label:") == ["50.00", "%."]
    older = table(toy(), LABELS)
    del older["majority"]  # of a run that was evaluated before there was such a line
    assert "commonest" not in shown(older)


def test_where_nothing_differs_no_interval_and_no_luck_is_told():
    alike = toy(baseline=toy().monju, members=["seed0"], logits=toy().logits[:, [0, 1, 2, 3, 5]])
    text = " ".join(shown(table(alike, LABELS)).split())
    assert "Monju and baseline answered no sentence differently." in text
    assert "[+0.00, +0.00]" not in text and text.count("McNemar") == 1  # that of the equal cost
    three = toy(**{name: logits(digits, 3) for name, digits in (("monju", "00001112"), ("baseline", "00001110"))},
                **dict.fromkeys(("uniform", "equal_cost_ensemble"), logits("00001111", 3)),
                logits=np.stack([logits("00001111", 3)] * 6, axis=1))
    text = " ".join(shown(table(three, LABELS)).split())
    assert "Monju and baseline answered 1 of 8 sentences differently, both wrongly." in text


def test_a_comparison_says_where_nothing_differs_and_which_temperature_its_gates_have(capsys):
    base = {"kind": "gate", "gate": repr(Membership(0.5, 2.0, None)), "accuracy": 0.9, "interval": [0.8, 1.0], "nll": 0.1, "ece": 0.1,
            "difference": 0.0, "p_value": 1.0, "p_holm": 1.0, "forward_passes": 3}
    print_comparison({"n": 40, "against": "baseline", "left_out": [], "early_exit": None, "rows": [
        {**base, "name": "membership", "changed": 0},
        {**base, "name": "membership top-1", "changed": 2, "gate": repr(Membership(0.5, 2.0, 1))},
        {**base, "name": "baseline", "gate": None, "kind": "ensemble", "changed": 0}]})
    lines = {line.split("  ")[0].strip(): line for line in capsys.readouterr().out.splitlines()}
    assert "same answers" in lines["membership"] and "+0.00" not in lines["membership"]
    assert "+0.00" in lines["membership top-1"]
    assert "same answers" not in lines["baseline"]
    assert "membership top-1: Membership(temperature=0.5, power=2.0, top_k=1)" in lines


@pytest.mark.parametrize("other, words", [("baseline", "the baseline"), ("uniform", "equal weights")])
def test_a_sweep_says_what_its_difference_is_to(capsys, other, words):
    one = {"settings": {"k": 3}, "n": 40, "p_value": [0.5], **dict.fromkeys(("accuracy", "difference"), {"mean": 0.5, "sd": None})}
    print_sweep({"seeds": [0], "rows": [{**one, "name": "monju"}, {**one, "name": other}]})
    assert f"the difference is to {words} of the same seed" in " ".join(capsys.readouterr().out.split())


def test_the_view_shows_the_measures_of_the_ensembles():
    metrics = table(toy(), LABELS)
    expected = [f"{metrics['monju'][name]:.4f}" for name in ("macro_f1", "nll", "brier", "ece")]
    assert row(shown(metrics), "Monju", "Beyond accuracy") == expected


@pytest.mark.parametrize("k", [3, 8, 12])
def test_no_line_is_longer_than_the_terminal(k):
    clusters, names = [chr(ord("A") + c) for c in range(k)], [f"leave{c}" for c in range(k)]
    wide = toy(
        clusters=clusters,
        experts=names,
        subsets=[tuple(set(range(k)) - {c}) for c in range(k)],
        distances=2.0 - np.eye(k)[verdicts("00011122")],
        alpha=np.full((8, k), 1 / k),
        logits=np.stack([logits("00001111")] * (k + 3), axis=1),
    )
    huge = {"sentences": 67_349, "tokens": 2_631_482_000, "steps": 1_004_212, "seconds": 81_234.5}
    text = shown(table(wide, LABELS, dict.fromkeys(wide.models, huge)))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    headings = [line.split() for line in text.splitlines() if not set(line.split()) - set(clusters)]
    assert sum(headings, []) == clusters  # every cluster has its column, once


def test_a_run_without_baseline_has_no_line_for_it():
    text = shown(table(toy(members=[], equal_cost=[], baseline=None, equal_cost_ensemble=None), LABELS))
    assert "Baseline" not in text and "Equal cost" not in text and "Cost of training" not in text


def test_a_cluster_without_sentences_has_no_accuracy():
    assert "*–" in shown(table(toy(distances=2.0 - np.eye(3)[verdicts("00011111")]), LABELS))


def test_a_sentence_is_told_with_its_notes_each_on_one_line_under_it(capsys):
    verdict = Verdict(np.array([-1.0, 1.0]), np.array([0.12, 0.88]), 1, "positive")
    notes = (Note("sentence_cut", {"limit": 126, "n": 3000}),
             Note("sentence_unknown", {"n": 7, "tokens": 126, "backbone": "all-MiniLM-L6-v2"}))
    read = Reading("很好", np.zeros(2), {"A": 1.0}, {"AB": 1.0}, {"AB": np.array([-1.0, 1.0])}, verdict, None, notes)
    tell([read])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[:3] == ["很好", "Only the first 126 of 3,000 tokens of this sentence are read.",
                         "7 of 126 tokens of this sentence are unknown to all-MiniLM-L6-v2: the verdict does not reflect what they say."]
    assert lines[5].split() == ["Monju", "-1.00", "+1.00", "positive", "88.0%"]
