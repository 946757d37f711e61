"""Orders: every pass holds every sentence once, in the order that the name promises; an expert trains in any of them."""

from itertools import islice

import numpy as np
import pytest

from monju.config import Config
from monju.data import sources
from monju.errors import MonjuError
from monju.models import backbones
from monju.models.classifier import Expert
from monju.training import samplers, trainer

LENGTHS = np.array([9, 3, 7, 5, 4, 8, 6, 2])
CLUSTERS = np.array([0, 0, 1, 1, 0, 0, 1, 1])
LOSSES = np.array([0.1, 0.9, 0.3, 0.7, 0.2, 0.8, 0.4, 0.6])


def passes(name, count=2):
    found = samplers.TABLE[name](samplers.SamplerContext(LENGTHS, CLUSTERS, lambda: LOSSES), 2, np.random.default_rng(0))
    return [[batch.tolist() for batch in islice(found, 4)] for _ in range(count)]


@pytest.mark.parametrize("name", samplers.TABLE)
def test_every_pass_holds_every_sentence_once(name):
    for found in passes(name, 3):
        assert sorted(sum(found, [])) == list(range(8))


@pytest.mark.parametrize("clusters", [[11, 7, 5], [1, 2, 20], [3, 3, 3, 14], [23]])
@pytest.mark.parametrize("name", samplers.TABLE)
def test_epochs_times_the_batches_of_a_pass_hold_every_sentence_as_often(name, clusters):
    """23 sentences in fours are six batches a pass, whatever the clusters' sizes."""
    seen = samplers.SamplerContext(np.arange(23) % 7 + 2, np.repeat(np.arange(len(clusters)), clusters), lambda: np.arange(23) / 23)
    found = samplers.TABLE[name](seen, 4, np.random.default_rng(0))
    for _ in range(3):
        one_pass = [batch.tolist() for batch in islice(found, 6)]
        assert sorted(sum(one_pass, [])) == list(range(23)) and max(map(len, one_pass)) == 4
        if name == "by-cluster":
            in_turn = seen.clusters[sum(one_pass, [])]
            assert np.count_nonzero(np.diff(in_turn)) == len(clusters) - 1


def test_the_names_keep_their_promise():
    assert passes("short-to-long", 1) == [[[7, 1], [4, 3], [6, 2], [5, 0]]]
    first, second = passes("easy-to-hard")
    assert second == [[0, 4], [2, 6], [7, 3], [5, 1]] and first != second
    for found in passes("by-cluster", 3):
        seen = CLUSTERS[sum(found, [])]
        assert len(set(seen[:4])) == 1 and len(set(seen[4:])) == 1
    one, two = passes("shuffled")
    assert one != two
    assert all(abs(LENGTHS[a] - LENGTHS[b]) == 1 for a, b in passes("buckets", 1)[0])  # neighbours in length


@pytest.mark.parametrize("name", ["easy-to-hard", "by-cluster"])
def test_an_expert_learns_in_that_order(movies, name):
    config = Config(data=str(movies), finetuning="lora", epochs=2, batch_size=8, precision="fp32", device="cpu")
    data = sources.load(str(movies), sample=40)
    tokenizer = backbones.tokenizer(config.backbone)
    tokens = backbones.encode(tokenizer, data.train.texts, 32)
    expert = Expert.start(config, data.label_names, tokenizer.pad_token_id, 0, backbones.pick_device("cpu"))
    before = expert.losses(tokens, data.train.labels).mean()
    steps = list(trainer.fit(expert, config, tokens, data.train.labels, 0, order=name, clusters=np.arange(40) % 3))
    assert steps[-1].step == 10 and steps[-1].sentences == 80
    assert expert.losses(tokens, data.train.labels).mean() < before


def test_an_order_for_each_expert_and_no_unknown_one():
    config = Config(orders="shuffled, by-cluster")
    assert [config.order_of(i) for i in range(3)] == ["shuffled", "by-cluster", "shuffled"]
    with pytest.raises(MonjuError, match="--orders cannot be 'backwards'; choose from buckets, shuffled"):
        Config(orders="backwards")
    with pytest.raises(MonjuError, match="--orders names 4 for 3 experts"):
        Config(orders="buckets,buckets,buckets,buckets")
