"""Labelled sentences: named sources, file readers, cleaning, labels, splits, the hub, notes on the data."""
