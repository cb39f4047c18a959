"""What the command line of a sweep says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["SweepOptions"]


@dataclass(frozen=True)
class SweepOptions:
    """What the command line of a sweep says.

    Attributes
    ----------
    words
        ``sweep=NAME``, ``GROUP=CHOICE`` and ``KEY=VALUE``.
    config_file, config_dir
        As for `fit`.
    trials
        Total that the study should hold; None: what the space says.
    study
        Its name; None: the space and the data set.
    storage
        URL of Optuna's storage.
    workers
        Trials at a time.
    refit_best
        How many of the best to train again; None: none.
    refit_seeds
        How often each.
    """

    words: tuple[str, ...] = ()
    config_file: Path | None = None
    config_dir: Path | None = None
    trials: int | None = None
    study: str | None = None
    storage: str = "sqlite:///optuna.db"
    workers: int = 1
    refit_best: int | None = None
    refit_seeds: int = 3
