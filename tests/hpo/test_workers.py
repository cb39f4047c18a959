"""Several workers: what each has, and that nothing any of them says is lost."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from cxr_lightning.config.schema import TrainerConfig
from cxr_lightning.errors import ConfigError
from cxr_lightning.hpo.client import ServerClient
from cxr_lightning.hpo.options import SweepOptions
from cxr_lightning.hpo.run import run_sweep
from cxr_lightning.hpo.slots import make_slots
from cxr_lightning.hpo.storage import open_storage


def test_four_workers_lose_nothing(
    client: ServerClient, options: Callable[..., SweepOptions], sweep_store: str, tmp_path: Path
) -> None:
    """Both stores are SQLite files that four trials, their sweep and its parent run write to."""
    long = "sweep.budget={trainer.max_epochs: 12}"
    assert run_sweep(options(long, study="four", trials=8, workers=4), client) == 0
    storage = open_storage("sqlite:///optuna.db", folder=tmp_path)
    trials = storage.rdb.get_all_trials(storage.rdb.get_study_id_from_name("four"))
    storage.close()
    assert len(trials) == 8
    mlflow = MlflowClient(sweep_store)
    for trial in trials:
        folder = Path(trial.user_attrs["folder"])
        with (folder / "history.csv").open() as stream:
            epochs = list(csv.DictReader(stream))
        assert len(epochs) == 12
        reported = list(trial.intermediate_values.values())
        assert reported == pytest.approx([float(row["val/auroc_macro"]) for row in epochs])
        for name in epochs[0].keys() - {"epoch"}:
            points = mlflow.get_metric_history(trial.user_attrs["mlflow_run_id"], name)
            logged = [point.value for point in sorted(points, key=lambda point: point.step)]
            assert logged == pytest.approx([float(row[name]) for row in epochs]), name
        assert not list(folder.glob("*outbox*"))
    for log in (tmp_path / "runs" / "four" / "logs").iterdir():
        assert "locked" not in log.read_text()
    # All four began at once, and none waited for another one after that.
    begun = sorted((trial.datetime_start, 1) for trial in trials if trial.datetime_start)
    ended = sorted((trial.datetime_complete, -1) for trial in trials if trial.datetime_complete)
    under_way = running = 0
    for _, change in sorted(begun + ended):
        running += change
        under_way = max(under_way, running)
    assert under_way == 4


class TestSlots:
    def test_each_worker_has_a_gpu_of_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        slots = make_slots(3, TrainerConfig(), gpus=4, cpus=12)
        assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["0", "1", "2"]
        assert {slot.threads for slot in slots} == {4}

    def test_a_trial_on_several_gpus(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7,9")
        slots = make_slots(3, TrainerConfig(devices=2), gpus=5, cpus=1)
        visible = [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots]
        assert visible == ["4,5", "6,7", "4,5"]  # more workers than pairs: two share
        assert {slot.threads for slot in slots} == {1}
        with pytest.raises(ConfigError, match=r"trainer.devices=8: this machine has 5 GPU"):
            make_slots(1, TrainerConfig(devices=8), gpus=5, cpus=1)

    def test_without_gpus_threads_are_divided(self) -> None:
        for trainer, gpus in ((TrainerConfig(), 0), (TrainerConfig(accelerator="cpu"), 8)):
            slots = make_slots(4, trainer, gpus=gpus, cpus=10)
            assert [slot.threads for slot in slots] == [2] * 4
            assert not any(slot.environment for slot in slots)
