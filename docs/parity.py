"""Accuracy of our training beside transformers' Trainer: `python docs/parity.py [--data SOURCE] [--sentences N]`.

The same backbone, sentences, epochs, batch size, learning rate and schedule, three seeds each; measured on training
sentences held out, so that nothing that is reported elsewhere is looked at. Ours is trained alone and in lockstep, as
`train` does it on the CPU and on a GPU; `--device cuda` trains in lockstep there, replayed as CUDA graphs. Prints JSON.
"""

import argparse
import json
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package beside this folder, installed or not
from monju.config import Config
from monju.data import sources
from monju.models import backbones  # noqa: E402
from monju.models.classifier import Expert  # noqa: E402
from monju.presets import PRESETS  # noqa: E402
from monju.training.member import Training
from monju.training.trainer import fit, fit_in_lockstep


def prepared(source, sentences, held_out):
    """Tokens and labels to train on, and those held out of the same training split."""
    data = sources.load(source, sample=sentences + held_out, tuning_size=held_out)
    tokenizer = backbones.tokenizer(PRESETS["laptop"]["backbone"])
    return [(backbones.encode(tokenizer, part.texts, 128), part.labels) for part in (data.train, data.tuning)], data.label_names


def ours(parts, names, config, seed):
    """Accuracy of one expert as `train` fits it."""
    torch.set_num_threads(1)
    (tokens, labels), (held_out, truth) = parts
    padding = backbones.tokenizer(config.backbone).pad_token_id
    expert = Expert.start(config, names, padding, seed, torch.device("cpu"))
    for _ in fit(expert, config, tokens, labels, seed):
        pass
    return float((expert.logits(held_out).argmax(axis=1) == truth).mean())


def in_lockstep(parts, names, config, seeds, device):
    """Accuracy of as many experts, trained together."""
    (tokens, labels), (held_out, truth) = parts
    padding = backbones.tokenizer(config.backbone).pad_token_id
    trainings = [Training(Expert.start(config, names, padding, seed, torch.device(device)), tokens, labels, seed) for seed in range(seeds)]
    steps = [step for _, step in fit_in_lockstep(trainings, config)]
    assert {step.lockstep for step in steps[:seeds]} == {seeds} and not steps[-1].note, steps[-1].note
    return [float((each.expert.logits(held_out).argmax(axis=1) == truth).mean()) for each in trainings]


def trainer(parts, names, config, seed):
    """Accuracy of transformers' Trainer with its ordinary recipe."""
    torch.set_num_threads(1)
    (tokens, labels), (held_out, truth) = parts
    transformers.set_seed(seed)
    tokenizer = backbones.tokenizer(config.backbone)
    model = backbones.from_pretrained(transformers.AutoModelForSequenceClassification, config.backbone, num_labels=len(names))
    rows = [{"input_ids": ids, "attention_mask": [1] * len(ids), "labels": int(label)} for ids, label in zip(tokens, labels)]
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            folder, num_train_epochs=config.epochs, per_device_train_batch_size=config.batch_size, learning_rate=config.learning_rate,
            weight_decay=config.weight_decay, warmup_steps=config.warmup, lr_scheduler_type="linear", report_to=[],
            save_strategy="no", logging_strategy="no", disable_tqdm=True, use_cpu=True, seed=seed)
        transformers.Trainer(model, arguments, train_dataset=rows, processing_class=tokenizer,
                             data_collator=transformers.DataCollatorWithPadding(tokenizer)).train()
    return float((Expert(model.eval(), tokenizer.pad_token_id, torch.device("cpu")).logits(held_out).argmax(axis=1) == truth).mean())


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--data", default="rotten-tomatoes")
    arguments.add_argument("--sentences", type=int, default=4000)
    arguments.add_argument("--held-out", type=int, default=3000)
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    asked = arguments.parse_args()
    parts, names = prepared(asked.data, asked.sentences, asked.held_out)
    config = Config(**PRESETS["laptop"] | {"epochs": 1.0})
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        jobs = {way.__name__: [pool.submit(way, parts, names, config, seed) for seed in range(asked.seeds)] for way in (ours, trainer)}
        found = {name: [job.result() for job in each] for name, each in jobs.items()}
    found["lockstep"] = in_lockstep(parts, names, config, asked.seeds, asked.device)

    def against(name):
        difference = np.array(found[name]) - np.array(found["trainer"])
        return {"difference": float(difference.mean()), "standard_error": float(difference.std(ddof=1) / len(difference) ** 0.5)}

    print(json.dumps({**found, "ours against trainer": against("ours"), "lockstep against trainer": against("lockstep"),
                      "sentences": asked.sentences, "held_out": asked.held_out, "epochs": config.epochs, "finetuning": config.finetuning},
                     indent=1))


if __name__ == "__main__":
    main()
