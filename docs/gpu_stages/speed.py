"""Stages that measure: training in lockstep, reading, and what one would otherwise use."""

import time

from gpu_stages.check import LABELS


def matrix_rate(check):
    """Operations a second of products of large matrices."""
    import torch

    from monju.benchmark.timing import matmul_rate

    side = None if check.on_gpu else 512
    return {f"{name} TFLOP/s": matmul_rate(dtype, check.device.type, side) / 1e12
            for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))}


def steady(check, config, number, steps, warm):
    """Lockstep after its first steps: sentences/s of all models, kernels and busy share of a step, padding, memory."""
    import torch

    from monju.benchmark.gpu_profile import gpu_profile
    from monju.training import trainer

    def wait():
        if check.on_gpu:
            torch.cuda.synchronize()

    trainings = check.trainings(config, number, steps + warm + 20, shares=False)
    running, began = trainer.fit_in_lockstep(trainings, config, 1 if check.rehearse else 10), time.perf_counter()
    for _, step in running:
        if step.step >= warm:
            break
    wait()
    first, start, step0 = time.perf_counter() - began, time.perf_counter(), step
    for number_, step in running:
        if number_ == number - 1 and step.step >= warm + steps:
            break
    wait()
    seconds = time.perf_counter() - start
    figures = {"sentences/s": number * steps * config.batch_size / seconds, "ms a step": 1000 * seconds / steps, "first steps, s": first,
               "padding": 1 - step.tokens / step.padded, "note": step.note, "from step": step0.step}
    if check.on_gpu:
        figures["memory, GiB"] = torch.cuda.max_memory_allocated() / 2**30
        with gpu_profile(10) as profile:
            while next(running)[0] != number - 1:
                pass
        figures |= profile
    running.close()
    return figures


def speed_batch_32(check):
    """The poster's six models whole, batch 32."""
    return steady(check, check.config(), 6, *((4, 4) if check.rehearse else (200, 60)))


def speed_batch_128(check):
    """The poster's six models whole, batch 128."""
    return steady(check, check.config(batch_size=8 if check.rehearse else 128), 6, *((4, 4) if check.rehearse else (100, 40)))


def speed_adapters(check):
    """Six models as adapters, batch 128."""
    return steady(check, check.config(batch_size=8 if check.rehearse else 128, finetuning="lora"), 6, *((4, 4) if check.rehearse else (100, 40)))


def speed_reading(check):
    """Six whole models of the large backbone's size, one sentence and many: ours in one pass, and pipelines in fp32 in turn."""
    from types import SimpleNamespace

    from monju.benchmark.readers import Pipelines
    from monju.models import backbones
    from monju.models.members import Members

    tokenizer, experts = six_models(check)
    members = Members(experts)
    ours = SimpleNamespace(all=lambda texts: members.logits(backbones.encode(tokenizer, texts, 128)), one=lambda text: ours.all([text]))
    return {"one pass for all": not members.experts, **readers(check, {"ours": ours, "pipelines": Pipelines(tokenizer, experts)})}


def speed_compiled_pipelines(check):
    """The same six as pipelines in bf16 with torch.compile."""
    from monju.benchmark.readers import CompiledPipelines

    options = {"mode": "reduce-overhead"} if check.on_gpu else {"backend": "eager"}
    return readers(check, {"compiled": CompiledPipelines(*six_models(check), **options)})


def six_models(check):
    """The large backbone's tokenizer, and six classifiers of its size that differ in all their weights."""
    import torch

    from monju.models import backbones
    from monju.models.classifier import Expert

    config = check.config()
    tokenizer = backbones.tokenizer(config.backbone)
    experts = [Expert.start(config, LABELS, tokenizer.pad_token_id, seed, check.device) for seed in range(6)]
    for expert in experts:
        for weight in expert.model.parameters():
            weight.data.add_(torch.randn_like(weight), alpha=1e-3)
        expert.model.eval()
    return tokenizer, experts


def readers(check, contenders):
    """Each contender's median for one sentence, and its rate for many, after a first pass."""
    import numpy as np

    from monju.benchmark.speed import in_turn
    from monju.benchmark.timing import made_up

    texts = made_up(64 if check.rehearse else 2048)
    for contender in contenders.values():
        contender.all(texts)
    found = in_turn(contenders, texts[: 5 if check.rehearse else 30], texts, 1 if check.rehearse else 3)
    return {f"{name}: {what}": value for name, (singles, passes, _) in found.items() for what, value in (
        ("one sentence, ms", 1000 * float(np.median(singles))), ("sentences/s together", len(texts) / min(passes)))}


def speed_trainer(check):
    """transformers' ordinary Trainer, one model, batch 32."""
    return peer(check, False)


def speed_trainer_tuned(check):
    """transformers' Trainer with bf16, length grouping and torch.compile, one model, batch 32."""
    return peer(check, True)


def peer(check, tuned):
    from monju.benchmark.trainers import Bench
    from monju.models import backbones

    config = check.config()
    tokens, labels = check.tokens(config)
    steps = 4 if check.rehearse else 100
    bench = Bench(config, tokens, labels, LABELS, backbones.tokenizer(config.backbone), steps, check.device.type)
    measured = bench.trainer(tuned)
    return {"sentences/s": measured["sentences"] / measured["seconds"], "sentences/s without the first quarter": measured["steady"],
            "ms a step": 1000 * measured["seconds"] / steps, **measured["profile"]}
