"""Fuzzing of all that parses bytes from strangers: `scripts/fuzz` for long, tests/test_fuzzing.py in CI."""
