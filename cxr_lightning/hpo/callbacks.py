"""What a trial tells the sweep while it trains, and measures beside it."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from cxr_lightning.hpo.channel import Channel
from cxr_lightning.hpo.space import LATENCY
from cxr_lightning.runs import RunFolder
from cxr_lightning.task import MultiLabelTask

__all__ = ["Course", "Latency"]


class Course(Callback):
    """Report each epoch's objective, and stop training where the sweep says so.

    Only rank 0 has this callback: the Trainer stops all devices where one wants to.

    Parameters
    ----------
    channel
        To the sweep.
    watch
        The metric that is reported; None: the trainer's own, which decides nothing.

    Attributes
    ----------
    pruned
        Whether the sweep stopped the trial.
    epochs
        Epochs that were trained.
    best
        The best value of what was watched; NaN before there is one.
    """

    def __init__(self, channel: Channel, watch: str | None) -> None:
        self._channel, self._watch = channel, watch
        self.pruned = False
        self.epochs = 0
        self.best = math.nan

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        run = RunFolder(Path(trainer.default_root_dir))
        self._channel.send({"run": run.state().mlflow_run_id, "epochs": trainer.max_epochs})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: MultiLabelTask) -> None:  # type: ignore[override]
        self.epochs = trainer.current_epoch + 1
        name = self._watch or pl_module.monitor
        value = trainer.callback_metrics.get(name)
        if value is None or name not in pl_module.measured:
            return  # an epoch that was not validated
        number = float(value)
        higher = name != "val/loss"
        if math.isfinite(number) and not (number < self.best if higher else number > self.best):
            self.best = number
        self._channel.send({"epoch": self.epochs, "value": number, "best": self.best})
        if self._watch is None:
            return
        answer = self._channel.receive()
        if answer is None:
            raise ConnectionError("the sweep that this trial belongs to is gone")
        if answer["prune"] and self.epochs < (trainer.max_epochs or 0):
            self.pruned = True
            trainer.should_stop = True


class Latency(Callback):
    """Time single images through the trained network, in inference mode.

    The median over 30 images after 5 to warm up; on the trial's own device, on a CPU with one
    thread, so that trials beside it matter little.
    """

    def __init__(self) -> None:
        self._image: torch.Tensor | None = None
        self._beside: torch.Tensor | None = None
        self.measured: dict[str, float | None] = {}

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._image = batch["image"][:1]
        self._beside = batch["tabular"][:1] if "tabular" in batch else None

    def on_fit_end(self, trainer: Trainer, pl_module: MultiLabelTask) -> None:  # type: ignore[override]
        network, threads = pl_module.network, torch.get_num_threads()
        training = network.training
        network.eval()
        torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                seconds = [_timed(network, self._image, self._beside) for _ in range(35)]
        finally:
            torch.set_num_threads(threads)
            network.train(training)
        self.measured = {LATENCY: float(np.median(seconds[5:])) * 1e3}


def _timed(
    network: torch.nn.Module, image: torch.Tensor | None, beside: torch.Tensor | None
) -> float:
    started = time.perf_counter()
    network(image, beside)
    if image is not None and image.is_cuda:
        torch.cuda.synchronize(image.device)
    return time.perf_counter() - started
