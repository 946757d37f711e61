"""The comparison: all ways that a run allows to combine its models, on one labelled set.

Each row is measured against the baseline ensemble, sentence by sentence; the p-values are corrected for their
number (Holm 1979). Rows that a run does not allow are left out with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from monju.data.inputs import sentences
from monju.ensemble import gates
from monju.ensemble.outputs import ModelOutputs, Predictions
from monju.errors import MonjuError
from monju.evaluation import combiners, merge_methods, metrics
from monju.evaluation.merge_runner import MergeRunner
from monju.inference import students
from monju.runs.prediction_store import load_predictions

if TYPE_CHECKING:
    from monju.inference.pipeline import Monju


class System(NamedTuple):
    """What one row says and what it takes."""

    name: str
    kind: str
    logits: np.ndarray  # [n, labels]
    passes: int  # forward passes a sentence
    trained: list[str]  # the models whose training it took
    held: list[str]  # the models that it keeps to answer; of a merge, which is a model of its own, none
    gate: object = None


def compare(monju: Monju, labels: np.ndarray, texts: list[str] | None = None,
            votes: ModelOutputs | None = None, source: str | None = None) -> dict:
    """Rows and left-out rows of a loaded run on n labelled sentences, as plain numbers (`compare --json`).

    Parameters
    ----------
    monju : Monju
        The run.
    labels : ndarray (n,)
        The sentences' labels, as numbers of the run's.
    texts : list of str, optional
        The sentences, for every model and every merge to read.
    votes : ModelOutputs, optional
        Their stored outputs, which need no reading; without `texts` no merge and no student answers.
    source : str, optional
        Where the run's own sentences may be, if not where they were: what was kept aside is read from there.

    Returns
    -------
    dict
        {"n", "against", "rows": [{"name", "kind", "gate", "accuracy", "interval", "macro_f1", "nll", "brier",
        "ece", "difference", "difference_interval", "rescued", "broken", "changed", "p_value", "p_holm",
        "forward_passes", "train_tokens", "parameters"}], "left_out": [{"name", "kind", "reason"}],
        "diversity"}. "gate" is the gate with all its settings, None in other rows. No row has a time: models
        that read together have no time of their own, and `bench predict` measures speed.

    Raises
    ------
    MonjuError
        For no sentence, and for labels unlike the run's.
    """
    labels, texts = np.asarray(labels), None if texts is None else sentences(texts)
    votes = votes or monju.outputs(texts)
    systems, left_out = answers(monju, votes, labels, texts, source)
    against = "baseline" if votes.members else "uniform"
    reference = next(system for system in systems if system.name == against).logits.argmax(axis=1)
    cost, count = monju.run.metrics().get("cost", {}), parameters(monju, votes)
    cost |= monju.run.manifest.get("students", {})
    rows = []
    for system in systems:
        pair = metrics.compare_pair(system.logits.argmax(axis=1), reference, labels)
        rows.append({"name": system.name, "kind": system.kind, "gate": system.gate and repr(system.gate),
                     **metrics.measure(system.logits, labels),
                     **{key: pair[key] for key in ("difference", "changed", "rescued", "broken", "p_value")},
                     "difference_interval": pair["interval"], "forward_passes": system.passes,
                     "train_tokens": sum(cost.get(member, {}).get("tokens", 0) for member in system.trained)
                     or None,
                     "parameters": count(system.held)})
    others = [row for row in rows if row["name"] != against]
    for row, p in zip(others, metrics.holm(np.array([row["p_value"] for row in others]))):
        row["p_holm"] = float(p)
    return {"n": len(labels), "against": against, "rows": rows, "left_out": left_out,
            "diversity": diversity(votes, labels)}


def compare_stored(monju: Monju) -> dict:
    """`compare` on the stored held-out sentences, without a model. Raises MonjuError for damaged ones."""
    outputs, labels = load_predictions(monju.run)
    return compare(monju, labels, votes=outputs)


def answers(monju: Monju, votes: ModelOutputs, labels: np.ndarray, texts: list[str] | None,
            source: str | None = None) -> tuple[list[System], list[dict]]:
    """Every System, and the rows left out; ensembles mix as the run does, unless they have their own way."""
    known, decided = replace(combiners.fit_context(monju), labels=labels), votes.decide_as(monju.config)
    metrics.check(decided, labels)
    found = [System(name, "member", votes.of([name])[:, 0], 1, [name], [name])
             for name in votes.experts + votes.members + votes.equal_cost]
    for name, members, logits in (("baseline", votes.members, decided.baseline),
                                  ("equal cost", votes.equal_cost, decided.equal_cost_ensemble)):
        if members:
            found.append(System(name, "ensemble", logits, len(members), members, members))
    left_out = []
    for name, way in combiners.all_combiners().items():
        gate = way.gate and way.gate(monju.config)
        if gate == gates.make(monju.config) and not way.mix and name != "monju":
            continue  # the row "monju"
        if why := way.lack(votes, known):
            left_out.append({"name": name, "kind": way.kind, "reason": f"it {why}"})
        else:
            fused, held = way.decide(votes, known), votes.experts
            if name == "best single expert":
                held = [votes.experts[fused.alpha[0].argmax()]]
            found.append(System(name, way.kind, fused.monju, len(held), votes.experts, held, gate))
    merges = {} if texts is None else merged(MergeRunner(monju, source), decided, texts)
    for name, answer in merges.items():
        held = votes.experts if name == BY_ALPHA else []
        try:
            found.append(System(name, "merge", answer(), 1, votes.experts, held))
        except MonjuError as error:
            left_out.append({"name": name, "kind": "merge", "reason": str(error)})
    if texts is not None:
        found += [System(name, "student", logits, 1, [name], [name])
                  for name, logits in students.student_logits(monju, texts).items()]
    return found, left_out


BY_ALPHA = "merged by α"


def merged(merger: MergeRunner, decided: Predictions,
           texts: list[str]) -> dict[str, Callable[[], np.ndarray]]:
    """Every merge by name, as a function without arguments → logits [n, labels]."""
    found = {name: lambda merge=merge: merger.logits(merge(merger), texts)
             for name, merge in merge_methods.TABLE.items()}
    return found | {BY_ALPHA: lambda: merger.per_sentence(texts, decided.alpha)}


def parameters(monju: Monju, votes: ModelOutputs) -> Callable[[list[str]], int]:
    """How many numbers are held to answer, as a function of models' names, of none for a merge.

    A model fine-tuned in full, and a student, is what its folder stores. An adapter is its backbone, which
    the models named share, and beside it its own head and factors.
    """
    run, config, bases, own, backbones = monju.run, monju.config, {}, {}, {}
    whole = {backbone: group.members.parameters
             for backbone, group in zip(config.all_backbones, monju.groups)}
    for kind, names in (("experts", votes.experts), ("baseline", votes.members), ("", votes.equal_cost)):
        for number, name in enumerate(names):
            backbone, sizes = config.backbone_of(number), stored(run.path / kind / name)
            own[name] = sum(sizes.values())
            if any("lora_" in key for key in sizes):
                backbones[name] = backbone
                replaced = sum(size for key, size in sizes.items() if "lora_" not in key)
                bases[backbone] = whole[backbone] - replaced
    own |= {name: sum(stored(run.path / "students" / name).values())
            for name in run.manifest.get("students", {})}

    def count(names):
        shared = {backbones[name] for name in names if name in backbones}
        held = sum(own[name] for name in names) + sum(bases[backbone] for backbone in shared)
        return held or whole[config.backbone_of(0)]

    return count


def stored(folder: Path) -> dict[str, int]:
    """{tensor's name: how many numbers it has} of a model's folder."""
    from safetensors import safe_open

    sizes = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "numpy") as file:
            for key in file.keys():  # noqa: SIM118  # not a dictionary
                sizes[key] = int(np.prod(file.get_slice(key).get_shape()))
    return sizes


def diversity(votes: ModelOutputs, labels: np.ndarray) -> dict[str, dict]:
    """How unlike the experts are, and the baseline's members, each as the mean over pairs (Kuncheva &
    Whitaker 2003), and the ambiguity decomposition of the squared error (Krogh & Vedelsby 1995)."""
    return {name: _diversity(votes.of(members), labels)
            for name, members in (("experts", votes.experts), ("baseline", votes.members))
            if len(members) > 1}


def _diversity(logits, labels):
    from scipy.special import softmax

    right = logits.argmax(axis=2) == labels[:, None]  # (n, members)
    found = {"disagreement": [], "double_fault": [], "q": [], "rho": []}
    for i in range(right.shape[1]):
        for j in range(i):
            a, b = right[:, i], right[:, j]
            n11, n10, n01, n00 = ((a & b).mean(), (a & ~b).mean(), (~a & b).mean(), (~a & ~b).mean())
            found["disagreement"].append(n10 + n01)
            found["double_fault"].append(n00)
            below = n11 * n00 + n01 * n10
            # a degenerate pair says nothing
            found["q"].append((n11 * n00 - n01 * n10) / below if below else 0.0)
            spread = np.sqrt((n11 + n10) * (n01 + n00) * (n11 + n01) * (n10 + n00))
            found["rho"].append((n11 * n00 - n01 * n10) / spread if spread else 0.0)
    p, truth = softmax(logits, axis=2), np.eye(logits.shape[2])[labels]
    mean = p.mean(axis=1, keepdims=True)
    return {**{name: float(np.mean(values)) for name, values in found.items()},
            "member_error": float(((p - truth[:, None]) ** 2).sum(axis=2).mean()),
            "ambiguity": float(((p - mean) ** 2).sum(axis=2).mean()),
            "ensemble_error": float(((mean[:, 0] - truth) ** 2).sum(axis=1).mean())}
