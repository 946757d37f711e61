"""Measures: what a gate gains over equal weights on the same experts, and what that predicts.

From the models' stored answers to plain numbers, by the project's own gates, fusions, gate meter and tests.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import softmax
from scipy.stats import binomtest

from monju.ensemble import fusion, gates
from monju.ensemble.outputs import ModelOutputs, Predictions
from monju.ensemble.subsets import cluster_names, expert_subsets
from monju.evaluation import metrics
from monju.evaluation.gate_meter import could_flip, gate_meter

GATES: dict[str, gates.Gate] = {
    **{f"distance p={p}": gates.Distance(float(p)) for p in (1, 8, 32)},
    **{f"inverse-distance p={p}": gates.InverseDistance(float(p)) for p in (8, 32)},
    "membership T=0.1": gates.Membership(0.1, 2.0, None), "nearest": gates.Nearest()}
MAIN, OUT_OF_FOLD, PERMUTED = "inverse-distance p=8", "out of fold", "permuted"
FLOOR = -7.0  # the log-probability of a label that an expert never saw
OTHER_FLOORS = (-5.0, -10.0)
RIVALS = ("random", "equal cost", "baseline", "one head")
FUSIONS = ("logits", "probabilities")


def outputs(found: dict[str, Any], layout: str, part: str = "held out", experts: str = "experts",
            floor: float = FLOOR) -> ModelOutputs:
    """Return the stored answers of one layout as the project's `ModelOutputs`."""
    k, m = (int(number.split("=")[1]) for number in layout.split())
    random = "random " if experts == "random" else ""
    groups = [found.get(f"{layout} {kind} {part}") for kind in (experts, "baseline", "equal cost")]
    names = [[f"{kind}{i}" for i in range(0 if group is None else group.shape[1])]
             for kind, group in zip((experts, "baseline", "equal-cost/"), groups)]
    logits = np.concatenate([group for group in groups if group is not None], axis=1)
    if logits.shape[2] > 2:
        logits = np.maximum(logits, floor)
    return ModelOutputs(cluster_names(k), expert_subsets(k, m), *names, vectors=None, posterior=None,
                        distances=found[f"{layout} {random}distances {part}"], logits=logits)


def gates_of(found: dict[str, Any], layout: str, seed: int) -> dict[str, Callable[..., np.ndarray]]:
    """Return every gate of a layout by name, with the learned one and the permuted control."""
    def learned(distances, subsets, posterior=None):
        return found[f"{layout} out of fold"][distances.argmin(axis=1)]

    def permuted(distances, subsets, posterior=None):
        return np.random.default_rng(seed).permutation(GATES[MAIN](distances, subsets))

    return GATES | {PERMUTED: permuted} | ({OUT_OF_FOLD: learned} if f"{layout} out of fold" in found else {})


def measure(found: dict[str, Any], layout: str, seed: int) -> dict[str, Any]:
    """Return all numbers of one layout of one setting with one seed."""
    read, y = outputs(found, layout), found[f"{layout} labels held out"]
    rows = [row(read, name, gate, mix, y) for name, gate in gates_of(found, layout, seed).items()
            for mix in FUSIONS]
    main = read.decide(GATES[MAIN])
    meter = gate_meter(main, y)
    right = read.of(read.experts).argmax(axis=2) == y[:, None]
    result = {"seed": seed, "n": len(y), "trained_on": int(found["trained on"]),
              "gap": meter["gap"], "agreement": meter["agreement"],
              "error_correlation": meter["error_correlation"],
              "mean_alpha_distance": float(np.linalg.norm(main.alpha - 1 / len(read.experts), axis=1).mean()),
              "mean_expert": float(right.mean()), "uniform": {"logits": accuracy(fused(read, "logits"), y),
                                                              "probabilities": {"accuracy": float((fused(read, "probabilities") == y).mean())}},
              "gates": rows, "rivals": {}, "against": {}}
    for rival in RIVALS:
        if f"{layout} {rival} held out" in found:
            verdicts = mean_logits(found[f"{layout} {rival} held out"]).argmax(axis=1)
            result["rivals"][rival] = accuracy(verdicts, y)
            result["against"][rival] = paired(main.monju.argmax(axis=1), verdicts, y)
    if "random" in result["rivals"]:
        random = outputs(found, layout, experts="random")
        result["random_gate"] = {mix: row(random, "on random subsets", GATES[MAIN], mix, y) for mix in FUSIONS}
        result["random_gap"] = gate_meter(random.decide(GATES[MAIN]), y)["gap"]
    if read.logits.shape[2] > 2:
        result["floors"] = {f"{floor:g}": row(outputs(found, layout, floor=floor), f"floor {floor:g}", GATES[MAIN], "logits", y)
                            for floor in OTHER_FLOORS}
    if f"{layout} log priors" in found:
        result["priors"] = prior_correction(found, layout, main, y)
    return result


def mean_logits(answers: np.ndarray) -> np.ndarray:
    """Return the mean over models of answers [n, models, labels], floored where labels are many."""
    return (np.maximum(answers, FLOOR) if answers.shape[2] > 2 else answers).mean(axis=1)


def fused(read: ModelOutputs, mix: str, gate: gates.Gate | None = None) -> np.ndarray:
    """Return the verdicts [n] of a gate, of equal weights without one."""
    predictions = read.decide(gate or gates.Distance(0.0), fusion.TABLE[mix])
    return (predictions.monju if gate else predictions.uniform).argmax(axis=1)


def accuracy(verdicts: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Return the accuracy with its interval."""
    return {"accuracy": float((verdicts == y).mean()), "interval": metrics.accuracy_interval(verdicts == y)}


def row(read: ModelOutputs, name: str, gate: gates.Gate, mix: str, y: np.ndarray) -> dict[str, Any]:
    """Return one gate under one fusion against equal weights on the same experts."""
    predictions = read.decide(gate, fusion.TABLE[mix])
    ours, equal = predictions.monju.argmax(axis=1), predictions.uniform.argmax(axis=1)
    logits = predictions.of(predictions.experts)
    scores = logits if mix == "logits" else softmax(logits, axis=2)  # linear in α, either way
    found = {"gate": name, "fusion": mix, "accuracy": float((ours == y).mean()),
             "could_flip": float(could_flip(scores, predictions.alpha).mean())}
    found |= paired(ours, equal, y)
    if name in (MAIN, OUT_OF_FOLD) and mix == "logits":  # an interval takes a while
        found |= {"interval": metrics.compare_pair(ours, equal, y)["interval"],
                  "accuracy_interval": metrics.accuracy_interval(ours == y)}
    return found


def paired(ours: np.ndarray, theirs: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Return `metrics.compare_pair` of two models' verdicts [n], without its bootstrap interval."""
    rescued, broken = (len(rows) for rows in metrics.turned(ours, theirs, y))
    p = float(binomtest(rescued, rescued + broken).pvalue) if rescued + broken else 1.0
    return {"difference": (rescued - broken) / len(y), "rescued": rescued, "broken": broken,
            "changed": int((ours != theirs).sum()), "p_value": p}


def prior_correction(found: dict[str, Any], layout: str, main: Predictions, y: np.ndarray) -> dict[str, Any]:
    """Return what the same α gains where it moves nothing but the experts' log priors.

    "experts": equal weights on the experts' evidence, log priors mixed by α. "one head": the head on everything,
    its own log prior replaced by the mixed one.
    """
    log_priors, log_prior = found[f"{layout} log priors"], found[f"{layout} log prior"]
    mixed = main.alpha @ log_priors  # (n, labels)
    moved = {"experts": main.uniform + mixed - log_priors.mean(axis=0)}
    if f"{layout} one head held out" in found:
        moved["one head"] = mean_logits(found[f"{layout} one head held out"]) + mixed - log_prior
    equal, ours = main.uniform.argmax(axis=1), main.monju.argmax(axis=1)
    return {name: {"accuracy": float((logits.argmax(axis=1) == y).mean()),
                   "against_uniform": paired(logits.argmax(axis=1), equal, y),
                   "gate_against_it": paired(ours, logits.argmax(axis=1), y)}
            for name, logits in moved.items()}


def tuning_accuracies(found: dict[str, Any], layout: str, seed: int) -> dict[str, float]:
    """Return each gate's accuracy on the tuning split, fusion of logits."""
    read, y = outputs(found, layout, "tuning"), found[f"{layout} labels tuning"]
    return {name: float((fused(read, "logits", gate) == y).mean())
            for name, gate in gates_of(found, layout, seed).items() if name != PERMUTED}


def aim(found: dict[str, Any], layouts: list[str], seed: int) -> dict[str, Any]:
    """Return the layout and gate that are best on the tuning split, and their held-out test against each rival."""
    tried = {(layout, gate): value for layout in layouts
             for gate, value in tuning_accuracies(found, layout, seed).items()}
    layout, name = max(tried, key=tried.get)
    y, gate = found[f"{layout} labels held out"], gates_of(found, layout, seed)[name]
    ours = fused(outputs(found, layout), "logits", gate)
    return {"seed": seed, "layout": layout, "gate": name, "tuning_accuracy": tried[layout, name],
            **accuracy(ours, y),
            "against": {rival: paired(
                ours, mean_logits(found[f"{layout} {rival} held out"]).argmax(axis=1), y) for rival in RIVALS}}


def stored_run(read: ModelOutputs, y: np.ndarray) -> dict[str, Any]:
    """Return the rows of a finished run's stored predictions, and its gap."""
    return {"n": len(y), "gap": gate_meter(read.decide(GATES[MAIN]), y)["gap"],
            "gates": [row(read, name, gate, mix, y) for name, gate in GATES.items() for mix in FUSIONS]}


def rounded(value: Any) -> Any:
    """Return numbers at six significant digits, in lists and dictionaries as well."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
