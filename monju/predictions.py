"""The stored held-out predictions of a run: predictions.parquet, one row a sentence, no text.

Every gate, fusion and table that needs no new forward pass starts here.
"""

import io

import numpy as np
import pandas as pd

from monju import clusterers, gates
from monju.ensemble import Votes, expert_names, model_key
from monju.errors import MonjuError


def save_predictions(run, votes, labels):
    """Write ids, labels, distances, posteriors (where there are any) and every model's logits."""
    columns = {"id": np.arange(len(labels)), "label": labels, "distances": list(votes.distances)}
    if votes.posterior is not None:
        columns["posterior"] = list(votes.posterior)
    columns |= {f"logits {model}": list(votes.logits[:, i]) for i, model in enumerate(votes.models)}
    buffer = io.BytesIO()
    pd.DataFrame(columns).to_parquet(buffer, index=False)
    run.write_bytes("predictions.parquet", buffer.getvalue())


def load_predictions(run):
    """Votes and labels [n] as they were stored, without vectors. Raises MonjuError for a damaged file."""
    config, models = run.config, run.manifest["models"]
    experts = expert_names(config)
    control = [model_key("equal-cost", name) for name in models["equal-cost"]]
    try:
        rows = pd.read_parquet(run.path / "predictions.parquet")
        logits = np.stack([np.stack(rows[f"logits {name}"]) for name in experts + models["baseline"] + control], axis=1)
        posterior = np.stack(rows["posterior"]) if "posterior" in rows else None
        distances, labels = np.stack(rows["distances"]), rows["label"].to_numpy()
    except (OSError, ValueError, KeyError) as error:
        raise MonjuError(f"{run.path / 'predictions.parquet'} is damaged ({error}): restore the file or train the run again") from None
    return Votes(clusterers.names(config.k), gates.subsets(config.k, config.subset_size), experts, models["baseline"],
                 control, None, distances, posterior, logits), labels
