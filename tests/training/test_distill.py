"""Distillation: the loss and the targets against values worked out by hand, real students of a real run, and its refusals."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import tiny_size
from transformers import AutoModelForSequenceClassification

from monju.cli import main
from monju.data import sources
from monju.errors import MonjuError
from monju.evaluation import cluster_map
from monju.evaluation.comparison import compare
from monju.inference import students
from monju.inference.pipeline import Monju
from monju.runs import run_data
from monju.runs.run import Run
from monju.training import distill, pipeline
from monju.training import plan as planning


def test_the_loss_is_the_papers():
    student, teacher, labels = torch.tensor([[0.0, 2.0]]), torch.tensor([[2.0, 0.0]]), torch.tensor([0])
    # softened by T = 2: student (1, e)/(1 + e), teacher (e, 1)/(1 + e); KL = (e − 1)/(e + 1), each log ratio being ±1
    e = np.e
    soft, hard = (e - 1) / (e + 1), np.log(1 + e**2)
    for mixing in (0.0, 0.25, 1.0):
        assert distill.loss(student, teacher, labels, 2.0, mixing).mean().item() == pytest.approx((1 - mixing) * hard + mixing * 4 * soft, rel=1e-6)
    assert distill.loss(teacher, teacher, labels, 3.0, 1.0).mean().item() == pytest.approx(0, abs=1e-7)


def test_out_of_fold_targets_ask_only_those_who_have_not_seen_the_sentence():
    pairs = SimpleNamespace(subsets=[(0, 1), (1, 2), (2, 0)], clusters=["A", "B", "C"])
    alpha = np.array([[0.2, 0.3, 0.5]] * 3)
    assert distill.out_of_fold(pairs, alpha, np.array([0, 1, 2])).tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]  # A: BC, B: CA, C: AB
    singles = SimpleNamespace(subsets=[(0,), (1,), (2,), (3,)], clusters=["A", "B", "C", "D"])
    found = distill.out_of_fold(singles, np.array([[0.4, 0.3, 0.2, 0.1], [0, 1, 0, 0]]), np.array([0, 1]))
    assert found == pytest.approx(np.array([[0, 0.5, 1 / 3, 1 / 6], [1 / 3, 0, 1 / 3, 1 / 3]]))  # the last: no weight left, so equal


@pytest.fixture(scope="module")
def taught(tiny_run, tmp_path_factory):
    path = tmp_path_factory.mktemp("taught") / "run"
    shutil.copytree(tiny_run, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distill, "TEMPERATURES", (2.0,))
        assert main(["distill", str(path), "--students", "same", "half", "--targets", "out-of-fold", "hard-labels", "--sample", "40",
                     "--device", "cpu"]) == 0
    return path


def test_students_are_kept_in_the_sealed_run_and_stand_in_the_comparison(taught, movies):
    run = Run.open(taught).check()
    names = ["same-out-of-fold", "same-hard-labels", "half-out-of-fold", "half-hard-labels"]
    assert list(run.manifest["students"]) == names
    assert run.manifest["students"]["same-out-of-fold"]["temperature"] == 2.0 and run.manifest["students"]["same-out-of-fold"]["mixing"] in (0.5, 1.0)
    layers = [AutoModelForSequenceClassification.from_pretrained(taught / "students" / name).config.num_hidden_layers for name in names]
    assert layers == [2, 2, 1, 1]
    data, monju = sources.load(str(movies)), Monju.load(taught, "cpu", controls=True)
    rows = {row["name"]: row for row in compare(monju, data.validation.labels, data.validation.texts)["rows"]}
    said = students.student_logits(monju, data.validation.texts)
    for name in names:
        assert rows[name]["kind"] == "student" and rows[name]["forward_passes"] == 1 and rows[name]["train_tokens"] > 0
        assert rows[name]["accuracy"] == (said[name].argmax(axis=1) == data.validation.labels).mean()
    # a student is as large as a merge; half of it has a layer less
    assert rows["same-hard-labels"]["parameters"] == rows["uniform soup"]["parameters"] == tiny_size()
    assert rows["half-hard-labels"]["parameters"] == tiny_size(layers=1)
    assert not np.array_equal(said["same-out-of-fold"], said["same-hard-labels"])


def test_an_interrupted_distillation_leaves_the_run_as_it_was(tiny_run, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(tiny_run, path)
    before = (path / "run.json").read_bytes()
    events = distill.distill(path, sample=40, temperature=2.0, mixing=0.5, device="cpu")
    for event in events:
        if isinstance(event, distill.Progress):
            break
    events.close()
    assert (path / "run.json").read_bytes() == before and not list(path.glob("students/*"))
    Run.open(path).check()


def test_the_runs_own_sentences_are_read_from_where_they_are_now(tiny_run, movies, tmp_path, capsys):
    path = tmp_path / "run"
    shutil.copytree(tiny_run, path)
    run = Run.open(path)
    run.manifest["config"]["data"] = str(tmp_path / "gone")
    run.finish()
    run_data._read.clear()
    asked = ["distill", str(path), "--targets", "hard-labels", "--sample", "8", "--temperature", "1",
             "--mixing", "0", "--device", "cpu"]
    assert main(asked) == 2 and "there is no source" in capsys.readouterr().err
    few = tmp_path / "few.csv"
    few.write_text("text,label\n" + "".join(f"sentence {i},{i % 2}\n" for i in range(60)), encoding="utf-8")
    assert main([*asked, "--data", str(few)]) == 2 and "sentences that the run was trained on" in capsys.readouterr().err
    assert main([*asked, "--data", str(movies)]) == 0
    assert list(Run.open(path).check().manifest["students"]) == ["same-hard-labels"]


@pytest.mark.parametrize("settings, why", [
    ({"sizes": ["tiny"]}, "there is no student 'tiny'; the sizes are same, half"),
    ({"temperature": 2.0}, "given together"), ({"temperature": 0.0, "mixing": 0.5}, "more than 0"),
    ({"temperature": 1.0, "mixing": 1.5}, "between 0 and 1"), ({"sample": 1}, "--sample 1 is too small")])
def test_what_cannot_be_is_refused(tiny_run, tmp_path, settings, why):
    path = tmp_path / "run"
    shutil.copytree(tiny_run, path)
    with pytest.raises(MonjuError, match=why):
        list(distill.distill(path, device="cpu", **settings))


def students_named(run, name):
    """What `distill` does to a run at its end, without the learning: a student's folder, and its name in the sealed manifest."""
    with run.replacing() as new:
        with new.folder(f"students/{name}") as folder:
            (folder / "weights").write_text(name)
        new.manifest.setdefault("students", {})[name] = {"tokens": 1}


def test_a_distill_that_waited_keeps_the_students_of_the_one_before(tiny_run, tmp_path, monkeypatch):
    path = shutil.copytree(tiny_run, tmp_path / "run")
    recall = distill.load_run_data

    def meanwhile(run):  # between reading the settings and the training
        with Run.changing(path) as other:
            students_named(other, "same-in-sample")
        return recall(run)

    def teach(run, *_):
        yield students_named(run, "same-hard-labels")

    monkeypatch.setattr(distill, "load_run_data", meanwhile)
    monkeypatch.setattr(distill, "teach", teach)
    list(distill.distill(path, targets=("hard-labels",), temperature=2.0, mixing=0.5))
    assert list(Run.open(path).check().manifest["students"]) == ["same-in-sample", "same-hard-labels"]
    assert {folder.name for folder in (path / "students").iterdir()} == {"same-in-sample", "same-hard-labels"}


def test_map_and_distill_do_not_lose_each_others_entries(tiny_run, tmp_path, monkeypatch, capsys):
    """While one is at a run the other is refused in one sentence, and nothing of what either wrote is lost."""
    path, draw, refused = shutil.copytree(tiny_run, tmp_path / "run"), cluster_map.build, []

    def meanwhile(*given):
        try:
            list(distill.distill(path, targets=("hard-labels",), temperature=2.0, mixing=0.5))
        except MonjuError as error:
            refused.append(str(error))
        return draw(*given)

    monkeypatch.setattr(cluster_map, "build", meanwhile)
    monkeypatch.setattr(distill, "teach", lambda run, *_: iter([students_named(run, "same-hard-labels")]))
    assert main(["map", str(path), "--size", "20"]) == 0
    if not refused:
        assert "students" in Run.open(path).manifest, "the map has overwritten what distill wrote"
    assert len(refused) == 1 and "is in use by another" in refused[0]
    list(distill.distill(path, targets=("hard-labels",), temperature=2.0, mixing=0.5))
    assert main(["map", str(path), "--size", "20"]) == 0
    assert list(Run.open(path).check().manifest["students"]) == ["same-hard-labels"]
    with Run.changing(path):
        capsys.readouterr()
        assert main(["map", str(path)]) == 2 and "is in use by another training, distill, refresh or map" in capsys.readouterr().err


def test_a_resume_that_waited_leaves_a_run_alone_that_another_has_finished(tiny_run, tmp_path, monkeypatch):
    path, plan = shutil.copytree(tiny_run, tmp_path / "run"), planning.plan
    Run.open(path).update(status="interrupted")

    def meanwhile(*given):  # another process resumes it, and a student is added, while this one plans
        Run.open(path).finish()
        with Run.changing(path) as other:
            students_named(other, "same-in-sample")
        return plan(*given)

    monkeypatch.setattr(pipeline, "plan", meanwhile)
    told = list(pipeline.train(Run.open(path).config, path, resume=True))
    assert told[-1].text == f"{path} is already finished."
    assert list(Run.open(path).check().manifest["students"]) == ["same-in-sample"]
