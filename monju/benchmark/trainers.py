"""Who trains in `bench train`: ours in lockstep or a process each, and transformers' Trainer."""

import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
import transformers

from monju.benchmark.gpu_profile import gpu_profile
from monju.benchmark.timing import matmul_rate, peak_memory
from monju.models import backbones, train_forward
from monju.models.classifier import Expert
from monju.training import local_engine, trainer
from monju.training.lockstep import wants_bf16
from monju.training.member import Training


@dataclass(frozen=True)
class Bench:
    """What every contender trains: can be sent to another process."""

    config: object
    tokens: list
    labels: np.ndarray
    names: list[str]
    tokenizer: object
    steps: int
    device: str

    def ours(self):
        """Train three experts, as many at a time as `train` would; return what was measured."""
        on_gpu = self.device == "cuda"
        devices = local_engine.places(torch.device(self.device), 1 if on_gpu else 3, self.config.workers)
        last_steps, memory, device_seconds = {}, {}, [0.0] * len(devices)
        first_steps, profile = {}, {}
        groups = [range(3)] if on_gpu else [[number] for number in range(3)]
        for _, (number, step, peak, seen) in local_engine.run_all(self, groups, devices):
            first_steps.setdefault(number, step)
            last_steps[number], memory[number], profile = step, peak, seen
        # the clock of training alone, as the Trainer's: no start of a process, no reading of a model
        for number in range(3):
            device_seconds[device_seconds.index(min(device_seconds))] += last_steps[number].seconds
        padded = sum(step.padded for step in last_steps.values())
        steady = [(last.sentences - first.sentences) / max(last.seconds - first.seconds, 1e-9)
                  for first, last in ((first_steps[number], last_steps[number]) for number in range(3))]
        return {"steady": float(np.mean(steady)) * len(devices), "profile": profile,
                "sentences": sum(step.sentences for step in last_steps.values()),
                "tokens": sum(step.tokens for step in last_steps.values()),
                "padded": padded, "seconds": max(device_seconds),
                "memory": sum(sorted(memory.values())[-len(devices):]), "bf16": self.bf16,
                "flops": self.flops(padded)}

    def fit(self, jobs, device):
        """Train experts in lockstep, for `local_engine`.

        Yields (number, Step, peak memory in bytes, profile of the GPU), four times for each; the profile is
        that of steps after the last. On a GPU a report comes when the next is due.
        """
        on_gpu, quarter = device.type == "cuda", max(1, self.steps // 4)
        steps = (self.steps // quarter + 2) * quarter if on_gpu else self.steps
        trainings = [Training(Expert.start(self.config, self.names, self.tokenizer.pad_token_id,
                                                   seed, device),
                                      self.tokens, self.labels, seed, steps) for seed in jobs]
        running, measured, profile = trainer.fit_in_lockstep(trainings, self.config, quarter), [], {}
        for number, step in running:
            measured.append((jobs[number], step, peak_memory(self.device)))
            if on_gpu and step.step == steps - 2 * quarter and number == len(jobs) - 1:
                break
        if on_gpu:
            with gpu_profile(quarter) as profile:
                for _ in running:
                    pass
        for each in measured:
            yield *each, profile

    def trainer(self, tuned):
        """Train with transformers' Trainer: its ordinary recipe, or `tuned`, all that its arguments offer."""
        torch.manual_seed(0)
        model = backbones.from_pretrained(transformers.AutoModelForSequenceClassification,
                                          self.config.backbone, num_labels=len(self.names))
        bf16 = tuned and self.bf16
        collate = transformers.DataCollatorWithPadding(self.tokenizer)
        counts, clock = {"tokens": 0, "padded": 0, "sentences": 0}, Clock(self.steps, self.device)

        def counting(rows):
            batch = collate(rows)
            counts["tokens"] += int(batch["attention_mask"].sum())
            counts["padded"] += batch["input_ids"].numel()
            counts["sentences"] += len(rows)
            return batch

        settings = {"bf16": bf16, "train_sampling_strategy": "group_by_length", "optim": "adamw_torch_fused",
                    "torch_compile": self.device == "cuda"} if tuned else {}
        with tempfile.TemporaryDirectory() as folder:
            arguments = transformers.TrainingArguments(
                folder, max_steps=self.steps + clock.quarter * (self.device == "cuda"),
                per_device_train_batch_size=self.config.batch_size,
                learning_rate=self.config.learning_rate,
                weight_decay=self.config.weight_decay, warmup_steps=self.config.warmup,
                lr_scheduler_type="linear", report_to=[],
                save_strategy="no", logging_strategy="no", disable_tqdm=True, use_cpu=self.device == "cpu",
                seed=0, **settings)
            rows = [{"input_ids": ids, "attention_mask": [1] * len(ids), "labels": int(label)}
                    for ids, label in zip(self.tokens, self.labels)]
            trainer = transformers.Trainer(model, arguments, train_dataset=rows, data_collator=counting,
                                           processing_class=self.tokenizer)
            trainer.remove_callback(transformers.PrinterCallback)  # standard output is the report's
            trainer.add_callback(clock)
            trainer.train()
        # the loader reads one batch ahead at most: what was counted is scaled to what was trained
        share = self.steps * self.config.batch_size / max(1, counts["sentences"])
        padded = round(counts["padded"] * share)
        return {"sentences": self.steps * self.config.batch_size, "tokens": round(counts["tokens"] * share),
                "padded": padded, "steady": self.config.batch_size * clock.steady_steps_per_s,
                "profile": clock.profile, "seconds": clock.seconds, "memory": peak_memory(self.device),
                "bf16": bf16,
                "flops": self.flops(padded, whole=True)}

    @property
    def bf16(self):
        """Whether ours trains in bf16."""
        return wants_bf16(self.config.precision, torch.device(self.device))

    def flops(self, padded, whole=False):
        """Return the floating-point operations of forward and backward over so many tokens.

        Counted on one batch of usual length: those of our forward pass, or of the whole model's.
        """
        from torch.utils.flop_counter import FlopCounterMode

        length = max(2, round(float(np.mean([len(sentence) for sentence in self.tokens]))))
        expert = Expert.start(self.config, self.names, self.tokenizer.pad_token_id, 0, torch.device("cpu"))
        ids = torch.ones(self.config.batch_size, length, dtype=torch.long)
        with FlopCounterMode(display=False) as counter:
            logits = expert.model(input_ids=ids).logits if whole else train_forward.forward(
                expert.model)({"input_ids": ids}, None)
            logits.sum().backward()
        return counter.get_total_flops() * padded / ids.numel()

    def matmul_rates(self):
        """Return the measured operations a second of large matrix products, by precision."""
        return {kind: matmul_rate(dtype, self.device)
                for kind, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))}


class Clock(transformers.TrainerCallback):
    """Times a Trainer's steps as ours are timed; on a GPU it profiles a quarter as many after the last."""

    def __init__(self, steps, device):
        self.steps, self.device, self.quarter, self.times = steps, device, max(1, steps // 4), {}
        self.profile, self.profiling = {}, ExitStack()

    def on_train_begin(self, *given, **options):
        """Begin."""
        self.times[0] = time.perf_counter()

    def on_step_end(self, arguments, state, *given, **options):
        """Note the time at a quarter and at the end of the steps."""
        if state.global_step in (self.quarter, self.steps):
            if self.device == "cuda":
                torch.cuda.synchronize()
            self.times[state.global_step] = time.perf_counter()
            if self.device == "cuda" and state.global_step == self.steps:
                self.profile = self.profiling.enter_context(gpu_profile(self.quarter))

    def on_train_end(self, *given, **options):
        """End."""
        self.profiling.close()

    @property
    def seconds(self):
        """Of all steps."""
        return self.times[self.steps] - self.times[0]

    @property
    def steady_steps_per_s(self):
        """Without the first quarter."""
        return (self.steps - self.quarter) / max(1e-9, self.times[self.steps] - self.times[self.quarter])
