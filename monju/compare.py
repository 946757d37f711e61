"""The comparison: every ensemble, gate, selection, control and merge that a run allows, side by side on one labelled set.

Each row is measured against the baseline ensemble, sentence by sentence; the p-values are corrected for their number
(Holm 1979). Rows that a run does not allow are left out with the reason.
"""

import time
from functools import cached_property, partial

import numpy as np
import torch

from monju import backbones, combine, evaluate, merging
from monju.errors import MonjuError
from monju.experts import Expert
from monju.predictions import load_predictions


def compare(monju, texts, labels, merges=True):
    """Rows and left-out rows of a loaded run on n labelled sentences, as plain numbers (`compare --json`).

    {"n", "against", "rows": [{"name", "kind", "accuracy", "interval", "macro_f1", "nll", "brier", "ece", "difference",
    "difference_interval", "changed", "p_value", "p_holm", "forward_passes", "ms", "train_tokens", "parameters"}],
    "left_out": [{"name", "kind", "reason"}], "diversity"}
    """
    labels = np.asarray(labels)
    began = time.perf_counter()
    votes = monju.votes(texts)
    pass_ms = 1000 * (time.perf_counter() - began) / len(labels) / len(votes.models)
    found, left_out = answers(monju, votes, texts, labels, merges)
    against = "baseline" if votes.members else "uniform"
    reference = dict((name, logits) for name, _, logits, _, _ in found)[against].argmax(axis=1)
    cost, sizes = monju.run.read_json("metrics.json").get("cost", {}), parameters(monju)
    rows = []
    for name, kind, logits, passes, members in found:
        pair = evaluate.compare_pair(logits.argmax(axis=1), reference, labels)
        rows.append({"name": name, "kind": kind, **evaluate.measure(logits, labels),
                     **{key: pair[key] for key in ("difference", "changed", "rescued", "broken", "p_value")},
                     "difference_interval": pair["interval"], "forward_passes": passes, "ms": round(passes * pass_ms, 3),
                     "train_tokens": sum(cost.get(member, {}).get("tokens", 0) for member in members) or None,
                     "parameters": max(sizes.values()) if kind == "merge" else sum(sizes[member] for member in members)})
    holm(rows, against)
    return {"n": len(labels), "against": against, "rows": rows, "left_out": left_out, "diversity": diversity(votes, labels)}


def answers(monju, votes, texts, labels, merges):
    """(name, kind, logits [n, labels], forward passes, members) of every row there is, and the rows left out."""
    tuning = load_predictions(monju.run, "tuning") if monju.run.manifest["data"].get("tuning") else None
    known = combine.Known(monju.config, monju.clustering.clusterer.centres_, tuning)
    every = len(votes.experts)
    found = [(name, "member", votes.of([name])[:, 0], 1, [name]) for name in votes.experts + votes.members + votes.equal_cost]
    for name, members in (("baseline", votes.members), ("equal cost", votes.equal_cost)):
        if members:
            found.append((name, "ensemble", votes.of(members).mean(axis=1), len(members), members))
    ways = {name: (kind, partial(way, labels=labels) if name == "oracle" else way) for name, (kind, way) in combine.TABLE.items()}
    left_out = []

    def attempt(name, kind, answer, passes):
        try:
            found.append((name, kind, answer(), passes, votes.experts))
        except MonjuError as error:
            left_out.append({"name": name, "kind": kind, "reason": str(error)})

    for name, (kind, way) in ways.items():
        attempt(name, kind, partial(way, votes, known), 1 if name == "best single expert" else every)
    if merges:
        merger = Merger(monju, texts)
        for name, merge in merging.TABLE.items():
            attempt(name, "merge", partial(merger.logits, merge), 1)
    return found, left_out


class Merger:
    """Merges a run's experts and reads n texts with what comes of it. Raises MonjuError for unlike architectures."""

    def __init__(self, monju, texts):
        self.monju, self.tokens = monju, backbones.encode(monju.tokenizer, texts, monju.config.max_tokens)

    @cached_property
    def weights(self):
        """(what every expert was before fine-tuning, each expert after), as plain weights; integers are left alone."""
        config, run, padding = self.monju.config, self.monju.run, self.monju.tokenizer.pad_token_id
        cpu, names = torch.device("cpu"), self.monju.label_names
        start = Expert.start(config, names, padding, config.seed * 1000, cpu).model
        start = start.merge_and_unload() if config.finetuning == "lora" else start
        experts = [Expert.load(run.path / "experts" / name, len(names), padding, cpu).model for name in self.monju.experts]
        self.model = experts[0]  # its weights are replaced by each merge's
        found = [{name: weight.float() for name, weight in model.state_dict().items() if weight.is_floating_point()}
                 for model in (start, *experts)]
        if any(one.keys() != found[0].keys() or any(one[name].shape != found[0][name].shape for name in one) for one in found):
            raise MonjuError("the experts are not of one architecture: only such models can be merged")
        return found[0], found[1:]

    def logits(self, merge):
        """The merged model's logits [n, labels]."""
        merged = merge(*self.weights)
        self.model.load_state_dict(merged, strict=False)
        return Expert(self.model, self.monju.tokenizer.pad_token_id, torch.device("cpu")).logits(self.tokens)


def holm(rows, against):
    """Holm's correction of the rows' p-values, over all but the row that the others are measured against."""
    from statsmodels.stats.multitest import multipletests

    others = [row for row in rows if row["name"] != against]
    corrected = multipletests([row["p_value"] for row in others], method="holm")[1]
    for row, p in zip(others, corrected):
        row["p_holm"] = float(p)


def parameters(monju):
    """How many numbers each model's own folder stores."""
    from safetensors import safe_open

    sizes = {}
    for name in monju.experts + monju.members + monju.equal_cost:
        kind = "experts" if name in monju.experts else "baseline" if name in monju.members else ""
        [weights] = (monju.run.path / kind / name).glob("*.safetensors")
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
