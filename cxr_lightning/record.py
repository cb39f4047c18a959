"""The lasting record of a run: its folder and its MLflow run, opened and closed together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from cxr_lightning.config.compose import config_to_dict
from cxr_lightning.config.schema import Config
from cxr_lightning.data.cohort import Cohort, split_counts
from cxr_lightning.errors import ConfigError
from cxr_lightning.hardware import Placement
from cxr_lightning.runs import RunFolder, Status, new_run
from cxr_lightning.tracking import MLflowTracker, describe_environment, open_tracker
from cxr_lightning.tracking.address import parse_address
from cxr_lightning.tracking.configuration import keep_config

__all__ = ["Record", "open_record"]


@dataclass(frozen=True)
class Record:
    """Where a run writes to."""

    run: RunFolder
    tracker: MLflowTracker


_OTHER_SALT = (
    " If nothing did, its ids were hashed by another salt: name one file for both with "
    "data.salt_file (the default is in the home folder, which a container may not keep)."
)


@contextmanager
def open_record(
    config: Config,
    cohort: Cohort,
    placement: Placement,
    resumed: RunFolder | None,
    splits: Sequence[str] = ("val", "test"),
    parent_run_id: str | None = None,
) -> Iterator[Record]:
    """Open the run's folder and MLflow run, new or continued, and close them with the right status.

    `splits` are those that the run is scored on; `parent_run_id` is that of a sweep.

    Raises
    ------
    ConfigError
        The folder is taken, MLflow's address is wrong, or the data changed since the run began.
    """
    parse_address(config.run.tracking_uri)
    if resumed is not None and resumed.state().fingerprint not in ("", cohort.fingerprint):
        raise ConfigError(
            f"resume={config.resume}: the data changed since {resumed.path} began (fingerprint "
            f"{resumed.state().fingerprint}, now {cohort.fingerprint}). Start a new run."
            + (_OTHER_SALT if hasattr(config.data, "salt_file") else "")
        )
    run = resumed or new_run(config)
    with run.locked():
        yield from _opened(config, cohort, placement, run, splits, parent_run_id)


def _opened(
    config: Config,
    cohort: Cohort,
    placement: Placement,
    run: RunFolder,
    splits: Sequence[str],
    parent_run_id: str | None,
) -> Iterator[Record]:
    try:
        tracker = open_tracker(
            config.run.tracking_uri,
            config.run.experiment,
            run.name,
            config.run.tags | {"data": config.data.name, "fingerprint": cohort.fingerprint},
            run.path,
            run.state().mlflow_run_id or None,
            parent_run_id=parent_run_id,
        )
    except ConfigError:
        if not run.resumed:
            run.discard()
        raise
    run.update(status="running", fingerprint=cohort.fingerprint, mlflow_run_id=tracker.run_id or "")
    status: Status = "failed"
    try:
        with tracker:
            _log_start(config, cohort, placement, run, tracker, splits)
            yield Record(run, tracker)
        status = "finished"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        run.update(status=status)


def _log_start(
    config: Config,
    cohort: Cohort,
    placement: Placement,
    run: RunFolder,
    tracker: MLflowTracker,
    splits: Sequence[str],
) -> None:
    keep_config(tracker, config, run.path / "config.yaml")
    # Neither the run's own name and place nor its resumption are parameters of the experiment.
    parameters = config_to_dict(config)
    tracker.log_hyperparams(
        {name: value for name, value in parameters.items() if name not in ("run", "resume")}
    )
    tracker.set_tags(
        describe_environment()
        | {
            "accelerator": placement.accelerator,
            "devices": str(placement.devices),
            "precision": placement.precision,
        }
    )
    counts = split_counts(cohort)
    tracker.log_dict(
        {str(split): column.to_dict() for split, column in counts.items()}, "data/splits.json"
    )
    tracker.log_dict(
        {
            "fingerprint": cohort.fingerprint,
            "flow": [vars(step) for step in cohort.flow],
            "notes": list(cohort.notes),
        },
        "data/cohort.json",
    )
    for split, context in (("train", "training"), ("val", "validation"), ("test", "test")):
        if split not in ("train", *splits):
            continue
        tracker.log_dataset(
            config.data.name,
            cohort.fingerprint,
            context=context,
            profile={"images": int(counts[split]["images"])},
        )
