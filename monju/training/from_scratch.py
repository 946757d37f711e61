"""From scratch: a small decoder with its own tokenizer, trained on a run's own training texts alone.

For a machine without a pretrained one. It learns to spell and to follow itself for a few words, no more. It
lies in the cache, named by what it follows from, and in the run's own folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
import transformers

from monju.models import backbones
from monju.models.causal import DOCUMENT_END, CausalExpert, edges, passages
from monju.training import trainer
from monju.training.member import Training
from monju.training.progress import Phase, Stage
from monju.training.text_stores import TextStore
from monju.utils.files import cache

NAME = "from-scratch"
WORDS, WIDTH, LAYERS, HEADS = 4096, 192, 4, 3  # about 2.6 million weights
EPOCHS, RATE = 10.0, 2e-3


def decoder(config, data):
    """Return the folder of a decoder trained on a run's training documents.

    A generator of Stage and Phase that returns it.
    """
    key = json.dumps([data.fingerprint, config.seed, config.max_tokens, WORDS, WIDTH, LAYERS, HEADS, EPOCHS])
    kept = cache("backbones") / f"scratch-{hashlib.sha256(key.encode()).hexdigest()[:32]}"
    if (kept / "config.json").exists():
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    yield Stage("A small decoder is trained from scratch on these texts alone: it learns to spell, and "
                "writes no sentence that makes sense.")
    with tempfile.TemporaryDirectory(prefix=".partial", dir=kept.parent) as work:
        folder = Path(work) / "files"
        tokenizer = new_tokenizer(data.train.texts)
        start, end = edges(tokenizer)
        torch.manual_seed(config.seed)
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=4 * WIDTH,
            num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=HEADS,
            max_position_embeddings=2048, tie_word_embeddings=True, bos_token_id=start, eos_token_id=end,
            pad_token_id=end))
        rows = passages(tokenizer, data.train.texts, config.max_tokens)
        expert = CausalExpert(model, start, backbones.pick_device(config.device))
        own = replace(config, finetuning="full", epochs=EPOCHS, learning_rate=RATE)
        one = Training(expert, rows.tokens, rows.documents, config.seed)
        for _, step in trainer.fit_in_lockstep([one], own, store_of=TextStore):
            yield Phase(f"The decoder's loss is {step.loss:.2f} after {step.step} of {step.steps} steps.",
                        "states", 0.0, None)
        expert.save(folder, tokenizer)
        if not kept.exists():
            os.rename(folder, kept)
    return kept


def new_tokenizer(texts):
    """Return a byte-level BPE tokenizer learned from texts (Sennrich et al. 2016; bytes as in GPT-2)."""
    from tokenizers import ByteLevelBPETokenizer

    learned = ByteLevelBPETokenizer()
    learned.train_from_iterator(texts, vocab_size=WORDS, min_frequency=2, special_tokens=[DOCUMENT_END],
                                show_progress=False)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=learned._tokenizer, bos_token=DOCUMENT_END,
                                                eos_token=DOCUMENT_END, pad_token=DOCUMENT_END)

