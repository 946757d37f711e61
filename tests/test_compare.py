"""The comparison on a real tiny run."""

import json
from dataclasses import dataclass

import numpy as np
import pytest

from monju import combine, compare, evaluate, gates, merging, sources
from monju.cli import main
from monju.ensemble import Monju
from monju.merger import Merger
from monju.predictions import load_predictions
from monju.run import Run


@pytest.fixture(scope="module")
def found(tiny_run):
    monju = Monju.load(tiny_run, controls=True)
    held_out = sources.load_for(monju.config).validation
    return compare.compare(monju, held_out.labels, held_out.texts), monju


def test_every_way_is_a_row_or_left_out_with_a_reason(found):
    rows, left_out = ({row["name"] for row in found[0][part]} for part in ("rows", "left_out"))
    assert rows | left_out == {*set(combine.every()) - {"distance"}, *merging.TABLE, "merged by α", "AB", "BC", "CA", "baseline", "equal cost",
                               *(f"{kind}seed{i}" for kind in ("", "equal-cost/") for i in range(3))}
    assert left_out == {"c-BTM", "posterior", "posterior, running prior"} and not rows & left_out


def test_rows_agree_with_the_runs_own_table(found, tiny_run):
    rows = {row["name"]: row for row in found[0]["rows"]}
    stored = Run.open(tiny_run).read_json("metrics.json")
    assert rows["monju"]["accuracy"] == stored["monju"]["accuracy"]
    assert rows["baseline"]["accuracy"] == stored["baseline"]["accuracy"] and rows["baseline"]["difference"] == 0
    assert rows["monju"]["p_value"] == stored["monju_vs_baseline"]["p_value"]
    assert rows["monju"]["train_tokens"] == sum(stored["cost"][name]["tokens"] for name in ("AB", "BC", "CA"))
    assert rows["oracle"]["accuracy"] >= max(rows[name]["accuracy"] for name in ("AB", "BC", "CA"))
    assert rows["uniform soup"]["forward_passes"] == 1 and rows["monju"]["forward_passes"] == 3


def test_a_model_merged_with_itself_is_that_model(found):
    monju = found[1]
    texts = ["a quiet triumph", "dull"]
    merger = Merger(monju)
    alone = merger.logits(merging.uniform_soup([merger.weights[1][1]] * 3), texts)
    np.testing.assert_allclose(alone, monju.votes(texts).of(["BC"])[:, 0], atol=1e-4)
    np.testing.assert_allclose(merger.per_sentence(texts, np.array([[0, 1.0, 0]] * 2)), alone, atol=1e-4)


def test_one_merge_leaves_the_others_alone(found):
    merger, texts = Merger(found[1]), ["a quiet triumph", "dull"]
    soup, task = (merging.TABLE[name] for name in ("uniform soup", "task arithmetic"))
    first = merger.logits(soup(merger), texts)
    merger.logits(task(merger), texts)
    np.testing.assert_array_equal(merger.logits(soup(merger), texts), first)


def test_fisher_information_is_that_of_the_sentence(found):
    """Against autograd by hand, for the head's bias: ∂ log p(y) / ∂ b_c = [y = c] − p_c, so that F_c = p_c (1 − p_c)."""
    merger = Merger(found[1])
    model = merger.models[1]
    [sentence] = merger.tokens(["a quiet triumph"])
    p = merger.logits(merger.weights[1][0], ["a quiet triumph"])[0]
    p = np.exp(p) / np.exp(p).sum()
    [bias] = [name for name in merger.learned if name.endswith("classifier.bias")]
    np.testing.assert_allclose(merger.fisher(model, [sentence])[bias].numpy(), p * (1 - p), rtol=1e-3)


def test_stored_votes_give_the_same_rows_without_reading(found):
    monju, read = found[1], found[0]
    votes, labels = load_predictions(monju.run)
    stored = compare.compare(monju, labels, votes=votes)
    assert {row["kind"] for row in stored["rows"]} == {row["kind"] for row in read["rows"]} - {"merge"}
    again = {row["name"]: row["accuracy"] for row in read["rows"]}
    assert all(row["accuracy"] == again[row["name"]] and row["ms"] is None for row in stored["rows"])


def test_holms_correction_by_hand():
    rows = [{"name": "x", "p_value": 0.01}, {"name": "y", "p_value": 0.04}, {"name": "baseline", "p_value": 1.0}, {"name": "z", "p_value": 0.03}]
    compare.holm(rows, "baseline")
    assert [row.get("p_holm") for row in rows] == [pytest.approx(0.03), pytest.approx(0.06), None, pytest.approx(0.06)]


def test_diversity_by_hand():
    # two members, four sentences labelled 0: right/right, right/wrong, wrong/right, wrong/wrong
    right, wrong = [9.0, -9.0], [-9.0, 9.0]
    logits = np.array([[right, right], [right, wrong], [wrong, right], [wrong, wrong]])
    found = compare._diversity(logits, np.zeros(4, int))
    assert found["disagreement"] == 0.5 and found["double_fault"] == 0.25 and found["q"] == 0 and found["rho"] == 0
    # error of the ensemble = mean error of its members − ambiguity
    assert found["ensemble_error"] == pytest.approx(found["member_error"] - found["ambiguity"])


def test_a_gate_added_here_appears_in_the_comparison(found, monkeypatch):
    @dataclass(frozen=True)
    class Nearest:
        """The experts that know the nearest cluster alone."""

        def __call__(self, distances, experts, posterior=None):
            return gates.share(np.eye(distances.shape[1])[distances.argmin(axis=1)], experts)

    monkeypatch.setitem(gates.TABLE, "nearest", Nearest)
    votes, labels = load_predictions(found[1].run)
    rows = {row["name"]: row for row in compare.compare(found[1], labels, votes=votes)["rows"]}
    assert rows["nearest"]["kind"] == "gate" and rows["nearest"]["accuracy"] == rows["membership top-1"]["accuracy"]


def test_the_command_prints_a_table_and_json(tiny_run, movies, tmp_path, capsys, monkeypatch):
    for name in set(merging.TABLE) - {"uniform soup"}:  # the others are in `found`
        monkeypatch.delitem(merging.TABLE, name)
    assert main(["compare", str(tiny_run), "--data", str(movies), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n"] == 40 and {"name", "kind", "accuracy", "interval", "difference", "p_value", "forward_passes",
                                 "train_tokens"} <= set(found["rows"][0])
    lines = (movies / "validation.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "few.csv").write_text("".join([*lines[:5], *lines[-4:]]), encoding="utf-8")
    assert main(["compare", str(tiny_run), "--data", str(tmp_path / "few.csv")]) == 0
    out = capsys.readouterr().out
    assert "uniform soup" in out and "c-BTM is left out: it needs" in out


def test_measures_are_those_of_the_table(found):
    monju = found[1]
    held_out = sources.load_for(monju.config).validation
    votes = monju.votes(held_out.texts)
    row = next(row for row in found[0]["rows"] if row["name"] == "AB")
    assert {key: row[key] for key in ("accuracy", "nll", "ece")} \
        == {key: evaluate.measure(votes.of(["AB"])[:, 0], held_out.labels)[key] for key in ("accuracy", "nll", "ece")}
