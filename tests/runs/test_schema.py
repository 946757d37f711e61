"""A run folder is input: its maker may write anything into it, and seal it. No list and no page stumbles over it."""

import copy
import json
import os
import random
import shutil

import pytest
from conftest import PROCESS

from monju.errors import MonjuError
from monju.inference.run_cache import RunCache
from monju.runs import registry
from monju.runs.run import Run
from monju.runs.schema import Metrics, is_step
from monju.training.job_manager import JobManager
from monju.ui.components import cards, progress
from monju.ui.i18n.translator import Translator
from monju.ui.tabs import results
from monju.utils.files import digest

WORDS = Translator()
ODD = [None, True, 0, 1, -1, 0.5, 1e308, 2**70, 10**400, "", "x", "x" * 10_000, "\ud800", "\0", "../../etc/passwd", [], [None], ["x"], {}, {"x": 1},
       [[[]]] * 3, {"": {"": {}}}, float("nan"), float("inf")]
DEEP = "[" * 100_000


@pytest.fixture(scope="module")
def shelf(tiny_run, tmp_path_factory):
    """A folder with a good run and one that a test spoils."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("good", "odd"):
        shutil.copytree(tiny_run, folder / name)
    (folder / "more").symlink_to(folder / "good")  # the page's own stands elsewhere
    return RunCache(tiny_run, folder, PROCESS)


def seal(folder, manifest):
    """Write a manifest as its author would: with the digest of every file in it, and its own."""
    files = manifest.get("files")
    if isinstance(files, dict) and isinstance(files.get("metrics.json"), dict):
        file = folder / "metrics.json"
        files["metrics.json"] = {"bytes": file.stat().st_size, "sha256": digest(file)}
    try:
        manifest["seal"] = Run(folder, manifest).seal()
    except (ValueError, TypeError, RecursionError):
        pass
    (folder / "run.json").write_text(json.dumps(manifest), encoding="utf-8")


def every_place(value, at=()):
    """The path to every part of a JSON value."""
    yield at
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from every_place(part, (*at, key))


def changed(value, at, new):
    """A copy with something else at one place, or nothing (`...`), or a thousand of it ("many")."""
    if not at:
        return new if new is not ... else {}
    found = copy.deepcopy(value)
    holder = found
    for key in at[:-1]:
        holder = holder[key]
    if new is ...:
        del holder[at[-1]]
    elif new == "many":
        holder[at[-1]] = [holder[at[-1]]] * 1000
    else:
        holder[at[-1]] = new
    return found


def looked_at(shelf):
    """Everything that lists runs or opens one: nothing but a MonjuError may come out of opening the odd one."""
    listed = registry.list_runs(shelf.folder)
    jobs = JobManager(shelf.folder)
    jobs.place.mkdir(exist_ok=True)
    (jobs.place / "last").write_text("odd")
    assert {run["name"]: run["status"] for run in listed}["good"] == "finished"
    json.dumps(listed, allow_nan=False).encode()
    assert "odd" in {run["name"] for run in listed}
    progress.listed(listed, WORDS).encode()
    assert "good" in shelf.names()
    progress.job(jobs.snapshot(), WORDS).encode()
    for shown in results.show(shelf, "odd", WORDS):
        shown.encode()
    for act in (lambda: cards.about(shelf.open("odd"), shelf.run("odd").metrics(), WORDS), lambda: results.sentences(shelf, "odd", WORDS),
                lambda: results.report.csv(results.report.Results.of(shelf.run("odd"))),
                lambda: results.run_comparison.table([results.report.Results.of(shelf.run(name)) for name in ("good", "odd")], WORDS)):
        try:
            act()
        except MonjuError as error:
            assert len(str(error).splitlines()) == 1


@pytest.fixture
def odd(shelf, tiny_run):
    """(the folder of the odd run, its manifest, its metrics), put right afterwards."""
    folder = shelf.folder / "odd"
    yield folder, json.loads((tiny_run / "run.json").read_text()), json.loads((tiny_run / "metrics.json").read_text())
    for name in ("run.json", "metrics.json", "history.jsonl"):
        if os.path.isfile(folder / name) or os.path.lexists(folder / name):
            (folder / name).unlink()
        shutil.copy(tiny_run / name, folder / name)


def attempts(value, n, seed):
    """n ways to change a value: any place, any odd thing in it; the upper places as often as the many below."""
    chance, places = random.Random(seed), list(every_place(value))
    upper = [at for at in places if len(at) <= 2]
    for _ in range(n):
        yield chance.choice(chance.choice([upper, places])), chance.choice([..., "many", *ODD])


def test_what_its_author_seals_again_unchanged_is_shown(shelf, odd):
    folder, manifest, metrics = odd
    (folder / "metrics.json").write_text(json.dumps(metrics))
    seal(folder, manifest)
    assert {run["name"]: run["status"] for run in registry.list_runs(shelf.folder)}["odd"] == "finished"
    assert shelf.open("odd").run.metrics() == metrics and "figures" in results.show(shelf, "odd", WORDS)[2]


@pytest.mark.parametrize("n", [150, pytest.param(5000, marks=pytest.mark.long)])
def test_whatever_stands_in_a_manifest_lists_and_pages_go_on(shelf, odd, n):
    folder, manifest, _ = odd
    for at, new in attempts(manifest, n, n):
        spoilt = changed(manifest, at, new)
        if not isinstance(spoilt, dict):
            (folder / "run.json").write_text(json.dumps(spoilt), encoding="utf-8")
        else:
            seal(folder, spoilt)
        try:
            looked_at(shelf)
        except Exception as error:
            raise AssertionError(f"{at} = {str(new)[:50]!r}") from error


@pytest.mark.parametrize("n", [150, pytest.param(5000, marks=pytest.mark.long)])
def test_whatever_stands_in_the_results_lists_and_pages_go_on(shelf, odd, n):
    folder, manifest, metrics = odd
    for at, new in attempts(metrics, n, n):
        (folder / "metrics.json").write_text(json.dumps(changed(metrics, at, new)), encoding="utf-8")
        seal(folder, manifest)
        try:
            looked_at(shelf)
        except Exception as error:
            raise AssertionError(f"{at} = {str(new)[:50]!r}") from error


@pytest.mark.parametrize("n", [150, pytest.param(5000, marks=pytest.mark.long)])
def test_whatever_stands_in_the_results_of_language_models_their_page_goes_on(tiny_writer, tmp_path, n):
    folder = shutil.copytree(tiny_writer, tmp_path / "odd")
    manifest, metrics = (json.loads((folder / name).read_text()) for name in ("run.json", "metrics.json"))
    shelf = RunCache(folder, process=PROCESS)
    assert "headline" in results.show(shelf, "odd", WORDS)[0]
    for at, new in attempts(metrics, n, n):
        (folder / "metrics.json").write_text(json.dumps(changed(metrics, at, new)), encoding="utf-8")
        seal(folder, copy.deepcopy(manifest))
        try:
            results.show(shelf, "odd", WORDS)[0].encode()
        except Exception as error:
            raise AssertionError(f"{at} = {str(new)[:50]!r}") from error


@pytest.mark.parametrize("name", ["run.json", "metrics.json", "history.jsonl"])
@pytest.mark.parametrize("content", [DEEP, '{"a":' * 100_000, "[" * 900 + "]" * 900, "1" * 5000, "", "\ufeff{}", "null"])
def test_a_file_of_brackets_or_digits_keeps_no_list_from_coming(shelf, odd, name, content):
    folder, manifest, _ = odd
    (folder / name).write_text(content + "\n")
    if name != "run.json":
        seal(folder, manifest)
    looked_at(shelf)
    if name != "history.jsonl":
        assert {run["name"]: run["status"] for run in registry.list_runs(shelf.folder)}["odd"] == "damaged"


@pytest.mark.parametrize("at, new", [
    (["status"], "weird"), (["files"], []), (["files"], {"metrics.json": "x"}), (["models"], []), (["models", "experts"], ["AB"]), (["models", "baseline"], "x"),
    (["models", "baseline"], ["../experts/AB", "seed1", "seed2"]), (["students"], {"..": {"tokens": 1}}), (["students"], {"a": {}}),
    (["config", "k"], 4), (["config", "gate"], "posterior"), (["config", "backbone"], "../x y"), (["config", "clusterer"], "gmm"),
    (["data", "label_names"], ["one"]), (["data", "labels"], [0]), (["data", "train"], "many"), (["clusters"], {"A": "x"}), (["config"], "x"),
    (["machine"], "x"), (["data", "notes"], [{"code": ["x"], "values": {}}]), (["data", "notes"], [{"code": "rows", "values": {}}])])
def test_what_was_found_by_hand(shelf, odd, at, new):
    folder, manifest, _ = odd
    seal(folder, changed(manifest, at, new))
    looked_at(shelf)
    try:  # the models' process, too, tells it in a sentence
        shelf.open("odd").outputs(["good"])
    except MonjuError as error:
        assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize("make", [lambda path: os.mkfifo(path), lambda path: path.mkdir(), lambda path: path.symlink_to("/dev/zero")])
def test_a_manifest_that_is_no_file_is_not_waited_for(shelf, tmp_path, make):
    folder = shelf.folder / "strange"
    folder.mkdir()
    try:
        make(folder / "run.json")
        assert {run["name"]: run["status"] for run in registry.list_runs(shelf.folder)}["strange"] == "damaged"
        assert "strange" not in shelf.names()
    finally:
        shutil.rmtree(folder)


def test_lines_that_are_no_steps_are_left_out_of_the_curves(tiny_run, tmp_path):
    lines = [json.loads(line) for line in (tiny_run / "history.jsonl").read_text().splitlines()]
    assert lines and all(map(is_step, lines))
    shutil.copytree(tiny_run, tmp_path / "run")
    spoilt = [{**lines[0], name: odd} for name in lines[0] for odd in ODD]
    (tmp_path / "run" / "history.jsonl").write_text("\n".join(map(json.dumps, [*spoilt, *lines])) + "\n")
    progress.job(JobManager(tmp_path).snapshot("run"), WORDS).encode()


def test_the_results_of_every_run_here_are_taken(tiny_run, short_run):
    for run in (tiny_run, short_run[0], registry.SHIPPED[1]):
        Metrics.model_validate(Run.open(run).metrics())
