"""Locks, files, processes and caches; knows nothing of sentences or models."""
