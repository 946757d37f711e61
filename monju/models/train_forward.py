"""A classifier's forward pass as training needs it, without what its loss never sees.

The head reads the first token alone, so that the last layer is worked out for that token only: the same
loss and the same gradients as the whole model's, with a seventh less arithmetic in an encoder of six layers.
Knows nothing of optimisers, batches or experts.
"""

from torch import nn
from torch.nn.functional import scaled_dot_product_attention

FAMILIES = ("Bert", "Roberta", "XLMRoberta")  # encoders of BERT's kind, layer by layer the same
HEADS = {"bert": lambda model, states: model.classifier(model.dropout(model.bert.pooler(states))),
         "roberta": lambda model, states: model.classifier(states),
         "xlm-roberta": lambda model, states: model.classifier(states)}


def is_known(model):
    """Return whether the model is a classifier on an encoder of BERT's kind."""
    return (type(model).__name__ in {f"{family}ForSequenceClassification" for family in FAMILIES}
            and not getattr(model.config, "is_decoder", False))


def forward(model):
    """Return a model's forward pass for training.

    Parameters
    ----------
    model : PreTrainedModel or PeftModel
        The classifier, which may carry an adapter. Architectures other than BERT's kind run as they are.

    Returns
    -------
    callable
        (inputs: the model's keyword arguments for the token ids, mask [n, length] or None where nothing is
        padded) → logits [n, labels].
    """
    bare = model.get_base_model() if hasattr(model, "peft_config") else model
    if not is_known(bare):
        return lambda inputs, mask: model(**inputs, attention_mask=mask).logits

    def logits(inputs, mask):
        encoder = bare.base_model
        x = encoder.embeddings(**inputs)
        visible = None if mask is None else mask.bool()[:, None, None]
        *layers, last = encoder.encoder.layer
        for layer in layers:
            x = through(layer, x, visible, x.shape[1])
        return HEADS[bare.config.model_type](bare, through(last, x, visible, 1))

    return logits


def through(layer, x, visible, n_queries):
    """Run one layer of BERT's kind, for the outputs of the first `n_queries` tokens.

    Parameters
    ----------
    layer : Module
        The layer.
    x : Tensor [n, length, hidden]
        Hidden states.
    visible : Tensor of bool [n, 1, 1, length] or None
        False where there is padding.
    n_queries : int
        Number of tokens.

    Returns
    -------
    Tensor [n, n_queries, hidden]
    """
    attention, queries = layer.attention.self, x[:, :n_queries]
    mixed = attend(attention, *(heads(part(states), attention.num_attention_heads)
                                for part, states in ((attention.query, queries), (attention.key, x),
                                                     (attention.value, x))), visible)
    y = layer.attention.output(mixed.transpose(1, 2).flatten(2), queries)
    return layer.output(layer.intermediate(y), y)


def heads(x, number):
    """Split [n, length, hidden] into [n, heads, length, hidden / heads]."""
    return x.unflatten(-1, (number, -1)).transpose(1, 2)


def attend(attention, query, key, value, visible, fused=None):
    """Return softmax(Q Kᵀ / √d) V, with dropout of the weights in training.

    `fused`: in one kernel; by default on a GPU.
    """
    if query.is_cuda if fused is None else fused:
        return scaled_dot_product_attention(query, key, value, visible, attention.dropout.p
                                            if attention.training else 0.0)
    # on sentences of a dozen tokens the CPU's fused kernel has a backward ten times slower
    scores = query @ key.transpose(2, 3) * attention.scaling
    if visible is not None:
        scores = scores.masked_fill(~visible, float("-inf"))
    return attention.dropout(nn.functional.softmax(scores, -1)) @ value
