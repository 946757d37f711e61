"""A classifier's forward pass as training needs it, without what its loss never sees.

The head reads the first token alone, so that the last layer is worked out for that token only: the same
loss and the same gradients as the whole model's, with a seventh less arithmetic in an encoder of six layers.
Knows nothing of optimisers, batches or experts.
"""

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

FAMILIES = ("Bert", "Roberta", "XLMRoberta")  # encoders of BERT's kind, layer by layer the same
HEADS = {"bert": lambda model, states: model.classifier(model.dropout(model.bert.pooler(states))),
         "roberta": lambda model, states: model.classifier(states),
         "xlm-roberta": lambda model, states: model.classifier(states)}


def is_known(model):
    """Whether the model is a classifier on an encoder of BERT's kind."""
    return (type(model).__name__ in {f"{family}ForSequenceClassification" for family in FAMILIES}
            and not getattr(model.config, "is_decoder", False))


def forward(model, compiled=False):
    """A function (inputs: what the model is given for the token ids, mask [n, length] or None where nothing
    is padded) → logits [n, labels], for training. `model` may carry an adapter; other architectures are asked
    as they are.

    `compiled`: by torch.compile, which joins small kernels and, on a GPU, replays them as one CUDA graph for
    each shape.
    """
    ask = bare_forward(model)
    return torch.compile(ask, mode="reduce-overhead", dynamic=True) if compiled else ask


def bare_forward(model):
    bare = model.get_base_model() if hasattr(model, "peft_config") else model
    if not is_known(bare):
        return lambda inputs, mask: model(**inputs, attention_mask=mask).logits

    def logits(inputs, mask):
        encoder = bare.base_model
        x = encoder.embeddings(**inputs)
        seen = None if mask is None else mask.bool()[:, None, None]
        *layers, last = encoder.encoder.layer
        for layer in layers:
            x = through(layer, x, seen, x.shape[1])
        return HEADS[bare.config.model_type](bare, through(last, x, seen, 1))

    return logits


def through(layer, x, seen, wanted):
    """One layer of BERT's kind, x [n, length, hidden] → the same for its first `wanted` tokens; `seen` [n, 1,
    1, length] is False where there is padding, or None."""
    attention, itself = layer.attention.self, x[:, :wanted]
    mixed = attend(attention, *(heads(part(states), attention.num_attention_heads)
                                for part, states in ((attention.query, itself), (attention.key, x),
                                                     (attention.value, x))), seen)
    y = layer.attention.output(mixed.transpose(1, 2).flatten(2), itself)
    return layer.output(layer.intermediate(y), y)


def heads(x, number):
    """[n, length, hidden] → [n, heads, length, hidden / heads]."""
    return x.unflatten(-1, (number, -1)).transpose(1, 2)


def attend(attention, query, key, value, seen, fused=None):
    """softmax(Q Kᵀ / √d) V, some of the weights dropped while training; `fused` in one kernel (on a GPU)."""
    if query.is_cuda if fused is None else fused:
        return scaled_dot_product_attention(query, key, value, seen, attention.dropout.p
                                            if attention.training else 0.0)
    # on sentences of a dozen tokens the CPU's fused kernel has a backward ten times slower
    scores = query @ key.transpose(2, 3) * attention.scaling
    if seen is not None:
        scores = scores.masked_fill(~seen, float("-inf"))
    return attention.dropout(nn.functional.softmax(scores, -1)) @ value
