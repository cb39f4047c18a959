"""Small, quick runs: 160 synthetic radiographs at 32 pixels and a network of two blocks."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

SMALL = [
    "data.image.size=32",
    "data.batch_size=16",
    "data.labels=[Effusion,Infiltration,Atelectasis]",
    "model.options={channels: [8, 16], convs_per_block: 1}",
    "trainer=cpu",
    "trainer.threads=1",
    "trainer.max_epochs=3",
    "evaluation.replicates=50",
]


@pytest.fixture(scope="session")
def store(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """One MLflow store for all runs of the session."""
    return f"sqlite:///{shutil.copy(empty_store, tmp_path_factory.mktemp('mlflow'))}"


@pytest.fixture
def overrides(phantom_root: Path, store: str, tmp_path: Path) -> Callable[..., list[str]]:
    """Return a function from a run's name, and further overrides, to those of a small run."""

    def build(name: str, *more: str) -> list[str]:
        return [
            "data=nih",
            f"data.root={phantom_root}",
            *SMALL,
            f"run.dir={tmp_path / name}",
            f"run.tracking_uri={store}",
            *more,
        ]

    return build


@pytest.fixture
def undrawn(overrides: Callable[..., list[str]]) -> Callable[..., list[str]]:
    """As `overrides`, for tests of what is not drawn: figures take most of a small run's time."""
    return lambda name, *more: overrides(name, "evaluation.report=false", *more)
