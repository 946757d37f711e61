"""What a run is worth: measures, tables, every way to combine or merge its experts, the map of its clusters."""
