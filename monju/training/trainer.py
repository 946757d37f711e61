"""Trainer: fine-tunes one classifier on token ids and label numbers; resumable, reporting step by step.

Baselines are the same thing on all sentences. Knows nothing of clusters, gates or the other experts.
"""

import time
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from monju.errors import MonjuError
from monju.models import backbones, train_forward
from monju.models.adapters import lowest
from monju.training import samplers

REPORTS = 200  # of a training at most, beside the last
FEW_SHAPES = 8  # lengths are rounded up to it where every shape costs a compilation


@dataclass(frozen=True)
class Step:
    """How far one model's training is.

    Parameters
    ----------
    step, steps : int
        Optimizer steps done, and in all.
    sentences, tokens : int
        Read so far; no padding is counted.
    loss : float
        The mean since the last report.
    learning_rate : float
        Of this step.
    seconds : float
        Time trained so far.
    parts : int
        In how many pieces a batch is read: more than one where the GPU's memory is too small for it whole.
    """

    step: int
    steps: int
    sentences: int
    tokens: int
    loss: float
    learning_rate: float
    seconds: float
    parts: int = 1


def fit(expert, config, tokens, labels, seed, steps=None, report_every=None, order="buckets", clusters=None,
        loss_of=None, checkpoints=None):
    """Fine-tune a classifier: a generator of `Step`s that trains as it is read.

    AdamW, linear warm-up and decay to zero, gradient norm clipped at 1.

    Parameters
    ----------
    expert : Expert
        The classifier to train.
    config : Config
        Epochs, batch size, learning rate and the other settings of training.
    tokens : list [n] of list of int
        Token ids.
    labels : ndarray of int [n]
        Label numbers.
    seed : int
        Of the order of batches and of dropout.
    steps : int, optional
        Overrides the number that `config.epochs` asks for.
    report_every : int, optional
        Steps between two reports; by default at most 200 reports are made.
    order : str
        A key of `samplers.TABLE`.
    clusters : ndarray of int [n], optional
        The sentences' clusters, for a sampler that uses them.
    loss_of : callable, optional
        (logits [batch, labels], row numbers [batch]) → a loss in place of cross-entropy.
    checkpoints : Checkpoints, optional
        Training goes on after the last one's step, and keeps one after every epoch.

    Yields
    ------
    Step

    Raises
    ------
    MonjuError
        Where the loss is no longer finite, or the GPU's memory is too small for one sentence.
    """
    tensors, progress = checkpoints.load() if checkpoints else ({}, {"step": 0})
    expert.model.load_state_dict({name: tensor for name, tensor in tensors.items()
                                  if name in expert.trained}, strict=False)
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    lengths = np.array([len(sentence) for sentence in tokens])
    per_epoch = -(-len(tokens) // config.batch_size)
    steps = steps or max(1, round(config.epochs * per_epoch))
    report_every = report_every or max(1, steps // REPORTS)
    embedding = SparseEmbedding(expert.model, tokens, expert.padding, expert.device)
    forward = train_forward.forward(expert.model, config.compile)
    frozen = lowest(expert.model, config.frozen_layers).values()
    weights = embedding.instead_of_table(list(expert.trained.values()))
    optimizer = torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=config.weight_decay,
                                  fused=True)
    factor = linear_schedule(steps, config.warmup)
    bf16 = wants_bf16(config.precision, expert.device)
    loss_sum = torch.zeros((), device=expert.device)
    sentences_seen, tokens_seen = progress.get("seen", 0), progress.get("read", 0)
    seconds_before, parts = progress.get("seconds", 0.0), progress.get("parts", 1)
    loss_of = loss_of or (lambda logits, rows: cross_entropy(
        logits, backbones.sent(torch.as_tensor(labels[rows]), expert.device)))
    sentence_losses = tensors.get("lost")
    began = time.perf_counter()

    def losses():
        nonlocal sentence_losses
        if sentence_losses is None:
            embedding.put_back()
            sentence_losses = torch.from_numpy(expert.losses(tokens, labels))
        return sentence_losses.numpy()

    def learn(rows, share):
        """The gradient of `share` of the batch's loss, which is returned."""
        ids, mask = expert._padded([tokens[row] for row in rows], FEW_SHAPES if config.compile else 1)
        mask = mask if config.compile or np.ptp(lengths[rows]) else None
        try:
            with torch.autocast(expert.device.type, torch.bfloat16, enabled=bf16):
                logits = forward(embedding(ids), mask)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise MonjuError("torch.compile does not work on this machine "
                             f"({str(error).strip().splitlines()[0]}): "
                             "leave --compile out") from error
        loss = share * loss_of(logits.float(), rows)
        loss.backward()
        return loss.detach()

    batches = samplers.TABLE[order](samplers.SamplerContext(lengths, clusters, losses), config.batch_size,
                                    rng)
    batches = islice(batches, progress["step"], None)  # the order is drawn again up to there
    if tensors:
        loss_sum.copy_(tensors["loss_sum"])
        restore(optimizer, tensors)
    for step, rows in zip(range(progress["step"] + 1, steps + 1), batches):
        expert.model.train()
        for part in frozen:  # what learns nothing drops nothing: all models see the same below
            part.train(False)
        while True:
            try:
                loss = sum(learn(part, len(part) / len(rows))
                           for part in np.array_split(rows, min(parts, len(rows))))
                break
            except torch.OutOfMemoryError:
                if parts >= len(rows):
                    raise MonjuError("the GPU's memory does not do for one sentence: choose --finetuning "
                                     "lora, "
                                     "a smaller --max-tokens or a smaller --backbone") from None
            parts *= 2
            optimizer.zero_grad()
            torch.cuda.empty_cache()
        learning_rate = config.learning_rate * factor(step - 1)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        embedding.shrink *= 1 - learning_rate * config.weight_decay
        loss_sum += loss
        sentences_seen, tokens_seen = sentences_seen + len(rows), tokens_seen + int(lengths[rows].sum())
        if step % report_every == 0 or step == steps:
            since = report_every if step % report_every == 0 else step % report_every
            mean = loss_sum.item() / since
            if not np.isfinite(mean):
                raise MonjuError(f"the loss became {mean} at step {step}: choose a smaller --learning-rate "
                                 "or --precision fp32")
            loss_sum.zero_()
            embedding.put_back()  # whoever looks at the model between two steps finds it whole
            yield Step(step, steps, sentences_seen, tokens_seen, mean, learning_rate,
                       seconds_before + time.perf_counter() - began, parts)
        if checkpoints and step % per_epoch == 0 and step < steps:
            embedding.put_back()
            checkpoints.save(step, {**expert.trained, **state(optimizer), "loss_sum": loss_sum,
                                    **({} if sentence_losses is None else {"lost": sentence_losses})},
                             seen=sentences_seen, read=tokens_seen,
                             seconds=seconds_before + time.perf_counter() - began, parts=parts)
    expert.model.eval()


class SparseEmbedding:
    """The rows of the word embeddings that these sentences use, trained in place of the whole table.

    No sentence gives any other row a gradient: AdamW would only shrink it by its weight decay, step after
    step. That is done at once in `put_back`; the weights learned are the same, without reading and writing
    half of a small encoder's parameters at every step. With a frozen table there is nothing to do.
    """

    def __init__(self, model, tokens, padding, device):
        self.table, self.shrink = model.get_input_embeddings(), 1.0
        self.trained = type(self.table) is torch.nn.Embedding and self.table.weight.requires_grad
        if self.trained:
            used = np.unique(np.concatenate([*tokens, [padding]]).astype(np.int64))
            self.used = torch.as_tensor(used, device=device)
            self.place = torch.zeros(self.table.num_embeddings, dtype=torch.long, device=device)
            self.place[self.used] = torch.arange(len(used), device=device)
            self.rows = torch.nn.Parameter(self.table.weight.detach()[self.used])
            # has no gradient
            self.still = None if self.table.padding_idx is None else int(self.place[self.table.padding_idx])

    def instead_of_table(self, weights):
        """Return the weights to optimise, with the used rows in the table's place."""
        return [self.rows if self.trained and weight is self.table.weight else weight for weight in weights]

    def __call__(self, ids):
        """Return the model's inputs for these token ids."""
        if not self.trained:
            return {"input_ids": ids}
        return {"inputs_embeds": torch.nn.functional.embedding(self.place[ids], self.rows, self.still)}

    def put_back(self):
        """Write the trained rows, and the decay of all others, into the table."""
        if self.trained:
            with torch.no_grad():
                self.table.weight.mul_(self.shrink)
                self.table.weight[self.used] = self.rows
        self.shrink = 1.0


def state(optimizer):
    """Return what a training goes on from, beside its weights: by name, tensors.

    They are the optimizer's moments and the random state.
    """
    moments = {f"moment.{number}.{name}": tensor
               for number, weight_state in optimizer.state_dict()["state"].items()
               for name, tensor in weight_state.items()}
    cuda_state = {"random.cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {}
    return {**moments, "random": torch.get_rng_state(), **cuda_state}


def restore(optimizer, tensors):
    """Restore what `state` returned."""
    moments = {}
    for key, tensor in tensors.items():
        if key.startswith("moment."):
            _, number, name = key.split(".")
            moments.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    torch.set_rng_state(tensors["random"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])


def linear_schedule(steps, warmup):
    """Return a function from the step to the learning-rate factor.

    It rises over the first `warmup` share of the steps, then falls to zero at the last.
    """
    rising = max(1, round(warmup * steps))
    return lambda step: min((step + 1) / rising, max(0.0, (steps - step) / max(1, steps - rising)))


def wants_bf16(precision, device):
    """Return whether to train under bf16 autocast: as asked, or with "auto" where the machine can."""
    return backbones.computes_in_bf16(device) if precision == "auto" else precision == "bf16"
