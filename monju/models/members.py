"""Members: several classifiers of one architecture as one model on a batch of members × rows.

A linear layer, layer norm or embedding whose weights differ between the members is swapped for one that holds
them all. Everything else, of any architecture, is transformers' own code on a batch that is longer. Knows
nothing of runs or gates.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import cache, partial
from threading import Barrier, local

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, layer_norm, linear

from monju.models import backbones
from monju.models.classifier import Expert

# sentences up to which adapters are multiplied apart from their shared backbone; above, weights are merged
FEW = 3
# sentences in one pass over merged weights, at most; 8 is about what a core's cache holds
ROWS, ROWS_ON_GPU = 8, 64
# backbone weights that differ by less, once the adapters are subtracted, are those of one backbone
SAME = 1e-5
CLOSE = 1e-3  # largest difference of a logit or a hidden state between a member and the model itself
PROBE = [[1, 2, 3, 4, 5], [6, 7, 8]]  # token ids on which that is tested


class Members:
    """Several classifiers, and perhaps a headless encoder of the same architecture, run together.

    Adapters on one backbone are run in one of two ways: for few sentences the backbone's weights are read
    once for all members; for many, merged weights take less arithmetic. Models that cannot be batched are
    run one after another: this is found out by running both ways once and comparing.

    Parameters
    ----------
    experts : sequence of Expert
        The classifiers, as `Expert.load` gives them, on one device and with one tokenizer.
    encoder : PreTrainedModel, optional
        A transformers model without a head; its last hidden states come with the logits if `has_encoder`.
    bf16 : bool
        Hold merged weights in bfloat16, for `read(rough=True)`.
    """

    def __init__(self, experts: Sequence[Expert], encoder: nn.Module | None = None, bf16: bool = False):
        self.experts, self.padding, self.device = list(experts), experts[0].padding, experts[0].device
        self.labels = experts[0].model.config.num_labels
        self.parameters = sum(weight.numel() for weight in experts[0].model.parameters())
        self.apart: nn.Module | None = None
        self.merged: nn.Module | None = None
        self.has_encoder = encoder is not None and self._join(encoder)
        if self.has_encoder or len(experts) > 1 and self._join():
            self.experts = []  # their weights are held by the joined models
        self.rough = self.merged if self.merged is None or not bf16 else light_copy(self.merged, in_bf16)
        if bf16 and self.apart is not None:
            self.merged = self.apart  # for what little is read in full precision

    def logits(self, tokens: list[list[int]]) -> np.ndarray:
        """Return the logits, float32 [n, members, labels], of the token ids of n sentences."""
        return self.read(tokens)[0]

    def read(self, tokens: list[list[int]], pool: Callable | None = None,
             rough: bool = False) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the logits and vectors of n sentences.

        Parameters
        ----------
        tokens : list [n] of list of int
            Token ids.
        pool : callable, optional
            Maps the encoder's hidden states [b, length, hidden] and their mask to vectors [b, dim].
        rough : bool
            Where there are weights in bfloat16, compute with them: twice as fast or more, logits to about
            0.1.

        Returns
        -------
        logits : ndarray of float32 [n, members, labels]
        vectors : ndarray [n, dim] or None
            None without `pool`.
        """
        on_cpu, lengths = self.device.type == "cpu", [len(sentence) for sentence in tokens]
        if self.merged is None:
            return np.stack([expert.logits(tokens) for expert in self.experts], axis=1), None
        logits = np.zeros((len(tokens), self.count, self.labels), np.float32)
        vectors: list = [None] * len(tokens)

        def run_batch(joined: nn.Module, rows: np.ndarray) -> None:
            ids, mask = (part.to(self.device)
                         for part in backbones.pad([tokens[row] for row in rows], self.padding))
            batch_logits, states = self._forward(joined, ids, mask, states=pool is not None)
            logits[rows] = batch_logits[: self.count].transpose(0, 1).float().cpu().numpy()
            if pool is not None and states is not None:
                for row, vector in zip(rows, pool(states[-1], mask)):
                    vectors[row] = vector

        model = self.rough if rough and self.rough is not None else self.merged
        if len(tokens) <= FEW:
            run_batch(self.merged if self.apart is None else self.apart, np.arange(len(tokens)))
        elif not on_cpu or (cores := torch.get_num_threads()) < 2:
            for rows in backbones.length_batches(lengths, ROWS if on_cpu else ROWS_ON_GPU):
                run_batch(model, rows)
        else:  # the longest first, as many batches for each core
            batches_per_core = -(-len(tokens) // (cores * ROWS))
            batches = backbones.length_batches(lengths, -(-len(tokens) // (cores * batches_per_core)))[::-1]
            list(core_pool(cores).map(partial(run_batch, model), batches))
        return logits, None if pool is None else np.stack(vectors)

    def _join(self, encoder: nn.Module | None = None) -> bool:
        """Batch the members, with the encoder where one is given.

        Returns whether the joined model gives the same outputs as the models themselves.
        """
        first, prefix = self.experts[0].model, self.experts[0].model.base_model_prefix
        weights = [dict(expert.model.named_parameters()) for expert in self.experts]
        factors = [expert.low_rank for expert in self.experts]
        if encoder is not None:  # one more member, whose logits nobody asks for
            weights.append(weights[0]
                           | {f"{prefix}.{name}": weight for name, weight in encoder.named_parameters()})
            factors.append(factors[0]
                           and {name: (0 * down, 0 * up) for name, (down, up) in factors[0].items()})
        self.count, self.all = len(factors) - (encoder is not None), len(weights)
        try:
            self.merged, self.apart = merge(first, weights), share(first, weights, factors)
            joined = [model for model in (self.merged, self.apart) if model is not None]
            if joined and all(self._agrees(model, encoder) for model in joined):
                return True
        except (KeyError, RuntimeError):  # of unlike shapes, or rows that a layer cannot tell apart
            pass
        self.apart = self.merged = None
        return False

    def _agrees(self, joined: nn.Module, encoder: nn.Module | None) -> bool:
        """Return whether a joined model gives its members' outputs, on sentences of two lengths."""
        ids, mask = (part.to(self.device) for part in backbones.pad(PROBE, self.padding))
        logits, states = self._forward(joined, ids, mask, states=True)
        with torch.inference_mode():
            pairs = [(logits[i], expert.model(input_ids=ids, attention_mask=mask).logits)
                     for i, expert in enumerate(self.experts)]
            if encoder is not None and states is not None:
                pairs.append((states[-1][mask.bool()],
                              encoder(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()]))
        return all((one - other).abs().max() < CLOSE for one, other in pairs)

    def _forward(self, joined: nn.Module, ids: Tensor, mask: Tensor,
                 states: bool) -> tuple[Tensor, Tensor | None]:
        """Run a joined model on ids and mask [n, length].

        Returns logits [all, n, labels] and last hidden states [all, n, length, hidden] or None.
        """
        BATCH.rows = len(ids)
        with torch.inference_mode():
            outputs = joined(input_ids=ids.repeat(self.all, 1), output_hidden_states=states,
                             attention_mask=None if mask.all() else mask.repeat(self.all, 1))
        last = outputs.hidden_states[-1].unflatten(0, (self.all, -1)) if states else None
        return outputs.logits.unflatten(0, (self.all, -1)), last


BATCH = local()  # `rows`: how many sentences a member has in this thread's pass


@cache
def core_pool(cores: int) -> Executor:
    """Return a pool with a thread for each core, each computing without helper threads.

    On small matrices, threads that share one wait for each other.
    """
    pool, all_there = ThreadPoolExecutor(cores), Barrier(cores)

    def compute_alone() -> None:
        torch.get_num_threads()  # a thread that never asked would take over the process's number later
        torch.set_num_threads(1)
        all_there.wait()

    for started in [pool.submit(compute_alone) for _ in range(cores)]:
        started.result()
    with ThreadPoolExecutor(1) as other:  # of threads to come, whose number `compute_alone` has changed, too
        other.submit(torch.set_num_threads, cores).result()
    return pool


def merge(model: nn.Module, weights: list[dict[str, Tensor]]) -> nn.Module | None:
    """Return the model with every layer in which the members' weights differ swapped.

    None where some such layer has no entry in `SWAPS`.
    """
    joined = light_copy(model)
    for name, member_weights in differing(model, weights):
        swap = SWAPS.get(type(model.get_submodule(name)))
        if swap is None:
            return None
        swapped = swap(model.get_submodule(name), member_weights)
        if isinstance(swapped, MemberLinear):  # in the order in which the product reads it: a tenth faster
            weight = swapped.weight.data
            swapped.weight.data = weight.transpose(1, 2).contiguous().transpose(1, 2)
        joined.set_submodule(name, swapped)
    return joined


def share(model: nn.Module, weights: list[dict[str, Tensor]],
          factors: Sequence[Mapping[str, tuple[Tensor, Tensor]] | None]) -> nn.Module | None:
    """Return the model with the backbone's weights once and the members' adapters apart.

    Parameters
    ----------
    model : Module
        The first member.
    weights : list of dict
        Each member's weights by name, with its adapter merged.
    factors : sequence of mapping or None
        What each member's adapter added: {layer: (A [rank, in], B [out, rank])}.

    Returns
    -------
    Module or None
        None where the members share no backbone.
    """
    adapters = [low for low in factors if low]
    if len(adapters) < len(factors):
        return None
    joined = light_copy(model)
    for name, member_weights in differing(model, weights):
        layer = model.get_submodule(name)
        if name in adapters[0]:
            backbone_weights = [member["weight"].detach() - low[name][1] @ low[name][0]
                                for member, low in zip(member_weights, adapters, strict=True)]
            if any((other - backbone_weights[0]).abs().max() > SAME for other in backbone_weights):
                return None
            joined.set_submodule(name, MemberAdapters(backbone_weights[0], member_weights[0].get("bias"),
                                                      [low[name] for low in adapters]))
        elif swap := SWAPS.get(type(layer)):
            joined.set_submodule(name, swap(layer, member_weights))
        else:
            return None
    return joined


def differing(model: nn.Module,
              weights: list[dict[str, Tensor]]) -> list[tuple[str, list[dict[str, Tensor]]]]:
    """Return (name, each member's weights) of the layers in which the members differ."""
    layers = []
    for name, layer in model.named_modules():
        member_weights = [{key: named[f"{name}.{key}"] for key, _ in layer.named_parameters(recurse=False)}
                          for named in weights]
        first, *others = member_weights
        if any(not torch.equal(other[key], first[key]) for other in others for key in other):
            layers.append((name, member_weights))
    return layers


def light_copy(model: nn.Module, cast: Callable[[Tensor], Tensor] = lambda tensor: tensor) -> nn.Module:
    """Return a copy of the modules on the same weights, or on what `cast` makes of each."""
    return copy.deepcopy(model,
                         {id(tensor): cast(tensor) for tensor in (*model.parameters(), *model.buffers())})


def in_bf16(tensor: Tensor) -> Tensor:
    """Return weights in bfloat16; whole numbers, such as positions, as they are."""
    return tensor.detach().bfloat16() if tensor.is_floating_point() else tensor


def stacked(member_weights: list[dict[str, Tensor]], key: str) -> nn.Parameter:
    """Return each member's weight of that name as one, members first."""
    return nn.Parameter(torch.stack([weights[key].detach() for weights in member_weights]),
                        requires_grad=False)


class MemberLinear(nn.Module):
    """x [members · n, …, in] → x Wₘᵀ + bₘ, each member's rows with its own weights [members, out, in]."""

    def __init__(self, layer: nn.Linear, member_weights: list[dict[str, Tensor]]):
        super().__init__()
        self.weight = stacked(member_weights, "weight")
        self.bias = stacked(member_weights, "bias") if "bias" in member_weights[0] else None

    def forward(self, x: Tensor) -> Tensor:
        """Return [members · n, …, out]."""
        rows, weight = x.reshape(len(self.weight), -1, x.shape[-1]), self.weight.transpose(1, 2)
        y = torch.bmm(rows, weight) if self.bias is None else torch.baddbmm(self.bias[:, None], rows, weight)
        return y.view(*x.shape[:-1], -1)


class MemberAdapters(nn.Module):
    """x [members · n, …, in] → x Wᵀ + b + (x Aₘᵀ) Bₘᵀ: one weight for all, each member's own adapter."""

    def __init__(self, weight: Tensor, bias: Tensor | None, factors: list[tuple[Tensor, Tensor]]):
        super().__init__()
        self.weight, self.bias = weight, None if bias is None else bias.detach()
        self.down, self.up = (torch.stack(part).transpose(1, 2).contiguous() for part in zip(*factors))

    def forward(self, x: Tensor) -> Tensor:
        """Return [members · n, …, out]."""
        rows, y = x.reshape(len(self.down), -1, x.shape[-1]), linear(x, self.weight, self.bias)
        return y.view(*rows.shape[:-1], -1).baddbmm_(torch.bmm(rows, self.down), self.up).view(y.shape)


class MemberNorm(nn.Module):
    """A layer norm of x [members · n, …, hidden] with each member's own scale and shift."""

    def __init__(self, layer: nn.LayerNorm, member_weights: list[dict[str, Tensor]]):
        super().__init__()
        self.shape, self.eps = layer.normalized_shape, layer.eps
        self.weight = stacked(member_weights, "weight")
        self.bias = stacked(member_weights, "bias") if "bias" in member_weights[0] else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised x, of its shape."""
        y = layer_norm(x, self.shape, eps=self.eps).view(len(self.weight), -1,
                                                         *self.shape) * self.weight[:, None]
        return (y if self.bias is None else y + self.bias[:, None]).view(x.shape)


class MemberEmbedding(nn.Module):
    """Ids [members · n, length] → vectors [members · n, length, hidden] out of each member's own table.

    Ids of positions may have one row for all: then all rows of a member get the same.
    """

    def __init__(self, layer: nn.Embedding, member_weights: list[dict[str, Tensor]]):
        super().__init__()
        self.weight = stacked(member_weights, "weight")

    def forward(self, ids: Tensor) -> Tensor:
        """Return [members · n, length, hidden]."""
        members, size = self.weight.shape[:2]
        if ids.shape[0] == 1 < members:
            return self.weight[:, None, ids[0]].expand(-1, BATCH.rows, -1, -1).flatten(0, 1)
        first = size * torch.arange(members, device=ids.device)[:, None, None]  # of its table
        return embedding((ids.unflatten(0, (members, -1)) + first).flatten(0, 1), self.weight.flatten(0, 1))


SWAPS = {nn.Linear: MemberLinear, nn.LayerNorm: MemberNorm, nn.Embedding: MemberEmbedding}
