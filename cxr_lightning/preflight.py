"""What is refused before training: reading and decoding can take an hour, and training days."""

from __future__ import annotations

from pathlib import Path

import torch

from cxr_lightning.config.schema import Config
from cxr_lightning.data.base import ChestXrayDataModule
from cxr_lightning.errors import ConfigError, DataError
from cxr_lightning.evaluation.tables import check_label_names
from cxr_lightning.hardware import Placement
from cxr_lightning.launch import external_processes, external_rank
from cxr_lightning.losses.base import build_loss
from cxr_lightning.models.freezing import freeze_stages
from cxr_lightning.models.network import build_network
from cxr_lightning.runs import RunFolder, check_free
from cxr_lightning.tracking.address import parse_address
from cxr_lightning.trainer import build_trainer

__all__ = ["check_config", "check_data"]


def check_config(config: Config, placement: Placement) -> None:
    """Refuse what needs no data to be known wrong.

    Raises
    ------
    ConfigError
        The first thing that is wrong.
    """
    processes = placement.devices * config.trainer.num_nodes
    started = external_processes()
    if started == 1 and config.trainer.num_nodes > 1:
        raise ConfigError(
            f"trainer.num_nodes={config.trainer.num_nodes}: several machines train together only "
            "where torchrun or srun starts this command on each of them"
        )
    if started not in (1, processes):
        raise ConfigError(
            f"torchrun or srun started {started} processes, but trainer.devices="
            f"{placement.devices} x trainer.num_nodes={config.trainer.num_nodes} is {processes}: "
            "make them equal"
        )
    if config.data.batch_size % processes:
        raise ConfigError(
            f"data.batch_size={config.data.batch_size} cannot be shared evenly by {processes} "
            f"devices; use a multiple of {processes}"
        )
    parse_address(config.run.tracking_uri)
    if config.resume == "never" and external_rank() == 0:
        check_free(config)  # rank 0 makes it, maybe before another rank looks
    if config.model.weights is not None and not config.model.weights.is_file():
        raise ConfigError(f"model.weights={config.model.weights}: there is no such file")
    build_trainer(config, placement, RunFolder(Path("runs")))
    with torch.device("meta"):
        # Shapes alone: a wrong name, option, size or stage shows without a single weight.
        offline = config.model.model_copy(update={"pretrained": False})
        network = build_network(offline, config.data.image, config.data.labels or ("label",))
        freeze_stages(network, config.model.freeze)


def check_data(config: Config, data: ChestXrayDataModule, devices: int = 1) -> None:
    """Refuse data on which training, or choosing the best epoch, would be undefined.

    `devices` is how many share a step, over all machines.

    Raises
    ------
    ConfigError, DataError
        The first thing that is wrong.
    """
    check_label_names(data.labels.names)
    counts = data.label_counts()
    build_loss(config.loss, counts)
    one_class = (counts.positives == 0) | (counts.negatives == 0)
    missing = [name for name, one in zip(data.labels.names, one_class, strict=True) if one]
    if missing:
        raise DataError(
            f"the training split holds one class only of: {', '.join(missing)}. Leave them out "
            "with data.labels=[...], or use more patients."
        )
    if config.trainer.monitor != "val/loss":
        positives, negatives = data.cohort.label_counts("val")
        if not ((positives > 0) & (negatives > 0)).any():
            raise DataError(
                "no label has both classes in the validation split, so "
                f"{config.trainer.monitor} is undefined. Use more patients, another "
                "data.val_fraction, or trainer.monitor=val/loss."
            )
    if len(data.order()) < devices:
        raise ConfigError(
            f"an epoch has {len(data.order())} images, which {devices} devices cannot share: each "
            "needs one. Use fewer devices, or more patients."
        )
    interval = config.trainer.lightning_options.get("val_check_interval")
    batches = len(data.order()) // config.data.batch_size
    if isinstance(interval, int) and interval > max(1, batches):
        raise ConfigError(
            f"trainer.val_check_interval={interval}: an epoch has {batches} batches; use fewer, or "
            "a share of an epoch such as 0.5"
        )
