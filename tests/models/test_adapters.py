"""Adapters in 8 bits: smaller files that plain peft loads, and almost the same logits."""

import json
import shutil

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from monju.models.adapters import store_in_eight_bits
from monju.models.classifier import Expert

SENTENCES = [[101, 1037, 4248, 10911, 102], [101, 2053, 102], [101, 10634, 1998, 2058, 10052, 102]]


@pytest.fixture
def folder(tiny_run, tmp_path):
    return shutil.copytree(tiny_run / "experts" / "AB", tmp_path / "AB")


def logits(folder):
    return Expert.load(folder, 2, 0, torch.device("cpu")).logits(SENTENCES)


def test_what_an_adapter_adds_stays_almost_the_same(folder, tiny_bert):
    file = folder / "adapter_model.safetensors"
    before, size, alpha = logits(folder), file.stat().st_size, json.loads((folder / "adapter_config.json").read_text())["lora_alpha"]
    store_in_eight_bits(folder)
    kinds = {weight.dtype for name, weight in load_file(file).items() if ".lora_" in name}
    assert kinds == {torch.float8_e4m3fn} and file.stat().st_size < size
    after, bare = logits(folder), Expert.load(folder, 2, 0, torch.device("cpu"))
    assert json.loads((folder / "adapter_config.json").read_text())["lora_alpha"] == alpha / 1024
    # rounding to three bits moves each factor by at most a sixteenth
    assert np.abs(after - before).max() < 0.05 * np.ptp(before) and not np.array_equal(after, before)

    base = AutoModelForSequenceClassification.from_pretrained(tiny_bert, num_labels=2)
    plain = PeftModel.from_pretrained(base, folder).eval()
    with torch.no_grad():
        theirs = [plain(input_ids=torch.tensor([ids])).logits[0].numpy() for ids in SENTENCES]
    np.testing.assert_allclose(after, theirs, atol=1e-5)
    assert bare.low_rank  # the factors that members read are those


def test_twice_is_once(folder):
    store_in_eight_bits(folder)
    once = {file.name: file.read_bytes() for file in folder.iterdir()}
    store_in_eight_bits(folder)
    assert once == {file.name: file.read_bytes() for file in folder.iterdir()}
