"""What is watched of a training: it changes no bit of it, survives a resume, and its sums can be checked by hand."""

import json

import numpy as np
import pytest
from conftest import alone
from test_jobs import config, jobs, until  # noqa: F401  # config and jobs are fixtures

from monju.errors import MonjuError
from monju.runs.run import Run
from monju.training import watch
from monju.training.pipeline import train
from monju.training.progress import Progress
from monju.training.watch import Watch

TEXTS = ["a quiet triumph", "two hours of my life, gone"]


def watched(folder, texts=()):
    folder.mkdir(exist_ok=True)
    found = Watch(*(folder / name for name in ("pins", "map", "checks")))
    if texts:
        found.pins.write_text(json.dumps(list(texts)))
    return found


def lines(found):
    return [json.loads(line) for line in found.checks.read_text().splitlines()]


def learned(out):
    """What must be the same: every weight, every logged number but the time, the results."""
    weights = {str(file.relative_to(out)): file.read_bytes() for file in sorted(out.rglob("*.safetensors"))}
    history = [{name: value for name, value in line.items() if name != "seconds"} for line in Run.open(out).history()]
    table = Run.open(out).metrics()
    return weights, history, table["monju"]["accuracy"], (out / "predictions.parquet").read_bytes()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_training_is_the_same_to_the_bit_with_pinned_sentences_and_without(config, tmp_path, workers):  # noqa: F811
    settings = config(epochs=2, workers=workers, precision="fp32")
    with alone():
        list(train(settings, tmp_path / "plain"))
        seen = watched(tmp_path / "watch", TEXTS)
        for event in train(settings, tmp_path / "pinned", watch=seen):
            if isinstance(event, Progress):
                seen.checked(event)
    assert learned(tmp_path / "plain") == learned(tmp_path / "pinned")
    said = [line for line in lines(seen) if "model" in line]
    assert {line["model"] for line in said} == {"A", "B"} and all(list(line["pinned"]) == TEXTS for line in said)


def test_what_is_pinned_meanwhile_is_read_at_the_next_check_and_nothing_is_lost_by_a_resume(config, tmp_path):  # noqa: F811
    seen, out = watched(tmp_path / "watch"), tmp_path / "run"
    running = train(config(epochs=4), out, watch=seen)
    for event in running:
        if isinstance(event, Progress):
            seen.checked(event)
            if event.step.check and not event.step.check.pinned:
                seen.pins.write_text(json.dumps(TEXTS[:1]))  # after the first check
            if event.model == "A" and event.step.step > 70:
                break
    running.close()
    before = lines(seen)
    assert before[0]["pinned"] == {} and before[-1]["pinned"].keys() == {TEXTS[0]}
    again = Watch(seen.pins, seen.map, seen.checks)
    for event in train(None, out, resume=True, watch=again):
        if isinstance(event, Progress):
            again.checked(event)
    after = lines(seen)
    assert after[: len(before)] == before and after[-1]["model"] == "B"
    found = json.loads(seen.map.read_text())
    history = watch.verdicts(found, after, TEXTS[0])
    assert set(history[-1]["said"]) == {"A", "B"} and len({(one["model"], one["step"]) for one in history}) == len(history)
    # the last check is the finished model's own verdict
    from monju.inference.pipeline import Monju

    reading = Monju.of(Run.open(out), "cpu").read([TEXTS[0]])[0]
    label, sure = watch.surest(np.array(reading.monju.logits))
    assert history[-1]["monju"][0] == label and history[-1]["monju"][1] == pytest.approx(sure, abs=1e-3)


def test_the_map_has_the_sentences_of_the_checks(config, tmp_path):  # noqa: F811
    seen = watched(tmp_path / "watch")
    for event in train(config(), tmp_path / "run", watch=seen):
        if isinstance(event, Progress):
            seen.checked(event)
    found, checks = json.loads(seen.map.read_text()), lines(seen)
    assert len(found["points"]) == len(found["texts"]) == 8 and len(found["centres"]) == 2 and found["experts"] == ["A", "B"]
    last = {line["model"]: line for line in checks}
    curve = {line["model"]: line["held_out_accuracy"] for line in Run.open(tmp_path / "run").history()}
    assert {name: line["right"].count("1") / 8 for name, line in last.items()} == curve
    read, shares = watch.right_share(found, checks)
    assert read == ["A", "B"] and shares == [(int(a) + int(b)) / 2 for a, b in zip(last["A"]["right"], last["B"]["right"])]


FOUND = {"experts": ["AB", "BC", "CA"], "fusion": "logits", "points": [[0, 0, 0], [1, 1, 1]]}


def test_the_experts_read_so_far_are_weighed_among_each_other():
    """α of AB and BC are 0.2 and 0.6, so 1/4 and 3/4 of what is there: 1/4 · 4 + 3/4 · 0 = 1 against 1/4 · 0 + 3/4 · 2 = 1.5."""
    checks = [{"text": "x", "alpha": [0.2, 0.6, 0.2]},
              {"model": "AB", "step": 5, "right": "10", "pinned": {"x": [4.0, 0.0]}},
              {"model": "seed0", "step": 5, "right": "00", "pinned": {"x": [0.0, 9.0]}},
              {"model": "BC", "step": 5, "right": "11", "pinned": {"x": [0.0, 2.0], "y": [1.0, 0.0]}}]
    first, second, third = watch.verdicts(FOUND, checks, "x")
    assert first["monju"] == first["said"]["AB"] == (0, pytest.approx(1 / (1 + np.exp(-4))))
    assert second["monju"] == first["monju"] and second["said"]["seed0"][0] == 1  # a baseline has no α
    assert third["monju"] == (1, pytest.approx(1 / (1 + np.exp(-0.5)))) and third["said"].keys() == {"AB", "seed0", "BC"}
    # a resumed training repeats what follows its checkpoint
    assert watch.verdicts(FOUND, [*checks, *checks[1:]], "x") == [first, second, third]
    assert watch.right_share(FOUND, checks) == (["AB", "BC"], [1.0, 0.5])
    assert watch.right_share(FOUND, []) == ([], [None, None]) and watch.verdicts(FOUND, checks, "z") == []


def test_few_short_sentences_are_pinned_each_once(tmp_path):
    assert watch.sentences([" a ", "a", "", "b"]) == ["a", "b"]
    for texts, said in ((map(str, range(6)), "at most 5"), (["x" * 501], "at most 500 characters")):
        with pytest.raises(MonjuError, match=said):
            watch.sentences(texts)
    for content in ("", "{", "3", '{"a": 1}', '[1, "a"]'):
        (tmp_path / "pins").write_text(content)
        assert watch.pinned(tmp_path / "pins") == (["a"] if "a\"]" in content else [])
    assert watch.pinned(tmp_path / "none") == []
