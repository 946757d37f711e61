"""The comparison on a real tiny run."""

import json
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import tiny_size

from monju.cli import main
from monju.data import sources
from monju.ensemble import gates
from monju.errors import MonjuError
from monju.evaluation import combiners, comparison, merge_methods, metrics, run_table
from monju.evaluation.merge_runner import MergeRunner
from monju.inference.pipeline import Monju
from monju.runs import run_data
from monju.runs.prediction_store import load_predictions
from monju.runs.run import Run
from monju.ui.components import comparison as comparison_table
from monju.ui.i18n.translator import Translator


@pytest.fixture(scope="module")
def monju(tiny_run):
    return Monju.load(tiny_run, controls=True)


@pytest.fixture(scope="module")
def found(monju):
    held_out = sources.load_for(monju.config).validation
    return comparison.compare(monju, held_out.labels, held_out.texts), monju


def test_every_way_is_a_row_or_left_out_with_a_reason(found):
    rows, left_out = ({row["name"] for row in found[0][part]} for part in ("rows", "left_out"))
    assert rows | left_out == {*set(combiners.all_combiners()) - {"distance"}, *merge_methods.TABLE, "merged by α", "Arrow", "early exit", "AB", "BC", "CA", "baseline", "equal cost",
                               *(f"{kind}seed{i}" for kind in ("", "equal-cost/") for i in range(3))}
    assert left_out == {"c-BTM", "posterior", "posterior, running prior", "MoE out of fold"} and not rows & left_out


def test_rows_agree_with_the_runs_own_table(found, tiny_run):
    rows = {row["name"]: row for row in found[0]["rows"]}
    stored = Run.open(tiny_run).read_json("metrics.json")
    assert rows["monju"]["accuracy"] == stored["monju"]["accuracy"]
    assert rows["baseline"]["accuracy"] == stored["baseline"]["accuracy"] and rows["baseline"]["difference"] == 0
    assert rows["monju"]["p_value"] == stored["monju_vs_baseline"]["p_value"]
    assert rows["monju"]["train_tokens"] == sum(stored["cost"][name]["tokens"] for name in ("AB", "BC", "CA"))
    assert rows["oracle"]["accuracy"] >= max(rows[name]["accuracy"] for name in ("AB", "BC", "CA"))
    # corrected for the number of all rows but the one that they are measured against
    least = min((row for row in rows.values() if row["name"] != "baseline"), key=lambda row: row["p_value"])
    assert "p_holm" not in rows["baseline"] and least["p_holm"] == min(1.0, least["p_value"] * (len(rows) - 1))
    assert rows["uniform soup"]["forward_passes"] == rows["Arrow"]["forward_passes"] == 1 and rows["monju"]["forward_passes"] == 3


def test_early_exit_is_a_point_of_its_curve_and_timed(found):
    row, early = next(row for row in found[0]["rows"] if row["name"] == "early exit"), found[0]["early_exit"]
    point = next(point for point in early["curve"] if point["threshold"] == early["threshold"])
    assert (row["accuracy"], row["forward_passes"]) == (point["accuracy"], round(point["passes"], 2))
    last = next(row for row in found[0]["rows"] if row["name"] == "monju")
    assert early["curve"][0]["passes"] == 1 and (early["curve"][-1]["passes"], early["curve"][-1]["accuracy"]) == (3, last["accuracy"])
    assert early["milliseconds"].keys() == {"early_exit", "ensemble"} and min(early["milliseconds"].values()) > 0


def test_folds_are_the_maps_sentences_and_later_rounds_have_none(monju):
    folds = combiners.fit_context(monju).folds
    assert len(folds.labels) == len(folds.outputs.logits) == 100 and (folds.unseen.sum(axis=1) == 1).all()
    assert combiners.fit_context(monju.under(finetuning="full", rounds=2)).folds is None


def test_ensembles_mix_as_the_run_does(monju):
    monju = monju.under(fusion="probabilities")
    votes, labels = load_predictions(monju.run)
    decided = votes.decide_as(monju.config)
    table = run_table.table(decided, labels)
    systems = {system.name: system for system in comparison.all_systems(monju, votes, labels, None)[0]}
    rows = {row["name"]: row for row in comparison.compare(monju, labels, outputs=votes)["rows"]}
    assert not np.allclose(decided.baseline, votes.of(votes.members).mean(axis=1))  # the two fusions differ here
    for name, key, logits in (("monju", "monju", decided.monju), ("baseline", "baseline", decided.baseline),
                              ("equal cost", "equal_cost", decided.equal_cost_ensemble)):
        np.testing.assert_array_equal(systems[name].logits, logits)
        assert {one: rows[name][one] for one in ("accuracy", "nll", "brier", "ece")} \
            == {one: table[key][one] for one in ("accuracy", "nll", "brier", "ece")}
    assert rows["monju"]["difference"] == table["monju_vs_baseline"]["difference"]


def test_a_named_gate_has_its_own_settings_whatever_the_runs(monju):
    votes, labels = load_predictions(monju.run)

    def gates_of(**settings):
        rows = comparison.compare(monju.under(**settings), labels, outputs=votes)["rows"]
        return {row["name"]: (row["gate"], row["nll"]) for row in rows if row["gate"]}

    plain, turned = gates_of(), gates_of(top_k=1, power=3.0, sharpness=4.0)
    assert plain["membership"] == turned["membership"] and plain["membership d^4"] == turned["membership d^4"]
    assert plain["membership"][0] == "Membership(temperature=0.1, power=2.0, top_k=None)"
    assert plain["monju"][0] == "Distance(sharpness=1.0)" and turned["monju"][0] == "Distance(sharpness=4.0)"
    # what equals the run's own gate is the row "monju" alone
    assert "distance" not in plain and "distance p=4" in plain
    assert turned["distance"] == plain["monju"] and "distance p=4" not in turned
    # the temperature goes with the scale of the run's vectors: it is the run's, and said
    assert gates_of(temperature=0.5)["membership top-1"][0] == "Membership(temperature=0.5, power=2.0, top_k=1)"


def test_parameters_count_whole_models_a_shared_backbone_once(monju, found):
    # the tiny encoder with a head of two labels; rank 16 on 2 layers (four products 32 × 32, two 32 × 64) and the pooler
    whole, head, factors = tiny_size(), 2 * 32 + 2, 16 * (2 * (4 * (32 + 32) + 2 * (32 + 64)) + 32 + 32)
    rows = {row["name"]: row["parameters"] for row in found[0]["rows"]}
    assert {rows[name] for name in merge_methods.TABLE} == {whole}
    assert rows["AB"] == rows["seed0"] == rows["equal-cost/seed0"] == rows["best single expert"] == whole + factors
    assert rows["monju"] == rows["baseline"] == rows["equal cost"] == rows["merged by α"] == whole - head + 3 * (head + factors)


def test_what_was_kept_aside_is_read_from_the_given_source_where_the_runs_own_is_gone(tiny_run, movies, tmp_path):
    moved = Run.open(tiny_run)
    moved.manifest["config"]["data"] = str(tmp_path / "gone")
    monju = SimpleNamespace(run=moved, tokenizer=SimpleNamespace(pad_token_id=0))
    run_data._read.clear()
    with pytest.raises(MonjuError, match="there is no source .*gone"):
        MergeRunner(monju).tuning
    assert MergeRunner(monju, str(movies)).tuning.texts == sources.load(movies, tuning_size=20).tuning.texts
    with open(tmp_path / "others.csv", "w", encoding="utf-8") as file:
        file.write("text,label\n" + "".join(f"sentence {i},{i % 2}\n" for i in range(60)))
    with pytest.raises(MonjuError, match="there is no source .*gone"):
        MergeRunner(monju, str(tmp_path / "others.csv")).tuning


def test_a_model_merged_with_itself_is_that_model(found):
    monju = found[1]
    texts = ["a quiet triumph", "dull"]
    merger = MergeRunner(monju)
    alone = merger.logits(merge_methods.uniform_soup([merger.weights[1][1]] * 3), texts)
    np.testing.assert_allclose(alone, monju.outputs(texts).of(["BC"])[:, 0], atol=1e-4)
    np.testing.assert_allclose(merger.per_sentence(texts, np.array([[0, 1.0, 0]] * 2)), alone, atol=1e-4)


def test_one_merge_leaves_the_others_alone(found):
    merger, texts = MergeRunner(found[1]), ["a quiet triumph", "dull"]
    soup, task = (merge_methods.TABLE[name] for name in ("uniform soup", "task arithmetic"))
    first = merger.logits(soup(merger), texts)
    merger.logits(task(merger), texts)
    np.testing.assert_array_equal(merger.logits(soup(merger), texts), first)


def test_fisher_information_is_that_of_the_sentence(found):
    """Against autograd by hand, for the head's bias: ∂ log p(y) / ∂ b_c = [y = c] − p_c, so that F_c = p_c (1 − p_c)."""
    merger = MergeRunner(found[1])
    model = merger.models[1]
    [sentence] = merger.tokens(["a quiet triumph"])
    p = merger.logits(merger.weights[1][0], ["a quiet triumph"])[0]
    p = np.exp(p) / np.exp(p).sum()
    [bias] = [name for name in merger.learned if name.endswith("classifier.bias")]
    np.testing.assert_allclose(merger.fisher(model, [sentence])[bias].numpy(), p * (1 - p), rtol=1e-3)


def test_stored_votes_give_the_same_rows_without_reading(found):
    monju, read = found[1], found[0]
    votes, labels = load_predictions(monju.run)
    stored = comparison.compare(monju, labels, outputs=votes)
    assert {row["kind"] for row in stored["rows"]} == {row["kind"] for row in read["rows"]} - {"merge"}
    assert stored["early_exit"] == {**read["early_exit"], "milliseconds": None}
    again = {row["name"]: row["accuracy"] for row in read["rows"]}
    assert all(row["accuracy"] == again[row["name"]] for row in stored["rows"])


@pytest.mark.parametrize("labels, why", [
    (np.zeros(0, int), "40 sentences were read but 0 labels"), (np.zeros(7, int), "40 sentences were read but 7 labels"),
    (np.full(40, 5), "the labels 0 to 1"), (np.full(40, -1), "the labels 0 to 1")])
def test_labels_that_cannot_be_are_told_in_a_sentence(monju, labels, why):
    with pytest.raises(MonjuError, match=why):
        comparison.compare(monju, labels, outputs=load_predictions(monju.run)[0])


@pytest.mark.parametrize("most", [1, 40])
def test_one_sentence_and_one_class_are_compared_too(monju, most):
    votes, labels = load_predictions(monju.run)
    rows = np.flatnonzero(labels == 0)[:most]
    some = replace(votes, **{name: getattr(votes, name)[rows] for name in ("vectors", "distances", "logits")})
    found = {row["name"]: row for row in comparison.compare(monju, labels[rows], outputs=some)["rows"]}
    says = some.decide_as(monju.config).monju.argmax(axis=1)
    assert found["monju"]["accuracy"] == (says == 0).mean() and found["AB"]["interval"][0] < found["AB"]["interval"][1]


@pytest.mark.parametrize("language, told, head", [("en", "Against equal weights on 40", "− equal weights, points"),
                                                  ("ja", "40 文で「等重み」と比べ", "「等重み」との差")])
def test_without_a_baseline_nothing_is_told_of_one(monju, language, told, head):
    votes, labels = load_predictions(monju.run)
    found = comparison.compare(monju, labels, outputs=replace(votes, members=[], equal_cost=[], logits=votes.logits[:, :3]))
    assert found["against"] == "uniform"
    shelf = SimpleNamespace(open=lambda name: SimpleNamespace(memo=lambda *_: found))
    page = comparison_table.drawn(shelf, "run", Translator(language))
    assert told in page and head in page and "aseline" not in page and "ベースライン" not in page


def test_diversity_by_hand():
    # two members, four sentences labelled 0: right/right, right/wrong, wrong/right, wrong/wrong
    right, wrong = [9.0, -9.0], [-9.0, 9.0]
    logits = np.array([[right, right], [right, wrong], [wrong, right], [wrong, wrong]])
    found = comparison._diversity(logits, np.zeros(4, int))
    assert found["disagreement"] == 0.5 and found["double_fault"] == 0.25 and found["q"] == 0 and found["rho"] == 0
    # error of the ensemble = mean error of its members − ambiguity
    assert found["ensemble_error"] == pytest.approx(found["member_error"] - found["ambiguity"])


def test_a_gate_added_here_appears_in_the_comparison(monju, monkeypatch):
    @dataclass(frozen=True)
    class Closest:
        """The experts that know the nearest cluster alone."""

        def __call__(self, distances, experts, posterior=None):
            return gates.share(np.eye(distances.shape[1])[distances.argmin(axis=1)], experts)

    monkeypatch.setitem(gates.TABLE, "closest", Closest)
    votes, labels = load_predictions(monju.run)
    rows = {row["name"]: row for row in comparison.compare(monju, labels, outputs=votes)["rows"]}
    assert rows["closest"]["kind"] == "gate"
    assert rows["closest"]["accuracy"] == rows["membership top-1"]["accuracy"] == rows["nearest"]["accuracy"]


def test_the_command_prints_a_table_and_json(tiny_run, movies, tmp_path, capsys, monkeypatch):
    for name in set(merge_methods.TABLE) - {"uniform soup"}:  # the others are in `found`
        monkeypatch.delitem(merge_methods.TABLE, name)
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
    votes = monju.outputs(held_out.texts)
    row = next(row for row in found[0]["rows"] if row["name"] == "AB")
    assert {key: row[key] for key in ("accuracy", "nll", "ece")} \
        == {key: metrics.measure(votes.of(["AB"])[:, 0], held_out.labels)[key] for key in ("accuracy", "nll", "ece")}
