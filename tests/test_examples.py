"""assets/examples.json: what each example is labelled with is what its run makes of it."""

import json
from pathlib import Path

import numpy as np
import pytest

from monju.errors import MonjuError
from monju.evaluation.cases import cases
from monju.inference.pipeline import Monju
from monju.models import backbones
from monju.runs.registry import SHIPPED
from monju.runs.run import Run

REPOSITORY = Path(__file__).resolve().parents[1]
EXAMPLES = json.loads((REPOSITORY / "assets" / "examples.json").read_text(encoding="utf-8"))
SHARED = REPOSITORY.parent / "shared" / "data"


def test_every_run_that_ships_has_sixty_of_its_own():
    assert list(EXAMPLES) == [run.name for run in SHIPPED]
    for examples in EXAMPLES.values():
        assert len(examples) == len({example["text"] for example in examples}) == 60


@pytest.mark.parametrize("run", SHIPPED, ids=lambda run: run.name)
def test_the_run_reads_them_as_they_are_labelled(run):
    try:
        for backbone in Run.open(run).config.all_backbones:
            backbones.tokenizer(backbone)
    except MonjuError as error:
        pytest.skip(str(error))
    monju, examples = Monju.load(run, "cpu"), EXAMPLES[run.name]
    predictions = monju.predict([example["text"] for example in examples])
    said = [monju.label_names[verdict] for verdict in predictions.monju.argmax(axis=1)]
    assert said == [example["monju"] for example in examples]
    truth = np.array([-1 if example["label"] is None else monju.label_names.index(example["label"]) for example in examples])
    shows = np.where(truth < 0, "outside", cases(predictions, truth))
    assert shows.tolist() == [example["case"] for example in examples]


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
def test_none_is_a_sentence_of_any_data_set():
    import pandas as pd

    known = set()
    for file in SHARED.glob("*/*.parquet"):
        table = pd.read_parquet(file)
        known |= {" ".join(text.casefold().split()) for text in table["sentence" if "sentence" in table else "text"]}
    own = {" ".join(example["text"].casefold().split()) for examples in EXAMPLES.values() for example in examples}
    assert not own & known
