"""What the benchmarks share."""

import numpy as np

from monju.benchmark.timing import made_up, turn


def test_made_up_sentences_have_the_lengths_of_sst2():
    texts = made_up(872)
    words = [len(text.split()) for text in texts]
    assert texts == made_up(872) and abs(np.mean(words) - 19.5) < 1 and min(words) >= 2


def test_everyone_goes_first_once():
    rounds = [[name for name, _ in turn({"a": 1, "b": 2, "c": 3}, number)] for number in range(3)]
    assert rounds == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"]]
