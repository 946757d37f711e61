"""The terminal's tables: every number where it belongs, no line too long."""

import time

import numpy as np
import pytest

from monju.evaluate import table
from monju.experts import Step
from monju.terminal import show, tables
from monju.training import Phase, Progress
from toy import COST, LABELS, logits, toy, verdicts


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


def test_a_training_that_waits_for_the_processor_and_its_phases_are_told(monkeypatch, capsys):
    def events():
        yield Progress("AB", Step(1, 100, 32, 400, 0.7, 1e-4, 1.0), None, 32.0, 0.5, 90.0)
        time.sleep(0.5)
        yield Phase("Drawing the map.", "map", 0.9, 20.0)
        told.append(capsys.readouterr().err)

    told = []
    assert next(events()).patience == 20 and Progress("AB", Step(10, 4000, 320, 4000, 0.7, 1e-4, 20.0), None, 16.0, 0.1, 9.0).patience == 120
    monkeypatch.setattr(Progress, "patience", 0.1)
    show(events())
    assert "AB 1/100, loss 0.700, 32 sentences/s, about 01:30 left" in told[0]
    assert "no step for 0 s: probably waiting for a free processor" in told[0] and " 90%|" in told[0]
    assert "map, about 00:20 left for the run" in told[0] and "100%" not in told[0]
    assert "100%" in capsys.readouterr().err


def test_the_view_shows_the_numbers():
    metrics = table(toy(), LABELS, COST)
    metrics["monju"]["gate"] = "distance [p=1]"
    text = shown(metrics)
    assert row(text, "{C,A}")[0] == "75.00" and row(text, "{B,C}")[0] == "87.50"
    assert row(text, "Monju")[:3] == ["79.17", "mean", "87.50"] and "+8.33" in row(text, "Monju")
    assert row(text, "Baseline")[5] == "+0.00"
    assert "Monju − baseline: +12.50 points" in text and "one sentence is 12.50 points" in text
    assert "1 of 8 labels changed: 1 rescued, 0 broken; exact McNemar p = 1." in text
    assert "Monju − equal cost: -12.50 points" in text
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
