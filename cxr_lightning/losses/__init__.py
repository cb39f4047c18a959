"""Losses over known labels, one per file: `Config` beside the function and its `build`."""
