"""Hostile input: whatever is sent, the answer is a sentence, and nothing outside is touched."""

import csv
import io
import json
import os
import pickle
import random
import shutil
import zipfile

import httpx
import pyarrow
import pyarrow.parquet
import pytest
import torch
from conftest import PROCESS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from test_auth import call, closed, state, visit  # noqa: F401  # closed is a fixture

from monju.config import Config
from monju.data import readers, sources
from monju.errors import MonjuError
from monju.inference.pipeline import Monju, check_text
from monju.inference.run_cache import RunCache
from monju.runs import registry
from monju.runs.run import Run
from monju.training.job_manager import JobManager
from monju.ui.components import batch, csv_export
from monju.ui.page import LONGEST, typed

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
TRAVERSALS = [part + name for part in ("../", "../../", "..\\", "/", "//", "/tmp/", "~/", "./../", "%2e%2e/", "....//", "C:\\", "\0/", ".\u2215../",
                                       "mine/../../", "mine/", "file:///", "\\\\host\\", "..;/", "%c0%ae%c0%ae/", "\u202e../")
              for name in ("x", "etc/passwd", ".", "..", "run.json")]
TEXTS = ["", " ", "\0", "\ud800", "\x1b[31m", "😀" * 500, "a" * 100_000, "<script>alert(1)</script>", "{{7*7}}", "${7*7}", "%s%n%x", "' OR 1=1 --",
         "../../etc/passwd", "\u202ereversed", "\ufeff\u200b", "٣" * 50, "\r\n\r\nHTTP/1.1 200 OK", "NaN", "null", "=HYPERLINK(\"x\")", "𒀱" * 99,
         "a\u0300" * 3000, "\n" * 1000, "-1e309", "[[[[", "a" * 513 + " " + "b" * 513, "\x7f\x80\x9f", "&lt;b&gt;", "\\u0000", "🪷 " * 3000]


def refused(work, *arguments):
    """Whether it was refused in one sentence; any other exception is the test's failure."""
    try:
        work(*arguments)
    except MonjuError as error:
        assert "\n" not in str(error).strip() and len(str(error)) < 2000
        return True
    return False


# ---- the parts themselves ---------------------------------------------------------------------------------------

json_values = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                           lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12)


@FUZZ
@given(st.text() | st.sampled_from(TRAVERSALS) | json_values)
def test_a_name_is_a_plain_folder_or_refused(tmp_path_factory, name):
    folder = tmp_path_factory.getbasetemp() / "names"
    folder.mkdir(exist_ok=True)
    for work in (lambda: registry.run_dir(folder, name), lambda: RunCache(folder / "first", folder).path(name)):
        try:
            found = work()
        except MonjuError:
            continue
        assert os.path.dirname(os.path.abspath(found)) == str(folder.resolve())


@FUZZ
@given(st.text() | json_values)
def test_a_sentence_is_cleaned_or_refused(text):
    if not refused(check_text, text):
        assert check_text(text).strip() and "\0" not in check_text(text)


@FUZZ
@given(st.dictionaries(st.sampled_from([*Config().to_json()]) | st.text(), json_values, max_size=6) | json_values)
def test_settings_are_taken_or_refused(values):
    refused(Config.from_json, values)


@FUZZ
@given(st.binary(max_size=400) | st.text(max_size=400).map(lambda text: text.encode("utf-8", "surrogatepass")), st.sampled_from([*readers.READERS]))
def test_any_bytes_are_a_table_or_refused(tmp_path_factory, content, kind):
    file = tmp_path_factory.getbasetemp() / f"fuzz{kind}"
    file.write_bytes(content)
    refused(sources.load, str(file))


@FUZZ
@given(st.lists(st.lists(st.text(max_size=30), min_size=1, max_size=4), min_size=1, max_size=12), st.sampled_from([",", "\t", "\n", '"']))
def test_ragged_rows_are_a_table_or_refused(tmp_path_factory, rows, between):
    file = tmp_path_factory.getbasetemp() / "ragged.csv"
    file.write_text("text,label\n" + "\n".join(between.join(row) for row in rows), encoding="utf-8", errors="replace")
    refused(sources.load, str(file))


@FUZZ
@given(st.lists(st.fixed_dictionaries({"text": json_values, "label": json_values}), min_size=1, max_size=8))
def test_odd_cells_are_a_table_or_refused(tmp_path_factory, rows):
    file = tmp_path_factory.getbasetemp() / "cells.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    refused(sources.load, str(file))


# ---- files that lie ---------------------------------------------------------------------------------------------


class Spy:
    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def zipped():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("../../evil", "x")
    return out.getvalue()


@pytest.mark.parametrize("kind", [*readers.READERS])
@pytest.mark.parametrize("content", [zipped(), pickle.dumps(Spy()), b"\x89PNG\r\n\x1a\n" + bytes(100), b"PAR1" + bytes(40) + b"PAR1",
                                     "text,label\nschön,1\n".encode("utf-16"), "text,label\nschön,1\nschlecht,0\n".encode("latin-1"),
                                     b"text,label\n\0\0\0,1\n", b"\xff\xfe\xfd"], ids=range(8))
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path, monkeypatch, kind, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"file{kind}").write_bytes(content)
    assert refused(sources.load, str(tmp_path / f"file{kind}"))
    assert {path.name for path in tmp_path.iterdir()} == {f"file{kind}"}


@pytest.mark.parametrize("brought", ["a pickle", "code"])
def test_a_run_that_brings_a_pickle_or_code_is_refused_and_runs_neither(tiny_run, tmp_path, monkeypatch, brought):
    """Sealed as its author would: every digest is right."""
    monkeypatch.chdir(tmp_path)
    copy = shutil.copytree(tiny_run, tmp_path / "runs" / "tiny")
    expert = copy / "experts" / "AB"
    if brought == "a pickle":
        torch.save(load_file(expert / "adapter_model.safetensors"), expert / "adapter_model.bin")  # harmless, and a pickle all the same
        (expert / "adapter_model.safetensors").unlink()
    else:
        shutil.rmtree(expert)
        expert.mkdir()
        classes = {name: f"spy.{name}" for name in ("AutoConfig", "AutoModelForSequenceClassification", "AutoTokenizer")}
        (expert / "config.json").write_text(json.dumps({"model_type": "spy", "auto_map": classes}))
        (expert / "spy.py").write_text("import os\nos.mkdir('unpickled')\n")
    Run.open(copy).finish()
    assert not refused(Run.open(copy).check) and refused(Monju.load, copy)
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}


@pytest.mark.parametrize("bomb", ["rows", "bytes"])
def test_a_small_parquet_that_unpacks_to_much_is_refused(tmp_path, bomb, monkeypatch):
    """One value over and over takes a few bytes, however often."""
    file = tmp_path / "bomb.parquet"
    if bomb == "rows":
        once = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 1_000_000, pyarrow.int32()), ["x"])
        table = pyarrow.table({"text": pyarrow.chunked_array([once] * 11), "label": pyarrow.chunked_array([once] * 11)})
        pyarrow.parquet.write_table(table, file, compression="zstd")
    else:
        with pyarrow.parquet.ParquetWriter(file, pyarrow.schema([("text", pyarrow.binary())]), compression="zstd", use_dictionary=False) as out:
            out.write_table(pyarrow.table({"text": pyarrow.array([bytes(1 << 27)], pyarrow.binary())}))
        monkeypatch.setattr(readers, "MOST_BYTES", 1 << 26)  # of the 4 GB there are: writing them takes half a minute
    assert file.stat().st_size < 3_000_000
    with pytest.raises(MonjuError, match="unpacks to more than"):
        sources.load(str(file))


@pytest.mark.parametrize("lines", [20_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_a_long_file_is_read(tmp_path, lines):
    file = tmp_path / "long.csv"
    with open(file, "w") as out:
        out.write("text,label\n")
        out.writelines(f"sentence number {i} is {'good' if i % 2 else 'bad'},{i % 2}\n" for i in range(lines))
    found = sources.load(str(file), sample=100)
    assert len(found.train.texts) == 100 and len(found.validation.texts) > 100


def test_a_file_of_far_too_many_sentences_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(batch.readers, "decoded", None)
    (file := tmp_path / "long.csv").write_bytes(b"a\n" * (batch.MOST_BYTES // 2 + 1))
    with pytest.raises(MonjuError, match="larger than 8 MB"):
        batch.rows_of("", str(file))


def test_a_huge_sentence_is_cut_where_the_run_cuts(tiny_run):
    [reading] = Monju.load(tiny_run).read(["word " * 200_000])
    assert reading.monju.name in ("negative", "positive")


@pytest.mark.parametrize("cell", ["=1+1", "+1+1", "-1+x", "@SUM(A1)", "\t=1", "\r=1", "  =1"])
def test_no_cell_of_a_csv_is_a_formula(cell):
    """Neither where a sentence stands nor in a heading made of a label's name."""
    [heads, row] = list(csv.reader(io.StringIO(csv_export.to_csv([{"text": cell, cell: 0.5}]), newline="")))
    assert row == ["'" + cell, "0.5"] and heads == ["text", "'" + cell]
    assert readers.no_formula(-0.1) == -0.1 and readers.no_formula("a film") == "a film"
    for number in ("-1", "+3.5", "-0.5e3", "-1,5", "+.5", "-12 %", "−1", " -1"):
        assert readers.no_formula(number) == number
    for formula in ("-1+2", "--1", "-", "-1e", "+A1", "-1 2"):
        assert readers.no_formula(formula) == "'" + formula


# ---- nothing outside --------------------------------------------------------------------------------------------


def test_no_name_and_no_link_reaches_outside(tiny_run, tmp_path):
    outside, folder = tmp_path / "outside", tmp_path / "runs"
    outside.mkdir()
    (outside / "secret.txt").write_text("secret")
    shutil.copytree(tiny_run, folder / "mine")
    (folder / "mine" / "link.txt").symlink_to(outside / "secret.txt")
    (folder / "mine" / "linked").symlink_to(outside)
    (folder / "linked-run").symlink_to(tiny_run)
    before, jobs = state(outside), JobManager(folder)
    for name in [*TRAVERSALS, "linked-run"]:
        for work in (lambda: jobs.rename("mine", name), lambda: jobs.rename(name, "taken"), lambda: jobs.delete(name),
                     lambda: jobs.resume(name), lambda: RunCache(folder / "mine").run(name)):
            refused(work)
        if not (folder / "mine").exists():  # a name that is plain after all: it stayed in the folder
            [moved] = [path for path in folder.iterdir() if not path.is_symlink() and path.name != ".jobs"]
            moved.rename(folder / "mine")
    assert len(TRAVERSALS) == 100
    assert state(outside) == before and {path.name for path in folder.iterdir()} <= {"mine", "linked-run", ".jobs"}
    assert {path.name for path in tmp_path.iterdir()} == {"outside", "runs"} and Run.open(tiny_run).check()
    with zipfile.ZipFile(packed := registry.archive(folder / "mine")) as archive:
        assert not [name for name in archive.namelist() if "link" in name or ".." in name or name.startswith("/")]
    shutil.rmtree(packed.parent)


# ---- damaged runs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [40, pytest.param(1000, marks=pytest.mark.long)])
def test_a_run_damaged_anywhere_is_refused_in_a_sentence(tiny_run, tmp_path, times):
    chance = random.Random(times)
    copy = shutil.copytree(tiny_run, tmp_path / "runs" / "tiny")
    files = [file for file in sorted(copy.rglob("*")) if file.is_file() and file.name != "README.md"]
    for _ in range(times):
        shelf = RunCache(copy)  # that has opened nothing: a run that is open stays so
        file = chance.choice(files)
        whole = file.read_bytes()
        way = chance.choice(("cut", "flip", "delete", "zeros", "other"))
        if way == "cut":
            file.write_bytes(whole[: chance.randrange(len(whole))])
        elif way == "flip":
            place = chance.randrange(len(whole))
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1:])
        elif way == "delete":
            file.unlink()
        elif way == "zeros":
            file.write_bytes(bytes(len(whole)))
        else:
            file.write_bytes(chance.choice(files).read_bytes() if file.exists() else b"")
        same = file.exists() and file.read_bytes() == whole
        assert refused(Monju.load, copy) is not same, (file.name, way)
        assert refused(shelf.open, "tiny") is not same
        for page in (shelf.names, lambda: registry.list_runs(copy.parent)):
            page()
        file.write_bytes(whole)
    assert not refused(Run.open(copy).check)


# ---- over HTTP --------------------------------------------------------------------------------------------------


def knock(client, url, door, body, session):
    """Send what JSON it is at a door, wait for the answer where there is to be one: the status."""
    answer = client.post(f"{url}gradio_api/{door}", content=body, headers={"content-type": "application/json"})
    if answer.status_code == 200 and door == "queue/join":
        with client.stream("GET", f"{url}gradio_api/queue/data", params={"session_hash": session}) as stream:
            assert any('"process_completed"' in line or '"unexpected_error"' in line for line in stream.iter_lines())
    return answer.status_code


@pytest.mark.parametrize("many", [60, pytest.param(10_000, marks=pytest.mark.long)])
def test_hostile_texts_over_http_are_answered(closed, many, capfd):  # noqa: F811
    """To every function that takes a text, in turn: no error of the server, no traceback."""
    url, blocks, _ = closed
    takes_text = [number for number, function in blocks.fns.items() if function.fn is not None and function.inputs
                  and any(part.__class__.__name__ == "Textbox" for part in function.inputs)]
    session, chance = visit(url, blocks), random.Random(many)
    assert len(takes_text) > 5
    with httpx.Client(timeout=60) as client:
        for number in range(many):
            text = TEXTS[number % len(TEXTS)] if number % 2 else "".join(chr(chance.randrange(1, 0xD7FF)) for _ in range(chance.randrange(200)))
            function = blocks.fns[takes_text[number % len(takes_text)]]
            data = [text if part.__class__.__name__ == "Textbox" else getattr(part, "value", None) for part in function.inputs]
            body = json.dumps({"data": data, "fn_index": takes_text[number % len(takes_text)], "session_hash": session})
            door = "run/predict" if function.queue is False else "queue/join"  # as the page asks
            assert knock(client, url, door, body, session) < 500, text
        broken = client.post(f"{url}gradio_api/queue/join", content=b"{" * 1000, headers={"content-type": "application/json"})
        assert broken.status_code < 500
    assert "Traceback" not in "".join(capfd.readouterr())
    assert call(url, takes_text[0], ["a fine film"] + [getattr(part, "value", None) for part in blocks.fns[takes_text[0]].inputs[1:]])


@pytest.mark.parametrize("value", [None, ["a"], {"a": 1}, True, -1e300, "\ud800"], ids=ascii)
def test_one_value_everywhere_to_every_function_over_http_is_answered(closed, value, capfd):  # noqa: F811
    url, blocks, folder = closed
    session, before = visit(url, blocks), state(folder)
    with httpx.Client(timeout=300) as client:
        for number, function in blocks.fns.items():
            body = json.dumps({"data": [value] * len(function.inputs), "fn_index": number, "session_hash": session})
            assert knock(client, url, "run/predict" if function.queue is False else "queue/join", body, session) < 500, number
    told = "".join(capfd.readouterr())
    assert state(folder) == before and "Traceback" not in told, told[-4000:]


@pytest.mark.parametrize("many", [40, pytest.param(1000, marks=pytest.mark.long)])
def test_any_values_to_any_function_over_http_are_answered(closed, many, capfd):  # noqa: F811
    """At the page's door and at the other; the browser's own functions too."""
    url, blocks, folder = closed
    session, before = visit(url, blocks), state(folder)
    functions = {number: len(function.inputs) for number, function in blocks.fns.items()}

    @settings(FUZZ, max_examples=many)
    @given(st.sampled_from([*functions]).flatmap(lambda number: st.tuples(
        st.just(number), st.lists(json_values, min_size=functions[number], max_size=functions[number]) | json_values)),
        st.sampled_from(("queue/join", "run/predict")))
    def ask(asked, door):
        number, data = asked
        body = json.dumps({"data": data, "fn_index": number, "session_hash": session})
        assert knock(client, url, door, body, session) < 500

    with httpx.Client(timeout=300) as client:
        ask()
    assert state(folder) == before
    told = "".join(capfd.readouterr())
    assert "Traceback" not in told, told[-4000:]


@pytest.mark.parametrize("value", ["Infinity", "NaN", '"text"', "{"])
@pytest.mark.parametrize("door", ["queue/join", "run/predict"])
def test_a_request_that_is_none_is_refused_and_not_sent_back(closed, door, value):  # noqa: F811
    url, blocks, _ = closed
    body = f'{{"data": {value}, "fn_index": {next(iter(blocks.fns))}, "session_hash": "{visit(url, blocks)}"}}'
    answer = httpx.post(f"{url}gradio_api/{door}", content=body, headers={"content-type": "application/json"}, timeout=60)
    assert answer.status_code == 422 and "Traceback" not in answer.text


def test_a_sentence_of_a_hundred_thousand_characters_is_answered(tiny_run):
    text = typed("a" * 100_000)
    assert len(text) == LONGEST  # what is remembered of a visitor's sentences stays bounded
    assert RunCache(tiny_run, process=PROCESS).open("tiny").read_one(text).monju.name in ("negative", "positive")
