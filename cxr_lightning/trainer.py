"""Lightning's Trainer as a run needs it: checkpoints that survive, stopping that resumes."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy

from cxr_lightning.config.schema import Config
from cxr_lightning.errors import ConfigError
from cxr_lightning.hardware import Placement
from cxr_lightning.launch import started_externally
from cxr_lightning.runs import RunFolder
from cxr_lightning.whole_file import whole_file

__all__ = ["BEST", "LAST", "build_trainer", "quiet_lightning"]

BEST, LAST = "best", "last"


def build_trainer(
    config: Config, placement: Placement, run: RunFolder, callbacks: Sequence[Callback] = ()
) -> Trainer:
    """Return the Trainer of a run; nothing is written before it fits.

    Raises
    ------
    ConfigError
        A value of one of Lightning's own options that it refuses.
    """
    settings: dict[str, Any] = {
        "gradient_clip_val": config.trainer.gradient_clip_val,
        "accumulate_grad_batches": config.trainer.accumulate_grad_batches,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    options = config.trainer.lightning_options
    plugins: list[Any] = [_WholeFiles()]
    if not started_externally():
        # Else a job of one task in SLURM would be taken for one of several.
        plugins.append(LightningEnvironment())
    try:
        return Trainer(
            accelerator=placement.accelerator,
            devices=placement.devices,
            num_nodes=config.trainer.num_nodes,
            strategy=_strategy(config, placement),
            precision=placement.precision,
            max_epochs=config.trainer.max_epochs,
            callbacks=[
                *_callbacks(config),
                *callbacks,
                _StopTogether(),
                *_checkpoints(config, run),
            ],
            plugins=plugins,
            logger=False,
            use_distributed_sampler=False,
            default_root_dir=run.path,
            **(settings | options),
        )
    except (TypeError, ValueError, MisconfigurationException) as error:
        given = ", ".join(f"trainer.{name}={value}" for name, value in options.items())
        raise ConfigError(f"Lightning refuses {given or 'the trainer options'}: {error}") from None


def _strategy(config: Config, placement: Placement) -> Any:
    processes = placement.devices * config.trainer.num_nodes
    if processes == 1 and config.trainer.strategy == "auto":
        return "auto"
    backend = "nccl" if placement.accelerator == "gpu" else "gloo"
    # Stages that are released later take no part in the first epochs.
    unused = config.model.unfreeze_epoch is not None
    return DDPStrategy(process_group_backend=backend, find_unused_parameters=unused)


def _checkpoints(config: Config, run: RunFolder) -> tuple[ModelCheckpoint, ModelCheckpoint]:
    """Return what keeps the best epoch and what keeps the last one, in that order.

    Both write once an epoch is complete in every respect, and the last one includes what the other
    knows, so that a resumed run equals one that was not interrupted. (`save_last` would not do: it
    only writes in epochs that were the best so far.)
    """
    best = _Checkpoint(
        dirpath=run.checkpoints,
        filename=BEST,
        monitor=config.trainer.monitor,
        mode="max" if config.trainer.higher_is_better else "min",
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    last = _Checkpoint(
        dirpath=run.checkpoints,
        filename=LAST,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    return best, last


def _callbacks(config: Config) -> Iterator[Callback]:
    if config.optim.ema_decay is not None:
        yield _Average(decay=config.optim.ema_decay)
    if config.trainer.patience is not None:
        yield _EarlyStopping(
            monitor=config.trainer.monitor,
            mode="max" if config.trainer.higher_is_better else "min",
            patience=config.trainer.patience,
            check_on_train_epoch_end=False,  # not every epoch need be validated
        )


class _Average(EMAWeightAveraging):
    """Keeps the average where the network will be, and as precisely.

    Lightning makes it before it moves and converts the network: every step would then be copied to
    the CPU, and validation would round weights of 64 bits.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:
            trainer.precision_plugin.convert_module(self._average_model)


class _EarlyStopping(EarlyStopping):
    """Also knows, in a resumed run, that training had stopped already."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class _StopTogether(Callback):
    """Stops all devices where one of them wants to, such as the one that prunes a trial.

    The others would wait for it in the next step for ever.
    """

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.world_size > 1:
            stop = trainer.strategy.reduce_boolean_decision(trainer.should_stop, all=False)
            trainer.should_stop = stop


class _Checkpoint(ModelCheckpoint):
    """Finds its files again where the run's folder was moved, or is mounted elsewhere."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(_moved(state_dict, str(state_dict["dirpath"]), str(self.dirpath)))


def _moved(state: Any, old: str, new: str) -> Any:
    if isinstance(state, str):
        return new + state.removeprefix(old) if state.startswith(old) else state
    if isinstance(state, Mapping):
        return {_moved(key, old, new): _moved(value, old, new) for key, value in state.items()}
    return state


class _WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there: whole or not at all.

    Lightning's own writes to the system's temporary folder first; from another file system a move
    is a copy, and a process killed during it leaves half a file.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as partial:
            try:
                with partial.open("wb") as stream:
                    torch.save(checkpoint, stream)
                    stream.flush()
                    os.fsync(stream.fileno())
            except RuntimeError as error:
                # Ended early, by Ctrl-C or a full disk, torch closes its archive all the same, and
                # an error of that would hide what ended it.
                if error.__context__ is None:
                    raise
                raise error.__context__ from None


def quiet_lightning() -> None:
    """Drop what Lightning says of itself where it does not apply here."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        # The cache is read in the training process on purpose; it outruns worker processes.
        ".*does not have many workers.*",
        # Fewer batches than the logging interval of a logger that is not used.
        ".*smaller than the logging interval.*",
        # The folder holds the checkpoints of the run that is being resumed.
        ".*exists and is not empty.*",
        # Frozen stages keep the statistics that they came with.
        ".*in eval mode at the start of training.*",
        # An epoch that is not validated has no score, and cannot be the best.
        ".*could not find the monitored key.*",
        # What is logged has been reduced over the processes before.
        ".*sync_dist=True.*",
    ):
        warnings.filterwarnings("ignore", message, UserWarning)
    # Lightning 2.6 uses a name that torch 2.13 deprecates.
    warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
