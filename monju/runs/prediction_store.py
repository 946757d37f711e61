"""Stored model outputs of a run, one row a sentence, no text.

predictions.parquet holds those of the held-out sentences, tuning.parquet those of the tuning split. Gates,
fusions and tables that need no new forward pass read them.
"""

import io
from dataclasses import replace

import numpy as np

from monju.data.readers import arrow_table
from monju.ensemble import subsets
from monju.ensemble.outputs import ModelOutputs
from monju.ensemble.subsets import expert_names, model_key
from monju.errors import MonjuError
from monju.runs.run import Run

MOST_NUMBERS = 1_000_000  # in the stored vectors of the held-out sentences: 2 MB
MANY_LABELS = 20  # beyond, logits are stored in half precision
STEP = 1 / 64  # and in steps, which halves their size again; half precision has this one from 16 on
MOST_BYTES = 1 << 30  # of a file, unpacked: a small one may hold any number


def save_predictions(run: Run, outputs: ModelOutputs, labels: np.ndarray,
                     name: str = "predictions") -> ModelOutputs:
    """Write outputs and labels [n]: distances, posterior, every model's logits, vectors in half precision.

    Learned gates need the vectors; of very many held-out sentences they are left out. Of the tuning split the
    controls are: nothing is chosen by them. Returns the outputs as they are stored, so that what is measured
    of them is what the file gives again.
    """
    import pyarrow as pa
    import pyarrow.parquet

    outputs = as_stored(outputs)
    stored = outputs.logits.astype(np.float16) if many_labels(outputs) else outputs.logits
    columns = {"id": np.arange(len(labels)), "label": labels, "distances": outputs.distances}
    if outputs.posterior is not None:
        columns["posterior"] = outputs.posterior
    if outputs.vectors is not None and (name == "tuning" or outputs.vectors.size <= MOST_NUMBERS):
        columns["vector"] = outputs.vectors.astype(np.float16)
    columns |= {f"logits {model}": stored[:, i] for i, model in enumerate(outputs.by_model())
                if name != "tuning" or model not in outputs.equal_cost}
    table = {column: pa.array(values) if values.ndim == 1 else
             pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
             for column, values in columns.items()}
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(table), buffer, compression="zstd", use_dictionary=False,
                                use_byte_stream_split=True)
    run.write_bytes(f"{name}.parquet", buffer.getvalue())
    return outputs


def many_labels(outputs: ModelOutputs) -> bool:
    """Return whether logits are stored in steps, and in half precision."""
    return outputs.logits.shape[2] > MANY_LABELS


def as_stored(outputs: ModelOutputs) -> ModelOutputs:
    """Return outputs with their logits as a file gives them again: what is measured of both is the same."""
    if not many_labels(outputs):
        return outputs
    steps = (np.round(outputs.logits / STEP) * STEP).astype(np.float16)
    return replace(outputs, logits=steps.astype(np.float32))


def load_predictions(run: Run, name: str = "predictions") -> tuple[ModelOutputs, np.ndarray]:
    """Return the stored outputs and labels [n] of "predictions" or "tuning".

    Raises MonjuError for a damaged file, and where the run has no tuning split.
    """
    if name == "tuning" and not run.manifest["data"].get("tuning"):
        raise MonjuError("this run has no tuning split to choose on: train one with --tuning-size 2000")
    config, models = run.config, run.manifest["models"]
    experts = expert_names(config)
    control = [model_key("equal-cost", model) for model in models["equal-cost"]] if name != "tuning" else []
    try:
        rows = arrow_table(run.path / f"{name}.parquet", MOST_BYTES).to_pandas()
        names = experts + models["baseline"] + control
        logits = np.stack([np.stack(rows[f"logits {model}"]) for model in names], axis=1).astype(np.float32)
        posterior = np.stack(rows["posterior"]) if "posterior" in rows else None
        vectors = np.stack(rows["vector"]).astype(np.float32) if "vector" in rows else None
        distances, labels = np.stack(rows["distances"]), rows["label"].to_numpy()
        known, at = run.manifest["data"].get("labels") or logits[0, 0], {(len(labels), config.k)}
        if (logits.shape[2:] != (len(known),) or not np.isfinite(logits).all()
                or not np.isin(labels, range(len(known))).all() or not np.issubdtype(labels.dtype, np.integer)
                or {distances.shape, np.shape(distances if posterior is None else posterior)} != at):
            raise ValueError("it is not this run's")
    except Exception as error:  # whatever its columns hold
        raise MonjuError(f"{run.path / name}.parquet is damaged ({error}): "
                         "restore the file or train the run again") from None
    return ModelOutputs(subsets.cluster_names(config.k), subsets.expert_subsets(config.k, config.subset_size),
                        experts, models["baseline"], control, vectors, distances, posterior, logits), labels
