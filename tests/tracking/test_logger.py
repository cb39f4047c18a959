"""The tracker as the logger of a real Trainer."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader

from cxr_lightning.tracking import MLflowTracker, open_tracker
from cxr_lightning.tracking.logger import is_rank_zero

from .conftest import rows


class Line(LightningModule):
    """One weight; logs in training and validation."""

    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters({"optim": {"lr": 0.1}})
        self.weight = torch.nn.Linear(1, 1)

    def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
        loss = self.weight(batch).square().mean()
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: torch.Tensor, _: int) -> None:
        self.log("val/loss", self.weight(batch).square().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(tracker: MLflowTracker, *callbacks: Callback) -> None:
    trainer = Trainer(
        max_epochs=2,
        logger=tracker,
        log_every_n_steps=1,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=list(callbacks),
    )
    data = DataLoader(torch.ones(4, 1), batch_size=2)
    trainer.fit(Line(), data, data)


class Raise(Callback):
    """Raises in the second epoch."""

    def __init__(self, problem: BaseException) -> None:
        self.problem = problem

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 1:
            raise self.problem


@pytest.fixture
def tracker(database: Path, tmp_path: Path) -> MLflowTracker:
    return open_tracker(f"sqlite:///{database}", "cxr", "name", {}, tmp_path / "run")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Lightning's advice on workers and steps
@pytest.mark.parametrize(
    ("problem", "status", "steps"),
    [
        (None, "FINISHED", [0, 1, 2, 3]),
        (RuntimeError("out of memory"), "FAILED", [0, 1]),
        (KeyboardInterrupt(), "KILLED", [0, 1]),
    ],
)
def test_training_is_tracked_to_its_end(
    tracker: MLflowTracker,
    database: Path,
    problem: BaseException | None,
    status: str,
    steps: list[int],
) -> None:
    ends = pytest.raises((RuntimeError, SystemExit)) if problem else contextlib.nullcontext()
    with ends, tracker:
        fit(tracker, *([Raise(problem)] if problem else []))
        tracker.log_metrics({"test/auroc": 0.9}, 4)  # the run goes on after the Trainer
    assert rows(database, "SELECT status FROM runs") == [(status,)]
    query = "SELECT step FROM metrics WHERE key = ? ORDER BY step"
    assert rows(database, query, "train/loss") == [(step,) for step in steps]
    assert rows(database, query, "test/auroc") == ([] if problem else [(4,)])
    assert rows(database, "SELECT value FROM params WHERE key = 'optim.lr'") == [("0.1",)]
    assert (tracker.name, tracker.version) == ("cxr", tracker.run_id)


@pytest.mark.parametrize(
    ("variables", "rank", "first"),
    [
        ({}, 0, True),
        ({"NODE_RANK": "0"}, 0, True),
        ({"NODE_RANK": "0"}, 1, False),
        ({"NODE_RANK": "1"}, 0, False),  # LOCAL_RANK 0 of the second machine
        ({"GROUP_RANK": "1", "RANK": "4"}, 4, False),
    ],
)
def test_one_rank_of_all_machines_talks(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], rank: int, first: bool
) -> None:
    for name in ("NODE_RANK", "GROUP_RANK", "RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(rank_zero_only, "rank", rank)
    assert is_rank_zero() is first


def test_other_ranks_neither_import_nor_call_mlflow(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    monkeypatch.setitem(sys.modules, "mlflow", None)  # any import of it raises
    with open_tracker("http://127.0.0.1:9", "cxr", None, {}, tmp_path) as tracker:
        tracker.log_metrics({"a": 1.0}, 0)
        tracker.log_hyperparams({"a": {"b": 1}})
        tracker.set_tags({"a": "b"})
        tracker.log_artifact("nothing")
        tracker.finalize("success")
        assert tracker.flush()
    assert (tracker.run_id, tracker.version, tracker.page) == (None, None, None)
    assert (tracker.finish(), list(tmp_path.iterdir())) == (0, [])
