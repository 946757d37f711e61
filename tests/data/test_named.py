"""Named sources: the hub's own tables, made here as the hub keeps them, become the rows that the files of the authors hold."""

from pathlib import Path

import datasets
import pytest

from monju.data import hub, sources
from monju.errors import MonjuError

CLINC = Path(__file__).resolve().parents[3] / "shared" / "data" / "clinc150"
NAMES = ["yes", "oos", "no"]  # in the hub's order, which is not the alphabet's


def stand_in(monkeypatch, splits, names, label="intent"):
    """The hub, with clinc/clinc_oos: {split: [(text, name), …]}."""
    features = datasets.Features({"text": datasets.Value("string"), label: datasets.ClassLabel(names=names)})
    made = datasets.DatasetDict({part: datasets.Dataset.from_dict({"text": [text for text, _ in rows], label: [names.index(name) for _, name in rows]},
                                                                  features=features) for part, rows in splits.items()})
    asked = []

    def load_dataset(name, configuration):
        asked.append((name, configuration))
        return made

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(hub, "answers", lambda: True)
    return asked


def test_clinc150_is_in_words_without_the_requests_of_no_intent(monkeypatch):
    rows = [(f"{name} {i}", name) for name in NAMES for i in range(4)]
    asked = stand_in(monkeypatch, {"train": rows, "validation": rows, "test": [(f"please {text}", name) for text, name in rows]}, NAMES)
    data = sources.load("clinc150")
    assert asked == [("clinc/clinc_oos", "plus")] and data.labels == data.label_names == ["no", "yes"]
    assert sorted(data.train.texts) == sorted(text for text, name in rows if name != "oos")
    assert sorted(data.validation.texts) == sorted(f"please {text}" for text, name in rows if name != "oos")
    assert data.out_of_scope == [f"please oos {i}" for i in range(4)]


def test_a_hub_with_other_columns_is_told(monkeypatch):
    stand_in(monkeypatch, {"train": [("a", "yes")], "test": [("b", "no")]}, NAMES, label="class")
    with pytest.raises(MonjuError, match="clinc_oos.*'intent'"):
        sources.load("clinc150")
    stand_in(monkeypatch, {"train": [("a", "yes")]}, NAMES)
    with pytest.raises(MonjuError, match="clinc_oos.*'test'"):
        sources.load("clinc150")


@pytest.mark.skipif(not CLINC.is_dir(), reason="needs ../shared/data/clinc150")
def test_the_hubs_requests_are_those_of_the_files(monkeypatch):
    import pandas as pd

    tables = {part: pd.read_parquet(CLINC / f"{part}.parquet") for part in ("train", "dev", "validation", "out-of-scope")}
    names = sorted({*tables["train"]["label"], "oos"})[::-1]
    pairs = {part: list(zip(table["sentence"], table["label"])) for part, table in tables.items()}
    stand_in(monkeypatch, {"train": pairs["train"] + [("a lone one", "oos")], "validation": pairs["dev"],
                           "test": pairs["out-of-scope"] + pairs["validation"]}, names)
    from_hub, from_files = sources.load("clinc150", tuning_size=1500), sources.load(CLINC, tuning_size=1500)
    assert from_hub.fingerprint == from_files.fingerprint and from_hub.out_of_scope == from_files.out_of_scope
    assert (len(from_hub.train.texts), len(from_hub.validation.texts), len(from_hub.labels), len(from_hub.out_of_scope)) == (13498, 4500, 150, 1000)
