"""Out of scope: areas and shares worked out by hand, and what a folder with such texts gives at the end of a training."""

import json

import numpy as np
import pytest
from toy import toy

from monju import cli
from monju.evaluation import out_of_scope
from monju.runs.run import Run


def test_the_area_by_hand():
    # of the six pairs 0.9 and 0.8 win all four, 0.4 wins one and draws one
    assert out_of_scope.auroc(np.array([0.9, 0.8, 0.4]), np.array([0.4, 0.1])) == pytest.approx(5.5 / 6)
    assert out_of_scope.auroc(np.ones(3), np.ones(2)) == 0.5
    assert out_of_scope.auroc(np.array([0.1]), np.array([0.2, 0.3])) == 0


def test_the_three_scores_by_hand():
    predictions = toy()
    found = out_of_scope.scores(predictions)
    verdicts = predictions.of(predictions.experts).argmax(axis=2)
    for i, verdict in enumerate(predictions.monju.argmax(axis=1)):
        assert found["agreement"][i] == np.mean([expert == verdict for expert in verdicts[i]])
        odds = np.exp(predictions.monju[i] - predictions.monju[i].max())
        assert found["probability"][i] == pytest.approx(odds.max() / odds.sum())
        assert found["alpha"][i] == max(predictions.alpha[i])


def test_a_folder_with_texts_of_no_class_is_measured_and_evaluated(tiny_run, movies, tmp_path, capsys):
    for file in movies.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "out-of-scope.csv").write_text("text\nhow many prime numbers are there\nwhat is the time in rome\n", encoding="utf-8")
    assert cli.main(["evaluate", str(tiny_run), "--data", str(tmp_path), "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["out_of_scope"]["n"] == 2 and set(table["out_of_scope"]["auroc"]) == {"probability", "agreement", "alpha"}
    assert table["n"] == Run.open(tiny_run).metrics()["n"]  # they are no sentences
    assert cli.main(["evaluate", str(tiny_run), "--data", str(tmp_path)]) == 0
    assert "Out of scope: 2 texts" in " ".join(capsys.readouterr().out.split())
    assert cli.main(["evaluate", str(tiny_run), "--data", str(movies), "--json"]) == 0
    assert "out_of_scope" not in json.loads(capsys.readouterr().out)
