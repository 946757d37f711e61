"""Labelled sentences: named sources, file readers, cleaning, labels, splits, the hub, and the notes on what was found."""
