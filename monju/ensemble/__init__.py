"""The method in NumPy, read in this order: subsets of clusters, gates, fusion, outputs.

Imports nothing of the project but its errors.
"""
