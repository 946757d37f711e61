"""The stored predictions of a run, one row a sentence, no text: predictions.parquet of the held-out sentences,
tuning.parquet of those kept aside from training.

Every gate, fusion and table that needs no new forward pass starts here.
"""

import io

import numpy as np
import pandas as pd

from monju.ensemble import subsets
from monju.ensemble.outputs import ModelOutputs
from monju.ensemble.subsets import expert_names, model_key
from monju.errors import MonjuError

MOST_NUMBERS = 4_000_000  # in the vectors of the held-out sentences: 8 MB


def save_predictions(run, votes, labels, name="predictions"):
    """Write ids, labels, distances, posteriors (where there are any), every model's logits, and vectors in half precision,
    which learned gates ask for; of very many held-out sentences no vectors."""
    columns = {"id": np.arange(len(labels)), "label": labels, "distances": list(votes.distances)}
    if votes.posterior is not None:
        columns["posterior"] = list(votes.posterior)
    if votes.vectors is not None and (name == "tuning" or votes.vectors.size <= MOST_NUMBERS):
        columns["vector"] = list(votes.vectors.astype(np.float16))
    columns |= {f"logits {model}": list(votes.logits[:, i]) for i, model in enumerate(votes.models)}
    buffer = io.BytesIO()
    pd.DataFrame(columns).to_parquet(buffer, index=False)
    run.write_bytes(f"{name}.parquet", buffer.getvalue())


def load_predictions(run, name="predictions"):
    """Votes and labels [n] as they were stored, with vectors where they were. Raises MonjuError for a damaged file, and
    where a run has no sentences kept aside."""
    if name == "tuning" and not run.manifest["data"].get("tuning"):
        raise MonjuError("this run kept no sentences aside to choose on: train one with --tuning-size 2000")
    config, models = run.config, run.manifest["models"]
    experts = expert_names(config)
    control = [model_key("equal-cost", name) for name in models["equal-cost"]]
    try:
        rows = pd.read_parquet(run.path / f"{name}.parquet")
        logits = np.stack([np.stack(rows[f"logits {name}"]) for name in experts + models["baseline"] + control], axis=1)
        posterior = np.stack(rows["posterior"]) if "posterior" in rows else None
        vectors = np.stack(rows["vector"]).astype(np.float32) if "vector" in rows else None
        distances, labels = np.stack(rows["distances"]), rows["label"].to_numpy()
    except (OSError, ValueError, KeyError) as error:
        raise MonjuError(f"{run.path / name}.parquet is damaged ({error}): restore the file or train the run again") from None
    return ModelOutputs(subsets.cluster_names(config.k), subsets.expert_subsets(config.k, config.subset_size), experts, models["baseline"],
                 control, vectors, distances, posterior, logits), labels
