"""What happened in each epoch: a table in the run's folder, curves in MLflow, a printed line."""

from __future__ import annotations

import csv
import io
import math
import resource
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from cxr_lightning.data.base import ChestXrayDataModule
from cxr_lightning.runs import RunFolder
from cxr_lightning.task import MultiLabelTask
from cxr_lightning.throughput import Clock, Throughput, advice, clock_of, loading_of, waits

__all__ = ["History", "read_history"]

FILE = "history.csv"


class History(Callback):
    """Record each epoch once it is over, before its checkpoint is written.

    Parameters
    ----------
    run
        The run's folder.
    log_metrics
        Called with the epoch's numbers and the epoch.
    say
        Called with a line of text.
    set_tags
        Called with a tag that says what to do where epochs wait for data.
    clock
        That of the steps; None: that of the device.
    """

    def __init__(
        self,
        run: RunFolder,
        log_metrics: Callable[[dict[str, float], int], None],
        say: Callable[[str], None],
        set_tags: Callable[[dict[str, str]], None] = lambda tags: None,
        *,
        clock: Clock | None = None,
    ) -> None:
        self.run = run
        self.log_metrics = log_metrics
        self.say = say
        self.set_tags = set_tags
        self.clock = clock
        self.rows: list[dict[str, float]] = []
        self._throughput = Throughput(clock_of(torch.device("cpu")))
        self._first_epoch = 0
        self._advised: set[str] = set()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Of a resumed run: what came after the checkpoint is trained, and written, again.
        self.rows = [row for row in read_history(self.run) if row["epoch"] < trainer.current_epoch]
        for row in self.rows:
            # A killed process may not have delivered its last points; those that were are not
            # repeated.
            self._log(row)
        self._first_epoch = trainer.current_epoch

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._throughput = Throughput(self.clock or clock_of(pl_module.device))

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._throughput.begin_step()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._throughput.end_step(len(batch["row"]) * trainer.world_size)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._throughput.begin_validation()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._throughput.end_validation()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: MultiLabelTask) -> None:  # type: ignore[override]
        epoch = trainer.current_epoch
        row = {
            "epoch": float(epoch),
            **{
                name: float(value)
                for name, value in trainer.callback_metrics.items()
                if name in pl_module.measured
            },
            **_learning_rates(trainer),
            **self._throughput.measured(),
            **_peak_memory(pl_module.device),
        }
        self.rows.append(row)
        self.run.write(FILE, _as_csv(self.rows))
        self._log(row)
        self.say(_line(row, trainer.max_epochs or 0))
        self._advise(trainer, row)

    def _advise(self, trainer: Trainer, row: dict[str, float]) -> None:
        """Say once what to do about an epoch that waited for data, unless it was the first."""
        data = getattr(trainer, "datamodule", None)
        if not waits(row) or not isinstance(data, ChestXrayDataModule):
            return
        if row["epoch"] == self._first_epoch:
            # It started the loader processes, and read what the system now keeps in memory.
            return
        what = advice(loading_of(data, trainer.strategy.root_device, trainer.num_devices))
        if what not in self._advised:
            self._advised.add(what)
            share = row["throughput/data_wait_share"]
            text = f"epoch {row['epoch'] + 1:.0f} spent {share:.0%} waiting for data: {what}"
            self.say(text)
            self.set_tags({"data_wait": text})

    def _log(self, row: dict[str, float]) -> None:
        metrics = {name: value for name, value in row.items() if name != "epoch"}
        self.log_metrics(metrics, int(row["epoch"]))


def _learning_rates(trainer: Trainer) -> dict[str, float]:
    """Return the highest rate, and the lowest where layers differ."""
    rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
    if not rates:
        return {}
    named = {"lr": max(rates)}
    if min(rates) != max(rates):
        named["lr_lowest"] = min(rates)
    return named


def _peak_memory(device: torch.device) -> dict[str, float]:
    """Return the most memory that the process has held since it started, in MiB.

    That of the machine includes what is mapped from the cache, which the system takes back when it
    needs it.
    """
    named = {
        "memory/peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # from KiB
    }
    if device.type == "cuda":
        named["memory/peak_device_mib"] = torch.cuda.max_memory_allocated(device) / 2**20
    return named


def _line(row: dict[str, float], epochs: int) -> str:
    wait = row["throughput/data_wait_share"]
    slow = f", {wait:.0%} of it waiting for data" if waits(row) else ""
    return (
        f"epoch {row['epoch'] + 1:>3.0f}/{epochs}  train loss {_number(row, 'train/loss')}  "
        f"val loss {_number(row, 'val/loss')}  val AUROC {_number(row, 'val/auroc_macro')}  "
        f"{row['throughput/images_per_second']:,.0f} images/s  "
        f"{row['time/epoch_seconds']:.1f} s{slow}"
    )


def _number(row: dict[str, float], name: str) -> str:
    value = row.get(name, math.nan)
    return "–" if math.isnan(value) else f"{value:.4f}"


def _as_csv(rows: list[dict[str, float]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row | {"epoch": int(row["epoch"])} for row in rows)
    return text.getvalue()


def read_history(run: RunFolder) -> list[dict[str, float]]:
    """Return the epochs recorded so far, in order; none: an empty list."""
    file = run.path / FILE
    if not file.is_file():
        return []
    with file.open(encoding="utf-8", newline="") as lines:
        return [
            {name: float(value) if value else math.nan for name, value in row.items()}
            for row in csv.DictReader(lines)
        ]
