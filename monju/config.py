"""The one schema of a run: every setting is named, typed, defaulted, bounded and explained here.

Flags, the page's form and sliders, and run.json are all drawn from `Config`. This file knows nothing of what
a setting does; choices that are tables of parts (embedders, …) are named by their module, read when needed.
"""

import dataclasses
import importlib
from math import comb
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Lt
from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, field_validator
from pydantic.dataclasses import dataclass

from monju.errors import MonjuError

LARGEST = 2**63  # whole numbers stay below: NumPy and torch hold no larger ones
WORDS = {"ge": "at least", "gt": "more than", "lt": "below"}  # pydantic's names of the bounds
Name = Annotated[str, BeforeValidator(lambda name: str(name) if isinstance(name, int) else name)]


def setting(default: Any, description: str, *, group: str, table: str | None = None,
            slider: tuple[float, float] | None = None, **bounds: float) -> Any:
    """Return a field of the schema.

    Parameters
    ----------
    default : object
        The default value.
    description : str
        What the setting is, as help and page show it.
    group : str
        The heading under which the command line's help lists it.
    table : str, optional
        The module whose TABLE has the choices.
    slider : (float, float), optional
        How far the page's slider reaches as a rule, and its step.
    bounds : float
        ge (at least), gt (more than), lt (below).
    """
    extra = {"group": group, "table": table, "slider": slider}
    return Field(default, description=description, json_schema_extra=extra, **bounds)


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Config:
    """The settings of a run. Raises MonjuError where a value cannot be."""

    # data
    task: Literal["classify", "lm"] = setting(
        "classify", "what the models learn: labels of sentences (classify), or to continue texts, labels "
        "unread (lm)", group="data")
    data: str = setting(
        "rotten-tomatoes", "where the labelled sentences come from: a name (sst2, clinc150, rotten-tomatoes, "
        "imdb), a hub dataset, a file or a folder; several are joined by +", group="data")
    text_column: str | None = setting(
        None, "column that holds the sentences (found by its usual names)", group="data")
    label_column: str | None = setting(
        None, "column that holds the labels (found by its usual names)", group="data")
    domain_column: str | None = setting(
        None, "column that holds each sentence's domain, for the clusterer domain "
        "(in joined data, one+other, every data set is a domain)", group="data")
    label_names: list[Name] = setting(
        [], "names of the labels, in the labels' order (the source's own)", group="data")
    keep_overlap: bool = setting(
        False, "keep training sentences that are in the held-out split too", group="data")
    sample: int | None = setting(
        None, "train on a stratified sample of this many sentences (all)", group="data", ge=4)
    held_out: int | None = setting(
        None, "language models: measure them on this many held-out documents (all)", group="data", ge=2)
    tuning_size: int = setting(
        0, "size of the tuning split: training sentences that no model learns from, "
        "to choose gates and weights on", group="data", ge=0)
    # clusters
    embedder: str = setting(
        "sbert", "sentence → vector", group="clusters", table="clustering.embedders")
    clusterer: str = setting(
        "balanced", "vectors → clusters", group="clusters", table="clustering.clusterers")
    k: int = setting(3, "number of clusters", group="clusters", ge=2, lt=27)
    subset_size: int = setting(2, "number of clusters that each expert learns (m)", group="clusters", ge=1)
    # gate and fusion
    gate: str = setting("distance", "distances → α", group="fusion", table="ensemble.gates")
    sharpness: float = setting(
        1.0, "p, the power of the distances in the distance and inverse-distance gates: 1 is the poster's, 0 "
        "gives equal weights",
        group="fusion", ge=0, slider=(32, 0.5))
    temperature: float = setting(
        0.1, "T, the temperature of the membership gate", group="fusion", gt=0, slider=(1, 0.01))
    power: float = setting(
        2.0, "power of the distances in the membership gate: 2 in c-BTM's paper, 4 in its code",
        group="fusion", gt=0, lt=100)
    top_k: int | None = setting(
        None, "number of clusters that the membership and posterior gates keep (all)", group="fusion", ge=1)
    fusion: str = setting(
        "logits", "what of the experts is mixed (of language models always probabilities)", group="fusion",
        table="ensemble.fusion")
    renew_every: int = setting(
        16, "language models: number of tokens after which α is worked out again from the text so far",
        group="fusion", ge=1)
    # fine-tuning, the same for every model of the run
    backbone: str = setting(
        "all-MiniLM-L6-v2", "pretrained model: a hub name, a folder or an installed package's; for language "
        "models also a GGUF file, or from-scratch", group="fine-tuning")
    backbones: str | None = setting(
        None, "a backbone for each expert, in their order, separated by commas (all have the same)",
        group="fine-tuning")
    orders: str = setting(
        "buckets", "data order, one for all models or one for each, separated by commas: buckets (batches of "
        "similar length, in random order), shuffled, short-to-long, easy-to-hard, by-cluster",
        group="fine-tuning")
    finetuning: Literal["full", "lora", "last-state"] = setting(
        "full", "train all weights (full), low-rank adapters in all layers (lora), or of a language model "
        "one on its last state alone, all else shared (last-state)", group="fine-tuning")
    lora_rank: int = setting(16, "rank of the adapters", group="fine-tuning", ge=1)
    frozen_layers: int = setting(
        0, "number of lowest encoder layers that stay as pretrained, like the embeddings below them: "
        "all models then share their output", group="fine-tuning", ge=0)
    epochs: float = setting(
        3.0, "number of epochs over a model's own sentences", group="fine-tuning", gt=0)
    rounds: int = setting(
        1, "branch-train-merge (BTM): number of rounds over which an expert's steps are spread; "
        "from the second on it starts from the average of all experts", group="fine-tuning", ge=1, lt=11)
    batch_size: int = setting(32, "sentences per training step", group="fine-tuning", ge=1)
    learning_rate: float = setting(1e-4, "peak learning rate", group="fine-tuning", gt=0)
    warmup: float = setting(0.06, "warm-up fraction of the training steps", group="fine-tuning", ge=0, lt=1)
    weight_decay: float = setting(0.01, "AdamW's weight decay", group="fine-tuning", ge=0)
    max_tokens: int = setting(
        128, "maximum number of tokens of a sentence; what follows is cut off", group="fine-tuning", ge=3)
    baselines: bool = setting(
        True, "also train the baseline: as many models on all data", group="fine-tuning")
    equal_cost: bool = setting(
        False, "also train the equal-cost control: baselines with an expert's number of steps",
        group="fine-tuning")
    # machine
    map_size: int = setting(
        2000, "training sentences on the map of clusters, at most 10,000", group="machine", ge=1, lt=10_001)
    seed: int = setting(
        0, "random seed of sample, clusters, initialisation and data order", group="machine", ge=0,
        lt=2**32)  # as far as NumPy's and scikit-learn's seeds go
    precision: Literal["auto", "bf16", "fp32"] = setting(
        "auto", "floating-point precision in training; auto is bf16 where the machine has it",
        group="machine")
    workers: int | None = setting(
        None, "number of models trained at the same time (about one a core, or one a GPU)",
        group="machine", ge=1)
    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto", "device to train on; auto is the GPU where there is one", group="machine")

    @field_validator("*", mode="wrap")
    @classmethod
    def _checked(cls, value, validate, info):
        """Return the value in the field's type and bounds, or raise a MonjuError that names the flag.

        Stricter than pydantic, which would take True for a number, 1 for a switch and bytes for a text.
        """
        name = info.field_name
        is_switch, allowed, error_type = kind(name) is bool, choices(name), ""
        try:
            if isinstance(value, bool) is not is_switch or isinstance(value, (bytes, bytearray)):
                raise ValueError
            checked = validate(value)
            if isinstance(checked, int) and abs(checked) >= LARGEST or allowed and checked not in allowed:
                raise ValueError
            return checked
        except ValidationError as error:
            error_type = error.errors()[0]["type"]
        except ValueError:
            pass
        if error_type in ("greater_than_equal", "greater_than", "less_than"):
            limits = " and ".join(f"{WORDS[bound]} {limit}" for bound, limit in bounds(name).items())
            raise MonjuError(f"{flag(name)} cannot be {_shown(value, str)}; it must be {limits}")
        if allowed and isinstance(value, str):
            raise MonjuError(f"{flag(name)} cannot be {_shown(value)}; choose from {', '.join(allowed)}")
        raise MonjuError(f"{flag(name)} cannot be {_shown(value)}: {SETTINGS[name].description}")

    def __post_init__(self):
        experts = comb(self.k, self.subset_size)
        if self.subset_size >= self.k:
            raise MonjuError(f"--subset-size {self.subset_size} must be smaller than --k {self.k}: "
                             "an expert that learns every cluster is a baseline")
        if experts > 64:
            raise MonjuError(f"--k {self.k} with --subset-size {self.subset_size} asks for {experts} "
                             "experts; at most 64: choose a smaller k or a subset size near 1 or k")
        if self.task == "lm" and len(self.all_backbones) > 1:
            raise MonjuError("--backbones names decoders with tokenizers of their own: the probabilities of "
                             "next tokens can be mixed over one vocabulary alone, name one --backbone")
        if self.task == "lm" and (self.rounds > 1 or self.tuning_size):
            raise MonjuError(f"{flag('rounds' if self.rounds > 1 else 'tuning_size')} is not for language "
                             "models: leave it out with --task lm")
        if self.task != "lm" and self.finetuning == "last-state":
            raise MonjuError("--finetuning last-state is for language models: add --task lm, or choose full "
                             "or lora")
        if self.rounds > 1 and self.finetuning == "lora":
            raise MonjuError(f"--rounds {self.rounds} averages experts, and the average of adapters is no "
                             "adapter of their rank: use --finetuning full")
        for name, names in (("backbones", self.backbones), ("orders", self.orders)):
            if names is not None and not 1 <= len(each(names)) <= experts:
                raise MonjuError(f"{flag(name)} names {len(each(names))} for {experts} experts: "
                                 "name one for all, or at most one for each")
        samplers = importlib.import_module("monju.training.samplers").TABLE
        if unknown := [order for order in each(self.orders) if order not in samplers]:
            raise MonjuError(f"--orders cannot be {unknown[0]!r}; choose from {', '.join(samplers)}")
        if self.rounds > 1 and len(self.all_backbones) > 1:
            raise MonjuError(f"--rounds {self.rounds} averages experts, and different --backbones have no "
                             "average: leave one of them out")
        if self.gate == "posterior" and self.clusterer not in ("gmm", "domain"):
            raise MonjuError("--gate posterior needs --clusterer gmm or domain; "
                             f"{self.clusterer} has no posterior")

    @property
    def all_backbones(self) -> list[str]:
        """The backbones' names, each once: a run of several reads a sentence with each one's tokenizer."""
        return list(dict.fromkeys(each(self.backbones))) if self.backbones else [self.backbone]

    def backbone_of(self, number: int) -> str:
        """Return the backbone of expert `number`, and of the baseline's and the control's same member."""
        names = each(self.backbones) if self.backbones else [self.backbone]
        return names[number % len(names)]

    def order_of(self, number: int) -> str:
        """Return the data order of the models of that number."""
        return each(self.orders)[number % len(each(self.orders))]

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain JSON values, in the schema's order."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Config":
        """Return the configuration in a run.json or a form. Raises MonjuError for an unknown setting."""
        if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
            raise MonjuError("settings are a JSON object, names and values: {\"k\": 3, …}")
        values = {name: value for name, value in values.items() if name not in GONE}
        if unknown := sorted(set(values) - set(SETTINGS)):
            names = ", ".join(sorted(SETTINGS))
            raise MonjuError(f"unknown setting {unknown[0]!r}; the settings are {names}")
        return cls(**values)


GONE = {"compile"}  # settings of earlier runs, which changed how fast they were trained and nothing else
SETTINGS = Config.__pydantic_fields__  # name → pydantic's FieldInfo: default, description, annotation, …


def kind(name: str) -> type:
    """Return a setting's type, beside None where it may be left open: bool, int, float, str or list."""
    annotation = SETTINGS[name].annotation
    origin = get_origin(annotation)
    return {None: annotation, list: list, Literal: str}.get(origin) or get_args(annotation)[0]


def bounds(name: str) -> dict[str, float]:
    """Return a number's bounds as pydantic names them: {"ge": 2, "lt": 27}."""
    return {key: at for bound in SETTINGS[name].metadata if isinstance(bound, (Ge, Gt, Lt))
            for key, at in dataclasses.asdict(bound).items()}


def choices(name: str) -> tuple[str, ...] | None:
    """Return a setting's allowed values, or None: from its type or from the table of parts it names."""
    if table := SETTINGS[name].json_schema_extra["table"]:
        return tuple(importlib.import_module(f"monju.{table}").TABLE)
    annotation = SETTINGS[name].annotation
    return get_args(annotation) if get_origin(annotation) is Literal else None


def group(name: str) -> str:
    """Return the heading under which a setting is listed: data, clusters, fusion, fine-tuning or machine."""
    return SETTINGS[name].json_schema_extra["group"]


def slider(name: str) -> tuple[float, float, float]:
    """Return a slider's smallest and usual largest value, and its step, of a number that has one."""
    (largest, step), limits = SETTINGS[name].json_schema_extra["slider"], bounds(name)
    return limits["ge"] if "ge" in limits else limits["gt"] + step, largest, step


def each(names: str) -> list[str]:
    """Return the names in a setting that has several, separated by commas."""
    return [name.strip() for name in names.split(",") if name.strip()]


def flag(name: str) -> str:
    """Return the command-line spelling of a setting."""
    return "--" + name.replace("_", "-")


def _shown(value, form=repr):
    """Return a refused value as text; some Python itself does not print: 5,000 digits, a deep nest."""
    try:
        return form(value)
    except (ValueError, RecursionError):
        return "a value of that size"
