"""Visitors at the same moment share a forward pass, and each gets their own answer."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import monju
from monju.errors import MonjuError
from monju.inference import batcher as together_module
from monju.inference.batcher import DynamicBatcher

TEXTS = ["a quiet triumph", "dull, loud and far too long", "it is a film", "see it twice !", "雪 is snow", "not for me"]


@pytest.fixture(scope="module")
def ensemble(tiny_run):
    return monju.load(tiny_run, device="cpu")


class Counting:
    """The real ensemble, with a count of what it was asked, and a door that holds the first batch until the others wait."""

    def __init__(self, ensemble):
        self.ensemble, self.batches, self.door = ensemble, [], threading.Event()

    def outputs(self, texts):
        self.batches.append(len(texts))
        self.door.wait(60)
        return self.ensemble.outputs(texts)


def begun(crowd, together, counting):
    """The first visitor's answer, whose batch is being read already."""
    first = crowd.submit(together.outputs, TEXTS[:1])
    while not counting.batches:
        pass
    return first


def test_who_waits_shares_the_next_pass_and_gets_the_own_answer(ensemble):
    counting = Counting(ensemble)
    together = DynamicBatcher(counting.outputs, in_flight=1)
    with ThreadPoolExecutor(len(TEXTS)) as crowd:
        first = begun(crowd, together, counting)
        others = [crowd.submit(together.outputs, [text]) for text in TEXTS[1:]]
        while len(together.waiting) < len(others):
            pass
        counting.door.set()
        answers = [first.result(60), *(other.result(60) for other in others)]
    assert counting.batches == [1, 5]  # two forward passes for six visitors
    alone = ensemble.outputs(TEXTS)
    for i, answer in enumerate(answers):
        assert answer.logits.shape == (1, 6, 2) and answer.models == alone.models
        for name in ("logits", "distances", "vectors"):
            np.testing.assert_allclose(getattr(answer, name)[0], getattr(alone, name)[i], atol=1e-5)


def test_one_bad_sentence_spoils_only_its_own_answer(ensemble):
    counting = Counting(ensemble)
    together = DynamicBatcher(counting.outputs, in_flight=1)
    with ThreadPoolExecutor(3) as crowd:
        first = begun(crowd, together, counting)
        bad, good = crowd.submit(together.outputs, [" "]), crowd.submit(together.outputs, TEXTS[1:3])
        while len(together.waiting) < 2:
            pass
        counting.door.set()
        assert first.result(60).logits.shape == (1, 6, 2)
        assert good.result(60).logits.shape == (2, 6, 2)
        with pytest.raises(MonjuError, match="empty"):
            bad.result(60)


def test_a_crowd_in_several_batches_is_wholly_answered(ensemble, monkeypatch):
    monkeypatch.setattr(together_module, "MAX_BATCH", 2)
    counting = Counting(ensemble)
    together = DynamicBatcher(counting.outputs, in_flight=1)
    with ThreadPoolExecutor(len(TEXTS)) as crowd:
        first = begun(crowd, together, counting)
        answers = [first, *(crowd.submit(together.outputs, [text]) for text in TEXTS[1:])]
        while len(together.waiting) < len(TEXTS) - 1:
            pass
        counting.door.set()
        found = [answer.result(60).logits[0] for answer in answers]
    assert sorted(counting.batches) == [1, 1, 2, 2] and not together.waiting
    np.testing.assert_allclose(found, ensemble.outputs(TEXTS).logits, atol=1e-5)


def test_nothing_of_it_outlives_it(ensemble):
    """A page opens run after run: what reads for one that was put back must not keep its models."""
    counting = Counting(ensemble)
    counting.door.set()
    together = DynamicBatcher(counting.outputs, in_flight=1)
    together.outputs(TEXTS[:1])
    there = weakref.ref(counting)
    del together, counting
    gc.collect()
    assert there() is None
