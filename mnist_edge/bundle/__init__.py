"""Bundles: the folders that training and export write and the runtime reads. Layout, records, reading and writing."""
