"""The profile of a run, by Lightning's own loops and a clock that only tests move."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import LightningModule, Trainer

from cxr_lightning.config.compose import compose
from cxr_lightning.data.base import ChestXrayDataModule
from cxr_lightning.history import History, read_history
from cxr_lightning.runs import RunFolder


class Watch:
    """Seconds that pass when something is done."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    mark = now

    def seconds(self, start: float, end: float) -> float:
        return end - start


class Data(ChestXrayDataModule):
    """A second for each training batch."""

    watch: Watch

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        assert self.trainer is not None
        self.watch.time += self.trainer.training
        return super().on_after_batch_transfer(batch, dataloader_idx)


class Model(LightningModule):
    """Four seconds for each step, and seven for each batch of validation."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch
        self.measured: set[str] = set()

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.watch.time += 4

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.watch.time += 7

    def configure_optimizers(self) -> None:
        return None


@pytest.mark.filterwarnings("ignore:.*(many workers|logging interval|returned `None`)")
@pytest.mark.parametrize("interval", [0.5, 1.0])
def test_validation_is_no_waiting_and_advice_is_given_once(
    phantom_root: Path, tmp_path: Path, interval: float
) -> None:
    config = compose(
        ["data=nih", f"data.root={phantom_root}", "data.image.size=32", "augment=none"]
    )
    watch = Watch()
    data, model = Data(config.data, config.augment, seed=0), Model(watch)
    data.watch = watch
    said: list[str] = []
    tags: list[dict[str, str]] = []
    history = History(
        RunFolder(tmp_path), lambda values, step: None, said.append, tags.append, clock=watch
    )
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=3,
        val_check_interval=interval,
        num_sanity_val_steps=1,
        callbacks=[history],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(model, datamodule=data)
    steps, batches = len(data.order()) // 32, len(data.val_dataloader())
    assert steps > 1
    rows = read_history(RunFolder(tmp_path))
    assert len(rows) == 3
    for row in rows:
        assert row["throughput/data_wait_share"] == pytest.approx(0.2)
        assert row["throughput/step_milliseconds"] == pytest.approx(4000)
        assert row["throughput/images_per_second"] == pytest.approx(32 / 5)
        validation = 7 * batches * (1 if interval == 1 else steps // (steps // 2))
        assert row["time/epoch_seconds"] == pytest.approx(5 * steps + validation)
    lines = [line for line in said if line.endswith("20% of it waiting for data")]
    assert len(lines) == 3
    (advice,) = [line for line in said if line not in lines]
    # Of the first epoch nothing is known yet.
    assert said.index(advice) == 2
    assert advice.startswith("epoch 2 spent 20% waiting for data: put data.cache_dir on a faster")
    assert tags == [{"data_wait": advice}]
