"""Rounds of branch, train, merge (BTM, Li et al. 2022, section 3).

A run's steps are spread over R rounds. In the first, every expert starts from the backbone; in each that
follows, from a weighted average of all experts' parameters (branch), learns its own clusters (train), and
joins the next average (merge). As in the paper the weights are the experts' posterior on the sentences that
are to be learned: here the mean α that the run's gate gives them over the expert's own training sentences.
Earlier rounds lie in rounds/1, rounds/2, … until the run is sealed; the last round's experts are the run's.
"""

import shutil

import numpy as np
import torch

from monju.clustering import embedding_cache as vectors_of
from monju.ensemble import fusion, gates, subsets
from monju.ensemble.subsets import expert_names
from monju.errors import MonjuError
from monju.evaluation import metrics
from monju.models.classifier import Expert


def folder(number, rounds):
    """Where the experts of a round (1 to `rounds`) lie inside the run."""
    return "experts" if number == rounds else f"rounds/{number}"


def split_steps(steps, rounds):
    """An expert's steps, spread evenly over the rounds. Raises MonjuError where a round would have none.

    >>> split_steps(8, 3)
    [2, 3, 3]
    """
    if steps < rounds:
        raise MonjuError(f"--rounds {rounds} leaves an expert with {steps} steps none in some round: "
                         "choose fewer rounds, more --epochs or more data")
    return np.diff([steps * number // rounds for number in range(rounds + 1)]).tolist()


def weights(config, clustering, texts):
    """The gate's α [n, experts] on the training sentences, from which the experts of a later round take their
    start."""
    _, vectors = vectors_of.fitted(clustering.embedder, texts)
    _, distances, posterior = clustering.place_vectors(vectors)
    return gates.make(config)(distances, subsets.expert_subsets(config.k, config.subset_size), posterior)


def init_from_average(expert, folders, alpha):
    """Give a model the experts' average parameters: θ = Σ α_i θ_i (BTM's eq. for θ_{k+1}), α [experts]
    summing to one."""
    mean = {}
    for place, weight in zip(folders, alpha, strict=True):
        known = Expert.load(place, expert.model.config.num_labels, expert.padding,
                            torch.device("cpu")).model.state_dict()
        for name, tensor in known.items():
            if tensor.is_floating_point():
                mean[name] = mean.get(name, 0) + float(weight) * tensor.float()
    expert.model.load_state_dict(mean, strict=False)


def curve(run, config, votes, labels, tokens, alpha, padding, device):
    """What every round was worth on the n held-out sentences: a list of dictionaries that JSON can hold.

    `votes`: of the finished experts; tokens (n lists of ids) are read by those of earlier rounds; alpha
    [training sentences, experts]: its mean weighs the average of each round's experts, "merged", which is one
    model. {"round", "experts": {name: {"accuracy", "interval"}}, "monju": {…}, "merged": {…}}, and what all
    experts have cost up to the end of the round: {"tokens", "steps", "seconds"}.
    """
    names, rows = expert_names(config), []
    last = {line["model"]: line for line in run.history()}
    gated = votes.decide_as(config).alpha  # [n, experts]
    spent = dict.fromkeys(("tokens", "steps", "seconds"), 0)
    for number in range(1, config.rounds + 1):
        folders = [run.path / folder(number, config.rounds) / name for name in names]

        def load(place):
            return Expert.load(place, len(run.manifest["data"]["labels"]), padding, device)

        logits = votes.of(names) if number == config.rounds else np.stack([load(place).logits(tokens)
                                                                           for place in folders], axis=1)
        merged = load(folders[0])
        init_from_average(merged, folders, alpha.mean(axis=0))
        for name in names:
            line = last[name if number == config.rounds else f"{folder(number, config.rounds)}/{name}"]
            spent = {what: spent[what] + line[what] for what in spent}
        rows.append({"round": number,
                     "experts": {name: score(logits[:, i], labels) for i, name in enumerate(names)},
                     "monju": score(fusion.TABLE[config.fusion](logits, gated), labels),
                     "merged": score(merged.logits(tokens), labels), **spent,
                     "seconds": round(spent["seconds"], 1)})
    return rows


def score(logits, labels):
    right = logits.argmax(axis=1) == labels
    return {"accuracy": float(right.mean()), "interval": metrics.interval(right)}


def measured(run):
    """The curve, where an interrupted run has it already: its earlier rounds may be gone by then. Else
    None."""
    return run.read_json("metrics.json").get("rounds") if (run.path / "metrics.json").exists() else None


def clear(run):
    """Remove the experts of all rounds but the last."""
    shutil.rmtree(run.path / "rounds", ignore_errors=True)
