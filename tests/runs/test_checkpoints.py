"""Checkpoints: a training that goes on from one is the undisturbed training, to the bit."""

import json

import numpy as np
import pytest
import torch

from monju.config import Config
from monju.errors import MonjuError
from monju.models import backbones
from monju.models.classifier import Expert
from monju.runs.checkpoints import Checkpoints
from monju.training import trainer

CPU = torch.device("cpu")
TEXTS = [f"{'very ' * (i % 4)}{word} film" for i, word in enumerate(("good", "bad", "fine", "dull", "new", "old", "great", "poor", "warm", "cold"))]
LABELS = np.array([1, 0] * 5)
pytestmark = pytest.mark.usefixtures("one_thread")  # bits are compared


@pytest.fixture(scope="module")
def tokens():
    return backbones.encode(backbones.tokenizer("all-MiniLM-L6-v2"), TEXTS, 16)


def fresh(config):
    return Expert.start(config, ["bad", "good"], 0, 7, CPU)


@pytest.fixture
def settings(tiny_bert):
    return lambda finetuning: Config(backbone=str(tiny_bert), finetuning=finetuning, epochs=3, batch_size=4, learning_rate=1e-3,
                                     max_tokens=16, precision="fp32", device="cpu")


def test_the_last_whole_checkpoint_is_the_one_that_counts(tmp_path):
    kept = Checkpoints(tmp_path / "rounds" / "AB")
    assert kept.load() == ({}, {"step": 0}) and not kept.damaged
    kept.save(3, {"w": torch.ones(2)}, seen=12)
    kept.save(6, {"w": torch.zeros(2)}, seen=24)
    tensors, facts = kept.load()
    assert facts["step"] == 6 and facts["seen"] == 24 and tensors["w"].tolist() == [0, 0]
    assert len(list(kept.folder.iterdir())) == 2  # the one before is gone
    (kept.folder / "9.safetensors").write_bytes(b"written just before a kill")
    assert kept.facts["step"] == 6
    kept.clear()
    assert kept.facts == {"step": 0} and not kept.folder.exists()


def test_a_checkpoint_that_comes_from_elsewhere_takes_the_place_of_the_one_before(tmp_path):
    here, there = Checkpoints(tmp_path / "here"), Checkpoints(tmp_path / "there")
    assert there.files() == {}
    for step in (3, 6):
        there.save(step, {"w": torch.full((2,), float(step))}, seen=step)
        here.put(there.files())
    assert there.files(after=6) == {} and there.files(after=3) == there.files() == here.files()
    assert here.facts == there.facts and here.load()[0]["w"].tolist() == [6, 6]
    assert sorted(path.name for path in here.folder.iterdir()) == ["6.safetensors", "checkpoint.json"]
    (there.folder / "checkpoint.json").write_text("{")
    assert there.files() == {}


@pytest.mark.parametrize("damage", ["truncated", "flipped", "deleted", "no json", "another json"])
def test_a_damaged_checkpoint_is_none(tmp_path, damage):
    kept = Checkpoints(tmp_path / "AB")
    kept.save(3, {"w": torch.ones(20)})
    tensors, facts = kept.folder / "3.safetensors", kept.folder / "checkpoint.json"
    whole = tensors.read_bytes()
    if damage == "truncated":
        tensors.write_bytes(whole[:-5])
    elif damage == "flipped":
        tensors.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif damage == "deleted":
        tensors.unlink()
    else:
        facts.write_text("{" if damage == "no json" else json.dumps({"step": 3}))
    assert kept.load() == ({}, {"step": 0}) and kept.damaged


@pytest.mark.parametrize("finetuning, order", [("lora", "buckets"), ("full", "buckets"), ("lora", "easy-to-hard")])
def test_what_goes_on_from_a_checkpoint_is_the_undisturbed_training(tmp_path, tokens, settings, finetuning, order):
    """Left at step 8 of 9 (three a pass), gone on from the checkpoint after step 6: weights and every report alike."""
    config = settings(finetuning)

    def fit(expert, folder):
        return trainer.fit(expert, config, tokens, LABELS, 7, order=order, checkpoints=Checkpoints(tmp_path / folder))

    whole = fresh(config)
    told = list(fit(whole, "whole"))
    left = fresh(config)
    for step in fit(left, "left"):
        if step.step == 8:
            break
    again = fresh(config)
    rest = list(fit(again, "left"))
    assert [step.step for step in rest] == [7, 8, 9]
    for one, other in zip(told[6:], rest):
        assert (one.loss, one.learning_rate, one.tokens, one.sentences) == (other.loss, other.learning_rate, other.tokens, other.sentences)
    theirs = again.model.state_dict()
    assert [name for name, weight in whole.model.state_dict().items() if not torch.equal(weight, theirs[name])] == []


def test_a_gpu_without_room_reads_a_batch_in_parts(tokens, settings, monkeypatch):
    """Here the model itself refuses more than two sentences at a time, as a small GPU would; without dropout the result is the same."""
    config = settings("full")

    def trained(most):
        expert = fresh(config)
        for module in expert.model.modules():
            if hasattr(module, "p"):
                module.p = 0.0

        def refuse(module, args, kwargs):
            if len(kwargs["inputs_embeds"]) > most:
                raise torch.OutOfMemoryError("CUDA out of memory.")

        expert.model.bert.embeddings.register_forward_pre_hook(refuse, with_kwargs=True)
        return expert, list(trainer.fit(expert, config, tokens, LABELS, 7, steps=6))

    (_, told), (_, other) = trained(4), trained(2)
    assert {step.parts for step in told} == {1} and other[-1].parts == 2
    np.testing.assert_allclose([step.loss for step in other], [step.loss for step in told], rtol=1e-4)
    with pytest.raises(MonjuError, match="does not do for one sentence"):
        trained(0)
