"""Who trains in `bench train`: what is counted of them is counted right."""

import numpy as np

from monju.benchmark.trainers import Bench
from monju.config import Config
from monju.models import backbones


def test_flops_are_those_of_the_matrix_products():
    """MiniLM by hand, forward and backward: a token meets 4·384² + 2·384·1536 weights in each of 6 layers, and in the last of ours
    but the keys' and values', except for the first of its sentence's 8; and there is attention."""
    tokens = [[101, 2023, 2003, 1037, 3185, 102, 102, 102]] * 4
    run = Bench(Config(device="cpu", batch_size=4), tokens, np.zeros(4, int), ["a", "b"], backbones.tokenizer("all-MiniLM-L6-v2"), 1, "cpu")
    layer, keys = 4 * 384**2 + 2 * 384 * 1536, 2 * 384**2
    for whole, weights in ((True, 32 * 6 * layer), (False, 32 * (5 * layer + keys) + 4 * (layer - keys))):
        assert 3 * 2 * weights < run.flops(32, whole) < 1.1 * 3 * 2 * weights
