"""Training as `fit` sets it up, without what comes before and after."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from cxr_lightning.config.schema import Config
from cxr_lightning.data.base import ChestXrayDataModule
from cxr_lightning.hardware import place
from cxr_lightning.history import History
from cxr_lightning.labels import LabelSpace
from cxr_lightning.losses.base import build_loss
from cxr_lightning.losses.weights import LabelCounts
from cxr_lightning.models.network import build_network
from cxr_lightning.runs import RunFolder
from cxr_lightning.task import MultiLabelTask
from cxr_lightning.trainer import build_trainer


def data_module(config: Config) -> ChestXrayDataModule:
    return ChestXrayDataModule(config.data, config.augment, seed=0)


def run_words(folder: str | Path) -> list[str]:
    """Return where a `fit` writes."""
    return [f"run.dir={folder}/run", f"run.tracking_uri=sqlite:///{folder}/mlflow.db"]


def build_task(config: Config, labels: LabelSpace, counts: LabelCounts) -> MultiLabelTask:
    network = build_network(config.model, config.data.image, labels.names)
    if config.trainer.channels_last:
        network = network.to(memory_format=torch.channels_last)
    return MultiLabelTask(
        network,
        build_loss(config.loss, counts),
        labels,
        model=config.model,
        optim=config.optim,
        trainer=config.trainer,
        seed=config.seed,
    )


def epochs(config: Config, task: MultiLabelTask, **data: Any) -> list[dict[str, float]]:
    """Train by the run's own Trainer, and return the rows of its `history.csv`."""
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder))
        history = History(run, lambda values, step: None, lambda line: None)
        build_trainer(config, place(config.trainer), run, [history]).fit(task, **data)
    return history.rows
