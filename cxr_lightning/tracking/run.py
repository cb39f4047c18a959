"""A tracked run: what training calls, in microseconds and without exceptions."""

from __future__ import annotations

import atexit
import json
import logging
import re
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

from .opening import start_sender
from .outbox import Outbox
from .records import Record, params_of, split_finite, tag_records
from .sender import Sender
from .store import RunFacts

__all__ = ["Status", "TrackedRun", "open_run"]

Status = Literal["FINISHED", "FAILED", "KILLED"]
NOT_FINITE = "metrics_not_finite"
_log = logging.getLogger("cxr_lightning.tracking")


class _Figure(Protocol):
    def savefig(self, fname: Path, **options: Any) -> None: ...


class TrackedRun:
    """One MLflow run. Without a sender (any rank but 0) every call does nothing.

    All `log_` methods only queue; a thread delivers, as `sender.Sender` describes. Nothing here
    raises because of MLflow. Used in a ``with`` block, the run ends as FINISHED, as FAILED after an
    exception, or as KILLED after Ctrl-C or a termination signal that Lightning turned into an exit.

    Attributes
    ----------
    run_id, experiment_id : str or None
        None on any rank but 0.
    experiment_name : str
    run_dir : Path
        Files that are logged must stay there until `finish`; what could not be sent is kept there.
    tracking_uri : str or None
        As MLflow takes it; may hold a password.
    """

    run_id: str | None = None
    experiment_id: str | None = None
    tracking_uri: str | None = None

    def __init__(
        self,
        experiment_name: str,
        run_dir: Path,
        facts: RunFacts | None = None,
        sender: Sender | None = None,
        tracking_uri: str | None = None,
    ) -> None:
        super().__init__()
        self.experiment_name = experiment_name
        self.run_dir = run_dir.resolve()
        self._sender = sender
        self._params: dict[str, str] = {}
        self._not_finite: set[str] = set()
        self._said: set[str] = set()
        self._left = 0
        if facts is not None:
            self.run_id, self.experiment_id = facts.run_id, facts.experiment_id
            self.tracking_uri = tracking_uri
            self._params = dict(facts.params)
            self._not_finite = set(filter(None, facts.tags.get(NOT_FINITE, "").split(", ")))
            atexit.register(self.finish, "FAILED")  # ended without a word: sys.exit in a callback

    @property
    def page(self) -> str | None:
        """Address of the run's page; of a store without a server, as ``mlflow ui`` will show it."""
        if self.run_id is None or self.tracking_uri is None:
            return None
        served = self.tracking_uri.startswith("http")
        # Whoever follows it signs in by the browser, not by what this process was given.
        server = (
            re.sub(r"://[^/]*@", "://", self.tracking_uri) if served else "http://localhost:5000"
        )
        # Without the last part MLflow 3 opens its pages for language models.
        return (
            f"{server}/#/experiments/{self.experiment_id}/runs/{self.run_id}"
            "?workflowType=machine_learning"
        )

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add a point to each curve.

        NaN and infinities are not sent: MLflow's pages and its `log_model` stumble over the first
        and chart the second as 1.8e308. An undefined metric has no point at that step, and the
        run's tag `metrics_not_finite` names it.

        Parameters
        ----------
        metrics : mapping of str to number
            Characters that MLflow refuses in names become ``_``.
        step : int, optional
            0 if not given.
        """
        if self._sender is None:
            return
        finite, other = split_finite(metrics)
        if finite:
            values = [[name, value] for name, value in finite]
            now = time.time_ns() // 1_000_000
            self._put({"kind": "metrics", "values": values, "time": now, "step": int(step or 0)})
        if other and not self._not_finite.issuperset(other):
            self._not_finite.update(other)
            self.set_tags({NOT_FINITE: ", ".join(sorted(self._not_finite))})

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record parameters by flat names.

        A parameter cannot change in MLflow: another value, as of a continued run, is kept as the
        tag ``changed.NAME`` with one warning. Values over 6,000 characters are cut and kept whole
        in ``params/NAME.txt``.
        """
        if self._sender is None:
            return
        values, texts = params_of(params)
        changed = {k: v for k, v in values.items() if self._params.get(k, v) != v}
        fresh = {k: v for k, v in values.items() if k not in self._params}
        for record in [*tag_records(fresh), *texts]:
            self._put({**record, "kind": "params"} if record["kind"] == "tags" else record)
        self._params.update(fresh)
        if changed:
            self.set_tags({f"changed.{name}": value for name, value in changed.items()})
            self._say_once(
                "params",
                "parameters of this MLflow run had other values before; the new ones are kept as "
                "tags changed.NAME: %s",
                ", ".join(f"{k} ({self._params[k]} -> {v})" for k, v in list(changed.items())[:5]),
            )

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set or replace tags; ``mlflow.note.content`` is the description that the UI shows."""
        for record in tag_records(tags):
            self._put(record)

    def log_artifact(self, path: Path | str, folder: str = "") -> None:
        """Keep a copy of a file, in `folder` of the run's artifacts."""
        path = Path(path).resolve()
        self._put({"kind": "artifact", "path": str(path), "folder": folder.strip("/")})

    def log_artifacts(self, directory: Path | str, folder: str = "") -> None:
        """Keep a copy of all files below a directory, in `folder` of the run's artifacts."""
        self.log_artifact(directory, folder)

    def log_model(self, bundle: Path, *, register_as: str | None = None) -> None:
        """Log a bundle as the run's MLflow model, and register it under a name if one is given."""
        self._put({"kind": "model", "path": str(bundle.resolve()), "register_as": register_as})

    def log_text(self, text: str, file: str) -> None:
        """Keep a text under the artifact name `file`, such as ``report/notes.md``."""
        self._put({"kind": "text", "text": text, "file": file.strip("/")})

    def log_dict(self, values: Mapping[str, Any], file: str) -> None:
        """Keep values as JSON under the artifact name `file`, such as ``split.json``."""
        self.log_text(json.dumps(values, indent=2, default=str, ensure_ascii=False) + "\n", file)

    def log_figure(self, figure: _Figure, file: str, **options: Any) -> Path:
        """Save a matplotlib figure as `file` in the run's folder, log it, and return its path."""
        path = self.run_dir / file
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, **options)
        self.log_artifact(path, Path(file).parent.as_posix().removeprefix("."))
        return path

    def log_dataset(
        self, name: str, digest: str, *, context: str, profile: Mapping[str, Any] | None = None
    ) -> None:
        """Name the data a run used, as shown in MLflow's list of runs.

        Parameters
        ----------
        name : str
            The data set's name, never a path.
        digest : str
            The study table's fingerprint; MLflow keeps 36 characters.
        context : str
            ``training``, ``validation`` or ``test``.
        profile : mapping, optional
            Counts worth seeing, such as images and patients.
        """
        facts = {"name": name, "digest": digest[:36], "context": context}
        source = json.dumps({"name": name})
        profiled = json.dumps(dict(profile or {}), default=str)
        self._put({"kind": "dataset", "source": source, "profile": profiled, **facts})

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until all that was logged is delivered or safely kept; False if it took longer."""
        return self._sender is None or self._sender.flush(timeout)

    def finish(self, status: Status = "FINISHED", *, patience: float = 30.0) -> int:
        """Deliver what is left and set the run's status; the second call does nothing.

        Parameters
        ----------
        status : {"FINISHED", "FAILED", "KILLED"}
        patience : float
            Seconds without any progress after which the rest is kept in the run's folder.

        Returns
        -------
        int
            How many records could not be sent; a warning says how to send them.
        """
        if self._sender is None:
            return self._left
        atexit.unregister(self.finish)
        now = time.time_ns() // 1_000_000
        self._put({"kind": "status", "status": status, "time": now})
        sender, self._sender = self._sender, None
        self._left = sender.close(patience)
        if self._left:
            _log.warning(
                "MLflow did not take %s of this run; they are kept in %s. Send them when MLflow is "
                "back: python -m cxr_lightning.tracking %s",
                f"{self._left:,} record{'s' * (self._left > 1)}",
                Outbox(self.run_dir).path,
                self.run_dir,
            )
        return self._left

    def __enter__(self) -> TrackedRun:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.finish(_status_after(problem))

    def _put(self, record: Record) -> None:
        if self._sender is not None:
            self._sender.put(record)

    def _say_once(self, topic: str, message: str, *values: object) -> None:
        if topic not in self._said:
            self._said.add(topic)
            _log.warning(message, *values)


def _status_after(problem: BaseException | None) -> Status:
    if problem is None or (isinstance(problem, SystemExit) and not problem.code):
        return "FINISHED"
    # Lightning answers Ctrl-C and signals with an exit of its own.
    return "KILLED" if isinstance(problem, KeyboardInterrupt | SystemExit) else "FAILED"


def open_run(
    tracking_uri: str,
    experiment: str,
    run_name: str | None,
    tags: Mapping[str, str],
    run_dir: Path,
    run_id: str | None = None,
    *,
    parent_run_id: str | None = None,
) -> TrackedRun:
    """Open a run without Lightning, as for the parent run of a sweep; see `open_tracker`."""
    opened = start_sender(tracking_uri, experiment, run_name, tags, run_dir, run_id, parent_run_id)
    return TrackedRun(experiment, run_dir, *opened)
