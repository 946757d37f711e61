"""Sentence → vector → clusters and distances: embedders, clusterers, the fitted cluster model, projections."""
