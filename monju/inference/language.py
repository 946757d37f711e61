"""Language: a finished run of language models, loaded: it scores texts, weighs its experts, and begins texts.

    p(x_t | x_<t) = Σ_S α_S(x_<t) p_S(x_t | x_<t)

α comes from the text so far, by the same gates as for sentences: its embedding's distances to the clusters,
worked out again after every few tokens, or the experts' likelihood of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from monju.clustering.cluster_model import Clustering
from monju.ensemble import fusion, gates
from monju.ensemble.outputs import ModelOutputs
from monju.ensemble.subsets import model_key
from monju.errors import MonjuError
from monju.inference.reader import SentenceReader
from monju.models import backbones
from monju.models.causal import Rows
from monju.models.last_state import soup
from monju.models.trunk import StateCache, Trunk, states_of
from monju.models.voices import LayerVoices, SharedVoices, load_adapters
from monju.runs.run import Run

MERGED = "merged"  # the experts' mean weights, as one model
KINDS = ("experts", "baseline", "equal-cost")
FEW_ROWS = 4  # rows of tokens that are not worth a place in the cache


@dataclass(frozen=True, eq=False)
class TextScores:
    """What all models make of rows of tokens, one after the other, before any gate.

    Parameters
    ----------
    starts : ndarray of int [rows + 1]
        Where each row begins.
    names : list of str
        The models: the decoder itself ("base"), experts, baseline, controls, "merged".
    log_p : ndarray [tokens, models]
        Each token's log-probability.
    distances : ndarray [tokens, k]
        The text so far's distance to each cluster; zero before there is any.
    posterior : ndarray [tokens, k] or None
        P(cluster | the text so far), where the clusterer is a mixture; equal before there is any text.
    """

    starts: np.ndarray
    names: list[str]
    log_p: np.ndarray
    distances: np.ndarray
    posterior: np.ndarray | None

    def of(self, names: Sequence[str]) -> np.ndarray:
        """Return the log-probabilities under the models named, [tokens, names]."""
        return self.log_p[:, [self.names.index(name) for name in names]]

    def likelihood(self, names: Sequence[str]) -> np.ndarray:
        """Return the log-likelihood of the text before each token under the models named, [tokens, names]."""
        log_p, out = self.of(names).astype(np.float64), np.zeros((len(self.log_p), len(names)))
        for start, end in zip(self.starts[:-1], self.starts[1:]):
            out[start + 1 : end] = np.cumsum(log_p[start : end - 1], axis=0)
        return out

    def alpha(self, gate: Any, experts: Sequence[str], subsets: Any) -> np.ndarray:
        """Return α [tokens, experts] under a gate; equal weights before there is any text."""
        if isinstance(gate, gates.Likelihood):
            alpha, unknown = gate(self.likelihood(experts)), self.starts[:-1]
        else:
            alpha = gate(self.distances, subsets, self.posterior)
            unknown = np.flatnonzero(~self.distances.any(axis=1))
        alpha[unknown] = 1 / len(experts)
        return alpha

    def mixed(self, names: Sequence[str], alpha: np.ndarray | None = None) -> np.ndarray:
        """Return the mixture's log-probability of each token, [tokens]; with equal weights for no α."""
        weights = np.full((len(self.log_p), len(names)), 1 / len(names)) if alpha is None else alpha
        return fusion.mix_log_probabilities(self.of(names).astype(np.float64)[..., None], weights)[:, 0]


class LanguageRun(SentenceReader):
    """A run of language models: `LanguageRun.load` makes one from a run's folder."""

    def __init__(self, run: Run, clustering: Clustering, voices: SharedVoices | LayerVoices,
                 equal_cost: Sequence[str]):
        super().__init__(run, clustering)
        self.voices, self.equal_cost = voices, list(equal_cost)
        self.tokenizer = voices.tokenizer

    @classmethod
    def load(cls, path: str | Path, device: str = "auto", controls: bool = False) -> LanguageRun:
        """Open a finished run and load its models.

        Parameters
        ----------
        path : str or Path
            The run's folder.
        device : str
            "auto" (the GPU where there is one), "cpu" or "cuda".
        controls : bool
            Also load the equal-cost models.

        Returns
        -------
        LanguageRun

        Raises
        ------
        MonjuError
            For a folder that is no run of language models, unfinished or damaged; where its decoder cannot
            be had, or is not the one that it was trained on.
        """
        return cls.of(Run.open(path).check(), device, controls)

    @classmethod
    def of(cls, run: Run, device: str = "auto", controls: bool = False) -> LanguageRun:
        """Return a run's loaded models as `load` does, also for a run that is not sealed yet."""
        run.refuse_task("lm")
        torch_device = backbones.pick_device(device)
        config = replace(run.config, device="cuda" if torch_device.type == "cuda" else "cpu")
        models = run.manifest["models"]
        folders = {model_key(kind, name): run.path / kind / name
                   for kind in KINDS if controls or kind != "equal-cost" for name in models[kind]}
        clustering = Clustering.load(run.path / "clustering", config)
        voices: SharedVoices | LayerVoices
        if config.finetuning == "last-state":
            trunk = Trunk(decoder_of(run), torch_device)
            refuse_other(run, trunk.fingerprint())
            words = words_of(run)
            adapters = load_adapters(trunk, words, folders)
            adapters[MERGED] = soup([adapters[name] for name in models["experts"]])
            voices = SharedVoices(trunk, words, adapters)
        else:
            voices = LayerVoices(decoder_of(run), folders, torch_device)
        return cls(run, clustering, voices, [name for name in folders if name.startswith("equal-cost/")])

    @property
    def start_and_end(self) -> tuple[int, int]:
        """The ids of the tokens before a text and behind it."""
        return ((self.voices.trunk.start, self.voices.trunk.end)
                if isinstance(self.voices, SharedVoices) else (self.voices.start, self.voices.end))

    @property
    def context(self) -> int:
        """How many tokens the decoder can look back on."""
        return self.voices.trunk.context if isinstance(self.voices, SharedVoices) else self.voices.context

    def gate_named(self, name: str | None = None, **settings: Any) -> Any:
        """Return the run's gate, or another one by name, with the run's settings but for those given.

        Raises MonjuError for an unknown one.
        """
        config = replace(self.config, **settings)
        if name is None:
            return gates.make(config)
        if name in gates.ON_TEXT:
            return gates.Likelihood(top_k=config.top_k)
        if name == "uniform":
            return gates.Distance(sharpness=0)
        return gates.make(replace(config, gate=name))

    def score(self, rows: Rows, names: Sequence[str] | None = None) -> TextScores:
        """Return what the models make of rows of tokens; `names`: by default all that are loaded."""
        names = list(self.voices.names if names is None else names)
        if isinstance(self.voices, SharedVoices):
            trunk, words = self.voices.trunk, self.voices.words
            if len(rows.tokens) <= FEW_ROWS:
                states = states_of(trunk, rows.tokens, words)
            else:
                cached = StateCache(trunk, rows.tokens, words)
                for _ in cached.fill():
                    pass
                states = cached.load()
            log_p = self.voices.scores(states, names)
        else:
            log_p = self.voices.scores(rows.tokens, names)
        starts = np.concatenate([[0], np.cumsum([len(row) for row in rows.tokens])])
        return TextScores(starts, names, log_p, *self.along(rows.tokens))

    def along(self, tokens: Sequence[list[int]]) -> tuple[np.ndarray, np.ndarray | None]:
        """Return distances [tokens, k] and posterior of the text before each token of each row.

        They are worked out after every `renew_every` tokens, and stand until the next time.
        """
        every, texts, at, start = self.config.renew_every, [], [], 0
        for row in tokens:
            for first in range(every, len(row), every):
                texts.append(self.text_before(row[:first]))
                at.append((start + first, start + min(first + every, len(row))))
            start += len(row)
        distances = np.zeros((start, self.config.k))
        if not texts:
            return distances, None
        _, placed, posterior = self.clustering.place(texts)
        spread = None if posterior is None else np.full((start, self.config.k), 1 / self.config.k)
        for i, (first, until) in enumerate(at):
            distances[first:until] = placed[i]
            if spread is not None and posterior is not None:
                spread[first:until] = posterior[i]
        return distances, spread

    def text_before(self, ids: Sequence[int]) -> str:
        """Return the text that α is worked out from: as many of its last tokens as a passage had."""
        return self.tokenizer.decode(ids[-self.config.max_tokens :])

    def outputs(self, texts: Iterable[str]) -> ModelOutputs:
        """Return where texts lie; language models have no labels, so that there are no logits."""
        vectors, distances, posterior = self.clustering.place(list(texts))
        models = len(self.experts) + len(self.members)
        return ModelOutputs(self.clusters, self.subsets, self.experts, self.members, [], vectors, distances,
                            posterior, np.zeros((len(vectors), models, 0), np.float32))


def decoder_of(run: Run) -> str:
    """Return the name of a run's decoder: its own, where it was trained from scratch."""
    return str(run.path / "decoder") if (run.path / "decoder").is_dir() else run.config.backbone


def words_of(run: Run) -> np.ndarray:
    """Return the words that a run's experts change. Raises MonjuError where the file is damaged."""
    try:
        words = np.load(run.path / "words.npy", allow_pickle=False).astype(np.int64)
        if words.ndim != 1 or len(np.unique(words)) != len(words) or not len(words) or words.min() < 0:
            raise ValueError
        return words
    except (OSError, ValueError):
        raise MonjuError(f"{run.path / 'words.npy'} is damaged: restore the file or train the run "
                         "again") from None


def refuse_other(run: Run, fingerprint: str) -> None:
    """Raise MonjuError where a decoder is not the one that a run's experts were trained on."""
    if run.manifest.get("decoder", fingerprint) != fingerprint:
        raise MonjuError(f"{run.config.backbone} is not the decoder that {run.path} was trained on (other "
                         "weights): bring the same one, or train the run again")
