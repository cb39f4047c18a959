"""The folder of a run: its name and its state."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal, TypedDict, Unpack

from filelock import FileLock, Timeout

from cxr_lightning.config.schema import Config
from cxr_lightning.errors import ConfigError
from cxr_lightning.whole_file import whole_file

__all__ = [
    "STATE",
    "RunFolder",
    "RunState",
    "Status",
    "check_free",
    "check_new_folder",
    "chosen_folder",
    "configuration_hash",
    "new_run",
]

Status = Literal["running", "finished", "failed", "interrupted"]
STATE = "run.json"
_LOCK = ".lock"


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
    created: bool = False

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path | None:
        return file if (file := self.checkpoints / "last.ckpt").is_file() else None

    def state(self) -> RunState:
        """Read the state.

        Raises
        ------
        ConfigError
            The folder holds no run, or a damaged one.
        """
        file = self.path / STATE
        try:
            return RunState(**json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"{file}: not the state of a run: {error}") from None

    def update(self, **changes: Unpack[_Changes]) -> None:
        """Change fields of the state."""
        self._write_state(replace(self.state(), **changes))

    def write(self, name: str, text: str) -> Path:
        """Write a text file of the run and return its path."""
        file = self.path / name
        with whole_file(file) as partial:
            partial.write_text(text, encoding="utf-8")
        return file

    def discard(self) -> None:
        """Remove a run that never began; the folder too, unless it was there before."""
        if self.created:
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            for name in (STATE, _LOCK):
                (self.path / name).unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the run to this process.

        Raises
        ------
        ConfigError
            Another process is running it.
        """
        try:
            with FileLock(self.path / _LOCK, timeout=0):
                yield
        except Timeout:
            raise ConfigError(f"{self.path}: another process is running this run") from None

    @property
    def is_running(self) -> bool:
        """Whether a process holds the run now; the system lets go of one that was killed."""
        try:
            with FileLock(self.path / _LOCK, timeout=0):
                return False
        except Timeout:
            return True

    def _write_state(self, state: RunState) -> None:
        self.write(STATE, json.dumps(asdict(state), indent=2) + "\n")


def configuration_hash(config: Config) -> str:
    """Return a hash of what determines a run's result.

    Its name and place, resumption, and the number of loader processes do not. Where training images
    stay does: a device varies them to slightly other pixels.
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
        See :func:`check_free`; or the folder cannot be made.
    """
    check_free(config)
    try:
        folder = _make_folder(config)
        folder._write_state(RunState("running", configuration_hash(config)))
    except OSError as error:
        where = config.run.dir or "runs"
        raise ConfigError(f"{where}: the run's folder cannot be made: {error.strerror}") from None
    return folder


def check_free(config: Config) -> None:
    """Refuse the folder of a run that is not to be resumed, where it holds something already.

    Raises
    ------
    ConfigError
        `run.dir` or the folder of `run.name` is taken, or no name of a folder.
    """
    path = chosen_folder(config)
    if path is not None and _is_taken(path):
        raise ConfigError(
            f"{path} exists and is not empty: choose another run.dir or run.name, or continue the "
            f"run in it with resume={path}"
        )


def check_new_folder(folder: Path, option: str) -> None:
    """Refuse a folder for results that holds something already, or that cannot be made.

    Raises
    ------
    ConfigError
        It names the folder and the option that chooses another.
    """
    if _is_taken(folder):
        raise ConfigError(f"{folder} exists and is not empty: choose another {option}=FOLDER")
    above = next((one for one in folder.parents if one.exists()), None)
    if above is not None and not above.is_dir():
        raise ConfigError(f"{option}={folder}: {above} is a file, no folder can be made in it")


def _is_taken(path: Path) -> bool:
    return path.exists() and (not path.is_dir() or any(path.iterdir()))


def _make_folder(config: Config) -> RunFolder:
    path = chosen_folder(config)
    if path is not None:
        created = not path.exists()
        path.mkdir(parents=True, exist_ok=True)
        return RunFolder(path, created=created)
    model = config.model.name.replace("/", "-")
    base = f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{config.data.name}_{model}"
    # Two runs of a script, or of a cluster, may start within the same second.
    number = 1
    while True:
        folder = Path("runs") / (base if number == 1 else f"{base}_{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return RunFolder(folder, created=True)


def chosen_folder(config: Config) -> Path | None:
    """Return the folder that the configuration names; None: it names none."""
    if config.run.dir is not None:
        return config.run.dir
    if config.run.name is None:
        return None
    if not re.fullmatch(r"[\w.-]+", config.run.name):
        raise ConfigError(
            f"run.name={config.run.name!r}: letters, digits, '.', '_' and '-' only; it names a "
            "folder"
        )
    return Path("runs") / config.run.name
