"""Stack: several classifiers on one backbone, answering together.

What they share is worked out once. Below the layers that were trained all are the same (`frozen_layers`): one trunk carries
the sentence that far for every member. Above it adapters differ from their backbone by products of low rank: the backbone's
weights are multiplied once for the sentences of several members, and each member adds its own small product. Members that
share nothing run one after another through the same lines; other architectures by their own forward. Logits are those of
the models themselves to 1e-5. Knows nothing of clusters, gates or runs.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache

import numpy as np
import torch
from torch.nn.functional import linear, scaled_dot_product_attention

from monju import backbones, learning

FEW = 3  # sentences up to which each product is read once for all members; with more of them arithmetic is what costs
BATCH, BATCH_IN_BF16 = 12, 16  # sentences in one forward pass at most: about what a core's cache holds; in bf16 calls cost more than products
HAS_PACKED_LINEAR = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
SAME = 1e-5  # backbone weights that differ by less, once their adapters are taken off, are one backbone's
HEADS = {"bert": lambda model: (model.bert.pooler.dense, model.classifier),
         "roberta": lambda model: (model.classifier.dense, model.classifier.out_proj),
         "xlm-roberta": lambda model: (model.classifier.dense, model.classifier.out_proj)}
LINEARS = (("attention.self.query", "attention.self.key", "attention.self.value"),  # those on one input together
           ("attention.output.dense",), ("intermediate.dense",), ("output.dense",))


class Stack:
    """Ask several classifiers at once.

    `members` are (model, low_rank) pairs: a model with its adapter merged into it, and {layer's name: (A [rank, in],
    B [out, rank])}, what the adapter added there, or None. `guest` is an encoder without a head: where it shares a trunk with
    the members, or is their own backbone, its hidden states come with their logits. With `bf16` the products of known encoders
    are worked out in it: twice as fast or more where the machine computes in bf16, logits to about 0.1, and now and then a label turns.
    """

    def __init__(self, members, padding, device, guest=None, bf16=False):
        self.padding, self.device = padding, device
        self.batch = BATCH_IN_BF16 if bf16 else BATCH
        self.count, self.labels = len(members), members[0][0].config.num_labels
        self.cores = torch.get_num_threads() if device.type == "cpu" else 1
        known = [place for place, (model, _) in enumerate(members) if is_known(model)]
        encoders = [members[place][0].base_model for place in known]
        depth = shared_depth(encoders) if len(known) > 1 else 0
        stacked, backbone = on_one_backbone(members, depth)
        guest = guest if guest is not None and is_known(guest) else None  # the only ones that can be read along
        below = guest is not None and depth > 0 and shared_depth([guest, encoders[0]]) >= depth
        beside = guest is not None and bool(stacked) and alike(weights_of(guest), backbone)
        self.guest = below or beside

        def tails(places, guest=None):
            """As few as can be: the stacked members of these places as one, with the guest if it can be, each other alone."""
            together = [place for place in places if place in stacked]
            among = guest if together and beside else None
            found = [Tail([members[place] for place in together], depth, among)] if together else []
            found += [Tail([members[place]], depth) for place in places if place not in together]
            return found + ([Tail([], depth, guest)] if guest is not None and among is None else [])

        def trunk(places):
            return Trunk(members[places[0]][0].base_model if places else guest, depth)

        sharing = stacked + [place for place in known if place not in stacked and depth]  # those worth asking as one
        size = max(1, -(-(len(sharing) + self.guest) // self.cores))  # the guest is as much work as a member, and comes last
        chunks = [sharing[start : start + size] for start in range(0, len(sharing), size)]
        lone = [([place], forward(members[place][0])) for place in range(self.count) if place not in sharing]
        self.groups = [(chunk, Encoder(trunk(chunk), tails(chunk, guest if self.guest and chunk is chunks[-1] else None)))
                       for chunk in chunks] + lone
        # for many sentences the merged weights, which have less arithmetic: each member for itself above the trunk
        parts = [([place], Tail([members[place]], depth)) for place in sharing] + ([([], Tail([], depth, guest))] if self.guest else [])
        self.apart = lone + ([(sharing, Encoder(trunk(sharing), [tail for _, tail in parts]))] if depth else
                             [(places, Encoder(trunk(places), [tail])) for places, tail in parts])
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

    def some_logits(self, tokens, wanted):
        """tokens (n lists of ids), wanted bool [n, members] → float32 [n, members, labels]: right where wanted, of the others
        only what comes along."""
        out = np.zeros((len(tokens), self.count, self.labels), np.float32)
        with one_core_each(self.cores) as do:
            tasks = []
            for group in self.apart:
                rows = np.flatnonzero(wanted[:, group[0]].any(axis=1))
                batches = backbones.length_batches([len(tokens[row]) for row in rows], self.batch)
                tasks += [do(self._answer, tokens, rows[batch], group, out) for batch in batches]
            for task in tasks:
                task.result()
        return out

    def _read(self, do, tokens, keep=None):
        out = np.zeros((len(tokens), self.count, self.labels), np.float32)
        lengths = [len(sentence) for sentence in tokens]

        def batches(cores):
            """Of one size, as many for each of so many cores, the longest first."""
            turns = -(-len(tokens) // (self.batch * cores))
            return backbones.length_batches(lengths, -(-len(tokens) // (turns * cores)))[::-1]

        if len(tokens) <= FEW:
            tasks = [(rows, group) for rows in backbones.length_batches(lengths, FEW) for group in self.groups]
        else:
            groups = [group for group in self.apart if group[0] or keep]
            even = len(groups) // self.cores * self.cores  # a core has its groups' sentences whole; those left over are cut up
            tasks = [(rows, group) for rows in batches(1) for group in groups[:even]]
            tasks += [(rows, group) for rows in batches(self.cores) for group in groups[even:]]
        for task in [do(self._answer, tokens, rows, group, out, keep) for rows, group in tasks]:
            task.result()
        return out

    def _answer(self, tokens, rows, group, out, keep=None):
        places, ask = group
        ids, mask = (part.to(self.device) for part in backbones.pad([tokens[row] for row in rows], self.padding))
        with torch.inference_mode():
            logits, states = ask(ids, mask)
        if places:
            out[np.ix_(rows, places)] = logits.float().cpu().numpy().swapaxes(0, 1)
        if keep and states is not None:
            keep(rows, states, mask)


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
    return learning.is_known(model, ("Model", "ForSequenceClassification"))


def shared_depth(encoders):
    """How many of their lowest layers, the embeddings with them, are the same in all encoders; each keeps its last for itself."""
    first, *others = encoders

    def same(part):
        return all(len(one) == len(other) and all(map(torch.equal, one, other))
                   for one, other in ((list(part(first).parameters()), list(part(encoder).parameters())) for encoder in others))

    if not same(lambda encoder: encoder.embeddings):
        return 0
    last = min(len(encoder.encoder.layer) for encoder in encoders) - 1
    return next((i for i in range(last) if not same(lambda encoder: encoder.encoder.layer[i])), last)


def on_one_backbone(members, depth=0):
    """Which members are adapters on the first adapter's backbone above `depth` layers, and its weights: proven by taking every
    adapter off again."""
    adapted = [place for place, (model, low_rank) in enumerate(members) if low_rank and is_known(model) and is_whole(model, low_rank, depth)]
    backbone = weights_of(members[adapted[0]][0].base_model, *members[adapted[0]]) if len(adapted) > 1 else {}
    sharing = adapted[:1] + [place for place in adapted[1:] if alike(weights_of(members[place][0].base_model, *members[place]), backbone)]
    return (sharing, backbone) if len(sharing) > 1 else ([], {})


def is_whole(model, low_rank, depth):
    """Whether the adapter has factors for every linear layer of the encoder above so many layers."""
    return all(f"{model.base_model_prefix}.encoder.layer.{i}.{part}" in low_rank
               for i in range(depth, len(model.base_model.encoder.layer)) for parts in LINEARS for part in parts)


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
