"""Results: what follows from a run's models: stored predictions, the table, the map.

Knows nothing of training.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from monju.data.named import Source
from monju.data.sources import Data
from monju.ensemble import gates
from monju.ensemble.outputs import ModelOutputs
from monju.evaluation import cluster_map, out_of_scope, run_table
from monju.inference.pipeline import Monju
from monju.models.adapters import store_in_eight_bits
from monju.runs.prediction_store import save_predictions
from monju.runs.run import Run
from monju.runs.run_data import read_again


def measure(run: Run, monju: Monju, data: Data,
            cost: dict | None = None) -> tuple[ModelOutputs, dict[str, Any]]:
    """Read a run's held-out and tuning sentences with all its models, and store what they say.

    Parameters
    ----------
    run : Run
        The run; predictions.parquet and tuning.parquet are written into it.
    monju : Monju
        Its loaded models, with the controls.
    data : Data
        Its sentences.
    cost : dict, optional
        Training cost by model, passed on.

    Returns
    -------
    outputs : ModelOutputs
        On the held-out sentences, as they are stored.
    table : dict
        As `run_table.table`; not written.
    """
    outputs = save_predictions(run, monju.outputs(data.validation.texts), data.validation.labels)
    if data.tuning:
        save_predictions(run, monju.outputs(data.tuning.texts), data.tuning.labels, "tuning")
    predictions = outputs.decide_as(run.config)
    table = run_table.table(predictions, data.validation.labels, cost, repr(gates.make(run.config)))
    if data.out_of_scope:
        table["out_of_scope"] = out_of_scope.table(predictions, monju.predict(data.out_of_scope))
    return outputs, table


def refresh(run: Run, changes: dict[str, Any], source: Source | None = None,
            eight_bits: bool = False) -> dict[str, Any]:
    """Write a finished run's predictions, table and map again, in today's format.

    Parameters
    ----------
    run : Run
        A finished run, locked by the caller. Its models and clusters stay as they are; of earlier runs the
        embedder is stored again, and its backbone's tokenizer no longer beside every adapter.
    changes : dict
        Settings that need no training: a gate's, the fusion, the map's size, the device.
    source : str or path, optional
        Where its sentences are now.
    eight_bits : bool
        Store the adapters' factors in 8 bits first: about 0.6 times their size.

    Returns
    -------
    dict
        The table, as metrics.json holds it.

    Raises
    ------
    MonjuError
        Where its sentences or a backbone cannot be had, before anything is written.
    """
    config = replace(run.config, **changes)
    data = read_again(run, run.manifest["data"]["fingerprint"], source)
    with run.replacing() as new:
        new.manifest["config"] = {**config.to_json(), "device": run.config.device}
        adapters = [file.parent for file in new.path.glob("*/*/adapter_config.json")]
        for folder in adapters if eight_bits else ():
            store_in_eight_bits(folder)
        monju = Monju.of(new, config.device, controls=True)
        _, table = measure(new, monju, data, run.read_json("metrics.json").get("cost"))
        new.write_json("metrics.json", table)
        with new.folder("clustering") as folder:
            monju.clustering.save(folder)
        for file in (file for adapter in adapters for file in adapter.glob("tokenizer*")):
            file.unlink()
        # in bf16 where the processor has it: on two cores the map is most of the work, and its logits are
        # stored in half precision
        cluster_map.build(new, Monju.of(new, config.device, bf16=True), data.train, config.map_size)
    return table
