"""Bad input ends in one line that names the thing, with exit code 2, and leaves nothing behind."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from monju.cli import main
from monju.config import Config
from monju.data import hub
from monju.runs.run import Run

REPOSITORY = Path(__file__).resolve().parents[1]
GOOD = "text,label\n" + "".join(f"sentence number {i} is {'fine' if i % 2 else 'poor'},{i % 2}\n" for i in range(40))


@pytest.fixture
def good(tmp_path):
    """A file that could be trained on."""
    path = tmp_path / "good.csv"
    path.write_text(GOOD)
    return path


@pytest.fixture
def refused(capfd):
    def refused(*arguments):
        """The one line in which a command refuses."""
        code = main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        told = captured.err.splitlines()
        assert code == 2 and captured.out == "", captured
        assert "Traceback" not in captured.err and "Warning" not in captured.err
        assert [line for line in told if line.startswith("monju: ")] == told[-1:], captured.err
        return told[-1]
    return refused


@pytest.fixture
def untrained(refused, good, tmp_path):
    def untrained(*arguments, data=good):
        """The one line in which `train` refuses, with nothing left behind."""
        line = refused("train", "--preset", "laptop", "--data", data, "--out", tmp_path / "out", *arguments)
        assert not (tmp_path / "out").exists()
        return line
    return untrained


def table(path, rows, header="text,label"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


# ---- sources ----------------------------------------------------------------------------------------------------


def test_a_file_that_is_not_there(untrained, tmp_path):
    assert "nowhere.csv" in untrained(data=tmp_path / "nowhere.csv")


def test_a_source_that_nobody_knows(untrained):
    line = untrained(data="rotten-potatoes")
    assert "'rotten-potatoes'" in line and "rotten-tomatoes" in line


def test_a_file_of_another_kind(untrained):
    assert "README.md" in untrained(data=REPOSITORY / "README.md")


def test_no_label_column(untrained, tmp_path):
    line = untrained(data=table(tmp_path / "data.csv", ["one,1", "two,0"], "text,stars"))
    assert "stars" in line and "--label-column" in line


def test_a_column_that_is_not_there(untrained):
    assert "'body'" in untrained("--text-column", "body")


def test_one_class_only(untrained, tmp_path):
    assert "only one class" in untrained(data=table(tmp_path / "data.csv", [f"sentence {i},1" for i in range(20)]))


def test_sentences_that_are_all_empty(untrained, tmp_path):
    assert "data.csv" in untrained(data=table(tmp_path / "data.csv", [" ,1", ",0"] * 10))


def test_an_empty_file(untrained, tmp_path):
    (tmp_path / "data.csv").write_text("")
    assert "holds no rows" in untrained(data=tmp_path / "data.csv")


def test_label_names_that_do_not_fit(untrained):
    assert "3 label names" in untrained("--label-names", "bad", "so so", "good")


def test_the_hub_cannot_be_reached(tmp_path):
    """As a user has it, in a process of its own; for --backbone see test_a_backbone_that_is_not_there and test_backbones."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "empty")}
    done = subprocess.run([sys.executable, "-m", "monju", "train", "--preset", "laptop", "--out", tmp_path / "out", "--data", "sst2"],
                          cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    told = done.stderr.splitlines()
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr and "Warning" not in done.stderr
    assert [line for line in told if line.startswith("monju: ")] == told[-1:]
    assert "stanfordnlp/sst2" in told[-1] and "hub" in told[-1]
    assert not (tmp_path / "out").exists()


# ---- clusters and models ------------------------------------------------------------------------------------------


def test_fewer_sentences_than_clusters(untrained):
    assert "26 clusters" in untrained("--sample", 10, "--k", 26, "--subset-size", 1)


def test_fewer_different_sentences_than_clusters(untrained, tmp_path):
    rows = ["the same words,1", "the same words,0"] * 20
    assert "3 clusters" in untrained("--keep-overlap", data=table(tmp_path / "data.csv", rows))


def test_a_cluster_with_one_class_for_an_expert(untrained, tmp_path):
    rows = [f"the rocket left orbit {i} times,up" for i in range(20)] + [f"simmer {i} onions in butter,down" for i in range(20)]
    line = untrained("--k", 2, "--subset-size", 1, data=table(tmp_path / "data.csv", rows))
    assert "expert A would see only sentences labelled" in line and "--subset-size" in line


def test_words_that_tfidf_does_not_count(untrained, tmp_path):
    rows = [f"{words},{i % 2}" for i, words in enumerate(["this is the", "it was a", "and so it is", "of the"] * 10)]
    assert "--embedder sbert" in untrained("--embedder", "tfidf", "--keep-overlap", data=table(tmp_path / "data.csv", rows))


def test_a_gate_that_the_clusters_do_not_feed(untrained):
    assert "--clusterer gmm" in untrained("--gate", "posterior")


def test_a_backbone_that_is_not_there(untrained, tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "answers", lambda *arguments: False)
    assert "'nobody/nothing'" in untrained("--backbone", "nobody/nothing")
    assert "no/such/folder" in untrained("--backbone", "./no/such/folder")
    assert "config.json" in untrained("--backbone", tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there(untrained, refused, tiny_run):
    assert "no GPU" in untrained("--device", "cuda")
    assert "no GPU" in refused("predict", tiny_run, "a fine film", "--device", "cuda")


# ---- flags ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [
    "--k 1", "--k two", "--k 2.5", "--k", "--subset-size 3 --k 3", "--subset-size 0", "--sample 0", "--sample -5", "--epochs 0",
    "--epochs nan", "--learning-rate 0", "--batch-size 0", "--max-tokens 1", "--temperature 0", "--top-k 0", "--sharpness -1",
    "--warmup 1", "--workers 0", "--seed -1", "--seed 99999999999999999999", "--embedder word2vec", "--clusterer dbscan",
    "--gate golden", "--fusion cold", "--finetuning half", "--precision fp8", "--device tpu", "--preset mainframe",
    "--colour red", "stray"])
def test_a_flag_that_cannot_be(untrained, arguments):
    assert arguments.split()[0] in untrained(*arguments.split())


def test_commands_that_lack_something(refused, tiny_run):
    assert "COMMAND" in refused()
    assert "dance" in refused("dance")
    assert "--out" in refused("train")
    assert "--data" in refused("evaluate", tiny_run)
    assert "TEXT" in refused("predict", tiny_run)


# ---- folders ----------------------------------------------------------------------------------------------------


def test_an_out_that_is_taken(refused, good, tmp_path):
    before = good.read_text()
    assert "good.csv" in refused("train", "--preset", "laptop", "--data", good, "--out", good)
    assert good.read_text() == before
    assert str(tmp_path) in refused("train", "--preset", "laptop", "--data", good, "--out", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good.csv"]


@pytest.mark.parametrize("command", [["predict", "a fine film"], ["evaluate", "--data", "rotten-tomatoes"]], ids=lambda command: command[0])
def test_a_folder_that_is_no_finished_run(refused, tmp_path, command):
    name, *rest = command
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter.txt").write_text("Dear Sir")
    Run.create(tmp_path / "half", Config(), data={"fingerprint": "0"}, models={"experts": []})
    for folder, reason in (("nowhere", "there is no run folder"), ("letters", "not a run folder"),
                           ("letters/letter.txt", "there is no run folder"), ("half", "--resume"), ("x" * 300, "there is no run folder")):
        line = refused(name, tmp_path / folder, *rest)
        assert reason in line and folder in line


# ---- sentences --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("texts", [[""], ["a fine film", "\u3000"]], ids=repr)  # more of them in test_ensemble
def test_a_sentence_without_a_word(refused, tiny_run, texts):
    assert "a sentence is empty" in refused("predict", tiny_run, *texts)


def test_standard_input_that_is_no_text(refused, tiny_run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe a film\n"), encoding="utf-8"))
    assert "UTF-8" in refused("predict", tiny_run, "-")
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert "no sentence" in refused("predict", tiny_run, "-")


# ---- evaluation -------------------------------------------------------------------------------------------------


def test_labels_that_the_run_does_not_know(refused, tiny_run, tmp_path):
    line = refused("evaluate", tiny_run, "--data", table(tmp_path / "mail.csv", ["cheap pills,spam", "see you at noon,ham"]))
    assert "does not know" in line and "negative" in line


def test_data_to_evaluate_that_is_not_there(refused, tiny_run, tmp_path):
    assert "nowhere.csv" in refused("evaluate", tiny_run, "--data", tmp_path / "nowhere.csv")
