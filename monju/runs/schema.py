"""What a run's run.json and metrics.json hold, as far as anyone reads them.

A run folder is input: whoever made it may have written anything, and sealed it. Entries that nobody reads
are let through. Bounds on size and depth are far above what any run needs.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from monju.config import Config
from monju.ensemble.subsets import cluster_names, expert_names

LARGEST_FILE, DEEPEST = 64 * 2**20, 32  # bytes; lists and objects in each other
Count = Annotated[int, Field(ge=0, lt=2**63)]
Share = Annotated[float, Field(ge=0, le=1)]
Label = int | float | str | bool | None
ABSENT: Any = None  # of an entry that may be left out, and is never null where it stands


class Entry(BaseModel):
    """A JSON object; types are not converted."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


# ---- run.json


class File(Entry):
    """One file as `finish` lists it."""

    bytes: Count
    sha256: str


class Data(Entry):
    """What the manifest keeps of the data; less of it in a run that is not finished."""

    fingerprint: str
    train: Count = 0
    validation: Count = 0
    tuning: Count = 0
    overlap: Count = 0
    labels: list[Label] = []
    label_names: list[str] = []
    notes: list[str | dict[str, Any]] = []


class Student(Entry):
    """What is kept of a distilled model."""

    tokens: Annotated[int, Field(gt=0, lt=2**63)]


class Manifest(Entry):
    """A run.json. Of a finished run everything is there, and fits its configuration."""

    status: Literal["training", "interrupted", "failed", "finished"]
    config: dict[str, Any]
    data: Data
    models: dict[str, list[str]]
    files: dict[str, File] = {}
    clusters: dict[str, Count] = {}
    signatures: dict[str, str] = {}
    students: dict[str, Student] = {}
    versions: dict[str, Any] = {}
    machine: dict[str, Any] = {}
    seal: str = ""

    @model_validator(mode="after")
    def _fits(self) -> Manifest:
        if any(".." in PurePosixPath(name).parts or name.startswith("/") for name in self.files):
            raise ValueError("a file outside")
        names = [*self.students, *(name for kind in self.models.values() for name in kind)]
        if any(name == ".." or PurePosixPath(name).name != name for name in names):  # of folders
            raise ValueError("a model outside")
        if self.status != "finished":
            self.models["experts"]
            return self
        config, labels = Config.from_json(self.config), self.data.labels
        if not {"train", "validation"} <= self.data.model_fields_set:
            raise ValueError("no numbers of sentences")
        if (self.models["experts"] != expert_names(config)
                or not {"baseline", "equal-cost"} <= set(self.models)):
            raise ValueError("other experts than its settings'")
        if config.task == "classify" and len(labels) < 2 or len(labels) != len(
                self.data.label_names):
            raise ValueError("not a name for each label")
        if self.clusters and list(self.clusters) != cluster_names(config.k):
            raise ValueError("other clusters than its settings'")
        return self


# ---- metrics.json


class Cell(Entry):
    """A model on the held-out sentences of one cluster."""

    n: Count
    accuracy: Share | None
    seen: bool


class Accuracy(Entry):
    """How often a model is right."""

    accuracy: Share
    interval: tuple[float, float] = Field(strict=False)


class Model(Accuracy):
    """What is measured of a model."""

    macro_f1: float
    nll: float
    brier: float
    ece: float
    clusters: dict[str, Cell] = Field(min_length=1)


class Ensemble(Model):
    """What is measured of an ensemble; the baseline and the control hold their members too."""

    mean_member: Share
    gain: float
    gain_interval: tuple[float, float] = Field(strict=False)
    gate: str = ""
    models: dict[str, Model] = Field(ABSENT, min_length=1)


class Pair(Entry):
    """One ensemble against another."""

    difference: float
    interval: tuple[float, float] = Field(strict=False)
    rescued: Count
    broken: Count
    changed: Count
    p_value: Share


class Cost(Entry):
    """What the training of a model took."""

    sentences: Count
    tokens: Annotated[int, Field(gt=0, lt=2**63)]
    steps: Count
    seconds: float


class Majority(Entry):
    """The commonest label."""

    label: Count
    accuracy: Share


class Alpha(Entry):
    """The gate at work."""

    mean: dict[str, float] = Field(min_length=1)
    sorted_mean: list[float]
    fused_differs_from_uniform: Count


class Gap(Entry):
    """What an expert loses on a cluster that it has not seen."""

    seen: Share | None
    unseen: Share | None
    difference: Annotated[float, Field(ge=-1, le=1)] | None


class GateMeter(Entry):
    """How much a gate can do."""

    gap: Gap
    could_flip: Share
    did_flip: Share
    agreement: Share | None
    error_correlation: Annotated[float, Field(ge=-1.0001, le=1.0001)] | None


class OutOfScope(Entry):
    """How well texts of no class are told from held-out sentences."""

    n: Annotated[int, Field(gt=0, lt=2**63)]
    auroc: dict[str, Share] = Field(min_length=1)
    below: Share


class Round(Entry):
    """The ensemble after a round of branch, train, merge."""

    round: Count
    tokens: Count = 0
    experts: dict[str, Accuracy]
    monju: Accuracy
    merged: Accuracy


class Metrics(Entry):
    """A metrics.json. `of` are the names of the experts, and of the ensembles beside Monju."""

    n: Annotated[int, Field(gt=0, lt=2**63)]
    labels: Annotated[int, Field(ge=2, lt=2**63)]
    majority: Majority = ABSENT
    experts: dict[str, Model]
    monju: Ensemble
    baseline: Ensemble = ABSENT
    equal_cost: Ensemble = ABSENT
    monju_vs_baseline: Pair = ABSENT
    monju_vs_equal_cost: Pair = ABSENT
    alpha: Alpha
    gate_meter: GateMeter = ABSENT
    out_of_scope: OutOfScope = ABSENT
    cost: dict[str, Cost] = {}
    rounds: list[Round] = Field(ABSENT, min_length=1)

    @model_validator(mode="after")
    def _agrees(self) -> Metrics:
        others = [found for found in (self.baseline, self.equal_cost) if found]
        if self.monju.models or not all(found.models for found in others):
            raise ValueError("an ensemble without members")
        measured = [self.monju, *self.experts.values(), *others,
                    *(model for found in others for model in found.models.values())]
        if any(list(model.clusters) != list(self.monju.clusters) for model in measured):
            raise ValueError("models with different clusters")
        if self.majority and self.majority.label >= self.labels:
            raise ValueError("a label that is none")
        if any(set(found.experts) != set(self.experts) for found in self.rounds or ()):
            raise ValueError("rounds of other experts")
        return self


class TextCell(Entry):
    """A language model on the held-out passages of one cluster."""

    tokens: Count
    perplexity: float | None
    seen: bool


class Perplexity(Entry):
    """How well held-out text is predicted."""

    perplexity: Annotated[float, Field(gt=0)]
    per_byte: Annotated[float, Field(gt=0)]
    interval: tuple[float, float] = Field(strict=False)
    nll: float
    clusters: dict[str, TextCell] = {}
    models: dict[str, Perplexity] = {}


class Ratio(Entry):
    """Two perplexities on the same documents."""

    ratio: Annotated[float, Field(gt=1e-9)]
    interval: tuple[Annotated[float, Field(gt=1e-9)], Annotated[float, Field(gt=1e-9)]] = Field(strict=False)


class TextGate(Perplexity):
    """The experts under a gate, and against the run's own."""

    against_monju: Ratio
    models_per_token: float


class TextAlpha(Entry):
    """The weights over held-out tokens."""

    sorted_mean: list[float]


class LanguageMetrics(Entry):
    """A metrics.json of language models."""

    task: Literal["lm"]
    n: Annotated[int, Field(gt=0, lt=2**63)]
    tokens: Annotated[int, Field(gt=0, lt=2**63)]
    base: Perplexity
    experts: dict[str, Perplexity]
    monju: Perplexity
    alpha: TextAlpha
    gates: dict[str, TextGate]
    baseline: Perplexity = ABSENT
    equal_cost: Perplexity = ABSENT
    merged: Perplexity = ABSENT
    unigram: Perplexity = ABSENT
    monju_vs_base: Ratio = ABSENT
    monju_vs_baseline: Ratio = ABSENT
    monju_vs_equal_cost: Ratio = ABSENT
    monju_vs_merged: Ratio = ABSENT
    cost: dict[str, Cost] = {}


METRICS: dict[str, type[Entry]] = {"classify": Metrics, "lm": LanguageMetrics}


# ---- history.jsonl


class Step(Entry):
    """A line of a training's history, as its curves and bars read it."""

    model: str
    step: Count
    steps: Annotated[int, Field(gt=0, lt=2**63)]
    loss: float
    sentences: Count
    seconds: Annotated[float, Field(ge=1e-6)]
    held_out_accuracy: Share | None
    place: str = ""


STEP: TypeAdapter[Step] = TypeAdapter(Step)


def is_step(line: Any) -> bool:
    """Return whether a value is a line of a training's history."""
    try:
        STEP.validate_python(line)
    except ValidationError:
        return False
    return True


def read_value(path: Path) -> Any:
    """Return the value in a JSON file that a run holds.

    Raises OSError, and ValueError for one that is no file, too large, too deep, or not to be written again.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    if not path.is_file() or path.stat().st_size > LARGEST_FILE:
        raise ValueError("no file, or too large")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("too deep") from None
    if not _flat(value, DEEPEST):
        raise ValueError("too deep")
    json.dumps(value, ensure_ascii=False).encode()  # a half of a surrogate pair, a number of 5,000 digits
    return value


def _flat(value: Any, most: int) -> bool:
    """Whether a value nests no deeper than this."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return most >= 0 and all(_flat(part, most - 1) for part in parts)
