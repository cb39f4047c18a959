"""A tracked run as a logger of Lightning's Trainer."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from .opening import start_sender
from .run import TrackedRun

__all__ = ["MLflowTracker", "open_tracker"]


class MLflowTracker(TrackedRun, Logger):
    """`TrackedRun` with the interface of Lightning's loggers.

    The Trainer's `finalize` does not end the run: it goes on through evaluation, until `finish` or
    the end of the ``with`` block.
    """

    @property
    def name(self) -> str:
        """The experiment."""
        return self.experiment_name

    @property
    def version(self) -> str | None:
        """The run id; None on any rank but 0."""
        return self.run_id

    @property
    def save_dir(self) -> str:
        """The run's folder."""
        return str(self.run_dir)

    def log_hyperparams(self, params: Mapping[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        """Record nested parameters by flat names, ``optim.lr``."""
        self.log_params(_flat(vars(params) if isinstance(params, Namespace) else params))

    def save(self) -> None:
        """Lightning asks for this after validation; delivery goes on by itself."""

    def finalize(self, status: str) -> None:
        """The Trainer is done; the run is not, and delivery goes on by itself."""

    def __enter__(self) -> MLflowTracker:
        return self


def open_tracker(
    tracking_uri: str,
    experiment: str,
    run_name: str | None,
    tags: Mapping[str, str],
    run_dir: Path,
    run_id: str | None = None,
    *,
    parent_run_id: str | None = None,
) -> MLflowTracker:
    """Start an MLflow run, or continue one; on any rank but 0 nothing is contacted or imported.

    Parameters
    ----------
    tracking_uri : str
        ``sqlite:///mlflow.db``, a database URL or a server's address; see `parse_address`.
    experiment : str
        The experiment's name; created if there is none.
    run_name : str or None
        The run's name; None leaves it to MLflow. A continued run keeps its own.
    tags : mapping
        Tags of the run.
    run_dir : Path
        The run's folder, where what cannot be sent is kept.
    run_id : str, optional
        The run to continue. Its status is RUNNING again; points that it holds already are not
        repeated.
    parent_run_id : str, optional
        The run of the sweep that this run is part of.

    Raises
    ------
    ConfigError
        If the address is wrong or nothing answers there, or if the run to continue does not exist.
    """
    if not is_rank_zero():
        return MLflowTracker(experiment, run_dir)
    opened = start_sender(tracking_uri, experiment, run_name, tags, run_dir, run_id, parent_run_id)
    return MLflowTracker(experiment, run_dir, *opened)


def is_rank_zero() -> bool:
    """Whether this process is global rank 0, also before Lightning's Trainer has been built.

    Until then Lightning goes by LOCAL_RANK, which is 0 once on every machine.
    """
    node = os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", "0"))
    rank = getattr(rank_zero_only, "rank", 0)  # Lightning keeps it on the decorator
    return rank == 0 and (node == "0" or os.environ.get("RANK") == "0")


def _flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in params.items():
        if isinstance(value, Mapping) and value:
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat
