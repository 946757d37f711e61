"""What the stages share: the device, the sizes, data and backbones, and models in training."""

import csv
from importlib.util import find_spec
from pathlib import Path

LABELS = ["negative", "positive"]


class Check:
    """The device, the sizes, and the folder in which data and backbones are."""

    def __init__(self, device, rehearse, work):
        import torch

        self.device, self.rehearse, self.work = torch.device(device), rehearse, Path(work)
        self.on_gpu = device == "cuda"
        self.data, self.backbone = self.work / "data", self.work / "backbone"

    def config(self, **more):
        """The settings of a training, full size or tiny."""
        from monju.config import Config

        size = {"batch_size": 8, "sample": 80, "workers": 1} if self.rehearse else {"batch_size": 32}
        return Config(**{"data": str(self.data), "backbone": str(self.backbone), "embedder": "tfidf", "finetuning": "full",
                         "device": self.device.type, "learning_rate": 2e-5, "precision": "auto", "max_tokens": 128, **size, **more})

    def tokens(self, config):
        """Token ids and labels of the training sentences."""
        import numpy as np

        from monju.data import sources
        from monju.models import backbones

        data = sources.load(config.data, sample=min(config.sample or 20_000, 20_000))
        return backbones.encode(backbones.tokenizer(config.backbone), data.train.texts, config.max_tokens), np.asarray(data.train.labels)

    def trainings(self, config, number, steps=None, still=False, shares=True):
        """Models to train in lockstep; `shares`: half on two thirds of the sentences. `still`: nothing is dropped."""
        import numpy as np

        from monju.models import backbones
        from monju.models.classifier import Expert
        from monju.training.member import Training

        tokens, labels = self.tokens(config)
        padding, made = backbones.tokenizer(config.backbone).pad_token_id, []
        for seed in range(number):
            rows = np.arange(len(tokens))
            rows = rows[rows % 3 != seed] if shares and seed < number / 2 else rows
            expert = Expert.start(config, LABELS, padding, seed, self.device)
            for part in expert.model.modules():
                if still and hasattr(part, "p") and isinstance(part.p, float):
                    part.p = 0.0
            made.append(Training(expert, [tokens[row] for row in rows], labels[rows], seed, steps, name=f"model {seed}"))
        return made

    def small(self, family, folder=None):
        """The folder of a small random encoder of a family, with the words of the large one's tokenizer."""
        import torch
        import transformers

        from monju.models import backbones

        folder = Path(folder or self.work / family)
        if not folder.exists():
            words = backbones.tokenizer(str(self.backbone))
            torch.manual_seed(0)
            config = transformers.AutoConfig.for_model(
                family, vocab_size=len(words), hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
                max_position_embeddings=160, pad_token_id=words.pad_token_id, initializer_range=0.2)
            transformers.AutoModel.from_config(config).save_pretrained(folder)
            words.save_pretrained(folder)
        return str(folder)


def prepare(check, data, backbone):
    """Put data and backbone where the stages find them."""
    from monju.benchmark.timing import made_up

    check.work.mkdir(parents=True, exist_ok=True)
    if data:
        check.data.symlink_to(Path(data).resolve())
    else:
        check.data.mkdir()
        for name, count, seed in (("train", 400 if check.rehearse else 20_000, 0), ("validation", 60 if check.rehearse else 872, 1)):
            with open(check.data / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
                texts = made_up(count, seed, **({} if name == "validation" else {"mean": 9.4, "spread": 8}))
                csv.writer(file).writerows([("text", "label"), *((text, int("a" in text.split())) for text in texts)])
    if backbone:
        check.backbone.symlink_to(Path(backbone).resolve())
        return
    import torch
    import transformers
    from tokenizers import ByteLevelBPETokenizer

    from monju.data import sources

    words = ByteLevelBPETokenizer()
    words.train_from_iterator(sources.load(str(check.data), sample=5000 if not check.rehearse else 200).train.texts, vocab_size=5000, show_progress=False,
                              special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    check.backbone.mkdir()
    words.save_model(str(check.backbone))
    size = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
            "vocab_size": 6000} if check.rehearse else {"vocab_size": 50265}
    torch.manual_seed(0)
    transformers.RobertaModel(transformers.RobertaConfig(max_position_embeddings=514, type_vocab_size=1, **size)).save_pretrained(check.backbone)
    transformers.RobertaTokenizer.from_pretrained(check.backbone, model_max_length=512).save_pretrained(check.backbone)


def finetunings(figures):
    """Both ways, or whole models alone where there is no peft, which is noted."""
    if find_spec("peft"):
        return ("full", "lora")
    figures["lora"] = "skipped: this machine lacks peft"
    return ("full",)


def parameters(training):
    """The weights of a model as numbers on the CPU."""
    return {name: weight.detach().float().cpu() for name, weight in training.expert.trained.items()}


def farthest(ones, others):
    """The largest difference between the weights of models."""
    return max(float((one[name] - other[name]).abs().max()) for one, other in zip(ones, others) for name in one)


def losses(trainings, config):
    """Each model's losses, a step each, in lockstep; and the models' steps."""
    from monju.training import trainer

    told = [[] for _ in trainings]
    for number, step in trainer.fit_in_lockstep(trainings, config, 1):
        told[number].append(step)
    return [[step.loss for step in steps] for steps in told], told
