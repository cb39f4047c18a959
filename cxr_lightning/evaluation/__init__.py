"""Evaluation as pure functions of the predictions table: no model, no torch, no hidden state."""
