"""Arrow: experts' adapters routed for every token and layer by the adapters themselves, in one forward pass.

Ostapenko et al. 2024 (arXiv 2405.11157). No gate, no cluster and no training: a layer's router is read off
its adapters. Knows nothing of distances.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import transformers

from monju.errors import MonjuError
from monju.evaluation.merge_methods import uniform_soup
from monju.models import backbones
from monju.models.classifier import Expert

if TYPE_CHECKING:
    from monju.evaluation.merge_runner import MergeRunner


def arrow_model(backbone: Any, folders: Sequence[Path]) -> Any:
    """Return a classifier of several adapters under peft's Arrow router.

    In every layer a token h gets W h + Σ_e c_e B_e A_e h with c = softmax(|v_e · h|) over the experts, where
    v_e is the first right singular vector of B_e A_e. Their heads, which peft does not route, are averaged:
    of the same last state, that is the mean of the experts' logits.

    Parameters
    ----------
    backbone : PreTrainedModel
        A classifier with as many labels; it is changed.
    folders : sequence of Path
        The experts' adapters.
    """
    from peft import ArrowConfig
    from peft.tuners.lora.arrow import create_arrow_model
    from peft.utils import ModulesToSaveWrapper

    with backbones.LOADING:
        model = create_arrow_model(backbone, [str(folder) for folder in folders],
                                   ArrowConfig(top_k=len(folders)))
    for part in model.modules():
        if isinstance(part, ModulesToSaveWrapper):
            heads = dict(part.modules_to_save.items())
            router = heads.pop("arrow_router")
            router.load_state_dict(uniform_soup([head.state_dict() for head in heads.values()]))
    return model


def arrow_logits(merger: MergeRunner, texts: Sequence[str]) -> np.ndarray:
    """Return the logits [n, labels] of a run's experts under Arrow.

    Raises MonjuError for experts that are no adapters, and for several backbones.
    """
    config = merger.monju.config
    if config.finetuning != "lora":
        raise MonjuError("it routes adapters: train the run with --finetuning lora")
    if len(config.all_backbones) > 1:
        raise MonjuError("the experts have different backbones, and only adapters of one can be routed")
    backbone = backbones.from_pretrained(transformers.AutoModelForSequenceClassification, config.backbone,
                                         num_labels=len(merger.monju.label_names))
    folders = [merger.monju.run.path / "experts" / name for name in merger.monju.experts]
    return Expert(arrow_model(backbone, folders), merger.padding, merger.device).logits(merger.tokens(texts))
