"""Sweeps: the only folder that imports Optuna."""
