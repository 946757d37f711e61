"""Progress: what a training tells while it works, and how much of its work is done."""

from dataclasses import dataclass

import numpy as np

from monju.training.reports import REPORTS, Step

MAP_SECONDS = 15  # to lay the map out beside reading its sentences: UMAP is compiled anew in every process


@dataclass(frozen=True)
class Stage:
    """A sentence on what happens now."""

    text: str


@dataclass(frozen=True)
class Phase(Stage):
    """A stage after the models are trained.

    Parameters
    ----------
    name : str
        "evaluation" or "map".
    done : float
        The run's share before it, 0 to 1.
    left : float, optional
        About how many seconds the run has to go; None where no model was trained to measure the speed.
    """

    name: str
    done: float
    left: float | None


@dataclass(frozen=True)
class Progress:
    """One report of one model, and of the whole run with its evaluation and map.

    Parameters
    ----------
    model : str
        The model's name.
    step : Step
        Its last report.
    sentences_per_s : float
        Sentences per second of this model.
    done : float
        The share of the run's work that is done, 0 to 1.
    left : float
        About how many seconds the run has to go.
    """

    model: str
    step: Step
    sentences_per_s: float
    done: float
    left: float

    @property
    def patience(self):
        """Seconds after which, with no further report, the training probably waits for a free processor."""
        return max(20.0, 3 * max(1, self.step.steps // REPORTS) * self.step.seconds / self.step.step)


@dataclass(frozen=True)
class Work:
    """What a run has to do, in tokens that are trained on.

    Reading a token is a forward pass, and takes a third of the time.
    """

    models: float
    evaluation: float
    map: float

    @classmethod
    def of(cls, config, data, jobs, lengths):
        """Return the work of a run's jobs; `lengths` [n] are those of the training sentences in tokens."""
        reading = float(np.mean(lengths)) * len({job.model for job in jobs}) / 3  # a sentence, by all models
        sentences = len(data.validation.texts) + (len(data.tuning.texts) if data.tuning else 0)
        return cls(sum(job.tokens for job in jobs), reading * sentences,
                   reading * min(config.map_size, len(data.train.texts)))

    def standing(self, done, speed):
        """Return (the share of the work that is done, about how many seconds are left).

        The seconds are None without a speed (tokens/s).
        """
        total = self.models + self.evaluation + self.map
        return done / total, (total - done) / speed + MAP_SECONDS if speed else None
