"""Models in lockstep: each learns what it would learn alone, whatever the architecture, and leaves when it is done."""

from threading import Event

import numpy as np
import pytest
import torch
import transformers

from monju.config import Config
from monju.errors import MonjuError
from monju.inference.pipeline import Monju
from monju.models import joint
from monju.models.classifier import Expert
from monju.runs.checkpoints import Checkpoints
from monju.runs.run import Run
from monju.training import fit_jobs, lockstep, member, pipeline, plan, trainer
from monju.training.member import Training
from monju.training.samplers import SamplerContext, buckets

CPU = torch.device("cpu")
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # draws depend on who else is in the batch
FAMILIES = {"bert": SMALL | STILL, "roberta": SMALL | STILL, "mpnet": SMALL | STILL, "electra": SMALL | STILL,
            "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "dropout": 0.0, "attention_dropout": 0.0,
                           "seq_classif_dropout": 0.0},
            "modernbert": SMALL | {"embedding_dropout": 0.0, "mlp_dropout": 0.0, "attention_dropout": 0.0, "classifier_dropout": 0.0}}
RANDOM = np.random.default_rng(0)
SENTENCES = [[2, *RANDOM.integers(5, 300, RANDOM.integers(3, 20)).tolist(), 3] for _ in range(40)]
LABELS = RANDOM.integers(0, 2, 40)
CLOSE = 1e-3  # after ten steps: AdamW makes as much of the last bits of a small gradient as of a large one
ROWS = {"AB": range(30), "BC": range(10, 40), "seed0": range(40)}  # 8, 8 and 10 steps of four


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A function: the folder of a small encoder of a family, with random weights as large as learned ones."""
    def make(family, **more):
        folder = tmp_path_factory.mktemp(family)
        torch.manual_seed(0)
        config = transformers.AutoConfig.for_model(family, vocab_size=300, max_position_embeddings=64, pad_token_id=1, initializer_range=0.3,
                                                   **FAMILIES[family], **more)
        transformers.AutoModel.from_config(config).save_pretrained(folder)
        return str(folder)

    return make


def settings(folder, finetuning="full", **more):
    return Config(**{"backbone": folder, "finetuning": finetuning, "precision": "fp32", "device": "cpu", "batch_size": 4, "epochs": 1,
                     "learning_rate": 1e-3, **more})


def trainings(config, **more):
    return [Training(Expert.start(config, ["no", "yes"], 1, seed, CPU), [SENTENCES[row] for row in rows], LABELS[list(rows)], seed,
                     name=name, **more) for seed, (name, rows) in enumerate(ROWS.items())]


def alone(config, **more):
    """Each model trained by itself: [(its logits on all sentences, its steps)]."""
    told = [(each, [step for _, step in trainer.fit_in_lockstep([each], config, 1)]) for each in trainings(config, **more)]
    return [(each.expert.logits(SENTENCES), steps) for each, steps in told]


def together(config, given):
    """Models trained in lockstep: the same."""
    told = [[] for _ in given]
    for number, step in trainer.fit_in_lockstep(given, config, 1):
        told[number].append(step)
    return [(each.expert.logits(SENTENCES), steps) for each, steps in zip(given, told)]


@pytest.mark.parametrize("finetuning", ["full", "lora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_each_learns_what_it_would_alone(backbone, family, finetuning):
    config = settings(backbone(family), finetuning)
    given = trainings(config, order="short-to-long")
    before = [each.expert.logits(SENTENCES) for each in given]
    ours, theirs = together(config, given), alone(config, order="short-to-long")
    for start, (logits, steps), (own, own_steps) in zip(before, ours, theirs):
        np.testing.assert_allclose(logits, own, atol=CLOSE)
        assert np.abs(logits - start).max() > 0.05
        np.testing.assert_allclose([step.loss for step in steps], [step.loss for step in own_steps], atol=CLOSE)
        for name in ("step", "steps", "sentences", "tokens", "learning_rate"):
            assert [getattr(step, name) for step in steps] == [getattr(step, name) for step in own_steps]
    assert [{step.lockstep for step in steps} for _, steps in ours] == [{3}, {3}, {3, 1}]  # who is done leaves


def test_one_forward_and_one_backward_pass_are_for_all(backbone):
    """The matrix products of a step, counted: as many for three models as for one. Each has an optimizer step of its own."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.products = self.optimizers = 0

        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            self.optimizers += function.overloadpacket.__name__ == "_fused_adamw_"
            self.products += function.overloadpacket.__name__ in ("mm", "addmm", "bmm", "baddbmm")
            return function(*arguments, **options or {})

    config, counts = settings(backbone("bert")), {}
    for given in (trainings(config)[:1], trainings(config)):
        running = trainer.fit_in_lockstep(given, config, 1)
        for _ in given:  # the first step, before which the joint model was compared with each alone
            next(running)
        with Count() as count:
            next(running)
        counts[len(given)] = count.products
        assert count.optimizers == len(given)
    assert counts[3] == counts[1] > 40


def test_frozen_layers_stay_and_the_words_that_a_model_never_reads_only_decay(backbone):
    config = settings(backbone("bert"), frozen_layers=1)
    given = trainings(config)
    start = [{name: weight.clone() for name, weight in each.expert.model.state_dict().items()} for each in given]
    together(config, given)
    for each, before in zip(given, start):
        after = each.expert.model.state_dict()
        assert all(torch.equal(after[name], before[name]) for name in before if ".layer.0." in name or "embeddings" in name)
        assert not torch.equal(after["bert.encoder.layer.1.output.dense.weight"], before["bert.encoder.layer.1.output.dense.weight"])


def test_in_batches_of_one_size_and_few_lengths_as_on_a_gpu_it_is_the_same(backbone, monkeypatch):
    """All of a GPU's way but the recording: short batches are filled with rows that weigh nothing, rates are read from the device."""
    config, AdamW, shapes = settings(backbone("bert"), batch_size=7), torch.optim.AdamW, set()
    theirs = alone(config, order="short-to-long")

    def replay(act, forget):
        return lambda shape: shapes.add(shape) or act(shape)

    monkeypatch.setattr(member, "is_gpu", lambda device: True)
    monkeypatch.setattr(lockstep, "Replay", replay)
    monkeypatch.setattr(torch.optim, "AdamW", lambda *given, capturable, **options: AdamW(*given, **options))
    given = trainings(config, order="short-to-long")
    ours = together(config, given)
    for (logits, steps), (own, own_steps) in zip(ours, theirs):
        np.testing.assert_allclose(logits, own, atol=CLOSE)
        np.testing.assert_allclose([step.loss for step in steps], [step.loss for step in own_steps], atol=CLOSE)
        assert [step.learning_rate for step in steps] == [step.learning_rate for step in own_steps]
        assert steps[-1].padded >= 7 * 8 * len(steps)
    assert shapes <= {(8, True), (16, True), (24, True)} and len(shapes) > 1


@pytest.fixture
def as_a_gpu(monkeypatch):
    """A GPU's way but the recording and the rate that is read from the device."""
    AdamW = torch.optim.AdamW
    monkeypatch.setattr(member, "is_gpu", lambda device: True)
    monkeypatch.setattr(lockstep, "Replay", lambda act, forget: act)
    monkeypatch.setattr(torch.optim, "AdamW", lambda *given, capturable, **options: AdamW(*given, **options))


def test_on_a_gpu_nobody_waits_for_a_loss_before_the_next_report_or_a_checkpoint(backbone, as_a_gpu, monkeypatch, tmp_path):
    config, done, waits = settings(backbone("bert"), epochs=2), [], []
    learn, wait = lockstep.Lockstep._learn, lockstep.Fetch.wait
    monkeypatch.setattr(lockstep.Lockstep, "_learn", lambda self, shape: done.append(shape) or learn(self, shape))
    monkeypatch.setattr(lockstep.Fetch, "wait", lambda self: waits.append(len(done)) or wait(self))
    [given] = trainings(config)[2:]  # twice ten steps
    given = Training(**{**vars(given), "checkpoints": Checkpoints(tmp_path)})
    steps = [step.step for _, step in trainer.fit_in_lockstep([given], config, 4)]
    assert steps == [4, 8, 12, 16, 20] and waits == [8, 10, 16, 20, 20]


def test_on_a_gpu_the_training_goes_on_while_its_checkpoint_is_written(backbone, as_a_gpu, monkeypatch, tmp_path):
    """And ends with it as it was when it was due; what its writing raises is raised."""
    config, save, held = settings(backbone("bert"), epochs=3), Checkpoints.save, Event()

    def kept(folder):
        return [Training(**{**vars(each), "checkpoints": Checkpoints(tmp_path / folder / each.name)}) for each in trainings(config)]

    def slowly(self, *given, **facts):
        assert held.wait(60)
        save(self, *given, **facts)

    prompt = kept("prompt")
    list(trainer.fit_in_lockstep(prompt, config, 1))
    monkeypatch.setattr(Checkpoints, "save", slowly)
    late, steps = kept("late"), []
    for _, step in trainer.fit_in_lockstep(late, config, 1):
        steps.append(step.step)
        if step.step == 15:  # the first two have come to 8, the last to 10; at 16 they wait for what is not written yet
            held.set()
    for one, other in zip(prompt, late):
        (ours, facts), (theirs, their_facts) = one.checkpoints.load(), other.checkpoints.load()
        assert facts["step"] == their_facts["step"] == 2 * -(-len(one.tokens) // 4)
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)

    def full(self, *given, **facts):
        raise OSError("No space left on device")

    monkeypatch.setattr(Checkpoints, "save", full)
    with pytest.raises(OSError, match="No space"):
        list(trainer.fit_in_lockstep(kept("full"), config, 1))


def test_on_a_gpu_a_model_that_fails_is_named_though_its_loss_comes_later(backbone, as_a_gpu):
    config, steps = settings(backbone("bert")), []

    def breaks(logits, rows):
        steps.append(logits)
        return logits.sum(1) * (float("nan") if len(steps) > 3 else 1)

    given = Training(**{**vars(trainings(config)[0]), "loss_of": breaks})
    with pytest.raises(MonjuError, match="^AB: the loss became nan at step 4: "):
        for _, step in trainer.fit_in_lockstep([given], config, 2):
            assert step.step == 2
    assert len(steps) == 6


@pytest.mark.parametrize("finetuning", ["full", "lora"])
@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_one_pass_checks_all_on_held_out_sentences(backbone, family, finetuning, monkeypatch):
    """Logits within 1e-4 of each model's own, the same labels; words that no model has learned are among them."""
    config, together, passes = settings(backbone(family), finetuning), joint.Joint.logits, []
    held_out = [[2, *range(5 + row, 300, 40), 3][: 4 + row % 5] for row in range(30)], np.arange(30) % 2

    def checked(self, ids, mask):
        logits = together(self, ids, mask)
        if len(ids) == config.batch_size:  # not the comparison before the first step
            alone = torch.stack([expert.model(input_ids=ids, attention_mask=mask).logits for expert in self.experts])
            assert (logits - alone).abs().max() < 1e-4 and torch.equal(logits.argmax(2), alone.argmax(2))
            passes.append(len(self.experts))
        return logits

    monkeypatch.setattr(joint.Joint, "logits", checked)
    given, accuracies = trainings(config), []
    for number, step in trainer.fit_in_lockstep(given, config, 2, held_out):
        if step.held_out_accuracy is not None:
            own = (given[number].expert.logits(held_out[0]).argmax(1) == held_out[1]).mean()
            accuracies.append((number, step.step, step.held_out_accuracy == own))
    assert accuracies == [(number, step, True) for step in (2, 4, 6, 8) for number in range(3)] + [(2, 10, True)]
    assert passes == 4 * 7 * [3] + 7 * [1]


def test_a_model_that_fails_is_named_and_the_others_end_as_they_should(backbone):
    config = settings(backbone("bert"))

    def broken(logits, rows):
        return logits.sum(1) * float("nan")

    given = trainings(config, order="short-to-long")
    given[1] = Training(**{**vars(given[1]), "loss_of": broken})
    others = [Training(**{**vars(each), "loss_of": lambda logits, rows, labels=torch.from_numpy(each.labels): torch.nn.functional.cross_entropy(
        logits, labels[rows], reduction="none")}) for each in given]
    given[0], given[2] = others[0], others[2]
    told = [[] for _ in given]
    with pytest.raises(MonjuError, match="^BC: the loss became nan at step 1: choose a smaller"):
        for number, step in trainer.fit_in_lockstep(given, config, 1):
            told[number].append(step)
    theirs = alone(config, order="short-to-long")
    assert [steps[-1].step if steps else 0 for steps in told] == [8, 0, 10]
    for number in (0, 2):
        np.testing.assert_allclose(given[number].expert.logits(SENTENCES), theirs[number][0], atol=CLOSE)


def test_resumed_at_different_steps_they_end_as_undisturbed(backbone, tmp_path):
    """Without dropout: with it a GPU's resumed models draw other numbers."""
    config = settings(backbone("bert"), epochs=2)
    undisturbed = [logits for logits, _ in together(config, trainings(config))]

    def kept():
        return [Training(**{**vars(each), "checkpoints": Checkpoints(tmp_path / each.name)}) for each in trainings(config)]

    running = trainer.fit_in_lockstep(kept(), config, 1)
    for _, step in running:
        if step.step == 11:  # each has a checkpoint, after step 8 or 10
            running.close()
            break
    assert [Checkpoints(tmp_path / name).facts["step"] for name in ROWS] == [8, 8, 10]
    again = kept()
    first = {}
    for number, step in trainer.fit_in_lockstep(again, config, 1):
        first.setdefault(number, step.step)
    assert first == {0: 9, 1: 9, 2: 11}
    for each, logits in zip(again, undisturbed):
        np.testing.assert_allclose(each.expert.logits(SENTENCES), logits, atol=CLOSE)


def test_a_gpu_without_room_for_all_trains_them_in_groups(backbone, monkeypatch):
    """Here the joint model refuses more than eight rows, as a small GPU would."""
    config, call = settings(backbone("bert")), joint.Joint.__call__

    def refuse(self, ids, mask):
        if ids.shape[0] * ids.shape[1] > 8:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return call(self, ids, mask)

    monkeypatch.setattr(joint.Joint, "__call__", refuse)
    ours = together(config, trainings(config, order="short-to-long"))
    monkeypatch.setattr(joint.Joint, "__call__", call)
    for (logits, steps), (own, _) in zip(ours, alone(config, order="short-to-long")):
        np.testing.assert_allclose(logits, own, atol=CLOSE)
        assert {step.lockstep for step in steps} <= {1, 2} and {step.parts for step in steps} == {1}
        assert {step.note for step in steps} == {"The memory does not do for 3 models in lockstep: they are trained in groups."}


def test_what_cannot_be_joined_is_trained_one_after_another(backbone, monkeypatch):
    config = settings(backbone("bert"))
    monkeypatch.delitem(joint.SWAPS, torch.nn.LayerNorm)
    ours = together(config, trainings(config, order="short-to-long"))
    for (logits, steps), (own, _) in zip(ours, alone(config, order="short-to-long")):
        np.testing.assert_allclose(logits, own, atol=CLOSE)
        assert {step.lockstep for step in steps} == {1} and "LayerNorm at bert.embeddings.LayerNorm" in steps[0].note


def test_frozen_weights_that_differ_are_not_shared(backbone):
    config = settings(backbone("bert"), "lora")
    given = trainings(config, order="short-to-long")
    with torch.no_grad():
        next(weight for weight in given[2].expert.model.parameters() if not weight.requires_grad).mul_(2)
    before = given[2].expert.logits(SENTENCES)
    told = list(trainer.fit_in_lockstep(given, config, 1))
    assert {step.lockstep for _, step in told} == {1} and "a member's logits are not its own" in told[0][1].note
    assert 0.05 < np.abs(given[2].expert.logits(SENTENCES) - before).max()


def test_a_model_whose_rows_are_another_members_is_found_out(backbone, monkeypatch):
    """A layer that mixes the members up must not be trained on."""
    config = settings(backbone("bert"))
    forward = joint.SWAPS[torch.nn.Linear].forward
    monkeypatch.setattr(joint.SWAPS[torch.nn.Linear], "forward", lambda self, x: forward(self, x).roll(1, 0))
    assert {step.lockstep for _, step in trainer.fit_in_lockstep(trainings(config), config, 1)} == {1}


def test_their_batches_are_of_like_length_however_many_sentences_each_has():
    lengths = np.random.default_rng(1).gamma(2, 6, 3000).astype(int) + 3

    def order(rows, seed, draws):
        own = lengths[rows]
        batches = buckets(SamplerContext(own, draws=np.random.default_rng(7) if draws else None), 32, np.random.default_rng(seed))
        return [own[next(batches)] for _ in range(150)]

    def padding(draws):
        longest = np.array([[max(batch) for batch in order(slice(None, n), seed, draws)] for seed, n in enumerate((2000, 2000, 3000))])
        own = sum(longest.sum(1))
        return 3 * longest.max(0).sum() / own

    assert padding(True) < 1.12 < 1.3 < padding(False)
    first_pass = np.sort(np.concatenate(order(slice(None, 3000), 0, True)[:94]))
    np.testing.assert_array_equal(first_pass, np.sort(lengths))


def test_on_a_gpu_the_jobs_of_one_backbone_are_one_group_on_each(monkeypatch):
    def job(name, tokens, backbone="x"):
        return plan.FineTuneJob("experts", name, np.arange(3), 0, 1, tokens, backbone, "buckets")

    jobs = [job("AB", 20), job("BC", 21), job("CA", 22), job("seed0", 30), job("seed1", 31), job("other", 5, "y")]
    gpus = [torch.device("cuda:0"), torch.device("cuda:1")]

    def named(groups):
        return [[each.name for each in group] for group in groups]

    assert named(plan.in_groups(jobs, gpus[:1])) == [["seed1", "seed0", "CA", "BC", "AB"], ["other"]]
    assert named(plan.in_groups(jobs, gpus)) == [["seed1", "CA", "AB"], ["seed0", "BC"], ["other"]]
    assert named(plan.in_groups(jobs, [CPU, CPU])) == [[each.name] for each in jobs]


@pytest.fixture(scope="module")
def whole(tiny_run, movies, tiny_bert, tmp_path_factory):
    """A run of the tiny run's settings whose nine models were trained in lockstep, as on a GPU, and what was told."""
    config, folder = Run.open(tiny_run).config, tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_jobs, "in_groups", lambda jobs, devices: plan.in_groups(jobs, [torch.device("cuda")]))
        return folder, list(pipeline.train(config, folder))


def test_a_whole_run_in_lockstep_is_a_run_like_any(whole, tiny_run):
    folder, told = whole
    run, other = Run.open(folder).check(), Run.open(tiny_run)
    assert {path.relative_to(folder) for path in folder.rglob("*")} == {path.relative_to(tiny_run) for path in tiny_run.rglob("*")}
    assert run.manifest["models"] == other.manifest["models"] and run.manifest["signatures"] == other.manifest["signatures"]
    cost, others = run.read_json("metrics.json")["cost"], other.read_json("metrics.json")["cost"]
    for name, one in cost.items():  # a control ends within an epoch, whose batches come in another order
        for what in ("steps", "sentences", *([] if "equal-cost" in name else ["tokens"])):
            assert one[what] == others[name][what]
    reports = [each for each in told if isinstance(each, pipeline.Progress)]
    assert {report.step.lockstep for report in reports[:9]} == {9}
    assert len({report.model for report in reports[:9]}) == 9  # every model reports before one does again
    assert all(report.left >= 0 and 0 < report.done < 1 for report in reports)
    for name in ("AB", "seed0", "equal-cost/seed0"):
        curve = [line for line in run.history() if line["model"] == name]
        assert curve[-1]["step"] == curve[-1]["steps"] and curve[0]["held_out_accuracy"] is not None
    assert Monju.load(folder, "cpu").read(["a quiet triumph"])[0].monju.label in run.manifest["data"]["labels"]
