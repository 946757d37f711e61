"""A finished run, loaded: sentences in, readings out."""
