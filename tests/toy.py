"""A toy run of eight sentences whose every number can be counted by hand; no tests here."""

import numpy as np

from monju.ensemble.outputs import Predictions


def verdicts(digits: str) -> np.ndarray:
    return np.array([int(digit) for digit in digits])


def logits(digits: str, labels: int = 2) -> np.ndarray:
    """Logits (n, labels) whose verdicts are the digits, all equally sure."""
    return 2.0 * np.eye(labels, dtype=np.float32)[verdicts(digits)]


LABELS = verdicts("00001111")


VERDICTS = {  # counted against 0000 1111
    "AB": "00011110",  # wrong: 3, 7   6/8
    "BC": "10001111",  # wrong: 0      7/8
    "CA": "01000111",  # wrong: 1, 4   6/8
    "seed0": "00001100",  # wrong: 6, 7   6/8
    "seed1": "11001111",  # wrong: 0, 1   6/8
    "equal-cost/seed0": "00001111",  # 8/8
}


def toy(**changes) -> Predictions:
    """Eight sentences in the clusters A A A B B B C C."""
    fields = {
        "clusters": ["A", "B", "C"],
        "experts": ["AB", "BC", "CA"],
        "subsets": [(0, 1), (1, 2), (2, 0)],
        "members": ["seed0", "seed1"],
        "equal_cost": ["equal-cost/seed0"],
        "vectors": None,
        "posterior": None,
        "distances": 2.0 - np.eye(3)[verdicts("00011122")],
        "alpha": np.array([[0.5, 0.2, 0.3]] * 4 + [[0.1, 0.6, 0.3]] * 4),
        "logits": np.stack([logits(digits) for digits in VERDICTS.values()], axis=1),  # [8, 6, 2]
        "monju": logits("00001110"),  # wrong: 7      7/8
        "uniform": np.mean([logits(VERDICTS[name]) for name in ("AB", "BC", "CA")], axis=0),
        "baseline": logits("10001110"),  # wrong: 0, 7   6/8
        "equal_cost_ensemble": logits("00001111"),
    }
    return Predictions(**fields | changes)


COST = {
    "AB": {"sentences": 600, "tokens": 1000, "steps": 20, "seconds": 1.5},
    "BC": {"sentences": 600, "tokens": 1100, "steps": 20, "seconds": 1.5},
    "CA": {"sentences": 600, "tokens": 1200, "steps": 20, "seconds": 1.5},
    "seed0": {"sentences": 900, "tokens": 2000, "steps": 30, "seconds": 2.2},
    "seed1": {"sentences": 900, "tokens": 2000, "steps": 30, "seconds": 2.2},
}
