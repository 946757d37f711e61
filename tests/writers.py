"""A tiny decoder with random weights, and runs of it, for the tests of language models; no tests here."""

import torch
import transformers

from monju.config import Config
from monju.data import documents
from monju.training.from_scratch import new_tokenizer

DECODER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
           "max_position_embeddings": 128, "tie_word_embeddings": True, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
           "initializer_range": 0.05}
# six experts and baselines, and their controls, in a few steps
SETTINGS = {"task": "lm", "finetuning": "last-state", "fusion": "probabilities", "sample": 80, "held_out": 20, "embedder": "tfidf",
            "k": 3, "epochs": 3, "batch_size": 8, "learning_rate": 0.1, "lora_rank": 4, "max_tokens": 24, "renew_every": 4,
            "precision": "fp32", "device": "cpu", "workers": 1, "map_size": 8}


def texts(n=200):
    """Real sentences."""
    return documents.load_parts(["rotten-tomatoes"], None, False, n, 10, 0, [])[0].texts


def make_decoder(folder):
    """Write a decoder of two layers that knows some 4,000 pieces of words and has learned nothing."""
    tokenizer = new_tokenizer(texts())
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=len(tokenizer), **DECODER))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def settings(decoder, **more):
    return Config(**{**SETTINGS, "data": "rotten-tomatoes", "backbone": str(decoder), **more})
