"""Stack: several classifiers on one backbone, answering together.

Adapters differ from their backbone by products of low rank. Here the backbone's weights are
multiplied once for the sentences of several members, and each member adds its own small product:
one sentence then costs about the memory traffic of one encoder, not of six. Members that share
nothing run one after another through the same lines; other architectures by their own forward.
Logits are those of the models themselves to 1e-5. Knows nothing of clusters, gates or runs.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache

import numpy as np
import torch
from torch.nn.functional import linear, scaled_dot_product_attention

from monju import backbones, learning

BATCH = 16  # sentences in one forward pass: about what a core's cache holds
SAME = 1e-5  # backbone weights that differ by less, once their adapters are taken off, are one backbone's
HEADS = {"bert": lambda model: (model.bert.pooler.dense, model.classifier),
         "roberta": lambda model: (model.classifier.dense, model.classifier.out_proj),
         "xlm-roberta": lambda model: (model.classifier.dense, model.classifier.out_proj)}
LINEARS = (("attention.self.query", "attention.self.key", "attention.self.value"),  # those on one input together
           ("attention.output.dense",), ("intermediate.dense",), ("output.dense",))


class Stack:
    """Ask several classifiers at once.

    `members` are (model, low_rank) pairs: a model with its adapter merged into it, and {layer's name: (A [rank, in],
    B [out, rank])}, what the adapter added there, or None. `guest` is an encoder without a head: where it is the
    members' own backbone, its hidden states come with their logits. With `bf16` the products of known encoders are worked out
    in it: twice as fast or more where the machine computes in bf16, logits to about 0.1, and now and then a label turns.
    """

    def __init__(self, members, padding, device, guest=None, bf16=False):
        self.padding, self.device = padding, device
        self.count, self.labels = len(members), members[0][0].config.num_labels
        self.cores = torch.get_num_threads() if device.type == "cpu" else 1
        sharing, backbone = on_one_backbone(members)
        size = max(1, -(-len(sharing) // self.cores))
        together = [sharing[start : start + size] for start in range(0, len(sharing), size)]
        self.guest = bool(together) and guest is not None and is_known(guest) and alike(weights_of(guest), backbone)
        lone = [([place], forward([member])) for place, member in enumerate(members)]
        self.groups = [(places, Encoder([members[place] for place in places], guest if self.guest and places is together[-1] else None))
                       for places in together]
        self.groups += [group for group in lone if group[0][0] not in sharing]
        self.apart = lone + ([([], Guest(guest))] if self.guest else [])  # each on its own, the guest too
        if bf16:
            for _, ask in self.groups + self.apart:
                in_bf16(ask)

    def logits(self, tokens, beside=None):
        """tokens (n lists of ids) → (float32 [n, members, labels], what the function `beside`, run meanwhile, returns)."""
        with one_core_each(self.cores) as do:
            other = do(beside) if beside else None
            return self._read(do, tokens), other.result() if beside else None

    def logits_and_vectors(self, tokens, pool):
        """tokens (n lists of ids) → logits as above, and what `pool` makes of the guest's hidden states [m, length, hidden] with
        their mask, sentence by sentence: float32 [n, dim]."""
        vectors = [None] * len(tokens)

        def keep(rows, states, mask):
            for row, vector in zip(rows, pool(states, mask)):
                vectors[row] = vector

        with one_core_each(self.cores) as do:
            return self._read(do, tokens, keep), np.stack(vectors)

    def _read(self, do, tokens, keep=None):
        out = np.zeros((len(tokens), self.count, self.labels), np.float32)
        batches = backbones.length_batches([len(sentence) for sentence in tokens], BATCH)[::-1]  # the longest first
        # with many tokens arithmetic is what costs, and the merged weights have less of it
        groups = self.groups if len(batches) == 1 else [group for group in self.apart if group[0] or keep]
        for task in [do(self._answer, tokens, rows, group, out, keep) for rows in batches for group in groups]:
            task.result()
        return out

    def _answer(self, tokens, rows, group, out, keep):
        places, ask = group
        ids, mask = (part.to(self.device) for part in backbones.pad([tokens[row] for row in rows], self.padding))
        with torch.inference_mode():
            logits, states = ask(ids, mask)
        if places:
            out[np.ix_(rows, places)] = logits.float().cpu().numpy().swapaxes(0, 1)
        if keep and states is not None:
            keep(rows, states, mask)


def forward(members):
    """The members' common forward pass, ids and mask [n, length] → logits [members, n, labels] and no states."""
    model = members[0][0]
    if is_known(model):
        return Encoder(members)
    return lambda ids, mask: (model(input_ids=ids, attention_mask=mask).logits[None], None)


def hidden_states(model):
    """The forward pass of an encoder without a head, ids and mask [n, length] → its last hidden states [n, length, hidden]."""
    if is_known(model):
        guest = Guest(model)
        return lambda ids, mask: guest(ids, mask)[1]
    return lambda ids, mask: model(input_ids=ids, attention_mask=mask).last_hidden_state


class Guest:
    """An encoder without a head: ids and mask [n, length] → no logits, and its last hidden states [n, length, hidden]."""

    def __init__(self, model):
        self.trunk = Trunk(model)

    def __call__(self, ids, mask):
        return None, self.trunk.last(*self.trunk(ids, mask), ids.shape[1])[0]


class Encoder:
    """M classifiers on one BERT-like encoder, and perhaps a guest: the encoder itself.

    The classifiers' heads read the first token alone, so that their last layer is worked out for it only.
    """

    def __init__(self, members, guest=None):
        model, self.count = members[0][0], len(members)
        self.trunk = Trunk(model.base_model, model.base_model_prefix + ".", members + [(guest, {})] * (guest is not None))
        self.guest = guest and Guest(guest)
        heads = [HEADS[model.config.model_type](each) for each, _ in members]
        self.head = [(torch.stack([pair[i].bias.detach() for pair in heads])[:, None],
                      torch.stack([pair[i].weight.detach() for pair in heads]).transpose(1, 2)) for i in (0, 1)]

    def __call__(self, ids, mask):
        (bias, dense), (out_bias, out) = self.head
        x, seen = self.trunk(ids, mask)
        first = self.trunk.last(x[: self.count], seen, 1)[:, :, 0]
        logits = torch.baddbmm(out_bias, torch.baddbmm(bias, first, dense).tanh(), out)
        return logits, self.guest and self.guest.trunk.last(x[self.count :], seen, ids.shape[1])[0]


def in_bf16(ask):
    """The forward pass of a known encoder with the products of its linear layers in bf16 from now on; all else stays as it is."""
    trunks = [each.trunk for each in (ask, getattr(ask, "guest", None)) if hasattr(each, "trunk")]
    for product in (product for trunk in trunks for layer in [*trunk.layers, trunk.last] for product in layer.products):
        product.weight, product.bias = product.weight.bfloat16(), product.bias.bfloat16()


class Trunk:
    """M encoders without their heads: ids and mask [n, length] → hidden states [M, n, length, hidden] before the last layer."""

    def __init__(self, encoder, prefix="", members=((None, None),)):
        self.count, self.embeddings = len(members), encoder.embeddings
        *self.layers, self.last = [Layer(layer, f"{prefix}encoder.layer.{i}", members) for i, layer in enumerate(encoder.encoder.layer)]

    def __call__(self, ids, mask):
        x = self.embeddings(input_ids=ids).expand(self.count, *ids.shape, -1)
        mask = None if mask.all() else mask
        for layer in self.layers:
            x = layer(x, mask, ids.shape[1])
        return x, mask


class Layer:
    """One encoder layer of BERT's kind: x [M, n, length, hidden] and mask [n, length] (None where there is
    no padding) → the same for the first `wanted` tokens."""

    def __init__(self, layer, name, members):
        self.products = [Product([(layer.get_submodule(part), f"{name}.{part}") for part in parts], members) for parts in LINEARS]
        self.heads, self.activation = layer.attention.self.num_attention_heads, layer.intermediate.intermediate_act_fn
        self.norms = layer.attention.output.LayerNorm, layer.output.LayerNorm

    def __call__(self, x, mask, wanted):
        m, n, length, hidden = x.shape
        attend, gather, widen, narrow = self.products
        query, key, value = attend(x).view(m * n, length, 3, self.heads, hidden // self.heads).permute(2, 0, 3, 1, 4)
        seen = None if mask is None else mask.bool()[:, None, None].repeat(m, 1, 1, 1)
        mixed = scaled_dot_product_attention(query[:, :, :wanted], key, value, seen)
        y = self.norms[0](gather(mixed.transpose(1, 2).reshape(m, n, wanted, hidden)).add_(x[:, :, :wanted]))
        return self.norms[1](narrow(self.activation(widen(y))).add_(y))


class Product:
    """x → x Wᵀ + b for all members at once, and for each of them + (x Aᵀ) Bᵀ where its adapter has one (the guest has
    none). Several linear layers on the same x make one product, their results side by side."""

    def __init__(self, parts, members):
        self.bias, self.low_rank = joined([module.bias for module, _ in parts]), None
        if len(members) == 1:
            self.weight = joined([module.weight for module, _ in parts])
            return
        self.weight = joined([without(module.weight, members[0][1][name]) for module, name in parts])
        downs, ups = zip(*([torch.stack(factor).transpose(1, 2).contiguous()
                            for factor in zip(*(low_rank[name] for _, low_rank in members if low_rank))] for _, name in parts))
        self.low_rank = torch.cat(downs, dim=2), ups

    def __call__(self, x):
        flat = x.reshape(len(x), -1, x.shape[-1])
        y = linear(flat.to(self.weight.dtype), self.weight, self.bias).to(flat.dtype)
        if self.low_rank:
            down, ups = self.low_rank
            m, width, start = len(down), y.shape[-1] // len(ups), 0
            inner = torch.bmm(flat[:m], down)
            for i, up in enumerate(ups):
                y[:m, :, i * width : (i + 1) * width].baddbmm_(inner[:, :, start : (start := start + up.shape[1])], up)
        return y.view(*x.shape[:-1], -1)


def joined(tensors):
    return torch.cat([tensor.detach() for tensor in tensors]) if len(tensors) > 1 else tensors[0].detach()


def is_known(model):
    """Whether `Trunk`, and for a classifier `Encoder`, works out this model's arithmetic."""
    return learning.is_known(model, ("Model", "ForSequenceClassification"))


def on_one_backbone(members):
    """Which members are adapters on the first adapter's backbone, and its weights: proven by taking every adapter off again."""
    adapted = [place for place, (model, low_rank) in enumerate(members) if is_known(model) and low_rank and is_whole(model, low_rank)]
    backbone = weights_of(members[adapted[0]][0].base_model, *members[adapted[0]]) if len(adapted) > 1 else {}
    sharing = adapted[:1] + [place for place in adapted[1:] if alike(weights_of(members[place][0].base_model, *members[place]), backbone)]
    return (sharing, backbone) if len(sharing) > 1 else ([], {})


def is_whole(model, low_rank):
    """Whether the adapter has factors for every linear layer of the encoder."""
    return all(f"{model.base_model_prefix}.encoder.layer.{i}.{part}" in low_rank
               for i in range(len(model.base_model.encoder.layer)) for parts in LINEARS for part in parts)


def weights_of(encoder, model=None, low_rank=()):
    """An encoder's weights by name, with the adapter of its model taken off; the pooler belongs to the head."""
    prefix = f"{model.base_model_prefix}." if model is not None else ""
    return {name: without(weight, low_rank[layer]) if (layer := prefix + name.removesuffix(".weight")) in low_rank else weight.detach()
            for name, weight in encoder.named_parameters() if not name.startswith("pooler.")}


def without(weight, factors):
    """weight − B A."""
    down, up = factors
    return weight.detach() - up @ down


def alike(one, other):
    """Whether two encoders' weights are the same, to rounding."""
    return one.keys() == other.keys() and all(
        torch.equal(one[name], other[name]) or one[name].shape == other[name].shape and (one[name] - other[name]).abs_().max() < SAME
        for name in one)


@cache
def pool(cores):
    """As many threads as cores, each computing on its own: on matrices this small, threads that share one wait for each other."""
    return ThreadPoolExecutor(cores, "stack", initializer=lambda: torch.set_num_threads(1))


@contextmanager
def one_core_each(cores):
    """A function that starts work, `do(work, *arguments)` → future: in the pool, or at once where there is one core."""
    if cores < 2:
        yield at_once
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the matrix library's number is the process's: a pool thread would start threads of its own
    try:
        yield pool(cores).submit
    finally:
        torch.set_num_threads(threads)


class at_once:
    """A future whose work is done."""

    def __init__(self, work, *arguments):
        self.found = work(*arguments)

    def result(self):
        return self.found
