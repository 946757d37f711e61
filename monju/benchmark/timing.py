"""What benchmarks share: clocks, turns, made-up sentences, and the device's own speed."""

import resource
import time

import numpy as np
import torch

WORDS = ["film", "story", "the", "a", "of", "and", "is", "it", "with", "heart", "slow", "dull", "bright",
         "cast", "scene", "never", "quite", "funny", "sad", "long", "plot", "director", "music", "charm",
         "waste", "time"]


def clocked(work, *arguments):
    """Return (seconds, result) of a call."""
    began = time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - began, result


def turn(contenders, number):
    """Return every contender once, another one first each round."""
    names = list(contenders)
    start = number % len(names)
    return [(name, contenders[name]) for name in names[start:] + names[:start]]


def peak_memory(device):
    """Return the peak memory in bytes: of the GPU, or of this process."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else 1024 * resource.getrusage(
        resource.RUSAGE_SELF).ru_maxrss


def matmul_rate(dtype, device, side=None):
    """Return the operations a second of the fastest of eight products of square matrices.

    `side` is their size, by default one that fills the device.
    """
    side = side or (8192 if device == "cuda" else 1536)
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    seconds = np.inf
    for _ in range(8):
        seconds = min(seconds, clocked(lambda: (matrix @ matrix)[0, 0].item())[0])
    return 2 * side**3 / seconds


def made_up(n, seed=0, mean=19.5, spread=8.8):
    """Return n random word sequences of SST-2's lengths, by their mean and standard deviation in words."""
    random = np.random.default_rng(seed)
    lengths = np.clip(np.round(random.normal(mean, spread, n)), 2, 47).astype(int)
    return [" ".join(random.choice(WORDS, length)) for length in lengths]
