"""The estimate: real steps in a process of its own."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from monju.config import Config
from monju.errors import MonjuError
from monju.training.estimate import estimate, measure
from monju.training.progress import MAP_SECONDS

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def test_what_would_be_trained_and_what_it_takes(movies):
    config = Config(data=str(movies), k=3, subset_size=2, finetuning="lora", epochs=2, batch_size=4, max_tokens=32,
                    precision="fp32", device="cpu", workers=1)
    plan, cost = estimate(config)
    assert plan["train"] == 120 and plan["validation"] == 40 and plan["sampled"] is None
    assert sum(plan["clusters"].values()) == 120
    assert plan["gate"]["unseen"] == 0 and 0 < plan["gate"]["uneven"] < plan["gate"]["most"]  # two labels, in every cluster
    sentences = {model["name"]: model["sentences"] for model in plan["models"]}
    assert list(sentences) == ["AB", "BC", "CA", "seed0", "seed1", "seed2"] and sentences["seed0"] == 120
    assert sentences["AB"] == plan["clusters"]["A"] + plan["clusters"]["B"]
    assert plan["models"][3]["steps"] == 60  # 30 batches, twice
    assert cost["memory"] > 100e6 and cost["of"] == "processes" and cost["places"] == 1 and 2 <= cost["steps"] < 12
    trained = 2 * sum(sentences.values()) / cost["sentences_per_s"]  # sentences of all models, twice, at the speed measured
    assert 0.5 * trained < cost["seconds"] - MAP_SECONDS < 4 * trained


def test_what_cannot_be_trained_is_told(movies):
    with pytest.raises(MonjuError, match="cannot make 26 clusters"):
        list(estimate(Config(data=str(movies), sample=10, k=26, subset_size=1)))
    with pytest.raises(MonjuError, match="no source"):
        next(measure(Config(data="nowhere.csv")))


def test_it_ends_with_the_process_that_asked(movies):
    """Whose end is the end of its standard input."""
    asked = json.dumps(Config(data=str(movies), finetuning="lora", max_tokens=32, device="cpu", workers=1).to_json())
    ran = subprocess.run([sys.executable, "-m", "monju.training.estimate"], cwd=REPOSITORY, input=asked + "\n", capture_output=True, text=True)
    assert ran.returncode == -signal.SIGKILL and "seconds" not in ran.stdout
