"""The comparison: all combiners, merges and students that a run allows, on one labelled set.

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
from monju.evaluation import combiners, early_exit, merge_methods, metrics, run_table
from monju.evaluation.arrow import arrow_logits
from monju.evaluation.merge_runner import MergeRunner
from monju.inference import students
from monju.runs.prediction_store import load_predictions

if TYPE_CHECKING:
    from monju.inference.pipeline import Monju


class System(NamedTuple):
    """One row's logits, and the models behind them."""

    name: str
    kind: str
    logits: np.ndarray  # [n, labels]
    passes: float  # forward passes a sentence, on average
    trained: list[str]  # the models whose training it took
    held: list[str]  # the models it keeps for inference; of a merge, which is a model of its own, none
    gate: object = None


def compare(monju: Monju, labels: np.ndarray, texts: list[str] | None = None,
            outputs: ModelOutputs | None = None, source: str | None = None) -> dict:
    """Compare all ways to combine a loaded run's models on n labelled sentences (`compare --json`).

    Parameters
    ----------
    monju : Monju
        The run.
    labels : ndarray of int [n]
        The sentences' labels, as numbers of the run's.
    texts : list of str [n], optional
        The sentences, for every model and every merge to read.
    outputs : ModelOutputs, optional
        Their stored outputs, which need no reading; without `texts` no merge and no student is compared.
    source : str, optional
        Where the run's own sentences may be, if not where they were: the tuning split is read from there.

    Returns
    -------
    dict
        {"n", "against", "rows": [{"name", "kind", "gate", "accuracy", "interval", "macro_f1", "nll", "brier",
        "ece", "difference", "difference_interval", "rescued", "broken", "changed", "p_value", "p_holm",
        "forward_passes", "train_tokens", "parameters"}], "left_out": [{"name", "kind", "reason"}],
        "diversity", "early_exit"}. "gate" is the gate with all its settings, None in other rows. No row has a
        time: models that read together have no time of their own, and `bench predict` measures speed.
        "early_exit", None without a tuning split, is {"threshold", "tolerance", "curve": [{"threshold",
        "passes", "accuracy"}], "milliseconds": {"early_exit", "ensemble"}, None without `texts`}.

    Raises
    ------
    MonjuError
        For no sentence, and for labels unlike the run's.
    """
    labels, texts = np.asarray(labels), None if texts is None else sentences(texts)
    outputs = outputs or monju.outputs(texts)
    systems, left_out = all_systems(monju, outputs, labels, texts, source)
    exit_early = stops_early(monju, outputs, labels, texts, systems, left_out)
    against = "baseline" if outputs.members else "uniform"
    reference = next(system for system in systems if system.name == against).logits.argmax(axis=1)
    cost, count_parameters = monju.run.metrics().get("cost", {}), parameters(monju, outputs)
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
                     "parameters": count_parameters(system.held)})
    others = [row for row in rows if row["name"] != against]
    for row, p in zip(others, metrics.holm(np.array([row["p_value"] for row in others]))):
        row["p_holm"] = float(p)
    return {"n": len(labels), "against": against, "rows": rows, "left_out": left_out,
            "diversity": diversity(outputs, labels), "early_exit": exit_early}


def compare_stored(monju: Monju) -> dict:
    """Return `compare` on the stored held-out sentences, without a model.

    Raises MonjuError for damaged ones.
    """
    outputs, labels = load_predictions(monju.run)
    return compare(monju, labels, outputs=outputs)


def all_systems(monju: Monju, outputs: ModelOutputs, labels: np.ndarray, texts: list[str] | None,
                source: str | None = None) -> tuple[list[System], list[dict]]:
    """Return every System, and the rows left out.

    Ensembles use the run's fusion, unless their combiner has its own.
    """
    context = replace(combiners.fit_context(monju), labels=labels)
    predictions = outputs.decide_as(monju.config)
    run_table.check(predictions, labels)
    systems = [System(name, "member", outputs.of([name])[:, 0], 1, [name], [name])
               for name in outputs.experts + outputs.members + outputs.equal_cost]
    for name, members, logits in (("baseline", outputs.members, predictions.baseline),
                                  ("equal cost", outputs.equal_cost, predictions.equal_cost_ensemble)):
        if members:
            systems.append(System(name, "ensemble", logits, len(members), members, members))
    left_out = []
    for name, combiner in combiners.all_combiners().items():
        gate = combiner.gate and combiner.gate(monju.config)
        if gate == gates.make(monju.config) and not combiner.mix and name != "monju":
            continue  # the row "monju"
        if why := combiner.lack(outputs, context):
            left_out.append({"name": name, "kind": combiner.kind, "reason": f"it {why}"})
        else:
            fused, kept_models = combiner.decide(outputs, context), outputs.experts
            if name == "best single expert":
                kept_models = [outputs.experts[fused.alpha[0].argmax()]]
            systems.append(System(name, combiner.kind, fused.monju, len(kept_models), outputs.experts,
                                  kept_models, gate))
    merges = {} if texts is None else merged(MergeRunner(monju, source), predictions, texts)
    for name, compute in merges.items():
        kept_models = outputs.experts if name in (BY_ALPHA, ARROW) else []
        try:
            systems.append(System(name, "merge", compute(), 1, outputs.experts, kept_models))
        except MonjuError as error:
            left_out.append({"name": name, "kind": "merge", "reason": str(error)})
    if texts is not None:
        systems += [System(name, "student", logits, 1, [name], [name])
                    for name, logits in students.student_logits(monju, texts).items()]
    return systems, left_out


def stops_early(monju: Monju, outputs: ModelOutputs, labels: np.ndarray, texts: list[str] | None,
                systems: list[System], left_out: list[dict]) -> dict | None:
    """Add the row of early exit to `systems`, or to `left_out`; return what `compare` tells of it."""
    name = kind = "early exit"
    try:
        tuning, right = load_predictions(monju.run, "tuning")
    except MonjuError as error:
        left_out.append({"name": name, "kind": kind, "reason": str(error)})
        return None
    turns = early_exit.under(monju.config, outputs)
    threshold = early_exit.choose(early_exit.under(monju.config, tuning), right)
    passes, experts = early_exit.asked(turns, threshold), outputs.experts
    systems.append(System(name, kind, early_exit.answers(turns, passes), round(float(passes.mean()), 2),
                          experts, experts))
    timed = texts is not None and len(monju.config.all_backbones) == 1
    return {"threshold": threshold, "tolerance": early_exit.TOLERANCE,
            "curve": early_exit.curve(turns, labels),
            "milliseconds": early_exit.milliseconds(monju, texts, threshold) if timed else None}


BY_ALPHA, ARROW = "merged by α", "Arrow"


def merged(merger: MergeRunner, predictions: Predictions,
           texts: list[str]) -> dict[str, Callable[[], np.ndarray]]:
    """Return every merge by name, as a function without arguments → logits [n, labels]."""
    merges = {name: lambda merge=merge: merger.logits(merge(merger), texts)
              for name, merge in merge_methods.TABLE.items()}
    return merges | {BY_ALPHA: lambda: merger.per_sentence(texts, predictions.alpha),
                     ARROW: lambda: arrow_logits(merger, texts)}


def parameters(monju: Monju, outputs: ModelOutputs) -> Callable[[list[str]], int]:
    """Return a function of models' names → how many numbers are held to answer with them.

    Of no name: those of a merge. A model fine-tuned in full, and a student, is what its folder stores. An
    adapter is its backbone, which the models named share, and beside it its own head and factors.
    """
    run, config, backbone_sizes, own_sizes, backbones = monju.run, monju.config, {}, {}, {}
    full_sizes = {backbone: group.members.parameters
                  for backbone, group in zip(config.all_backbones, monju.groups)}
    for kind, names in (("experts", outputs.experts), ("baseline", outputs.members),
                        ("", outputs.equal_cost)):
        for number, name in enumerate(names):
            backbone, sizes = config.backbone_of(number), stored(run.path / kind / name)
            own_sizes[name] = sum(sizes.values())
            if any("lora_" in key for key in sizes):
                backbones[name] = backbone
                replaced = sum(size for key, size in sizes.items() if "lora_" not in key)
                backbone_sizes[backbone] = full_sizes[backbone] - replaced
    own_sizes |= {name: sum(stored(run.path / "students" / name).values())
                  for name in run.manifest.get("students", {})}

    def count(names):
        shared = {backbones[name] for name in names if name in backbones}
        total = sum(own_sizes[name] for name in names) + sum(backbone_sizes[backbone] for backbone in shared)
        return total or full_sizes[config.backbone_of(0)]

    return count


def stored(folder: Path) -> dict[str, int]:
    """Return {tensor's name: its number of elements} of a model's folder."""
    from safetensors import safe_open

    sizes = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "numpy") as file:
            for key in file.keys():  # noqa: SIM118  # not a dictionary
                sizes[key] = int(np.prod(file.get_slice(key).get_shape()))
    return sizes


def diversity(outputs: ModelOutputs, labels: np.ndarray) -> dict[str, dict]:
    """Return how different the experts are, and the baseline's members.

    Means over pairs (Kuncheva & Whitaker 2003), and the ambiguity decomposition of the squared error (Krogh &
    Vedelsby 1995).

    Parameters
    ----------
    outputs : ModelOutputs
        Outputs on n sentences.
    labels : ndarray of int [n]
        The right labels.

    Returns
    -------
    dict
        {"experts" or "baseline": {"disagreement", "double_fault", "q", "rho", "member_error", "ambiguity",
        "ensemble_error"}}; without groups of a single model.
    """
    return {name: _diversity(outputs.of(members), labels)
            for name, members in (("experts", outputs.experts), ("baseline", outputs.members))
            if len(members) > 1}


def _diversity(logits, labels):
    from scipy.special import softmax

    right = logits.argmax(axis=2) == labels[:, None]  # (n, members)
    measures = {"disagreement": [], "double_fault": [], "q": [], "rho": []}
    for i in range(right.shape[1]):
        for j in range(i):
            a, b = right[:, i], right[:, j]
            n11, n10, n01, n00 = ((a & b).mean(), (a & ~b).mean(), (~a & b).mean(), (~a & ~b).mean())
            measures["disagreement"].append(n10 + n01)
            measures["double_fault"].append(n00)
            denominator = n11 * n00 + n01 * n10
            # a degenerate pair says nothing
            measures["q"].append((n11 * n00 - n01 * n10) / denominator if denominator else 0.0)
            spread = np.sqrt((n11 + n10) * (n01 + n00) * (n11 + n01) * (n10 + n00))
            measures["rho"].append((n11 * n00 - n01 * n10) / spread if spread else 0.0)
    p, truth = softmax(logits, axis=2), np.eye(logits.shape[2])[labels]
    mean = p.mean(axis=1, keepdims=True)
    return {**{name: float(np.mean(values)) for name, values in measures.items()},
            "member_error": float(((p - truth[:, None]) ** 2).sum(axis=2).mean()),
            "ambiguity": float(((p - mean) ** 2).sum(axis=2).mean()),
            "ensemble_error": float(((mean[:, 0] - truth) ** 2).sum(axis=1).mean())}
