"""The comparison: every ensemble, gate, selection, control and merge that a run allows, side by side on one labelled set.

Each row is measured against the baseline ensemble, sentence by sentence; the p-values are corrected for their number
(Holm 1979). Rows that a run does not allow are left out with the reason.
"""

import time
from dataclasses import replace

import numpy as np

from monju import combine, distill, evaluate, merging
from monju.errors import MonjuError
from monju.inputs import sentences
from monju.merger import Merger


def compare(monju, labels, texts=None, votes=None):
    """Rows and left-out rows of a loaded run on n labelled sentences, as plain numbers (`compare --json`).

    The sentences are given by their `texts`, which every model and every merge then reads, by their stored `votes`, which
    need no reading (no merge answers, and "ms" is None), or by both.

    {"n", "against", "rows": [{"name", "kind", "accuracy", "interval", "macro_f1", "nll", "brier", "ece", "difference",
    "difference_interval", "changed", "p_value", "p_holm", "forward_passes", "ms", "train_tokens", "parameters"}],
    "left_out": [{"name", "kind", "reason"}], "diversity"}
    """
    labels, pass_ms, texts = np.asarray(labels), None, None if texts is None else sentences(texts)
    if votes is None:
        began = time.perf_counter()
        votes = monju.votes(texts)
        pass_ms = 1000 * (time.perf_counter() - began) / len(labels) / len(votes.models)
    found, left_out = answers(monju, votes, labels, texts)
    against = "baseline" if votes.members else "uniform"
    reference = next(logits for name, _, logits, _, _ in found if name == against).argmax(axis=1)
    cost, sizes = monju.run.read_json("metrics.json").get("cost", {}), parameters(monju.run, votes)
    cost |= monju.run.manifest.get("students", {})
    rows = []
    for name, kind, logits, passes, members in found:
        pair = evaluate.compare_pair(logits.argmax(axis=1), reference, labels)
        rows.append({"name": name, "kind": kind, **evaluate.measure(logits, labels),
                     **{key: pair[key] for key in ("difference", "changed", "rescued", "broken", "p_value")},
                     "difference_interval": pair["interval"], "forward_passes": passes,
                     "ms": None if pass_ms is None else round(passes * pass_ms, 3),
                     "train_tokens": sum(cost.get(member, {}).get("tokens", 0) for member in members) or None,
                     "parameters": max(sizes.values()) if kind == "merge" else sum(sizes[member] for member in members)})
    holm(rows, against)
    return {"n": len(labels), "against": against, "rows": rows, "left_out": left_out, "diversity": diversity(votes, labels)}


def answers(monju, votes, labels, texts):
    """(name, kind, logits [n, labels], forward passes, members) of every row there is, and the rows left out."""
    known = replace(combine.known(monju), labels=labels)
    found = [(name, "member", votes.of([name])[:, 0], 1, [name]) for name in votes.experts + votes.members + votes.equal_cost]
    for name, members in (("baseline", votes.members), ("equal cost", votes.equal_cost)):
        if members:
            found.append((name, "ensemble", votes.of(members).mean(axis=1), len(members), members))
    left_out = []
    for name, way in combine.every().items():
        if name == monju.config.gate:
            continue  # the row "monju"
        if why := way.lack(votes, known):
            left_out.append({"name": name, "kind": way.kind, "reason": f"it {why}"})
        else:
            passes = 1 if name == "best single expert" else len(votes.experts)
            found.append((name, way.kind, way.decide(votes, known).monju, passes, votes.experts))
    for name, answer in merged(Merger(monju), votes, texts).items() if texts is not None else ():
        try:
            found.append((name, "merge", answer(), 1, votes.experts))
        except MonjuError as error:
            left_out.append({"name": name, "kind": "merge", "reason": str(error)})
    if texts is not None:
        found += [(name, "student", logits, 1, [name]) for name, logits in distill.answers(monju, texts).items()]
    return found, left_out


def merged(merger, votes, texts):
    """Every merge by name, as a function without arguments → logits [n, labels]."""
    alpha = votes.decide_as(merger.monju.config).alpha
    found = {name: lambda merge=merge: merger.logits(merge(merger), texts) for name, merge in merging.TABLE.items()}
    return found | {"merged by α": lambda: merger.per_sentence(texts, alpha)}


def holm(rows, against):
    """Holm's correction of the rows' p-values, over all but the row that the others are measured against."""
    from statsmodels.stats.multitest import multipletests

    others = [row for row in rows if row["name"] != against]
    corrected = multipletests([row["p_value"] for row in others], method="holm")[1]
    for row, p in zip(others, corrected):
        row["p_holm"] = float(p)


def parameters(run, votes):
    """How many numbers the folder of each model that voted stores."""
    from safetensors import safe_open

    sizes = {}
    for name in votes.models + list(run.manifest.get("students", {})):
        kind = "experts" if name in votes.experts else "baseline" if name in votes.members else "" if name in votes.equal_cost else "students"
        [weights] = (run.path / kind / name).glob("*.safetensors")
        with safe_open(weights, "numpy") as file:
            sizes[name] = sum(int(np.prod(file.get_slice(key).get_shape())) for key in file.keys())
    return sizes


def diversity(votes, labels):
    """How unlike the experts are, and the baseline's members, each as the mean over pairs (Kuncheva & Whitaker 2003),
    and the ambiguity decomposition of the squared error (Krogh & Vedelsby 1995)."""
    return {name: _diversity(votes.of(members), labels)
            for name, members in (("experts", votes.experts), ("baseline", votes.members)) if len(members) > 1}


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
            found["q"].append((n11 * n00 - n01 * n10) / below if below else 0.0)  # a degenerate pair says nothing
            spread = np.sqrt((n11 + n10) * (n01 + n00) * (n11 + n01) * (n10 + n00))
            found["rho"].append((n11 * n00 - n01 * n10) / spread if spread else 0.0)
    p, truth = softmax(logits, axis=2), np.eye(logits.shape[2])[labels]
    mean = p.mean(axis=1, keepdims=True)
    return {**{name: float(np.mean(values)) for name, values in found.items()},
            "member_error": float(((p - truth[:, None]) ** 2).sum(axis=2).mean()),
            "ambiguity": float(((p - mean) ** 2).sum(axis=2).mean()),
            "ensemble_error": float(((mean[:, 0] - truth) ** 2).sum(axis=1).mean())}
