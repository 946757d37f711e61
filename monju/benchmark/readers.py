"""Who reads sentences in `bench predict`: ours, and what one would otherwise use."""

import logging
import warnings

import numpy as np
import torch
import transformers

from monju.models import backbones

BATCH = 32  # of the peers: what the pipelines were fastest with


class Ours:
    """Embedding, α, all models and the fusion of both ensembles; the peers do the models alone."""

    def __init__(self, monju):
        self.monju = monju

    def one(self, text):
        """Return the logits [1, models, labels] of one sentence."""
        return self.all([text])

    def all(self, texts):
        """Return the logits [n, models, labels] of all sentences."""
        predictions = self.monju.predict(texts)
        return predictions.logits[:, : len(self.monju.experts + self.monju.members)]


class Pipelines:
    """One transformers pipeline a model, one after another."""

    padding = {}

    def __init__(self, tokenizer, experts):
        self.labels = {name: number for number, name in experts[0].model.config.id2label.items()}
        self.pipelines = [transformers.pipeline("text-classification", model=expert.model,
                                                tokenizer=tokenizer,
                                                device=expert.device, top_k=None) for expert in experts]

    def one(self, text):
        """Return the probabilities [1, models, labels] of one sentence."""
        return self.ask([text], 1)

    def all(self, texts):
        """Return the probabilities [n, models, labels] of all sentences."""
        return self.ask(texts, BATCH)

    def ask(self, texts, batch):
        """Return the probabilities [n, models, labels], read in batches."""
        out = np.zeros((len(texts), len(self.pipelines), len(self.labels)))
        for model, pipeline in enumerate(self.pipelines):
            for row, scores in enumerate(pipeline(texts, batch_size=batch, truncation=True, max_length=128,
                                                    **self.padding)):
                for score in scores:
                    out[row, model, self.labels[score["label"]]] = score["score"]
        return out


class CompiledPipelines(Pipelines):
    """The same in bf16, compiled with the options of torch.compile.

    Sentences are padded to a few lengths, so that there are few shapes to compile.
    """

    padding = {"padding": True, "pad_to_multiple_of": 16}

    def __init__(self, tokenizer, experts, **options):
        super().__init__(tokenizer, experts)
        torch._dynamo.config.recompile_limit = 64  # beyond 8 it would run uncompiled, without a word
        for pipeline in self.pipelines:
            pipeline.model.bfloat16().compile(**options)


class Sessions:
    """One ONNX Runtime session a model, one after another; sentences of similar length together, as ours."""

    def __init__(self, monju, files):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # spinning threads would sit on the next contender's cores
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.monju = monju
        self.sessions = [onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
                         for file in files]

    def one(self, text):
        """Return the logits [1, models, labels] of one sentence."""
        return self.all([text])

    def all(self, texts):
        """Return the logits [n, models, labels] of all sentences."""
        tokens = backbones.encode(self.monju.tokenizer, texts, self.monju.config.max_tokens)
        out = np.zeros((len(texts), len(self.sessions), len(self.monju.labels)), np.float32)
        for rows in backbones.length_batches([len(sentence) for sentence in tokens], BATCH):
            ids, mask = backbones.pad([tokens[row] for row in rows], self.monju.tokenizer.pad_token_id)
            for model, session in enumerate(self.sessions):
                out[rows, model] = session.run(None, {"ids": ids.numpy(), "mask": mask.numpy()})[0]
        return out


class Logits(torch.nn.Module):
    """A classifier as ONNX needs it: tensors in, one tensor out."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids, mask):
        """Return the logits [n, labels] of token ids and mask [n, length]."""
        return self.model(input_ids=ids, attention_mask=mask).logits


def export(experts, folder):
    """Export each model to an ONNX file, its adapter merged; return the paths."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, message=".*LeafSpec")
    files = []
    shape = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    for number, expert in enumerate(experts):
        files.append(folder / f"{number}.onnx")
        example = torch.ones(2, 9, dtype=torch.long), torch.ones(2, 9, dtype=torch.long)
        torch.onnx.export(Logits(expert.model).eval(), example, str(files[-1]), input_names=["ids", "mask"],
                          output_names=["logits"],
                          dynamic_shapes=(shape, shape), dynamo=True, verbose=False)
    return files


def quantized(files):
    """Write the same with int8 weights (dynamic quantization); return the paths."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)  # it warns through the root
    int8_files = [file.with_suffix(".int8.onnx") for file in files]
    for file, int8_file in zip(files, int8_files):
        quantize_dynamic(file, int8_file, weight_type=QuantType.QInt8)
    return int8_files
