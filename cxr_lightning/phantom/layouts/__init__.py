"""Phantoms in the layouts of other data sets: each file has one, with a `write_...` function."""
