"""Stages that compare: a GPU with the CPU, lockstep with single models, graphs with single launches, a resume with none."""

import os
from dataclasses import replace

from gpu_stages.check import LABELS, farthest, finetunings, losses, parameters


def device(check):
    """What is measured on."""
    import torch
    import transformers

    facts = {"torch": torch.__version__, "transformers": transformers.__version__, "cores": os.cpu_count()}
    if check.on_gpu:
        facts |= {"name": torch.cuda.get_device_name(), "gib": torch.cuda.get_device_properties(0).total_memory / 2**30}
    return facts


def logits_and_gradients(check):
    """The large backbone's logits and gradients in fp32, against the CPU's."""
    import torch

    from monju.models import backbones
    from monju.models.classifier import Expert

    config = check.config(precision="fp32")
    tokens, labels = check.tokens(config)
    padding, found = backbones.tokenizer(config.backbone).pad_token_id, []
    for where in (torch.device("cpu"), check.device):
        expert = Expert.start(config, LABELS, padding, 0, where)
        expert.model.eval()
        ids, mask = (part.to(where) for part in backbones.pad(tokens[:8], padding))
        logits = expert.model(input_ids=ids, attention_mask=mask).logits
        torch.nn.functional.cross_entropy(logits, torch.as_tensor(labels[:8], device=where)).backward()
        found.append((logits.detach().cpu(), {name: weight.grad.cpu() for name, weight in expert.trained.items() if weight.grad is not None}))
    (logits, gradients), (theirs, their_gradients) = found
    scale = max(float(gradient.abs().max()) for gradient in gradients.values())
    figures = {"logits": float((logits - theirs).abs().max()), "gradients": farthest([gradients], [their_gradients]) / scale}
    assert figures["logits"] < 5e-3 and figures["gradients"] < 2e-2, figures
    return figures


def lockstep_against_single(check):
    """Three models in lockstep and each alone: two architectures, whole models and adapters, fp32, no dropout."""
    figures = {}
    for family in ("bert", "mpnet"):
        for finetuning in finetunings(figures):
            config = check.config(backbone=check.small(family), finetuning=finetuning, precision="fp32", learning_rate=1e-4)
            together, apart = (check.trainings(config, 3, 12, still=True) for _ in range(2))
            ours, theirs = losses(together, config)[0], [losses([one], config)[0][0] for one in apart]
            # alone a model has its own order of batches: the first losses are before any learning
            figures[f"{family} {finetuning}"] = abs(sum(map(sum, ours)) - sum(map(sum, theirs))) / sum(map(sum, theirs))
            assert figures[f"{family} {finetuning}"] < 0.1, figures
            ordered = [[replace(one, order="short-to-long") for one in check.trainings(config, 3, 12, still=True)] for _ in range(2)]
            ours, theirs = losses(ordered[0], config)[0], [losses([one], config)[0][0] for one in ordered[1]]
            figures[f"{family} {finetuning}, one order"] = max(abs(a - b) for one, other in zip(ours, theirs) for a, b in zip(one, other))
            assert figures[f"{family} {finetuning}, one order"] < 5e-3, figures
    return figures


def graphs_against_eager(check):
    """The same steps recorded and replayed, and launched one by one; without dropout."""
    from monju.training import lockstep

    config, real = check.config(backbone=check.small("bert"), precision="fp32", learning_rate=1e-4), lockstep.Replay
    steps = 60 if check.on_gpu else 8
    recorded = check.trainings(config, 3, steps, still=True)
    ours, told = losses(recorded, config)
    lockstep.Replay = lambda act, forget: act
    try:
        theirs, _ = losses(check.trainings(config, 3, steps, still=True), config)
    finally:
        lockstep.Replay = real
    figures = {"losses": max(abs(a - b) for one, other in zip(ours, theirs) for a, b in zip(one, other)), "note": told[0][-1].note}
    assert figures["losses"] < 1e-2 and not figures["note"], figures
    return figures


def resumed(check):
    """Trainings that end in the middle and are resumed, and undisturbed ones; without dropout."""
    from monju.runs.checkpoints import Checkpoints
    from monju.training import trainer

    config = check.config(backbone=check.small("bert"), precision="fp32", learning_rate=1e-4, epochs=2, sample=80)

    def kept(folder):
        return [replace(one, checkpoints=Checkpoints(check.work / folder / one.name)) for one in check.trainings(config, 3, still=True)]

    whole, cut = kept("whole"), kept("cut")
    losses(whole, config)
    running = trainer.fit_in_lockstep(cut, config, 1)
    middle = max(one.checkpoints.facts["step"] for one in cut) + len(cut[-1].tokens) // config.batch_size + 2
    for _, step in running:
        if step.step >= middle:
            running.close()
            break
    again = kept("cut")
    starts = [one.checkpoints.facts["step"] for one in again]
    losses(again, config)
    figures = {"resumed at": starts, "weights": farthest([parameters(one) for one in whole], [parameters(one) for one in again])}
    assert max(starts) > 0 and figures["weights"] < 5e-3, figures
    return figures


def without_room(check):
    """Models that do not fit into the memory together: trained in groups, with the same losses."""
    import torch

    from monju.models import joint

    config = check.config(precision="fp32", batch_size=8)
    call = joint.Joint.__call__
    if check.on_gpu:
        losses(check.trainings(config, 1, 3), config)
        most = torch.cuda.max_memory_allocated()
        torch.cuda.empty_cache()
        share = 3.2 * most / torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, share))
    else:
        def refuse(self, ids, mask):
            if len(ids) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return call(self, ids, mask)

        joint.Joint.__call__ = refuse
    try:
        told = losses(check.trainings(config, 4, 3), config)[1]
    finally:
        joint.Joint.__call__ = call
        if check.on_gpu:
            torch.cuda.set_per_process_memory_fraction(1.0)
    figures = {"in lockstep": sorted({step.lockstep for steps in told for step in steps}), "note": told[0][-1].note}
    assert all(len(steps) == 3 for steps in told) and max(figures["in lockstep"]) < 4, figures
    return figures


def without_sdpa(check):
    """An architecture that transformers has no SDPA for (MPNet) is trained whole and with adapters."""
    figures = {}
    for finetuning in finetunings(figures):
        config = check.config(backbone=check.small("mpnet"), finetuning=finetuning, learning_rate=1e-3)
        told = losses(check.trainings(config, 2, 10), config)[1]
        figures[finetuning] = [told[0][0].loss, told[0][-1].loss]
        assert {step.lockstep for steps in told for step in steps} == {2} and not told[0][-1].note, (figures, told[0][-1].note)
    return figures
