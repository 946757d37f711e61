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
    """Return where the experts of a round (1 to `rounds`) lie inside the run."""
    return "experts" if number == rounds else f"rounds/{number}"


def split_steps(steps, rounds):
    """Split an expert's steps evenly over the rounds.

    Parameters
    ----------
    steps : int
        Optimizer steps of an expert in all its rounds.
    rounds : int
        Number of rounds.

    Returns
    -------
    list of int [rounds]
        Steps of each round.

    Raises
    ------
    MonjuError
        Where a round would have no step.

    Examples
    --------
    >>> split_steps(8, 3)
    [2, 3, 3]
    """
    if steps < rounds:
        raise MonjuError(f"--rounds {rounds} leaves an expert with {steps} steps none in some round: "
                         "choose fewer rounds, more --epochs or more data")
    return np.diff([steps * number // rounds for number in range(rounds + 1)]).tolist()


def weights(config, clustering, texts):
    """Return the gate's α [n, experts] on the training sentences, with which a later round starts."""
    _, vectors = vectors_of.fitted(clustering.embedder, texts)
    _, distances, posterior = clustering.place_vectors(vectors)
    return gates.make(config)(distances, subsets.expert_subsets(config.k, config.subset_size), posterior)


def init_from_average(expert, folders, alpha):
    """Give a model the experts' average parameters: θ = Σ α_i θ_i.

    This is the equation for θ_{k+1} of BTM (Li et al. 2022). `alpha` [experts] sums to one.
    """
    mean = {}
    for path, weight in zip(folders, alpha, strict=True):
        weights = Expert.load(path, expert.model.config.num_labels, expert.padding,
                              torch.device("cpu")).model.state_dict()
        for name, tensor in weights.items():
            if tensor.is_floating_point():
                mean[name] = mean.get(name, 0) + float(weight) * tensor.float()
    expert.model.load_state_dict(mean, strict=False)


def curve(run, config, outputs, labels, tokens, alpha, padding, device):
    """Score every round's experts, their ensemble and their average on the n held-out sentences.

    Parameters
    ----------
    run : Run
        The run, with the experts of all rounds still in its folder.
    config : Config
        Its settings.
    outputs : ModelOutputs
        Outputs of the finished experts on the held-out sentences.
    labels : ndarray of int [n]
        The right labels.
    tokens : list [n] of list of int
        Token ids of the held-out sentences, read by the experts of earlier rounds.
    alpha : ndarray [training sentences, experts]
        The gate's weights; their mean weighs the average of each round's experts,
        "merged", which is one model.
    padding : int
        Id of the padding token.
    device : torch.device
        Where the experts of earlier rounds are run.

    Returns
    -------
    list of dict
        One for each round, of plain JSON values: {"round", "experts": {name: {"accuracy", "interval"}},
        "monju": {…}, "merged": {…}}, and what all experts have cost up to the end of the round:
        {"tokens", "steps", "seconds"}.
    """
    names, rows = expert_names(config), []
    last = {line["model"]: line for line in run.history()}
    gated = outputs.decide_as(config).alpha  # [n, experts]
    spent = dict.fromkeys(("tokens", "steps", "seconds"), 0)
    for number in range(1, config.rounds + 1):
        folders = [run.path / folder(number, config.rounds) / name for name in names]

        def load(place):
            return Expert.load(place, len(run.manifest["data"]["labels"]), padding, device)

        logits = outputs.of(names) if number == config.rounds else np.stack([load(place).logits(tokens)
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
    """Return the accuracy of logits [n, labels] with its confidence interval."""
    right = logits.argmax(axis=1) == labels
    return {"accuracy": float(right.mean()), "interval": metrics.interval(right)}


def measured(run):
    """Return the curve where an interrupted run has it already: its earlier rounds may be gone. Else None."""
    return run.read_json("metrics.json").get("rounds") if (run.path / "metrics.json").exists() else None


def clear(run):
    """Remove the experts of all rounds but the last."""
    shutil.rmtree(run.path / "rounds", ignore_errors=True)
