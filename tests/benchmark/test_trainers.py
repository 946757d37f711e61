"""Who trains in `bench train`: what is counted of them is counted right."""

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import torch

from monju.benchmark import trainers
from monju.benchmark.trainers import Bench
from monju.config import Config
from monju.models import backbones
from monju.models.classifier import Expert
from monju.training import lockstep, member


def test_flops_are_those_of_the_matrix_products():
    """MiniLM by hand, forward and backward: a token meets 4·384² + 2·384·1536 weights in each of 6 layers, and in the last of ours
    but the keys' and values', except for the first of its sentence's 8; and there is attention."""
    tokens = [[101, 2023, 2003, 1037, 3185, 102, 102, 102]] * 4
    run = Bench(Config(device="cpu", batch_size=4), tokens, np.zeros(4, int), ["a", "b"], backbones.tokenizer("all-MiniLM-L6-v2"), 1, "cpu")
    layer, keys = 4 * 384**2 + 2 * 384 * 1536, 2 * 384**2
    for whole, weights in ((True, 32 * 6 * layer), (False, 32 * (5 * layer + keys) + 4 * (layer - keys))):
        assert 3 * 2 * weights < run.flops(32, whole) < 1.1 * 3 * 2 * weights


def test_on_a_gpu_as_many_steps_are_profiled_as_it_says(tiny_bert, monkeypatch):
    """After all that are timed, though a report comes when the next is due. The device is stood in for."""
    AdamW, start, learn, done, profiled = torch.optim.AdamW, Expert.start, lockstep.Lockstep._learn, [], []

    @contextmanager
    def profile(steps):
        before = len(done)
        yield {}
        profiled.append((before, len(done) - before, steps))

    monkeypatch.setattr(member, "is_gpu", lambda device: True)
    monkeypatch.setattr(lockstep, "Replay", lambda act, forget: act)
    monkeypatch.setattr(lockstep.Lockstep, "_learn", lambda self, shape: done.append(shape) or learn(self, shape))
    monkeypatch.setattr(torch.optim, "AdamW", lambda *given, capturable, **options: AdamW(*given, **options))
    monkeypatch.setattr(trainers, "gpu_profile", profile)
    monkeypatch.setattr(trainers.Expert, "start", lambda *given: start(*given[:-1], torch.device("cpu")))
    config = Config(backbone=str(tiny_bert), device="cpu", batch_size=4, precision="fp32")
    run = Bench(config, [[2, 5 + row, 3] for row in range(40)], np.arange(40) % 2, ["a", "b"], backbones.tokenizer(str(tiny_bert)), 8, "cpu")
    told = [(number, step.step) for number, step, _, _ in run.fit(range(2), SimpleNamespace(type="cuda"))]
    assert told == [(number, step) for step in (2, 4, 6, 8) for number in range(2)]
    assert profiled == [(10, 2, 2)]
