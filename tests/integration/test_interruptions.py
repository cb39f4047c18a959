"""What a stop, a move, a second process or a wrong number may not do to a run."""

from __future__ import annotations

import io
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from lightning.pytorch import Callback

from cxr_lightning.config.compose import compose
from cxr_lightning.errors import ConfigError, UserError
from cxr_lightning.history import read_history
from cxr_lightning.runs import RunFolder
from cxr_lightning.trainer import _WholeFiles
from cxr_lightning.training import run_fit
from tests.processes import cut_fit

Overrides = Callable[..., list[str]]


def epochs(folder: Path) -> list[dict[str, float]]:
    return read_history(RunFolder(folder))


def last_weights(folder: Path) -> dict[str, torch.Tensor]:
    file = folder / "checkpoints" / "last.ckpt"
    return torch.load(file, weights_only=True)["state_dict"]  # type: ignore[no-any-return]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("at", range(1, 7))
def test_ctrl_c_while_a_checkpoint_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, at: int
) -> None:
    file = tmp_path / "last.ckpt"
    _WholeFiles().save_checkpoint({"epoch": 0}, file)

    class Interrupted(io.FileIO):
        writes = 0

        def write(self, data: object) -> int:
            self.writes += 1
            if self.writes == at:
                os.kill(os.getpid(), signal.SIGINT)
            return super().write(data)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "open", lambda path, mode: Interrupted(path, mode))
    with pytest.raises(KeyboardInterrupt):
        _WholeFiles().save_checkpoint({"epoch": 1}, file)
    assert torch.load(file, weights_only=True) == {"epoch": 0}
    assert os.listdir(tmp_path) == [file.name]


def test_a_run_that_stopped_early_does_not_train_on(undrawn: Overrides, tmp_path: Path) -> None:
    # A rate this small changes no rank: the second epoch is never better than the first.
    still = ["optim.lr=1e-9", "trainer.patience=1", "trainer.max_epochs=6"]
    metrics = run_fit(compose(undrawn("whole", *still)))
    assert len(epochs(tmp_path / "whole")) == 2
    words = undrawn("cut", *still)
    cut_fit(words, "on_test_start")
    assert run_fit(compose([*words, "resume=auto"])) == metrics
    assert len(epochs(tmp_path / "cut")) == 2


def test_a_moved_run_is_resumed_as_if_it_had_stayed(undrawn: Overrides, tmp_path: Path) -> None:
    metrics = run_fit(compose(undrawn("whole")))
    cut_fit(undrawn("there"), "on_train_epoch_start", epoch=2)
    (tmp_path / "there").rename(tmp_path / "here")
    config = compose([*undrawn("there"), f"resume={tmp_path / 'here'}"])
    assert run_fit(config) == metrics
    assert not (tmp_path / "there").exists()
    assert same(last_weights(tmp_path / "here"), last_weights(tmp_path / "whole"))


def test_only_validated_epochs_have_a_score_and_step_the_plateau(
    undrawn: Overrides, tmp_path: Path
) -> None:
    sparse = [
        "trainer.check_val_every_n_epoch=2",
        "trainer.max_epochs=4",
        "optim.schedule=plateau",
        "optim.plateau_patience=0",
    ]
    run_fit(compose(undrawn("whole", *sparse)))
    rows = epochs(tmp_path / "whole")
    assert ["val/loss" in row and row["val/loss"] == row["val/loss"] for row in rows] == [
        False, True, False, True,
    ]  # fmt: skip
    words = undrawn("cut", *sparse)
    cut_fit(words, "on_train_epoch_start", epoch=2)
    run_fit(compose([*words, "resume=auto"]))
    assert same(last_weights(tmp_path / "cut"), last_weights(tmp_path / "whole"))
    assert [row["lr"] for row in epochs(tmp_path / "cut")] == [row["lr"] for row in rows]


def test_a_run_belongs_to_one_process(
    undrawn: Overrides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    unnamed = [word for word in undrawn("run") if not word.startswith("run.dir=")]
    cut_fit(undrawn("runs/one"), "on_train_epoch_start", epoch=1)
    with FileLock(tmp_path / "runs" / "one" / ".lock"):
        with pytest.raises(ConfigError, match="another process is running that run"):
            run_fit(compose([*undrawn("runs/one"), f"resume={tmp_path / 'runs' / 'one'}"]))
        run_fit(compose([*unnamed, "resume=auto", "run.name=two"]))
    assert RunFolder(tmp_path / "runs" / "one").state().status == "running"
    # A folder that is named is the only one that is looked at.
    run_fit(compose([*undrawn("runs/three"), "resume=auto"]))
    assert RunFolder(tmp_path / "runs" / "one").state().status == "running"
    assert RunFolder(tmp_path / "runs" / "three").state().status == "finished"


def test_a_damaged_neighbour_does_not_stop_resuming(
    undrawn: Overrides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "broken").mkdir(parents=True)
    (tmp_path / "runs" / "broken" / "run.json").touch()
    words = [word for word in undrawn("x") if not word.startswith("run.dir=")]
    run_fit(compose([*words, "resume=auto", "trainer.max_epochs=1"]))


def test_divergence_is_named_and_leaves_the_last_good_epoch(
    undrawn: Overrides, tmp_path: Path
) -> None:
    class Spoil(Callback):
        def on_train_epoch_start(self, trainer, pl_module) -> None:  # type: ignore[no-untyped-def]
            if trainer.current_epoch == 1:
                for parameter in pl_module.parameters():
                    parameter.data.fill_(torch.inf)

    with pytest.raises(UserError, match=r"training diverged in epoch 2.* Lower optim\.lr"):
        run_fit(compose(undrawn("run")), [Spoil()])
    weights = last_weights(tmp_path / "run")
    assert all(tensor.isfinite().all() for tensor in weights.values())
    assert RunFolder(tmp_path / "run").state().status == "failed"


def test_nothing_is_gathered_once_lightning_has_let_go(
    undrawn: Overrides, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a test Lightning moves the network to the CPU, where NCCL gathers nothing."""
    from lightning.pytorch.strategies import Strategy
    from torchmetrics import Metric

    released: list[bool] = []
    late: list[str] = []
    teardown, compute = Strategy.teardown, Metric.sync

    def noted_teardown(self: Strategy) -> None:
        released.append(True)
        teardown(self)

    def noted_sync(self: Metric, *args: object, **kwargs: object) -> None:
        if released:
            late.append(type(self).__name__)
        compute(self, *args, **kwargs)  # type: ignore[arg-type]

    class Begin(Callback):
        def setup(self, trainer, pl_module, stage) -> None:  # type: ignore[no-untyped-def]
            released.clear()

    monkeypatch.setattr(Strategy, "teardown", noted_teardown)
    monkeypatch.setattr(Metric, "sync", noted_sync)
    run_fit(compose(undrawn("run", "trainer.max_epochs=1")), [Begin()])
    assert released
    assert not late


def test_a_folder_given_by_the_user_outlives_a_run_that_never_began(
    undrawn: Overrides, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    words = [*undrawn("mine"), "run.tracking_uri=postgresql://nobody@127.0.0.1:9/none"]
    with pytest.raises(ConfigError):
        run_fit(compose(words))
    assert (tmp_path / "mine").is_dir()
    assert not list((tmp_path / "mine").iterdir())


def test_a_checkpoint_is_whole_or_not_there(undrawn: Overrides, tmp_path: Path) -> None:
    run_fit(compose(undrawn("run", "trainer.max_epochs=1")))
    names = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert names == {"best.ckpt", "last.ckpt"}
    shutil.rmtree(tmp_path / "run")
