"""A configuration → a finished run: the pipeline, its plan, the trainer, jobs and engines."""
