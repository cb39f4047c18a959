"""Bundles and saved predictions on any data set: what `evaluate` does."""
