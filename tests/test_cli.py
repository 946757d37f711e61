"""The command line, as a user has it: what is printed where, and with which exit code."""

import csv
import io
import json
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import monju
from monju import config as schema
from monju.cli import main
from monju.runs.prediction_store import load_predictions
from monju.runs.run import Run

REPOSITORY = Path(__file__).resolve().parents[1]
TOPICS = {
    "cooking": "simmer the onion with butter, flour, garlic and broth in a hot oven dish",
    "space": "the rocket left orbit past the moon towards a distant galaxy of bright stars",
    "football": "the striker scored a late goal and the keeper lost the match in the stadium",
    "money": "the bank raised its interest rates while bonds and shares fell on the market",
    "gardens": "plant the tulip bulbs and water the roses in damp soil under the old hedge",
    "music": "the violin and the drums played a slow melody before the choir sang a chord",
}


def ran(arguments, capsys):
    """(standard output, standard error) of a command that must succeed."""
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out, captured.err


@pytest.mark.parametrize("command", [[], ["train"], ["evaluate"], ["predict"], ["app"]], ids=lambda command: " ".join(command) or "all")
def test_help(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([*command, "--help"])
    assert end.value.code == 0
    assert "usage: python -m monju" in capsys.readouterr().out


def test_help_of_train_lists_every_setting_with_what_it_is_without_the_flag(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    entries = [" ".join(re.sub(r"-\s+", "-", entry).split()) for entry in re.split(r"\n  (?=-)", capsys.readouterr().out)]
    for name, setting in schema.SETTINGS.items():
        [entry] = [entry for entry in entries if re.match(rf"{schema.flag(name)}[ ,]", entry)]
        assert setting.description in entry
        if isinstance(setting.default, bool):
            assert f"[{'yes' if setting.default else 'no'}]" in entry
        elif setting.default not in (None, []):
            assert f"[{setting.default}]" in entry
        for choice in schema.choices(name) or ():
            assert choice in entry


def test_a_command_is_needed():
    done = subprocess.run([sys.executable, "-m", "monju"], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("monju: ") and done.stderr.count("\n") == 1 and "COMMAND" in done.stderr


def test_predict_json_has_the_keys_of_the_contract(tiny_run, capsys):
    out, err = ran(["predict", tiny_run, "a quiet triumph", "  dull  ", "👎👎👎", "--json"], capsys)
    first, second, unknown = json.loads(out)
    assert err == "" and second["text"] == "dull"
    assert list(first) == ["text", "distances", "alpha", "logits", "monju", "baseline", "notes"]
    assert first["notes"] == [] and [(note["code"], note["values"]["n"]) for note in unknown["notes"]] == [("sentence_unknown", 1)]
    assert list(first["distances"]) == ["A", "B", "C"] and list(first["alpha"]) == ["AB", "BC", "CA"]
    assert list(first["logits"]) == ["AB", "BC", "CA", "seed0", "seed1", "seed2"]
    for verdict in (first["monju"], first["baseline"]):
        assert {"logits", "probabilities", "label"} <= verdict.keys() <= {"logits", "probabilities", "label", "name"}
        assert len(verdict["logits"]) == len(verdict["probabilities"]) == 2 and verdict["label"] in (0, 1)
    fused = sum(first["alpha"][name] * np.array(first["logits"][name]) for name in first["alpha"])
    np.testing.assert_allclose(first["monju"]["logits"], fused, rtol=1e-6)
    np.testing.assert_allclose(first["monju"]["logits"], monju.load(tiny_run).predict(["a quiet triumph"]).monju[0], atol=1e-5)


def test_predict_tells_people_too(tiny_run, capsys):
    out, _ = ran(["predict", tiny_run, "a quiet triumph"], capsys)
    for word in ("a quiet triumph", "α", "AB", "BC", "CA", "Monju", "baseline", "d_A", "%"):
        assert word in out
    assert "positive" in out or "negative" in out


def test_a_sentence_is_printed_as_it_is(tiny_run, capsys):
    texts = ["[/bold] brackets [red]", "%s {0} \\ :smile:", "雪 und “Zeichen”", "-- a dash"]
    out, _ = ran(["predict", tiny_run, "--", *texts], capsys)
    for text in texts:
        assert text in out


def test_predict_reads_sentences_from_standard_input(tiny_run, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("first\nsecond\n"))
    out, _ = ran(["predict", tiny_run, "zeroth", "-", "--json"], capsys)
    assert [reading["text"] for reading in json.loads(out)] == ["zeroth", "first", "second"]


def test_a_sentence_on_standard_input_ends_at_line_breaks_alone(tiny_run, capsys, monkeypatch):
    text = "not good\x0cbut great\nsecond, dull\u2028(until the end)\nthird\x85with NEL"
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    out, _ = ran(["predict", tiny_run, "-", "--json"], capsys)
    assert len(json.loads(out)) == 3


def test_predict_reads_a_sentence_of_100_000_characters(tiny_run, capsys):
    long, cut = json.loads(ran(["predict", tiny_run, "great " * 17_000, "great " * 300, "--json"], capsys)[0])
    assert long["monju"]["logits"] == pytest.approx(cut["monju"]["logits"], abs=1e-4)  # both are more than it reads
    assert [note["text"] for note in long["notes"]] == ["This sentence is very long: only its beginning is read, 46 tokens."]


def near(found, stored):
    """The same names, texts and counts; numbers within 1e-6, since batches differ with the number of cores."""
    if isinstance(stored, dict):
        assert found.keys() == stored.keys()
        for name in stored:
            near(found[name], stored[name])
    elif isinstance(stored, list):
        assert len(found) == len(stored)
        for one, other in zip(found, stored):
            near(one, other)
    else:
        assert found == (pytest.approx(stored, abs=1e-6) if isinstance(stored, float) else stored)


def test_evaluate_gives_the_stored_numbers(tiny_run, movies, capsys):
    out, _ = ran(["evaluate", tiny_run, "--data", movies, "--json"], capsys)
    found, stored = json.loads(out), json.loads((tiny_run / "metrics.json").read_text())
    assert found.pop("notes")[0]["code"] == "own_source"
    near(found, stored)
    assert found["n"] == 40
    votes, labels = load_predictions(Run.open(tiny_run))
    right = {name: (votes.of([name])[:, 0].argmax(axis=1) == labels).mean() for name in votes.models}
    told = {**found["experts"], **found["baseline"]["models"]}
    assert {name: each["accuracy"] for name, each in told.items()} == {name: right[name] for name in told} and len(told) == 6
    mean = votes.of(["seed0", "seed1", "seed2"]).mean(axis=1)
    assert found["baseline"]["accuracy"] == (mean.argmax(axis=1) == labels).mean()


def test_evaluate_prints_the_table(tiny_run, movies, capsys):
    out, _ = ran(["evaluate", tiny_run, "--data", movies], capsys)
    for word in ("Baseline", "Equal cost", "Monju", "{A,B}", "{B,C}", "{C,A}", "seed2", "McNemar"):
        assert word in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_run_with_an_odd_name_is_read(tiny_run, tmp_path, capsys):
    odd = shutil.copytree(tiny_run, tmp_path / "it's [red]日本[/] & 100% {0} run")
    assert json.loads(ran(["predict", odd, "a fine film", "--json"], capsys)[0])[0]["text"] == "a fine film"


@pytest.mark.slow
def test_six_classes_with_names_train_and_answer(tmp_path, capsys):
    """A CSV with string labels: trained on, evaluated and answered in the labels' own words."""
    draw = random.Random(0)
    rows = [(" ".join(draw.sample(words.replace(",", "").split(), 9)), topic) for topic, words in TOPICS.items() for _ in range(20)]
    with open(tmp_path / "topics.csv", "w", newline="") as file:
        csv.writer(file).writerows([("review", "sentiment"), *rows])
    settings = ["--k", 2, "--subset-size", 1, "--embedder", "tfidf", "--clusterer", "balanced", "--finetuning", "lora", "--epochs", 5,
                "--learning-rate", 2e-3, "--batch-size", 8, "--max-tokens", 24, "--precision", "fp32", "--workers", 1, "--map-size", 8]
    out, err = ran(["train", "--data", tmp_path / "topics.csv", "--out", tmp_path / "run", "--no-baselines", "--json", *settings], capsys)
    metrics = json.loads(out)  # nothing but JSON
    assert metrics == Run.open(tmp_path / "run").check().read_json("metrics.json")
    assert metrics["labels"] == 6 and "baseline" not in metrics
    assert "Preset laptop" in err and "Clusters: A" in err

    out, _ = ran(["evaluate", tmp_path / "run", "--data", tmp_path / "topics.csv", "--json"], capsys)
    evaluated = json.loads(out)  # the 12 held-out sentences of the file: the other 108 were trained on
    assert evaluated.pop("notes")[0] == {"code": "own_source", "values": {"n": 12},
                                         "text": "These are the sentences of the run: its 12 held-out sentences are counted."}
    assert evaluated == metrics and evaluated["n"] == 12 and evaluated["monju"]["accuracy"] > 0.5  # one sixth by chance

    out, _ = ran(["predict", tmp_path / "run", "the rocket and the moon", "--json"], capsys)
    [reading] = json.loads(out)
    assert reading["monju"]["label"] in TOPICS and reading["baseline"] is None
    assert len(reading["monju"]["probabilities"]) == 6
    assert reading["monju"]["label"] == sorted(TOPICS)[int(np.argmax(reading["monju"]["logits"]))]
