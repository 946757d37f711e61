"""Files that people have: what is read of them, what is noted, what is refused. Each stands for a kind of file."""

import json
import unicodedata
from collections import Counter

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from monju.cli import main
from monju.data.notes import TEXTS
from monju.data.rows import read_alike
from monju.data.sources import load, load_labelled
from monju.errors import MonjuError
from monju.runs.run import Run
from monju.runs.run_data import evaluation_data

THINGS = [f"{word} {thing}" for word in ("warm", "cold", "dull", "bright", "kind", "slow")
          for thing in ("tea", "soup", "knife", "lamp", "clerk", "coat", "train", "play", "song", "room")]  # 60 texts


def csv_of(path, labels, texts=THINGS, header="text,label"):
    path.write_text("\n".join([header, *(f"{text},{label}" for text, label in zip(texts, labels))]) + "\n", encoding="utf-8")
    return path


def codes(data):
    return {note.code: note.values for note in data.notes}


def classes(data):
    return {name: n for name, n in data.classes.items()}


def refused(code, source, **options):
    with pytest.raises(MonjuError) as caught:
        load(source, **options)
    assert caught.value.note.code == code, caught.value
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_note_is_worded_in_both_languages():
    from string import Formatter

    for code, texts in TEXTS.items():
        english, japanese = (Counter(name for _, name, *_ in Formatter().parse(text) if name) for text in texts)
        assert english.keys() == japanese.keys(), code  # n may stand twice in one of them
        assert any(ord(letter) > 0x3000 for letter in texts[1]), code


# labels


def test_minus_one_beside_others_is_a_class(tmp_path):
    data = load(csv_of(tmp_path / "a.csv", ([-1] * 25 + [0] * 20 + [1] * 15)))
    assert data.labels == [-1, 0, 1] and classes(data) == {"-1": 25, "0": 20, "1": 15}
    (tmp_path / "two").mkdir()
    csv_of(tmp_path / "two" / "train.csv", [-1, 1] * 10)
    csv_of(tmp_path / "two" / "test.csv", [-1] * 5, THINGS[30:])  # a class of the training part: not unpublished labels
    assert classes(load(tmp_path / "two")) == {"-1": 15, "1": 10}


def test_minus_one_alone_or_outside_the_named_classes_is_no_label(tmp_path):
    csv_of(tmp_path / "train.csv", [0, 1] * 10)
    csv_of(tmp_path / "test.csv", [-1] * 5, THINGS[30:])
    assert "test.csv has no labels" in refused("no_labels", tmp_path)
    named(tmp_path / "b.parquet", [0, 1, -1] * 10, ["no", "yes"])
    data = load(tmp_path / "b.parquet")
    assert classes(data) == {"no": 10, "yes": 10} and codes(data)["no_label"] == {"table": "b.parquet", "n": 10, "spellings": "-1"}


def named(path, labels, names, texts=THINGS):
    """A Parquet file as `datasets` writes it, its label column a ClassLabel."""
    features = {"text": {"dtype": "string", "_type": "Value"}, "label": {"names": names, "_type": "ClassLabel"}}
    table = pyarrow.table({"text": texts[: len(labels)], "label": labels})
    told = json.dumps({"info": {"features": features}})
    pyarrow.parquet.write_table(table.replace_schema_metadata({"huggingface": told}), path)
    return path


def test_spellings_of_one_label_are_one_class(tmp_path):
    data = load(csv_of(tmp_path / "a.csv", ["negative", "Positive", " positive", "NEGATIVE ", "positive"] * 12))
    assert classes(data) == {"negative": 24, "positive": 36}
    assert codes(data)["spellings"]["groups"] == "positive = Positive; negative = NEGATIVE"
    composed, apart = (unicodedata.normalize(form, "négatif") for form in ("NFC", "NFD"))
    data = load(csv_of(tmp_path / "b.csv", [composed, apart, "positif\u200b", "positif"] * 15))
    assert classes(data) == {"négatif": 30, "positif": 30}


def test_words_for_missing_are_no_class_unless_named(tmp_path):
    labels = ["pos", "neg"] * 24 + ["nan", "NA", "N/A", "null", "None", "#N/A"] * 2
    data = load(csv_of(tmp_path / "a.csv", labels))
    assert classes(data) == {"neg": 24, "pos": 24}
    assert codes(data)["missing_words"] == {"table": "a.csv", "n": 12, "spellings": "nan, NA, N/A, null, None, #N/A"}
    stance = csv_of(tmp_path / "b.csv", ["against", "favor", "none"] * 20)
    assert classes(load(stance, label_names=["against", "favor", "none"])) == {"against": 20, "favor": 20, "none": 20}
    assert classes(load(named(tmp_path / "c.parquet", [0, 1, 2] * 20, ["against", "favor", "None"])))["None"] == 20


def test_files_one_behind_the_other_keep_no_header_and_one_class_a_number(tmp_path):
    path = csv_of(tmp_path / "a.csv", ["0", "1", "0.0", "1.0"] * 15)
    with open(path, "a") as file:
        file.write("text,label\nlate tea,1\n")
    data = load(path)
    assert data.labels == [0, 1] and classes(data) == {"0": 30, "1": 31}
    assert codes(data)["repeated_header"] == {"table": "a.csv", "n": 1}


def test_a_leading_zero_makes_codes_of_numbers(tmp_path):
    data = load(csv_of(tmp_path / "a.csv", ["01", "2", "1", "002"] * 15))
    assert classes(data) == {"002": 15, "01": 15, "1": 15, "2": 15}


def test_parts_without_a_label_in_common_are_refused(tmp_path):
    csv_of(tmp_path / "train.csv", [0, 1] * 15)
    csv_of(tmp_path / "validation.csv", ["neg", "pos"] * 5, THINGS[40:])
    assert "train.csv and validation.csv have no label in common (0, 1; neg, pos)" in refused("nothing_in_common", tmp_path)


@pytest.mark.parametrize("kind", ["same words", "names the other way round", "words beside names"])
def test_names_decide_between_two_parts(tmp_path, kind):
    truth = ["neg", "pos"] * 10
    if kind == "same words":
        csv_of(tmp_path / "train.csv", truth)
    else:
        named(tmp_path / "train.parquet", [0, 1] * 10, ["neg", "pos"])
    if kind == "words beside names":
        csv_of(tmp_path / "validation.csv", ["Pos", "neg", "mixed"], THINGS[40:])
    else:
        named(tmp_path / "validation.parquet", [0, 1, 2], ["pos", "neg", "mixed"], THINGS[40:])
    data = load(tmp_path)
    names = [data.label_names[label] for label in data.validation.labels]
    assert names == ["pos", "neg", "mixed"]
    assert [data.label_names[label] for label in data.train.labels] == truth
    assert ("names_decide" in codes(data)) == (kind == "names the other way round")


def test_a_run_answers_in_names_whatever_the_numbers(tmp_path):
    reversed_ = named(tmp_path / "a.parquet", [1, 0, 0, 1], ["positive", "negative"])
    words = csv_of(tmp_path / "b.csv", ["negative", "Positive", "positive", "NEGATIVE"])
    for source in (reversed_, words):
        notes = []
        assert load_labelled(source, [0, 1], ["negative", "positive"], notes=notes).labels.tolist() == [0, 1, 1, 0]
        assert ("names_decide" in [note.code for note in notes]) == (source is reversed_)
    other = named(tmp_path / "c.parquet", [1, 0, 0, 1], ["bad", "good"])  # no name in common: numbers, and said so
    notes = []
    assert load_labelled(other, [0, 1], ["negative", "positive"], notes=notes).labels.tolist() == [1, 0, 0, 1]
    assert {note.code: note.values for note in notes}["by_number"]["example"] == "0: bad / negative"


def test_joined_sources_follow_the_same_rule(tmp_path):
    first = named(tmp_path / "a.parquet", [0, 1] * 15, ["neg", "pos"])
    second = named(tmp_path / "b.parquet", [0, 1] * 15, ["pos", "neg"], THINGS[30:])
    data = load(f"{first}+{second}")
    for part in (data.train, data.validation):
        for text, label in zip(part.texts, part.labels):
            row = THINGS.index(text)
            assert data.label_names[label] == (["neg", "pos"] if row < 30 else ["pos", "neg"])[row % 2]


# texts


def test_texts_are_equal_when_a_model_reads_the_same():
    same = ["Crème  brûlée", "crème brûlée", unicodedata.normalize("NFD", "crème brûlée"), "crème\u00a0brûlée", "crème\nbrûlée ", "crè\u200bme brûlée"]
    assert len(set(map(read_alike, same))) == 1
    assert read_alike("creme brulee") != read_alike(same[0])


def test_twins_with_another_blank_are_overlap(tmp_path):
    texts = [text for thing in THINGS[:30] for text in (thing, thing.replace(" ", "  ").title())]
    data = load(csv_of(tmp_path / "a.csv", [row // 2 % 2 for row in range(60)], texts))
    held_out = set(map(read_alike, data.validation.texts))
    assert data.overlap == sum(read_alike(text) in held_out for text in texts) - len(data.validation.texts) > 0
    assert not held_out & set(map(read_alike, data.train.texts))


def test_twins_inside_the_held_out_part_are_told(tmp_path):
    csv_of(tmp_path / "train.csv", [0, 1] * 10)
    csv_of(tmp_path / "validation.csv", [0, 1] * 3, ["a b", "a  b", "c d", "A B", "e f", "g h"])
    assert codes(load(tmp_path))["held_out_twins"] == {"n": 2}


def test_contradictory_labels_and_lone_classes_are_told(tmp_path):
    data = load(csv_of(tmp_path / "a.csv", [0] * 30 + [1] * 29 + [2], [*THINGS[:30], *THINGS[:29], "new tea"]))
    assert codes(data)["conflicting"] == {"n": 29} and codes(data)["single_sentence"] == {"labels": "2"}


def test_a_column_of_ids_is_no_text_column(tmp_path):
    rows = [f"s{row},{thing}" for row, thing in enumerate(THINGS)]
    path = csv_of(tmp_path / "a.csv", [0, 1] * 30, rows, "sentence,text,label")
    data = load(path)
    assert set(data.train.texts) < set(THINGS) and codes(data)["id_column"] == {"table": "a.csv", "column": "sentence", "text": "text"}
    assert load(path, text_column="sentence").train.texts[0].startswith("s")
    only = csv_of(tmp_path / "b.csv", [0, 1] * 30, [f"s{row}" for row in range(60)], "sentence,label")
    assert "'sentence' holds ids" in refused("only_ids", only)
    chinese = csv_of(tmp_path / "c.csv", [0, 1] * 10, [f"这部电影很好看{chr(0x4e00 + row)}" for row in range(20)])
    assert len(load(chinese).train.texts) == 18  # no blanks, and sentences all the same


# files


def test_two_columns_of_one_name_are_refused_where_they_are_asked_for(tmp_path):
    rows = [f"{text},{row % 2}" for row, text in enumerate(THINGS)]
    path = csv_of(tmp_path / "a.csv", ["x"] * 60, rows, "text,label,label")
    assert "2 columns named 'label' (columns 2, 3)" in refused("repeated_column", path)
    odd = csv_of(tmp_path / "b.csv", ["x,y"] * 60, rows, "text,label,,")  # columns that nobody asks for
    assert load(odd).labels == [0, 1]


@pytest.mark.parametrize("content, separator", [
    ("text;label\n" + "".join(f"{text}, and twice;{row % 2}\n" for row, text in enumerate(THINGS)), ";"),
    ("text\tlabel\n" + "".join(f"{text}\t{row % 2}\n" for row, text in enumerate(THINGS)), "tab"),
    ("sep=|\ntext|label\n" + "".join(f"{text}|{row % 2}\n" for row, text in enumerate(THINGS)), None),
])
def test_the_separator_is_found(tmp_path, content, separator):
    (tmp_path / "a.csv").write_text(content)
    data = load(tmp_path / "a.csv")
    assert classes(data) == {"0": 30, "1": 30} and codes(data).get("separator", {}).get("separator") == separator


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_byte_order_mark_is_obeyed(tmp_path, encoding, kind):
    rows = [{"text": f"{text} 映画", "label": row % 2} for row, text in enumerate(THINGS)]
    content = json.dumps(rows) if kind == "json" else "text,label\r\n" + "".join(f"{row['text']},{row['label']}\r\n" for row in rows)
    (tmp_path / f"a.{kind}").write_text(content, encoding=encoding, newline="")
    data = load(tmp_path / f"a.{kind}")
    assert classes(data) == {"0": 30, "1": 30} and all(text.endswith("映画") for text in data.train.texts)


def test_a_quoted_tsv_is_unquoted_and_glue_keeps_its_quotes(tmp_path):
    quoted = 'text\tlabel\n' + "".join(f'"He said ""{text}"" twice"\t"{row % 2}"\n' if row % 3 else f"{text}\t{row % 2}\n"
                                       for row, text in enumerate(THINGS))
    (tmp_path / "pandas.tsv").write_text(quoted)
    data = load(tmp_path / "pandas.tsv")
    assert classes(data) == {"0": 30, "1": 30} and 'He said "cold soup" twice' in data.texts
    (tmp_path / "r.tsv").write_text('"text"\t"label"\n' + "".join(f'"{text}"\t{row % 2}\n' for row, text in enumerate(THINGS)))
    assert set(load(tmp_path / "r.tsv").texts) == set(THINGS)
    glue = ['"a whole one"', '"half a one', 'mid " one', "plain one"] + THINGS
    (tmp_path / "glue.tsv").write_text("sentence\tlabel\n" + "".join(f"{text}\t{row % 2}\n" for row, text in enumerate(glue)))
    assert set(load(tmp_path / "glue.tsv").texts) == set(glue)


def test_a_stray_quote_that_swallows_rows_is_told(tmp_path):
    for rows in (40, 4):  # many lines in one cell; few that look like rows
        lines = [f"{text},{row % 2}" for row, text in enumerate(THINGS)]
        lines[5], lines[5 + rows] = '"' + lines[5], lines[5 + rows].replace(",", '",')
        (tmp_path / "a.csv").write_text("\n".join(["text,label", *lines]) + "\n")
        assert codes(load(tmp_path / "a.csv"))["spanning_cell"] == {"table": "a.csv", "n": rows + 1, "line": 7}
    (tmp_path / "b.csv").write_text("text,label\n" + "".join(f'"{text},\nand, it is so",{row % 2}\n' for row, text in enumerate(THINGS)))
    assert "spanning_cell" not in codes(load(tmp_path / "b.csv"))


def test_files_of_a_folder_are_taken_in_order_and_the_others_named(tmp_path):
    for name, labels, texts in (("train", [0, 1] * 15, THINGS), ("val", [0, 1] * 7, THINGS[30:]), ("test", [1, 1], THINGS[50:])):
        csv_of(tmp_path / f"{name}.csv", labels, texts)
    data = load(tmp_path)
    assert data.validation.texts == THINGS[30:44] and codes(data)["not_read"] == {"files": "test.csv"}
    (tmp_path / "val.csv").rename(tmp_path / "eval.csv")
    assert load(tmp_path).validation.texts == THINGS[30:44]


def test_the_hubs_own_layout_is_read(tmp_path):
    (tmp_path / "data").mkdir()
    for name, some in (("train-00000-of-00002", slice(0, 20)), ("train-00001-of-00002", slice(20, 40)), ("test-00000-of-00001", slice(40, 60))):
        named(tmp_path / "data" / f"{name}.parquet", [0, 1] * 10, ["neg", "pos"], THINGS[some])
    data = load(tmp_path)
    assert (data.train.texts, data.validation.texts) == (THINGS[:40], THINGS[40:]) and data.label_names == ["neg", "pos"]
    (tmp_path / "data" / "train-00000-of-00002.parquet").unlink()
    assert "train-00000-of-00002.parquet is not there" in refused("shard_missing", tmp_path)


# the command


def test_data_tells_what_would_be_read(tmp_path, capsys):
    long = " ".join(THINGS * 2)
    path = csv_of(tmp_path / "a.csv", ["neg", "pos"] * 29 + ["neg", "pos"], [*THINGS[:58], long, "👎👎 这 tea"])
    assert main(["data", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["train"] + found["validation"] == 60 and found["classes"] == {"neg": 30, "pos": 30}
    assert (found["overlap"], found["cut"]) == (0, 1) and 0 < found["unknown_tokens"] < 0.1
    notes = {note["code"]: note["text"] for note in found["notes"]}
    assert "1 of 60 sentences are longer than 128 tokens" in notes["cut"] and "in 1 of 60 sentences" in notes["unknown_tokens"]
    assert main(["data", str(path), "--max-tokens", "512"]) == 0
    printed = capsys.readouterr().out
    assert "neg        30   50.0%" in printed and "longer than" not in printed
    assert main(["data", str(tmp_path / "gone.csv")]) == 2


# what a run trained on


def told(notes):
    return {note.code: note.values for note in notes}


def test_a_runs_own_source_is_counted_by_its_held_out_part(tiny_run, movies):
    run = Run.open(tiny_run)
    split, notes = evaluation_data(run, str(movies))
    assert split.texts == load(movies).validation.texts and told(notes)["own_source"] == {"n": 40}


def test_sentences_that_a_run_trained_on_are_left_out_or_counted(tiny_run, movies, tmp_path):
    run, data = Run.open(tiny_run), load(movies)
    mixed = [*(text.upper().replace(" ", "  ") for text in data.train.texts[:30]), *data.validation.texts[:10], "a brand new one"]
    rows = pyarrow.table({"text": mixed, "label": [*data.train.labels[:30], *data.validation.labels[:10], 1]})
    pyarrow.parquet.write_table(rows, tmp_path / "mixed.parquet")
    split, notes = evaluation_data(run, tmp_path / "mixed.parquet")
    assert split.texts == mixed[30:] and told(notes)["trained_left_out"] == {"n": 30, "total": 41}
    assert split.labels.tolist() == [*data.validation.labels[:10], 1]
    split, notes = evaluation_data(run, tmp_path / "mixed.parquet", keep_trained=True)
    assert split.texts == mixed and told(notes)["trained_kept"] == {"n": 30, "total": 41}
    with pytest.raises(MonjuError, match="trained on all 120 sentences of train.csv.*--keep-trained"):
        evaluation_data(run, movies / "train.csv")  # also those that chose gates and weights


def test_where_the_runs_data_is_gone_that_is_said(tiny_run, tmp_path):
    run = Run.open(tiny_run)
    elsewhere = Run(run.path, {**run.manifest, "data": {**run.manifest["data"], "fingerprint": "other"}})
    split, notes = evaluation_data(elsewhere, csv_of(tmp_path / "a.csv", np.arange(60) % 2))
    assert len(split.texts) == 60 and "trained_unknown" in told(notes)
