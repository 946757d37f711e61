"""Encoder: forward passes of BERT-like encoders, of one classifier or of several at once, with as few matmuls as possible.

Below the layers that were trained a `Trunk` carries a sentence for all; above it a `Tail` works out several adapters on one backbone with
one product each and small ones of low rank. Known architectures alone; others answer by their own forward. Knows nothing of batches,
threads or runs.
"""

import torch
from torch.nn.functional import linear, scaled_dot_product_attention

from monju.models import train_forward

HAS_PACKED_LINEAR = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
HEADS = {"bert": lambda model: (model.bert.pooler.dense, model.classifier),
         "roberta": lambda model: (model.classifier.dense, model.classifier.out_proj),
         "xlm-roberta": lambda model: (model.classifier.dense, model.classifier.out_proj)}
LINEARS = (("attention.self.query", "attention.self.key", "attention.self.value"),  # those on one input together
           ("attention.output.dense",), ("intermediate.dense",), ("output.dense",))


def forward(model):
    """The forward pass of one classifier, ids and mask [n, length] → logits [1, n, labels] and no states."""
    if is_known(model):
        return Encoder(Trunk(model.base_model), [Tail([(model, None)])])
    return lambda ids, mask: (model(input_ids=ids, attention_mask=mask).logits[None], None)


def hidden_states(model):
    """The forward pass of an encoder without a head, ids and mask [n, length] → its last hidden states [n, length, hidden]."""
    if is_known(model):
        ask = Encoder(Trunk(model), [Tail([], guest=model)])
        return lambda ids, mask: ask(ids, mask)[1]
    return lambda ids, mask: model(input_ids=ids, attention_mask=mask).last_hidden_state


class Encoder:
    """Classifiers on one BERT-like trunk, and perhaps a guest: ids and mask [n, length] → logits [members, n, labels] in the
    tails' order (None of a guest alone), and the guest's last hidden states [n, length, hidden] or None."""

    def __init__(self, trunk, tails):
        self.trunk, self.tails = trunk, tails

    def __call__(self, ids, mask):
        mask = None if mask.all() else mask
        x = self.trunk(ids, mask)
        logits, states = zip(*(tail(x, mask) for tail in self.tails))
        logits = [each for each in logits if each is not None]
        return torch.cat(logits) if logits else None, next((each for each in states if each is not None), None)

    @property
    def products(self):
        return [product for part in (self.trunk, *self.tails) for layer in part.layers for product in layer.products]


def in_bf16(ask):
    """The forward pass of a known encoder with the products of its linear layers in bf16 from now on; all else stays as it is."""
    for product in ask.products if isinstance(ask, Encoder) else ():
        product.to_bf16()


class Trunk:
    """What one encoder, or several alike, make of a sentence in the embeddings and their lowest `depth` layers: ids and mask
    [n, length] → hidden states [1, n, length, hidden]."""

    def __init__(self, encoder, depth=0):
        self.depth, self.embeddings = depth, encoder.embeddings
        self.layers = [Layer(layer) for layer in encoder.encoder.layer[:depth]]

    def __call__(self, ids, mask):
        x = self.embeddings(input_ids=ids)[None]
        for layer in self.layers:
            x = layer(x, mask, ids.shape[1])
        return x


class Tail:
    """The layers above a trunk of `depth` layers, of several classifiers at once and perhaps of a guest, the encoder itself: hidden
    states [1, n, length, hidden] → the classifiers' logits [members, n, labels], and the guest's last hidden states [n, length, hidden].

    The classifiers' heads read the first token alone, so that their last layer is worked out for it only.
    """

    def __init__(self, members, depth=0, guest=None):
        self.members, self.count = len(members), len(members) + (guest is not None)
        model = members[0][0] if members else None
        encoder, prefix = (model.base_model, model.base_model_prefix + ".") if members else (guest, "")
        everyone, last = members + [(guest, {})] * (guest is not None), len(encoder.encoder.layer) - 1
        self.between = [Layer(encoder.encoder.layer[i], f"{prefix}encoder.layer.{i}", everyone) for i in range(depth, last)]
        self.last = Layer(encoder.encoder.layer[last], f"{prefix}encoder.layer.{last}", members) if members else None
        self.guest = Layer(guest.encoder.layer[last]) if guest is not None else None
        heads = [HEADS[model.config.model_type](each) for each, _ in members]
        self.head = [(torch.stack([pair[i].bias.detach() for pair in heads])[:, None],
                      torch.stack([pair[i].weight.detach() for pair in heads]).transpose(1, 2)) for i in (0, 1)] if members else None

    @property
    def layers(self):
        return [*self.between, *filter(None, (self.last, self.guest))]

    def __call__(self, x, mask):
        logits, length = None, x.shape[2]
        x = x.expand(self.count, *x.shape[1:])
        for layer in self.between:
            x = layer(x, mask, length)
        if self.members:
            (bias, dense), (out_bias, out) = self.head
            first = self.last(x[: self.members], mask, 1)[:, :, 0]
            logits = torch.baddbmm(out_bias, torch.baddbmm(bias, first, dense).tanh(), out)
        return logits, self.guest and self.guest(x[self.members :], mask, length)[0]


class Layer:
    """One encoder layer of BERT's kind, of one encoder or of M members at once: x [M, n, length, hidden] and mask [n, length] (None
    where there is no padding) → the same for the first `wanted` tokens."""

    def __init__(self, layer, name="", members=((None, None),)):
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
        if widen.weight.dtype != y.dtype and not widen.low_rank:  # the widest of all values need not become fp32 in between
            fed = in_few_rows(y, lambda rows: narrow.times(self.activation(widen.times(rows))))
        else:
            fed = narrow(self.activation(widen(y)))
        return self.norms[1](fed.add_(y))


class Product:
    """x → x Wᵀ + b for all members at once, and for each of them + (x Aᵀ) Bᵀ where its adapter has one (the guest has
    none). Several linear layers on the same x make one product, their results side by side."""

    def __init__(self, parts, members):
        self.bias, self.low_rank = joined([module.bias for module, _ in parts]), None
        self.linear = linear
        if len(members) == 1:
            self.weight = joined([module.weight for module, _ in parts])
            return
        self.weight = joined([without(module.weight, members[0][1][name]) for module, name in parts])
        downs, ups = zip(*([torch.stack(factor).transpose(1, 2).contiguous()
                            for factor in zip(*(low_rank[name] for _, low_rank in members if low_rank))] for _, name in parts))
        self.low_rank = torch.cat(downs, dim=2), ups

    def __call__(self, x):
        flat = x.reshape(len(x), -1, x.shape[-1])
        of_trunk = len(flat) > 1 and flat.stride(0) == 0  # the same for all
        y = self.of(flat[: 1 if of_trunk else None])
        y = y.repeat(len(flat), 1, 1) if of_trunk else y
        if self.low_rank:
            down, ups = self.low_rank
            m, width, start = len(down), y.shape[-1] // len(ups), 0
            inner = torch.bmm(flat[:m], down)
            for i, up in enumerate(ups):
                y[:m, :, i * width : (i + 1) * width].baddbmm_(inner[:, :, start : (start := start + up.shape[1])], up)
        return y.view(*x.shape[:-1], -1)

    def of(self, x):
        """x Wᵀ + b alone, x [..., in], in the weight's precision."""
        return self.times(x) if self.weight.dtype == x.dtype else in_few_rows(x, self.times)

    def times(self, x):
        """The same, of an x that has the weight's precision."""
        return self.linear(x, self.weight, self.bias)

    def to_bf16(self):
        if self.weight.dtype == torch.bfloat16:
            return  # a product of few sentences' stack and many sentences' is met twice
        self.weight, self.bias = self.weight.bfloat16(), self.bias.bfloat16()
        if HAS_PACKED_LINEAR and self.weight.device.type == "cpu":
            self.linear, self.weight = packed_linear, torch.ops.mkldnn._reorder_linear_weight(self.weight, None)


def packed_linear(x, weight, bias):
    """As `linear`, of a weight that was laid out beforehand as oneDNN wants it and not again in every call: an operator of torch's own
    compiler, with no public name."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def in_few_rows(x, work):
    """What `work` on bf16 rows [n, in] makes of x [..., in], in x's precision. oneDNN compiles a product anew, for a millisecond and
    0.8 MiB, for every number of rows: there are few of them, and those too many hold anything."""
    count = x[..., 0].numel()
    rows = x.new_empty(round_up(count), x.shape[-1], dtype=torch.bfloat16)
    rows[:count] = x.reshape(count, -1)
    return work(rows)[:count].to(x.dtype).view(*x.shape[:-1], -1)


def round_up(rows):
    """The next of about fifty numbers of rows up to 2,000, at most an eighth more from 128 on; 16 rows are a tile of the processor's."""
    step = 16 * (1 + rows // 256)
    return -(-rows // step) * step


def joined(tensors):
    return torch.cat([tensor.detach() for tensor in tensors]) if len(tensors) > 1 else tensors[0].detach()


def is_known(model):
    """Whether `Trunk` and `Tail` work out this model's arithmetic."""
    return train_forward.is_known(model, ("Model", "ForSequenceClassification"))


def without(weight, factors):
    """weight − B A."""
    down, up = factors
    return weight.detach() - up @ down
