"""Joint: several classifiers in training as one model on a batch of members × rows.

One forward and one backward pass for all of them, whatever the architecture. The weights that are trained are
stacked, members first, and every classifier's own are views of the stacks: it can be read, saved and
optimised as if it were alone. Knows nothing of batches, losses or optimisers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from monju.models import backbones, train_forward
from monju.models.adapters import lowest
from monju.models.classifier import Expert
from monju.models.members import BATCH, CLOSE, PROBE, SWAPS, light_copy


class CannotJoin(Exception):
    """The models' architecture does not run as members × rows."""


class Joint:
    """Classifiers on one backbone, on one device, for training.

    Parameters
    ----------
    experts : sequence of Expert
        The classifiers.
    words : sequence of SparseEmbedding
        Their word embeddings.
    frozen_layers : int
        Lowest layers that stay as pretrained.

    Raises
    ------
    CannotJoin
        Where several cannot be run as one: found out by comparing with each alone.
    """

    def __init__(self, experts: Sequence[Expert], words: Sequence[SparseEmbedding], frozen_layers: int = 0):
        self.experts, self.words = list(experts), list(words)
        self.stacks: list[tuple[nn.Parameter, list[nn.Parameter]]] = []  # (stack, each member's own)
        self.model = self.experts[0].model if len(self.experts) == 1 else self._stacked()
        self.frozen = lowest(self.model, frozen_layers).values()
        self._forward = train_forward.forward(self.model)
        if len(self.experts) > 1:
            self._compare()

    def __call__(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        """Return logits [members, n, labels] of ids and mask [members, n, length]; no mask: no padding."""
        members, BATCH.rows = ids.shape[:2]
        logits = self._forward(embedded(self.words, ids), None if mask is None else mask.flatten(0, 1))
        return logits.unflatten(0, (members, -1))

    def logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return logits [members, n, labels] of ids and mask [n, length], the same for all.

        Nothing is dropped. Where words are trained, each member's table must be whole: see
        `SparseEmbedding.put_back`.
        """
        self.model.eval()
        with torch.no_grad():
            BATCH.rows, members = len(ids), len(self.experts)
            inputs = [self._inputs(i, ids) for i in range(members)]
            joined = {name: torch.cat([own[name] for own in inputs]) for name in inputs[0]}
            return self._forward(joined, mask.repeat(members, 1)).unflatten(0, (members, -1))

    def train(self) -> None:
        """Drop units, as in training; what learns nothing drops nothing: all models see the same below."""
        self.model.train()
        for part in self.frozen:
            part.train(False)

    def hand_out_gradients(self) -> None:
        """Give each member's own weights their gradients, and clear the stacks'."""
        for stack, own in self.stacks:
            if stack.grad is not None:
                for weight, gradient in zip(own, stack.grad.unbind()):
                    weight.grad = gradient
                stack.grad = None

    def release(self) -> None:
        """Give every member memory of its own for its weights."""
        for _, own in self.stacks:
            for weight in own:
                weight.data = weight.data.clone()

    def _stacked(self) -> Any:
        first, joined = self.experts[0].model, light_copy(self.experts[0].model)
        named = [dict(expert.model.named_parameters()) for expert in self.experts]
        for name, weight in named[0].items():
            if not weight.requires_grad:  # one for all; what differs and is used, `_compare` finds
                for other in named[1:]:
                    if torch.equal(other[name], weight):
                        other[name].data = weight.data
        for name, layer in first.named_modules():
            keys = [key for key, weight in layer.named_parameters(recurse=False) if weight.requires_grad]
            if not keys or self.words[0].trained and layer is first.get_input_embeddings():
                continue
            if name.endswith("relative_attention_bias"):  # MPNet's, which has no batch dimension
                owner = name.rpartition(".")[0]
                encoder: Any = joined.get_submodule(owner)
                encoder.compute_position_bias = PositionBias(
                    [expert.model.get_submodule(owner) for expert in self.experts])
                continue
            if type(layer) not in SWAPS:
                raise CannotJoin(f"{type(layer).__name__} at {name}")
            swapped = SWAPS[type(layer)](layer, [
                {key: each[f"{name}.{key}"] for key, _ in layer.named_parameters(recurse=False)}
                for each in named])
            joined.set_submodule(name, swapped)
            for key in keys:
                stack, own = getattr(swapped, key).requires_grad_(), [each[f"{name}.{key}"] for each in named]
                self.stacks.append((stack, own))
                for weight, part in zip(own, stack.data.unbind()):
                    weight.data = part
        return joined

    def _inputs(self, i: int, ids: Tensor) -> dict[str, Tensor]:
        """Return a member's inputs for ids [n, length], of any words."""
        if self.words[i].trained:
            return {"inputs_embeds": self.experts[i].model.get_input_embeddings()(ids)}
        return {"input_ids": ids}

    def _compare(self) -> None:
        """Raise CannotJoin unless each member gives its own logits, on sentences of two lengths."""
        ids, mask = (part.to(self.experts[0].device)
                     for part in backbones.pad(PROBE, self.experts[0].padding))
        try:
            logits = self.logits(ids, mask)
            with torch.no_grad():
                alone = torch.stack([expert.model.eval()(**self._inputs(i, ids), attention_mask=mask).logits
                                     for i, expert in enumerate(self.experts)])
        except RuntimeError as error:  # rows that a layer cannot tell apart
            raise CannotJoin(str(error)) from None
        if (logits - alone).abs().max() > CLOSE:
            raise CannotJoin("a member's logits are not its own")


class PositionBias:
    """MPNet's position bias of members · n rows: looked up once for each member, not for each row."""

    def __init__(self, encoders: Sequence[Any]):
        self.encoders = encoders

    def __call__(self, x: Tensor, *given: Any, **options: Any) -> Tensor:
        """Return [members · n, heads, length, length] for hidden states x [members · n, length, hidden]."""
        parts = x.unflatten(0, (len(self.encoders), -1))
        return torch.cat([type(encoder).compute_position_bias(encoder, part, *given, **options)
                          for encoder, part in zip(self.encoders, parts)])


class SparseEmbedding:
    """The rows of a model's word embeddings that its sentences use, trained in place of the whole table.

    No sentence gives any other row a gradient: AdamW would only shrink it by its weight decay, step after
    step. That is done at once in `put_back`; the weights learned are the same, without reading and writing
    half of a small encoder's parameters at every step. With a frozen table there is nothing to do.

    Parameters
    ----------
    model : PreTrainedModel or PeftModel
        The classifier.
    ids : ndarray of int
        The token ids that its sentences use, and the padding's.
    device : torch.device
        Where it computes.
    """

    def __init__(self, model: Any, ids: Any, device: torch.device):
        self.table, self.shrink = model.get_input_embeddings(), 1.0
        self.trained = type(self.table) is nn.Embedding and self.table.weight.requires_grad
        if self.trained:
            self.used = torch.as_tensor(ids, device=device)
            self.place = torch.zeros(self.table.num_embeddings, dtype=torch.long, device=device)
            self.place[self.used] = torch.arange(len(self.used), device=device)
            self.rows = nn.Parameter(self.table.weight.detach()[self.used])
            # has no gradient
            self.still = None if self.table.padding_idx is None else int(self.place[self.table.padding_idx])

    def instead_of_table(self, weights: Sequence[nn.Parameter]) -> list[nn.Parameter]:
        """Return the weights to optimise, with the used rows in the table's place."""
        return [self.rows if self.trained and weight is self.table.weight else weight for weight in weights]

    def put_back(self) -> None:
        """Write the trained rows, and the decay of all others, into the table."""
        if self.trained:
            with torch.no_grad():
                self.table.weight.mul_(self.shrink)
                self.table.weight[self.used] = self.rows
        self.shrink = 1.0


def embedded(words: Sequence[SparseEmbedding], ids: Tensor) -> dict[str, Tensor]:
    """Return the model's inputs for token ids [members, n, length]: members · n rows."""
    if not words[0].trained:
        return {"input_ids": ids.flatten(0, 1)}
    first, places = 0, []
    rows: list[Tensor] = []
    for one, own in zip(words, ids):
        places.append(one.place[own] + first)
        rows.append(one.rows)
        first += len(one.rows)
    # padding is attended by nobody: it has no gradient anyway
    still = words[0].still if len(words) == 1 else None
    table = rows[0] if len(rows) == 1 else torch.cat(rows)
    return {"inputs_embeds": nn.functional.embedding(torch.cat(places), table, still)}
