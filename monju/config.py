"""The one schema of a run: every setting is named, defaulted, explained and checked here.

Flags, the page's form and run.json are all drawn from `Config`. This file knows nothing of what
a setting does; choices that are tables of parts (embedders, …) are named by their module.
"""

import dataclasses
import importlib
from dataclasses import dataclass
from math import comb

from monju.errors import MonjuError


def option(default, help, *, group, choices=None, table=None, least=None, below=None, more_than=None):
    """A field of the schema. `choices` are the allowed values; `table` names the module (its TABLE)
    that knows them; `least` (≥), `more_than` (>) and `below` (<) bound a number."""
    bounds = {"least": least, "more_than": more_than, "below": below}
    metadata = {"help": help, "group": group, "choices": choices, "table": table, **bounds}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Config:
    """What a run was asked to be. Raises MonjuError where a value cannot be."""

    # data
    data: str = option("rotten-tomatoes", "where the labelled sentences come from: a name (sst2, rotten-tomatoes, imdb), "
                       "a hub dataset, a file or a folder; several are joined by +", group="data")
    text_column: str | None = option(None, "column that holds the sentences (found by its usual names)", group="data")
    label_column: str | None = option(None, "column that holds the labels (found by its usual names)", group="data")
    domain_column: str | None = option(None, "column that names each sentence's domain, for the clusterer domain (in joined data, "
                                       "one+other, every data set is a domain)", group="data")
    label_names: list[str] = option([], "names of the labels, in the labels' order (the source's own)", group="data")
    keep_overlap: bool = option(False, "keep training sentences that also stand in the held-out split", group="data")
    sample: int | None = option(None, "train on a stratified sample of this many sentences (all)", group="data", least=4)
    tuning_size: int = option(0, "training sentences kept aside, from which no model learns, so that gates and weights "
                              "can be chosen on them", group="data", least=0)
    # clusters
    embedder: str = option("sbert", "sentence → vector", group="clusters", table="clustering.embedders")
    clusterer: str = option("balanced", "vectors → clusters", group="clusters", table="clustering.clusterers")
    k: int = option(3, "number of clusters", group="clusters", least=2, below=27)
    subset_size: int = option(2, "clusters that each expert learns (m)", group="clusters", least=1)
    # gate and fusion
    gate: str = option("distance", "distances → α", group="fusion", table="ensemble.gates")
    sharpness: float = option(1.0, "p, the power of the distance gate: 1 is the poster's, 0 weighs all alike",
                              group="fusion", least=0)
    temperature: float = option(0.1, "T of the membership gate", group="fusion", more_than=0)
    power: float = option(2.0, "power of the distance in the membership gate: c-BTM's paper has 2, its code 4",
                          group="fusion", more_than=0, below=100)
    top_k: int | None = option(None, "clusters kept by a membership gate (all)", group="fusion", least=1)
    fusion: str = option("logits", "what the experts mix", group="fusion", table="ensemble.fusion")
    # fine-tuning, the same for every model of the run
    backbone: str = option("all-MiniLM-L6-v2", "pretrained encoder: a hub name, a folder or an installed package's",
                           group="fine-tuning")
    backbones: str | None = option(None, "a backbone for each expert, in their order, with commas between (all have the same)",
                                   group="fine-tuning")
    orders: str = option("buckets", "the order in which the models meet their sentences, one for all or, with commas between, one "
                         "for each: buckets (of like length, in random order), shuffled, short-to-long, easy-to-hard, by-cluster",
                         group="fine-tuning")
    finetuning: str = option("full", "all weights, or low-rank adapters", group="fine-tuning", choices=("full", "lora"))
    lora_rank: int = option(16, "rank of the adapters", group="fine-tuning", least=1)
    frozen_layers: int = option(0, "lowest layers of the encoder that stay as pretrained, its embeddings with them: all models then "
                                "share what these make of a sentence", group="fine-tuning", least=0)
    epochs: float = option(3.0, "passes over a model's own sentences", group="fine-tuning", more_than=0)
    rounds: int = option(1, "branch, train, merge (BTM): rounds over which an expert's steps are spread; from the second on it "
                         "starts from the average of all experts", group="fine-tuning", least=1, below=11)
    batch_size: int = option(32, "sentences per step", group="fine-tuning", least=1)
    learning_rate: float = option(1e-4, "peak learning rate", group="fine-tuning", more_than=0)
    warmup: float = option(0.06, "share of the steps over which the learning rate rises", group="fine-tuning", least=0, below=1)
    weight_decay: float = option(0.01, "AdamW's weight decay", group="fine-tuning", least=0)
    max_tokens: int = option(128, "tokens of a sentence that are read", group="fine-tuning", least=3)
    baselines: bool = option(True, "also train the baseline: as many models on all data", group="fine-tuning")
    equal_cost: bool = option(False, "also train the equal-cost control: baselines with an expert's number of steps",
                              group="fine-tuning")
    # machine
    map_size: int = option(2000, "training sentences on the map of clusters, at most 10,000", group="machine", least=1, below=10_001)
    seed: int = option(0, "seed of sample, clusters, initialisation and order", group="machine", least=0,
                      below=2**32)  # as far as NumPy's and scikit-learn's seeds go
    precision: str = option("auto", "arithmetic while training; auto is bf16 where the machine has it",
                            group="machine", choices=("auto", "bf16", "fp32"))
    compile: bool = option(False, "translate the models with torch.compile before they train, into few shapes and CUDA graphs: for long "
                           "trainings on a GPU, where starting many small kernels is what costs; on a CPU it does not pay", group="machine")
    workers: int | None = option(None, "models trained at the same time (about one a core, or one a GPU)", group="machine", least=1)
    device: str = option("auto", "where to train; auto is the GPU where there is one", group="machine",
                         choices=("auto", "cpu", "cuda"))

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = _checked(field, getattr(self, field.name))
            object.__setattr__(self, field.name, value)
        if self.subset_size >= self.k:
            raise MonjuError(f"--subset-size {self.subset_size} must be smaller than --k {self.k}: "
                             "an expert that learns every cluster is a baseline")
        if comb(self.k, self.subset_size) > 64:
            raise MonjuError(f"--k {self.k} with --subset-size {self.subset_size} asks for "
                             f"{comb(self.k, self.subset_size)} experts; at most 64: choose a smaller k or a subset size near 1 or k")
        if self.rounds > 1 and self.finetuning == "lora":
            raise MonjuError(f"--rounds {self.rounds} averages experts, and the average of adapters is no adapter of their rank: "
                             "use --finetuning full")
        for name, given in (("backbones", self.backbones), ("orders", self.orders)):
            if given is not None and not 1 <= len(each(given)) <= comb(self.k, self.subset_size):
                raise MonjuError(f"{flag(name)} names {len(each(given))} for {comb(self.k, self.subset_size)} experts: "
                                 "name one for all, or at most one for each")
        known = importlib.import_module("monju.training.samplers").TABLE
        if unknown := [order for order in each(self.orders) if order not in known]:
            raise MonjuError(f"--orders cannot be {unknown[0]!r}; choose from {', '.join(known)}")
        if self.rounds > 1 and len(self.all_backbones) > 1:
            raise MonjuError(f"--rounds {self.rounds} averages experts, and different --backbones have no average: leave one of them out")
        if self.gate == "posterior" and self.clusterer not in ("gmm", "domain"):
            raise MonjuError(f"--gate posterior needs --clusterer gmm or domain; {self.clusterer} has no posterior")

    @property
    def all_backbones(self):
        """The backbones' names, each once; a run of several reads every sentence with each one's own tokenizer."""
        return list(dict.fromkeys(each(self.backbones))) if self.backbones else [self.backbone]

    def backbone_of(self, number):
        """The backbone of an expert by its number, and of the baseline's and the control's member of the same number."""
        names = each(self.backbones) if self.backbones else [self.backbone]
        return names[number % len(names)]

    def order_of(self, number):
        """The order in which that model meets its sentences."""
        return each(self.orders)[number % len(each(self.orders))]

    def to_json(self):
        """The settings as plain JSON values, in the schema's order."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values):
        """The configuration in a run.json or a form; an unknown setting is an error that names it."""
        if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
            raise MonjuError("settings are a JSON object, names and values: {\"k\": 3, …}")
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise MonjuError(f"unknown setting {unknown[0]!r}; the settings are {', '.join(sorted(known))}")
        return cls(**values)


def choices(field):
    """The allowed values of a field, or None: from the schema or from the table of parts it names."""
    table = field.metadata["table"]
    if table is None:
        return field.metadata["choices"]
    return tuple(importlib.import_module(f"monju.{table}").TABLE)


def each(names):
    """The names in a setting that has several, with commas between."""
    return [name.strip() for name in names.split(",") if name.strip()]


def flag(name):
    """The command-line spelling of a setting."""
    return "--" + name.replace("_", "-")


def _checked(field, value):
    """The value in the field's type and within its bounds, or a MonjuError that names the flag."""
    name, allowed = flag(field.name), choices(field)
    wanted = str(field.type)
    if value is None and "None" in wanted:
        return None
    try:
        if "bool" in wanted:
            if not isinstance(value, bool):
                raise ValueError
        elif wanted.startswith("list"):
            if isinstance(value, (str, bytes)) or not all(isinstance(item, (str, int)) for item in value):
                raise ValueError
            value = [str(item) for item in value]
        elif isinstance(value, bool):
            raise ValueError
        elif "int" in wanted:
            if float(value) % 1:
                raise ValueError
            value = int(value)
        elif "float" in wanted:
            value = float(value)
            if value != value or abs(value) == float("inf"):
                raise ValueError
        elif not isinstance(value, str):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise MonjuError(f"{name} cannot be {value!r}: {field.metadata['help']}") from None
    if allowed and value not in allowed:
        raise MonjuError(f"{name} cannot be {value!r}; choose from {', '.join(allowed)}")
    least, below, more_than = (field.metadata[bound] for bound in ("least", "below", "more_than"))
    if (least is not None and value < least) or (more_than is not None and value <= more_than) or (below is not None and value >= below):
        limits = [f"at least {least}" if least is not None else "", f"more than {more_than}" if more_than is not None else "",
                  f"below {below}" if below is not None else ""]
        raise MonjuError(f"{name} cannot be {value}; it must be {' and '.join(filter(None, limits))}")
    return value


