"""Batched models: several classifiers on one backbone as one forward pass.

What they share is worked out once. Below the layers that were trained all are the same (`frozen_layers`): one trunk carries
the sentence that far for every member. Above it adapters differ from their backbone by products of low rank: the backbone's
weights are multiplied once for the sentences of several members, and each member adds its own small product. Members that
share nothing run one after another through the same lines; other architectures by their own forward. Logits are those of
the models themselves to 1e-5. Knows nothing of clusters, gates or runs.
"""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Lock

import numpy as np
import torch

from monju.models import backbones
from monju.models.encoder import LINEARS, Encoder, Tail, Trunk, forward, in_bf16, is_known, without

FEW = 3  # sentences up to which each product is read once for all members; with more of them arithmetic is what costs
BATCH, BATCH_IN_BF16 = 12, 16  # sentences in one forward pass at most: about what a core's cache holds; in bf16 calls cost more than products
SAME = 1e-5  # backbone weights that differ by less, once their adapters are taken off, are one backbone's


class BatchedModels:
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
        self.cores, self.do = cores() if device.type == "cpu" else (1, at_once)
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
        other = self.do(beside) if beside else None
        return self._read(tokens), other.result() if beside else None

    def logits_and_vectors(self, tokens, pool):
        """tokens (n lists of ids) → logits as above, and what `pool` makes of the guest's hidden states [m, length, hidden] with
        their mask, sentence by sentence: float32 [n, dim]."""
        vectors = [None] * len(tokens)

        def keep(rows, states, mask):
            for row, vector in zip(rows, pool(states, mask)):
                vectors[row] = vector

        return self._read(tokens, keep), np.stack(vectors)

    def some_logits(self, tokens, wanted):
        """tokens (n lists of ids), wanted bool [n, members] → float32 [n, members, labels]: right where wanted, of the others
        only what comes along."""
        out = np.zeros((len(tokens), self.count, self.labels), np.float32)
        tasks = []
        for group in self.apart:
            rows = np.flatnonzero(wanted[:, group[0]].any(axis=1))
            batches = backbones.length_batches([len(tokens[row]) for row in rows], self.batch)
            tasks += [self.do(self._answer, tokens, rows[batch], group, out) for batch in batches]
        finish(tasks)
        return out

    def _read(self, tokens, keep=None):
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
        finish([self.do(self._answer, tokens, rows, group, out, keep) for rows, group in tasks])
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


def shared_depth(encoders):
    """How many of their lowest layers, the embeddings with them, are the same in all encoders; each keeps its last for itself."""
    first, *others = encoders

    def same(part):
        return all(len(one) == len(other) and all(map(torch.equal, one, other))
                   for one, other in ((list(part(first).parameters()), list(part(encoder).parameters())) for encoder in others))

    if not same(lambda encoder: encoder.embeddings):
        return 0
    last = min(len(encoder.encoder.layer) for encoder in encoders) - 1
    return next((i for i in range(last) if not same(lambda encoder, i=i: encoder.encoder.layer[i])), last)


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


def alike(one, other):
    """Whether two encoders' weights are the same, to rounding."""
    return one.keys() == other.keys() and all(
        torch.equal(one[name], other[name]) or one[name].shape == other[name].shape and (one[name] - other[name]).abs_().max() < SAME
        for name in one)


_pools, _starting = {}, Lock()  # number of cores → a pool with a thread for each


def cores():
    """(The number of cores that this process computes on, what starts work on one of them: `do(work, *arguments)` → future).

    As many threads as cores, each computing on its own: on matrices this small, threads that share one wait for each other.
    """
    with _starting, ThreadPoolExecutor(1) as fresh:  # a new thread has the process's number, whatever another's is
        number = fresh.submit(torch.get_num_threads).result()
        if number < 2:
            return number, at_once
        if number not in _pools:
            _pools[number], all_there = ThreadPoolExecutor(number, "stack"), Barrier(number)
            for started in [_pools[number].submit(alone, all_there) for _ in range(number)]:
                started.result()
            fresh.submit(torch.set_num_threads, number).result()  # of the threads to come, which `alone` has changed, too
        return number, _pools[number].submit


def alone(all_there):
    """A thread of the pool, from now on, computes without helpers."""
    torch.get_num_threads()  # who has never asked would take over the process's number later
    torch.set_num_threads(1)
    all_there.wait()


def finish(tasks):
    """Wait for all; where one fails or waiting is interrupted, what has not begun is dropped: the interpreter would do it before it ends."""
    try:
        for task in tasks:
            task.result()
    except BaseException:
        for task in tasks:
            task.cancel()
        raise


class at_once:
    """A future whose work is done."""

    def __init__(self, work, *arguments):
        self.found = work(*arguments)

    def result(self):
        return self.found

    def cancel(self):
        """It is done already."""
