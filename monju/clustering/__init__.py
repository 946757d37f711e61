"""Sentence → vector → cluster and distances: embedders, clusterers, the fitted cluster model, projections."""
