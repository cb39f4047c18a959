"""A finished run, opened again to receive further results."""

from __future__ import annotations

from pathlib import Path

from cxr_lightning.config.compose import config_from_file
from cxr_lightning.errors import ConfigError
from cxr_lightning.runs import RunFolder

from .run import TrackedRun, open_run

__all__ = ["open_existing"]


def open_existing(run: str, tracking_uri: str, folder: Path) -> TrackedRun:
    """Open the MLflow run that `run` names: a run's folder, or an id in the store `tracking_uri`.

    What cannot be sent is kept in `folder`.

    Raises
    ------
    ConfigError
        The folder holds no run, the run never reached MLflow, or MLflow does not know the id.
    """
    given = Path(run)
    if not given.is_dir():
        return open_run(tracking_uri, "", None, {}, folder, run)
    if not (given / "run.json").is_file():
        raise ConfigError(f"run={given}: this folder holds no run (it has no run.json)")
    run_id = RunFolder(given).state().mlflow_run_id
    if not run_id:
        raise ConfigError(f"run={given}: that run never reached MLflow")
    settings = config_from_file(given / "config.yaml").run
    return open_run(settings.tracking_uri, settings.experiment, None, {}, folder, run_id)
