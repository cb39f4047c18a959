"""The MLflow run of a whole sweep: the parent of its trials' runs, one for all its parts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from optuna.trial import FrozenTrial

from cxr_lightning.config.schema import RunConfig
from cxr_lightning.errors import ConfigError
from cxr_lightning.hpo.ranking import best_trials
from cxr_lightning.hpo.space import Space
from cxr_lightning.hpo.storage import Storage
from cxr_lightning.hpo.trials import owner
from cxr_lightning.tracking import TrackedRun, open_run
from cxr_lightning.tracking.address import parse_address
from cxr_lightning.tracking.others import OtherRuns

__all__ = ["ParentRun", "open_parent"]


class ParentRun:
    """The open parent run.

    Parameters
    ----------
    run
        The MLflow run.
    tracking_uri
        Where it is, and its trials' runs are.
    """

    def __init__(self, run: TrackedRun, tracking_uri: str) -> None:
        self.run = run
        self._others = OtherRuns(tracking_uri, run.run_dir)
        self._finished = 0

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run."""
        return self.run.run_id

    def trial_ended(self, run_id: str, state: str, words: str, seconds: float) -> None:
        """Say on a trial's run how it ended; close it where its process could not."""
        if not run_id:
            return
        tags = {"trial.state": state, "trial.seconds": f"{seconds:.1f}"}
        if words:
            tags["trial.reason" if state == "pruned" else "trial.last_words"] = words
        status = {"failed": "FAILED", "stopped": "KILLED"}.get(state, "FINISHED")
        self._others.write(run_id, tags, status)

    def trial_was_lost(self, trial: FrozenTrial) -> None:
        """Close the run of a trial whose process was lost."""
        run_id = trial.user_attrs.get("mlflow_run_id")
        if run_id:
            self._others.write(str(run_id), {"trial.state": "lost"}, "FAILED")

    def best_so_far(self, finished: Sequence[FrozenTrial], space: Space) -> None:
        """Add a point to the curve of the best objective over finished trials."""
        if len(finished) == self._finished or len(space.metrics) > 1:
            return
        self._finished = len(finished)
        if best := best_trials(finished, space)[:1]:
            name = f"best/{space.metrics[0].replace('/', '_')}"
            self.run.log_metrics({name: float(best[0].values[0])}, len(finished))

    def __enter__(self) -> ParentRun:
        self.run.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._others.close()
        self.run.__exit__(kind, problem, trace)


def open_parent(
    storage: Storage, study: str, config: RunConfig, folder: Path, tags: Mapping[str, Any]
) -> ParentRun:
    """Open the study's run in an MLflow store, or continue it.

    The storage remembers it, so that every part of the sweep, on any machine, has the same parent.

    Raises
    ------
    ConfigError
        MLflow's address is wrong, or nothing answers there.
    """
    address = parse_address(config.tracking_uri)
    # A file of the same path is another store on another machine.
    place = [address.uri, *([owner()["machine"]] if address.kind == "sqlite" else [])]
    key = f"mlflow_run_id:{hashlib.sha256('|'.join(place).encode()).hexdigest()[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    with storage.locked(f"{study}/mlflow"):
        number = storage.rdb.get_study_id_from_name(study)
        known = storage.rdb.get_study_user_attrs(number).get(key)
        run = _continued(config, tags, folder, known) if known else None
        if run is None:
            run = open_run(config.tracking_uri, config.experiment, study, tags, folder)
            storage.rdb.set_study_user_attr(number, key, run.run_id)
    return ParentRun(run, config.tracking_uri)


def _continued(
    config: RunConfig, tags: Mapping[str, Any], folder: Path, known: str
) -> TrackedRun | None:
    """Continue a run; None: the store does not have it any more."""
    try:
        return open_run(config.tracking_uri, config.experiment, None, tags, folder, known)
    except ConfigError as error:
        if "has no run" in str(error) or "was deleted" in str(error):
            return None
        raise
