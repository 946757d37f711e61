"""The method in NumPy: subsets of clusters, gates, fusion, outputs. Imports nothing of the project but its errors."""
