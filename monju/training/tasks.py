"""Tasks: what training does for labels of sentences; `language` does the same for running text.

A task reads its data, says what is clustered and how long it is, fits jobs and evaluates a run. The pipeline
knows no other difference between the two.
"""

from __future__ import annotations

from monju.evaluation import cluster_map, results
from monju.inference.pipeline import Monju
from monju.models import backbones
from monju.training import btm
from monju.training.fit_jobs import TrainTask, curve_rows
from monju.training.plan import Encoded, refuse_one_sided
from monju.training.progress import Stage


class Classification:
    """Labels of sentences.

    Attributes
    ----------
    texts, domains : list [n]
        What is clustered, and their domains where the data name them.
    lengths : ndarray of int [n]
        Their lengths in tokens.
    """

    called = held_out = "sentences"

    def __init__(self, config, data, watch=None):
        self.config, self.data, self.watch = config, data, watch
        self.texts, self.domains = data.train.texts, data.train.domains

    def read(self):
        """Encode the sentences: a generator of Stage. A backbone that cannot be had is told here."""
        config, data = self.config, self.data
        notes = backbones.token_notes(config.all_backbones, data.texts, config.max_tokens)
        yield from (Stage(note.text()) for note in notes)
        data.notes.extend(notes)

    def encode(self, clustering):
        """Encode what is trained on. Raises MonjuError where an expert could learn nothing."""
        refuse_one_sided(self.config, clustering.labels_, self.data)
        if self.watch:
            held_out = self.data.validation
            self.watch.clustered(self.config, clustering,
                                 [held_out.texts[row] for row in curve_rows(held_out.labels)],
                                 self.data.label_names)
        self.encoded = {name: Encoded.by(name, self.data, self.config.max_tokens)
                        for name in self.config.all_backbones}
        self.lengths = self.encoded[self.config.backbone_of(0)].lengths

    def facts(self):
        """Return what the manifest keeps beside the data's own facts."""
        return {}

    def fitting(self, run, clustering):
        """Return what fits the jobs: a generator of Stage and Phase that returns it."""
        config, data = self.config, self.data
        self.rounds_curve = btm.measured(run)
        self.alpha = btm.weights(config, clustering, data.train.texts) if config.rounds > 1 else None
        yield from ()
        return TrainTask(run, config, self.encoded, data.train.labels, clustering.labels_,
                         curve_rows(data.validation.labels), data.validation.labels, data.label_names,
                         self.alpha, self.watch.pins if self.watch else None)

    def evaluate(self, run, cost):
        """Write the run's predictions and table: a generator of Stage. `cost` is by model."""
        config, data = self.config, self.data
        self.monju = Monju.of(run, config.device, controls=True)
        outputs, table = results.measure(run, self.monju, data, cost)
        if config.rounds > 1:
            yield Stage(f"Reading them with the experts of all {config.rounds} rounds.")
            table["rounds"] = self.rounds_curve or btm.curve(
                run, config, outputs, data.validation.labels, self.encoded[config.backbone_of(0)].held_out,
                self.alpha, self.monju.tokenizer.pad_token_id, backbones.pick_device(config.device))
        run.write_json("metrics.json", table)

    def draw_map(self, run):
        """Draw the map of what was clustered, and remove what no finished run needs."""
        cluster_map.build(run, self.monju, self.data.train, self.config.map_size)
        btm.clear(run)
