"""A run of language models in the Results tab: its numbers are those of metrics.json."""

import pytest

from monju.reporting import language_report
from monju.runs.run import Run
from monju.ui.i18n.translator import Translator

SAY = Translator("en")


@pytest.fixture(scope="module")
def metrics(tiny_writer):
    return Run.open(tiny_writer).metrics()


def pair(ratio, low, high):
    return {"ratio": ratio, "interval": [low, high], "difference": 0.0}


def test_the_headline_says_who_is_ahead_and_by_how_much(metrics):
    for ratio, low, high, words in ((1.036, 1.029, 1.042, "+3.6 % [+2.9, +4.2]"), (0.9, 0.85, 0.95, "−10.0 % [−15.0, −5.0]")):
        drawn = language_report.headline({**metrics, "monju_vs_baseline": pair(ratio, low, high)}, SAY)
        assert words in drawn and ("Monju is worse" in drawn) == (ratio > 1) and ("Monju is better" in drawn) == (ratio < 1)
    assert "could be chance" in language_report.headline({**metrics, "monju_vs_baseline": pair(1.01, 0.99, 1.03)}, SAY)


def test_what_the_gate_adds_is_the_inverse_of_equal_weights_against_it(metrics):
    def told(ratio, low, high):
        return language_report.gate_summary({**metrics, "gates": {"uniform": {"against_monju": pair(ratio, low, high)}}}, SAY)

    assert "lowers perplexity: −2.00 %" in told(1 / 0.98, 1.01, 1.03) and "raises perplexity" in told(0.98, 0.97, 0.99)
    assert "could be chance" in told(1.0, 0.99, 1.01)


def test_every_system_and_model_has_a_row_and_unseen_clusters_are_marked(metrics):
    heads, rows = language_report.table(metrics, SAY)
    named = {row[0]: row for row in rows}
    assert {f"– {name}" for name in metrics["experts"]} < set(named) and named["Monju"][1].startswith(f"{metrics['monju']['perplexity']:,.1f} [")
    for name, numbers in metrics["experts"].items():
        cells = named[f"– {name}"][3:3 + len(numbers["clusters"])]
        assert [cell.endswith("*") for cell in cells] == [not cell["seen"] for cell in numbers["clusters"].values()]
    assert all(len(row) == len(heads) for row in rows)
    heads, rows = language_report.gates(metrics, SAY)
    assert [row[0] for row in rows][0] == min(metrics["gates"], key=lambda name: metrics["gates"][name]["perplexity"])
