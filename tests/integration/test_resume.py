"""A run that is killed and resumed ends, bit for bit, as one that was never interrupted."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from cxr_lightning.config.compose import compose
from cxr_lightning.errors import ConfigError
from cxr_lightning.history import read_history
from cxr_lightning.runs import RunFolder
from cxr_lightning.training import run_fit
from tests.integration.conftest import SMALL
from tests.processes import cut_fit, exit_code, start

# Everything that has a state: dropout, an average of weights, a plateau, momentum, early stopping.
STATEFUL = [
    "model.head.dropout=0.3",
    "model.options={channels: [8, 16], convs_per_block: 1, dropout: 0.2}",
    "optim.ema_decay=0.9",
    "optim.schedule=plateau",
    "optim.plateau_patience=0",
    "optim.min_lr_factor=0",
    "trainer.patience=10",
    "trainer.max_epochs=4",
]
Overrides = Callable[..., list[str]]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return {
        **checkpoint["state_dict"],
        **{f"trained.{name}": value for name, value in checkpoint["current_model_state"].items()},
    }


@pytest.fixture(scope="module")
def uninterrupted(
    phantom_root: Path, store: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, float | None]]:
    folder = tmp_path_factory.mktemp("resume") / "whole"
    words = ["data=nih", f"data.root={phantom_root}", *SMALL, "evaluation.report=false", *STATEFUL]
    config = compose([*words, f"run.dir={folder}", f"run.tracking_uri={store}"])
    return folder, run_fit(config)


@pytest.mark.parametrize(
    "moment",
    [
        ("on_train_batch_start", 0, 2),
        ("on_train_batch_start", 2, 0),
        ("on_train_batch_start", 3, 4),
        ("on_validation_end", 1),
    ],
    ids=["first epoch", "between epochs", "within an epoch", "after validation"],
)
def test_killed_and_resumed(
    moment: tuple[str, int],
    uninterrupted: tuple[Path, dict[str, float | None]],
    undrawn: Overrides,
    store: str,
) -> None:
    whole, metrics = uninterrupted
    words = undrawn("cut", *STATEFUL)
    cut_fit(words, *moment)
    config = compose([*words, "resume=auto"])
    folder = config.run.dir
    assert folder is not None
    before = RunFolder(folder).state()
    assert before.status == "running"
    assert run_fit(config) == metrics
    expected = weights(whole)
    for name, tensor in weights(folder).items():
        assert torch.equal(tensor, expected[name]), name
    state = RunFolder(folder).state()
    assert state.status == "finished"
    assert state.mlflow_run_id == before.mlflow_run_id
    curve = MlflowClient(store).get_metric_history(state.mlflow_run_id, "val/loss")
    assert sorted({point.step for point in curve}) == [0, 1, 2, 3]
    rows = read_history(RunFolder(folder))
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    for row, other in zip(rows, read_history(RunFolder(whole)), strict=True):
        assert row["val/loss"] == other["val/loss"]
        assert row["train/loss"] == other["train/loss"]


def test_ctrl_c_ends_cleanly_and_can_be_resumed(
    undrawn: Overrides, tmp_path: Path, store: str
) -> None:
    words = undrawn("stopped", "trainer.max_epochs=1000")
    run = start("cxr_lightning.fit", words, tmp_path / "log.txt")
    deadline = time.monotonic() + 120
    while not (tmp_path / "stopped" / "checkpoints" / "last.ckpt").is_file():
        assert time.monotonic() < deadline, "no epoch was finished"
        time.sleep(0.1)
    assert run.pid is not None
    os.kill(run.pid, signal.SIGINT)
    assert exit_code(run, 60) == 130
    said = (tmp_path / "log.txt").read_text()
    assert "resume=auto continues where it stopped" in said
    assert "Traceback" not in said
    state = RunFolder(tmp_path / "stopped").state()
    assert state.status == "interrupted"
    assert MlflowClient(store).get_run(state.mlflow_run_id).info.status == "KILLED"
    assert RunFolder(tmp_path / "stopped").last_checkpoint is not None


class TestRefusals:
    def test_a_finished_run(
        self, uninterrupted: tuple[Path, dict[str, float | None]], undrawn: Overrides
    ) -> None:
        folder, _ = uninterrupted
        with pytest.raises(ConfigError, match="that run is finished; nothing is left to resume"):
            run_fit(compose([*undrawn("x", *STATEFUL), f"resume={folder}"]))

    def test_auto_leaves_finished_runs_alone(
        self,
        uninterrupted: tuple[Path, dict[str, float | None]],
        undrawn: Overrides,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        folder, _ = uninterrupted
        words = undrawn("x", *STATEFUL, f"run.dir={folder.parent / 'new'}", "resume=auto")
        metrics = run_fit(compose([*words]))
        written = (folder.parent / "new" / "metrics.json").stat()
        # A scheduler that runs the command of a finished run again does no harm.
        assert run_fit(compose([*words])) == metrics
        assert (folder.parent / "new" / "metrics.json").stat() == written
        assert "nothing is left to do" in capsys.readouterr().out

    def test_another_configuration(self, undrawn: Overrides, tmp_path: Path) -> None:
        words = undrawn("cut", *STATEFUL)
        cut_fit(words, "on_train_batch_start", 1, 0)
        with pytest.raises(ConfigError, match="that run has another configuration"):
            run_fit(compose([*words, "seed=9", f"resume={tmp_path / 'cut'}"]))

    def test_not_a_run(self, undrawn: Overrides, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="must be never, auto, or a run's folder"):
            run_fit(compose(undrawn("x", f"resume={tmp_path}")))

    def test_changed_data(self, undrawn: Overrides, tmp_path: Path, phantom_root: Path) -> None:
        copy = tmp_path / "data"
        copy.mkdir()
        for entry in phantom_root.iterdir():
            if entry.suffix == ".csv":
                (copy / entry.name).write_bytes(entry.read_bytes())
            else:
                os.symlink(entry, copy / entry.name)
        words = undrawn("cut", *STATEFUL, f"data.root={copy}")
        cut_fit(words, "on_train_batch_start", 1, 0)
        table = copy / "Data_Entry_2017.csv"
        table.write_text(table.read_text().replace("No Finding", "Effusion", 1))
        with pytest.raises(ConfigError, match="the data changed since"):
            run_fit(compose([*words, "resume=auto"]))
