"""Data sets as arrays: their files, names, downloads and splits. Works without torch."""
