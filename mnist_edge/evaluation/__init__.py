"""Metrics of logits against labels. Takes arrays, not files."""
