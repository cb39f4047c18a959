"""Opens a store, starts or continues a run, delivers records; only `model` imports MLflow besides.

MLflow is imported when a store is opened (its import takes about two seconds), its usage telemetry
is off unless the user has decided otherwise, and its own lines on the terminal are held back.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .address import Address
from .model import deliver_model
from .quiet import bounded, prepare, quiet
from .reach import check_database, creation_lock, explain, one_line
from .records import Record
from .sender import Refused

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["RunFacts", "Store"]

_REFUSALS = {
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
}


@dataclass(frozen=True)
class RunFacts:
    """What MLflow already holds of a run.

    Attributes
    ----------
    run_id, experiment_id : str
    params : dict
        Parameters of a continued run.
    tags : dict
        Its tags.
    metrics : frozenset of str
        Names of its metrics.
    """

    run_id: str
    experiment_id: str
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: frozenset[str] = frozenset()


class Store:
    """An open MLflow store.

    Parameters
    ----------
    address : Address

    Raises
    ------
    ConfigError
        If it cannot be reached or used now. A new SQLite file gets its tables here, under a lock
        beside it, as two processes that both create them would break each other.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._history: dict[tuple[str, str], set[tuple[int, float]]] = {}
        self._continued: dict[str, frozenset[str]] = {}
        prepare()
        if address.kind == "database":
            check_database(address)
        with _no_warnings():
            import mlflow.pyfunc  # noqa: F401  # it warns of itself; wanted by the sender's thread
            from mlflow import MlflowClient

        with quiet(), bounded(), self._explained(), creation_lock(address), _no_warnings():
            self.client: MlflowClient = MlflowClient(address.uri, registry_uri=address.uri)
            self.client.get_experiment("0")

    def start(self, experiment: str, run_name: str | None, tags: Mapping[str, str]) -> RunFacts:
        """Create a run, and its experiment where there is none of that name."""
        with quiet(), bounded(), self._explained():
            experiment_id = self._experiment_id(experiment)
            run = self.client.create_run(experiment_id, tags=dict(tags), run_name=run_name)
            self._check_artifacts(run, experiment)
            return RunFacts(run.info.run_id, experiment_id, tags=dict(tags))

    def resume(self, run_id: str, tags: Mapping[str, str]) -> RunFacts:
        """Continue a run: it is RUNNING again, with what it holds already."""
        from mlflow.exceptions import MlflowException

        with quiet(), bounded(), self._explained():
            try:
                run = self.client.get_run(run_id)
            except MlflowException as problem:
                if problem.error_code not in _REFUSALS:
                    raise
                raise ConfigError(
                    f"MLflow at {self.address.shown} has no run {run_id!r} to continue. Start a "
                    "new run, or give the run.tracking_uri that the first part was logged to."
                ) from None
            if run.info.lifecycle_stage != "active":
                raise ConfigError(
                    f"the MLflow run {run_id} was deleted. Restore it (mlflow runs restore "
                    f"--run-id {run_id}) or start a new run."
                )
            self.client.update_run(run_id, status="RUNNING")
            for name, value in tags.items():
                self.client.set_tag(run_id, name, value)
            self._continued[run_id] = frozenset(run.data.metrics)
            return RunFacts(
                run_id,
                run.info.experiment_id,
                dict(run.data.params),
                {**run.data.tags, **tags},
                frozenset(run.data.metrics),
            )

    def deliver(self, run_id: str, batch: list[Record]) -> None:
        """Send several records of metrics, or one of another kind.

        Sending again what had arrived changes nothing: MLflow keeps one point for each metric,
        step, time and value, one value for each parameter and tag, one file for each name.

        Raises
        ------
        Refused
            If MLflow will never take it.
        Exception
            If it cannot take it now.
        """
        from mlflow.exceptions import MlflowException

        with quiet(), bounded():
            try:
                if batch[0]["kind"] == "metrics":
                    self._metrics(run_id, batch)
                else:
                    self._one(run_id, batch[0])
            except MlflowException as problem:
                reason = self.address.redact(one_line(problem))
                if problem.error_code in _REFUSALS:
                    raise Refused(reason) from problem
                raise ConnectionError(reason) from problem

    def _metrics(self, run_id: str, batch: list[Record]) -> None:
        from mlflow.entities import Metric

        points = [
            Metric(name, value, record["time"], record["step"])
            for record in batch
            for name, value in record["values"]
            if not self._is_known(run_id, name, record["step"], value)
        ]
        if points:
            self.client.log_batch(run_id, metrics=points, synchronous=True)

    def _is_known(self, run_id: str, name: str, step: int, value: float) -> bool:
        """Whether a continued run repeats a point: the steps since its last checkpoint."""
        if name not in self._continued.get(run_id, ()):
            return False
        if (run_id, name) not in self._history:
            history = self.client.get_metric_history(run_id, name)
            self._history[run_id, name] = {(point.step, point.value) for point in history}
        return (step, value) in self._history[run_id, name]

    def _one(self, run_id: str, record: Record) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param, RunTag

        match record["kind"]:
            case "params":
                params = [Param(*item) for item in record["values"].items()]
                self.client.log_batch(run_id, params=params, synchronous=True)
            case "tags":
                tags = [RunTag(*item) for item in record["values"].items()]
                self.client.log_batch(run_id, tags=tags, synchronous=True)
            case "dataset":
                facts = {key: record[key] for key in ("name", "digest", "source", "profile")}
                data = Dataset(source_type="table", **facts)
                tag = InputTag("mlflow.data.context", record["context"])
                self.client.log_inputs(run_id, datasets=[DatasetInput(data, [tag])])
            case "text":
                self.client.log_text(run_id, record["text"], record["file"])
            case "artifact":
                self._artifact(run_id, Path(record["path"]), record["folder"] or None)
            case "model":
                deliver_model(self.client, run_id, record)
            case "status":
                self.client.set_terminated(run_id, record["status"], record["time"])
            case other:
                raise Refused(f"unknown kind {other!r}")

    def _artifact(self, run_id: str, path: Path, folder: str | None) -> None:
        if path.is_dir():
            self.client.log_artifacts(run_id, str(path), folder)
        elif path.is_file():
            self.client.log_artifact(run_id, str(path), folder)
        else:
            raise Refused(f"{path} is not there any more")

    def _experiment_id(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                root = None if self.address.kind == "server" else self._artifact_root(name)
                return self.client.create_experiment(name, artifact_location=root)
            except MlflowException as problem:
                if problem.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            found = self.client.get_experiment_by_name(name)  # another process was faster
        if found is None or found.lifecycle_stage != "active":
            number = found.experiment_id if found else "ID"
            raise ConfigError(
                f"run.experiment is {name!r}: MLflow holds a deleted experiment of that name. "
                f"Restore it (mlflow experiments restore --experiment-id {number}) or choose "
                "another."
            )
        return str(found.experiment_id)

    def _artifact_root(self, experiment: str) -> str:
        folder = "".join(c if c.isalnum() or c in "-_." else "_" for c in experiment).strip(".")
        return (self.address.folder / "mlruns" / (folder or "experiment")).as_uri()

    def _check_artifacts(self, run: Run, experiment: str) -> None:
        served = str(run.info.artifact_uri).startswith("mlflow-artifacts:")
        if self.address.kind == "server" or not served:
            return
        self.client.delete_run(run.info.run_id)
        raise ConfigError(
            f"run.experiment is {experiment!r}, which was created through an MLflow server; only "
            "that server can keep its files. Choose another run.experiment, or set "
            "run.tracking_uri to the server's address (such as http://127.0.0.1:5000) instead of "
            f"{self.address.shown}."
        )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what goes wrong while opening into words for the user."""
        try:
            yield
        except ConfigError:
            raise
        except Exception as problem:
            reason = explain(self.address, problem)
            raise ConfigError(
                f"{self.address.option} is {self.address.shown!r}: {reason}"
            ) from problem


@contextmanager
def _no_warnings() -> Iterator[None]:
    """MLflow uses what SQLAlchemy 2.1 warns of; nothing a user could change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
