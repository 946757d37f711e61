"""Experts: one classifier, fine-tuned on one set of sentences.

Baselines are the same thing on all sentences. An expert sees token ids and label numbers; it
knows nothing of clusters, gates or the other experts.
"""

import time
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
import transformers
from torch.nn.functional import cross_entropy

from monju.models import backbones, dropout, train_forward
from monju.training import samplers
from monju.errors import MonjuError

REPORTS = 200  # of a training at most, beside the last
FEW_SHAPES = 8  # lengths are rounded up to it where every shape costs a compilation


@dataclass(frozen=True)
class Step:
    """How far one model's training is: the mean loss since the last report, and real tokens (no padding) so far.

    `parts`: in how many pieces a batch is read, more than one where the GPU's memory did not do for it whole.
    """

    step: int
    steps: int
    sentences: int
    tokens: int
    loss: float
    learning_rate: float
    seconds: float
    parts: int = 1


class Expert:
    """A sequence classifier with its tokenizer's padding: fit, logits, save, load."""

    def __init__(self, model, padding, device, low_rank=None):
        self.model, self.padding, self.device = model.to(device), padding, device
        self.low_rank = low_rank  # {layer's name: (A [rank, in], B [out, rank])}: what a merged adapter added

    @classmethod
    def start(cls, config, label_names, padding, seed, device):
        """An untrained classifier for these labels; the head's first weights follow from `seed` alone."""
        torch.manual_seed(seed)
        # eager attention: on sentences of a dozen tokens the CPU's fused kernel has a backward ten times slower. Elsewhere
        # transformers takes SDPA for each architecture that has it
        attention = {"attn_implementation": "eager"} if device.type == "cpu" else {}
        model = backbones.from_pretrained(transformers.AutoModelForSequenceClassification, config.backbone,
                                          id2label=dict(enumerate(label_names)),
                                          label2id={name: number for number, name in enumerate(label_names)},
                                          **attention)
        for weight in model.parameters():  # as read they lie anywhere, and the last bits of products depend on where: torch aligns its own
            weight.data = weight.data.clone()
        # what is saved must point to where anyone finds the backbone, not to this machine's copy
        model.name_or_path = model.config._name_or_path = backbones.hub_name(config.backbone)
        below = lowest(model, config.frozen_layers)
        for part in below.values():
            part.requires_grad_(False)
        if config.finetuning == "lora":
            model = with_adapter(model, config, below)
        if device.type == "cpu":
            dropout.install(model)
        return cls(model, padding, device)

    def fit(self, config, tokens, labels, seed, steps=None, report_every=None, order="buckets", clusters=None,
            loss_of=None, checkpoints=None):
        """Fine-tune on tokens (n lists of ids) and labels [n]; a generator of `Step`s that trains as it is read.

        The recipe: AdamW, linear warm-up and decay to zero, gradient norm clipped at 1, batches in an `order` of
        `orders.TABLE`, which may look at the sentences' clusters [n]. `steps` overrides the number that
        `config.epochs` asks for; `loss_of` (logits [batch, labels], row numbers) → a loss in place of cross-entropy.
        With `checkpoints` it goes on after the last one's step, and keeps one after every epoch.
        """
        tensors, known = checkpoints.load() if checkpoints else ({}, {"step": 0})
        self.model.load_state_dict({name: tensor for name, tensor in tensors.items() if name in self.trained}, strict=False)
        random = np.random.default_rng(seed)
        torch.manual_seed(seed)
        lengths = np.array([len(sentence) for sentence in tokens])
        per_epoch = -(-len(tokens) // config.batch_size)
        steps = steps or max(1, round(config.epochs * per_epoch))
        report_every = report_every or max(1, steps // REPORTS)
        words, answer = Words(self.model, tokens, self.padding, self.device), train_forward.forward(self.model, config.compile)
        frozen = lowest(self.model, config.frozen_layers).values()
        weights = words.instead_of_table(list(self.trained.values()))
        optimizer = torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
        factor = linear_schedule(steps, config.warmup)
        bf16 = wants_bf16(config.precision, self.device)
        loss_sum = torch.zeros((), device=self.device)
        seen, read, before, parts = (known.get(name, first) for name, first in (("seen", 0), ("read", 0), ("seconds", 0.0), ("parts", 1)))
        loss_of = loss_of or (lambda logits, rows: cross_entropy(logits, backbones.sent(torch.as_tensor(labels[rows]), self.device)))
        lost = tensors.get("lost")
        began = time.perf_counter()

        def losses():
            nonlocal lost
            if lost is None:
                words.put_back()
                lost = torch.from_numpy(self.losses(tokens, labels))
            return lost.numpy()

        def learn(rows, share):
            """The gradient of `share` of the batch's loss, which is returned."""
            ids, mask = self._padded([tokens[row] for row in rows], FEW_SHAPES if config.compile else 1)
            mask = mask if config.compile or np.ptp(lengths[rows]) else None
            try:
                with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                    logits = answer(words(ids), mask)
            except torch._dynamo.exc.TorchDynamoException as error:
                raise MonjuError(f"torch.compile does not work on this machine ({str(error).strip().splitlines()[0]}): "
                                 "leave --compile out") from error
            loss = share * loss_of(logits.float(), rows)
            loss.backward()
            return loss.detach()

        batches = samplers.TABLE[order](samplers.Sentences(lengths, clusters, losses), config.batch_size, random)
        batches = islice(batches, known["step"], None)  # the order is drawn again up to there
        if tensors:
            loss_sum.copy_(tensors["loss_sum"])
            restore(optimizer, tensors)
        for step, rows in zip(range(known["step"] + 1, steps + 1), batches):
            self.model.train()
            for part in frozen:  # what learns nothing drops nothing: all models see the same below
                part.train(False)
            while True:
                try:
                    loss = sum(learn(part, len(part) / len(rows)) for part in np.array_split(rows, min(parts, len(rows))))
                    break
                except torch.OutOfMemoryError:
                    if parts >= len(rows):
                        raise MonjuError("the GPU's memory does not do for one sentence: choose --finetuning lora, "
                                         "a smaller --max-tokens or a smaller --backbone") from None
                parts *= 2
                optimizer.zero_grad()
                torch.cuda.empty_cache()
            now = config.learning_rate * factor(step - 1)
            for group in optimizer.param_groups:
                group["lr"] = now
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            words.shrink *= 1 - now * config.weight_decay
            loss_sum += loss
            seen, read = seen + len(rows), read + int(lengths[rows].sum())
            if step % report_every == 0 or step == steps:
                since = report_every if step % report_every == 0 else step % report_every
                mean = loss_sum.item() / since
                if not np.isfinite(mean):
                    raise MonjuError(f"the loss became {mean} at step {step}: choose a smaller --learning-rate or --precision fp32")
                loss_sum.zero_()
                words.put_back()  # whoever looks at the model between two steps finds it whole
                yield Step(step, steps, seen, read, mean, now, before + time.perf_counter() - began, parts)
            if checkpoints and step % per_epoch == 0 and step < steps:
                words.put_back()
                checkpoints.save(step, {**self.trained, **state(optimizer), "loss_sum": loss_sum,
                                        **({} if lost is None else {"lost": lost})},
                                 seen=seen, read=read, seconds=before + time.perf_counter() - began, parts=parts)
        self.model.eval()

    @property
    def trained(self):
        """The weights that training changes, by name."""
        return {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}

    def logits(self, tokens, batch=64):
        """tokens (n lists of ids) → float32 [n, labels], in full precision whatever the training used."""
        self.model.eval()
        out = np.zeros((len(tokens), self.model.config.num_labels), np.float32)
        for rows in backbones.length_batches([len(sentence) for sentence in tokens], batch):
            ids, mask = self._padded([tokens[row] for row in rows])
            with torch.inference_mode():
                out[rows] = self.model(input_ids=ids, attention_mask=mask).logits.float().cpu().numpy()
        return out

    def losses(self, tokens, labels):
        """−log p of the right label of each sentence: tokens (n lists of ids), labels [n] → [n]."""
        logits = torch.from_numpy(self.logits(tokens))
        return cross_entropy(logits, torch.as_tensor(labels), reduction="none").numpy()

    def save(self, folder, tokenizer):
        """Write a folder that plain transformers (a full model) or peft (an adapter) loads.

        Adapters are kept in fp16, half the size; the run's table is drawn from what is kept.
        """
        if hasattr(self.model, "peft_config"):
            halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in self.model.state_dict().items()}
            self.model.save_pretrained(folder, state_dict=halves, save_embedding_layers=False)  # they are frozen; peft would ask the hub
        else:
            self.model.save_pretrained(folder)
        self.model.config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card

    @classmethod
    def load(cls, folder, labels, padding, device):
        """A saved expert, ready to answer; an adapter is merged into its backbone. Raises MonjuError for a broken folder."""
        try:
            if (folder / "adapter_config.json").exists():
                adapted = backbones.adapted(folder, labels)
                low_rank = factors(adapted, device)
                return cls(adapted.merge_and_unload().eval(), padding, device, low_rank)
            model, found = transformers.AutoModelForSequenceClassification.from_pretrained(
                folder, trust_remote_code=False, dtype=torch.float32, use_safetensors=True, output_loading_info=True)
        except MonjuError:
            raise
        except Exception as error:  # each library has its own for a broken file
            raise MonjuError(f"the model in {folder} cannot be loaded ({str(error).strip().splitlines()[0]}): "
                             "restore the folder or train the run again") from error
        if found["missing_keys"] or found["mismatched_keys"] or model.config.num_labels != labels:
            raise MonjuError(f"the model in {folder} is not this run's: restore the folder or train the run again")
        return cls(model.eval(), padding, device)

    def _padded(self, tokens, multiple=1):
        return (backbones.sent(part, self.device) for part in backbones.pad(tokens, self.padding, multiple))


class Words:
    """The rows of the word embeddings that these sentences use, trained in place of the whole table.

    No sentence gives any other row a gradient: AdamW would only shrink it by its weight decay, step after step.
    That is done at once in `put_back`; the weights learned are the same, without reading and writing
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
            self.still = None if self.table.padding_idx is None else int(self.place[self.table.padding_idx])  # has no gradient

    def instead_of_table(self, weights):
        """The weights to optimise, the used rows in the table's place."""
        return [self.rows if self.trained and weight is self.table.weight else weight for weight in weights]

    def __call__(self, ids):
        """What the model is given for these token ids."""
        if not self.trained:
            return {"input_ids": ids}
        return {"inputs_embeds": torch.nn.functional.embedding(self.place[ids], self.rows, self.still)}

    def put_back(self):
        """Make the table what it would be by now."""
        if self.trained:
            with torch.no_grad():
                self.table.weight.mul_(self.shrink)
                self.table.weight[self.used] = self.rows
        self.shrink = 1.0


def state(optimizer):
    """What a training goes on from, beside its weights: the optimiser's moments and the random state, by name."""
    moments = {f"moment.{number}.{name}": tensor for number, kept in optimizer.state_dict()["state"].items() for name, tensor in kept.items()}
    here = {"random.cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {}
    return {**moments, "random": torch.get_rng_state(), **here}


def restore(optimizer, tensors):
    """Put back what `state` took."""
    moments = {}
    for key, tensor in tensors.items():
        if key.startswith("moment."):
            _, number, name = key.split(".")
            moments.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    torch.set_rng_state(tensors["random"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])


def lowest(model, layers):
    """{name: module} of what lies below so many layers of the encoder: its embeddings and these layers; nothing for 0.
    Raises MonjuError where the encoder has no layer left to learn, or none that can be told apart."""
    if not layers:
        return {}
    bare = model.get_base_model() if hasattr(model, "peft_config") else model
    there = bare.config.num_hidden_layers
    if layers >= there:
        raise MonjuError(f"--frozen-layers {layers} leaves nothing to learn: this backbone has {there} layers, freeze at most {there - 1}")
    parts = dict(bare.base_model.named_modules(prefix=bare.base_model_prefix))
    path = next((name for name, part in parts.items() if isinstance(part, torch.nn.ModuleList) and len(part) == there), None)
    if path is None:
        raise MonjuError("this backbone's layers cannot be told apart: leave --frozen-layers out")
    names = list(parts)  # in the order in which a sentence goes through them
    first = f"{path}.{layers}"
    return {name: parts[name] for name in names[: names.index(first)] if not f"{first}.".startswith(f"{name}.")}


def with_adapter(model, config, below=()):
    """The model frozen, with low-rank adapters on every linear layer of its encoder but those `below`, and a trainable head."""
    from peft import LoraConfig, get_peft_model

    head = [name for name, part in model.named_children() if name != model.base_model_prefix and any(True for _ in part.parameters())]
    linear = [name for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)]
    bare = [name for name in linear if name in below or name.split(".")[0] in head]
    return get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=config.lora_rank, lora_alpha=2 * config.lora_rank,
                                            target_modules="all-linear", modules_to_save=head, exclude_modules=bare))


def factors(adapted, device):
    """{layer's name: (A [rank, in], B [out, rank], scaled)} of an adapter's linear layers: it adds x Aᵀ Bᵀ there."""
    return {name: (layer.lora_A["default"].weight.detach().float().to(device),
                   layer.lora_B["default"].weight.detach().float().to(device) * layer.scaling["default"])
            for name, layer in adapted.base_model.model.named_modules() if hasattr(layer, "lora_A") and "default" in layer.lora_A}


def linear_schedule(steps, warmup):
    """Learning-rate factor by step: up over the first `warmup` share, then down to zero at the last."""
    rising = max(1, round(warmup * steps))
    return lambda step: min((step + 1) / rising, max(0.0, (steps - step) / max(1, steps - rising)))


def wants_bf16(precision, device):
    """Whether to train under bf16 autocast: as asked, and where `auto`, if the machine computes in it."""
    return backbones.computes_in_bf16(device) if precision == "auto" else precision == "bf16"
