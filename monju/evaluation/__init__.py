"""The worth of a run: measures, tables, combiners and merges of its experts, the map of its clusters."""
