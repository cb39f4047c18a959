"""Small sweeps: real processes and databases, trials of a second on 160 synthetic radiographs."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from optuna.trial import FrozenTrial

from cxr_lightning.hpo.options import SweepOptions
from cxr_lightning.hpo.storage import open_storage
from tests.integration.conftest import SMALL

SPACE = """
trials: 4
pruner: {name: none}
fixed: {trainer.max_epochs: 2}
budget: {trainer.max_epochs: 1}
parameters:
  optim.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}
  loss: {type: categorical, choices: [bce, weighted_bce, focal]}
  loss.gamma: {type: float, low: 0.5, high: 3.0, when: {loss: focal}}
"""


def trials_of(url: str, name: str) -> list[FrozenTrial]:
    """Return every trial of a study, also those that do not count."""
    storage = open_storage(url)
    found = storage.rdb.get_all_trials(storage.rdb.get_study_id_from_name(name))
    storage.close()
    return found


@contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Do something beside the block, and fail with it."""
    problems: list[BaseException] = []

    def guarded() -> None:
        try:
            act()
        except BaseException as problem:  # noqa: BLE001 - raised again below
            problems.append(problem)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    yield
    thread.join(30)
    if problems:
        raise problems[0]


def wait_for(what: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


def children(process: int) -> list[int]:
    text = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(one) for one in text.split()]


@pytest.fixture(scope="session")
def sweep_store(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """One MLflow store for all sweeps."""
    return f"sqlite:///{shutil.copy(empty_store, tmp_path_factory.mktemp('mlflow'))}"


@pytest.fixture
def words(phantom_root: Path, sweep_store: str) -> tuple[str, ...]:
    """The words of a small configuration."""
    small = [word for word in SMALL if not word.startswith("trainer.max_epochs")]
    return ("data=nih", f"data.root={phantom_root}", *small, f"run.tracking_uri={sweep_store}")


@pytest.fixture
def spaces(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes files of groups, and returns their --config-dir."""

    def write(**files: str) -> Path:
        for name, text in ({"sweep_small": SPACE} | files).items():
            group, _, choice = name.partition("_")
            file = tmp_path / "conf" / group / f"{choice}.yaml"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return tmp_path / "conf"

    return write


@pytest.fixture
def options(
    words: tuple[str, ...],
    spaces: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., SweepOptions]:
    """Return a function from further words, and options, to those of a small sweep."""
    monkeypatch.chdir(tmp_path)

    def build(*more: str, files: dict[str, str] | None = None, **kwargs: object) -> SweepOptions:
        folder = spaces(**(files or {}))
        chosen = () if any(word.startswith("sweep=") for word in more) else ("sweep=small",)
        return SweepOptions(words=(*chosen, *words, *more), config_dir=folder, **kwargs)  # type: ignore[arg-type]

    return build
