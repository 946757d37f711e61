"""The run folder, the list of runs, checkpoints, stored predictions, and a run's own sentences."""
