"""Multi-label chest X-ray classification: data, training and evaluation that can be trusted."""

__version__ = "0.1.0"
