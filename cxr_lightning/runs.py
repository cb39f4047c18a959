"""The folder of a run: its name, its state, and finding the one to resume."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal, TypedDict, Unpack

from cxr_lightning.config.schema import Config
from cxr_lightning.errors import ConfigError

__all__ = ["RunFolder", "RunState", "Status", "configuration_hash", "find_run", "new_run"]

Status = Literal["running", "finished", "failed", "interrupted"]
_STATE = "run.json"


@dataclass(frozen=True)
class RunState:
    """What is kept in `run.json`.

    Attributes
    ----------
    status
        A run that was killed still says "running".
    configuration
        Hash of everything that determines the result.
    fingerprint
        That of the cohort, so that a run is not resumed on other data.
    mlflow_run_id
        The MLflow run that a resumed run continues; empty before it exists.
    """

    status: Status
    configuration: str
    fingerprint: str = ""
    mlflow_run_id: str = ""


class _Changes(TypedDict, total=False):
    status: Status
    fingerprint: str
    mlflow_run_id: str


@dataclass(frozen=True)
class RunFolder:
    """A run's folder; files are written whole or not at all."""

    path: Path
    resumed: bool = False

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path | None:
        file = self.checkpoints / "last.ckpt"
        return file if file.is_file() else None

    def state(self) -> RunState:
        return RunState(**json.loads((self.path / _STATE).read_text(encoding="utf-8")))

    def update(self, **changes: Unpack[_Changes]) -> None:
        """Change fields of the state."""
        self._write_state(replace(self.state(), **changes))

    def write(self, name: str, text: str) -> Path:
        """Write a text file of the run and return its path."""
        file = self.path / name
        partial = file.with_name(file.name + ".partial")
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, file)
        return file

    def discard(self) -> None:
        """Remove the folder of a run that never began."""
        shutil.rmtree(self.path)

    def _write_state(self, state: RunState) -> None:
        self.write(_STATE, json.dumps(asdict(state), indent=2) + "\n")


def configuration_hash(config: Config) -> str:
    """Return a hash of what determines a run's result.

    Its name and place, resumption, and the number of loader processes do not.
    """
    settings = config.model_dump(
        mode="json",
        serialize_as_any=True,
        exclude={"run": True, "resume": True, "data": {"workers", "cache_dir"}},
    )
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def new_run(config: Config) -> RunFolder:
    """Create the folder of a new run.

    Raises
    ------
    ConfigError
        `run.dir` or the folder of `run.name` holds something already.
    """
    path = config.run.dir or Path("runs") / _name(config)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConfigError(
            f"{path} exists and is not empty: choose another run.dir or run.name, or continue the "
            f"run in it with resume={path}"
        )
    path.mkdir(parents=True, exist_ok=True)
    folder = RunFolder(path)
    folder._write_state(RunState("running", configuration_hash(config)))
    return folder


def find_run(config: Config) -> RunFolder | None:
    """Return the run that `resume` asks for: None for `never`, or where `auto` finds none.

    Raises
    ------
    ConfigError
        `resume` names a folder that holds no run, a finished one, or one of another configuration.
    """
    if config.resume == "never":
        return None
    wanted = configuration_hash(config)
    if config.resume == "auto":
        parent = config.run.dir.parent if config.run.dir else Path("runs")
        found = [
            file.parent
            for file in parent.glob(f"*/{_STATE}")
            if (state := RunFolder(file.parent).state()).status != "finished"
            and state.configuration == wanted
        ]
        newest = max(found, key=lambda path: (path / _STATE).stat().st_mtime, default=None)
        return RunFolder(newest, resumed=True) if newest else None
    path = Path(config.resume)
    if not (path / _STATE).is_file():
        raise ConfigError(
            f"resume={config.resume}: must be never, auto, or a run's folder; this folder has no "
            f"{_STATE}"
        )
    state = RunFolder(path).state()
    if state.status == "finished":
        raise ConfigError(f"resume={path}: that run is finished; nothing is left to resume")
    if state.configuration != wanted:
        raise ConfigError(
            f"resume={path}: that run has another configuration. Give its own with --config "
            f"{path / 'config.yaml'}"
        )
    return RunFolder(path, resumed=True)


def _name(config: Config) -> str:
    if config.run.name:
        if not re.fullmatch(r"[\w.-]+", config.run.name):
            raise ConfigError(
                f"run.name={config.run.name!r}: letters, digits, '.', '_' and '-' only; it names a "
                "folder"
            )
        return config.run.name
    model = config.model.name.replace("/", "-")
    base = f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{config.data.name}_{model}"
    # Two runs of a script may start within the same second.
    taken = (
        Path("runs") / f"{base}{suffix}" for suffix in ("", *(f"_{i}" for i in range(2, 1000)))
    )
    return next(path.name for path in taken if not path.exists())
