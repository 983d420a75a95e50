"""Data sets, architectures, recipes and the training loop. `datasets` and `metrics` do without torch."""
