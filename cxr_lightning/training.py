"""One run from configuration to results: what `fit`, sweeps and tests all call."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy

from cxr_lightning.config.schema import Config, SamplingConfig
from cxr_lightning.data.base import ChestXrayDataModule
from cxr_lightning.errors import ConfigError, DataError
from cxr_lightning.hardware import Placement, place
from cxr_lightning.history import History
from cxr_lightning.launch import (
    external_rank,
    launched_run,
    other_ranks,
    started_externally,
)
from cxr_lightning.losses.base import build_loss
from cxr_lightning.models.network import build_network
from cxr_lightning.models.weights import load_weights
from cxr_lightning.outcome import SplitPredictions, write_outcome
from cxr_lightning.record import Record, open_record
from cxr_lightning.runs import RunFolder, find_run
from cxr_lightning.task import MultiLabelTask
from cxr_lightning.terminal import SYNTHETIC, Reporter

__all__ = ["run_fit"]


def run_fit(config: Config, callbacks: Sequence[Callback] = ()) -> dict[str, float | None]:
    """Train, evaluate, and write everything that a run holds.

    Parameters
    ----------
    config
        The whole configuration.
    callbacks
        Further Lightning callbacks, e.g. one that prunes a trial.

    Returns
    -------
    dict
        The final metrics, flat, by their MLflow names; None where undefined.

    Raises
    ------
    ConfigError, DataError
        Before training starts, and before anything of the run has been written.
    """
    _quiet_lightning()
    joined = launched_run()
    first = joined is None and external_rank() == 0
    reporter = Reporter(silent=not first)
    placement = place(config.trainer)
    if config.trainer.num_nodes > 1 and not started_externally():
        raise ConfigError(
            f"trainer.num_nodes={config.trainer.num_nodes}: several machines train together only "
            "where torchrun or srun starts this command on each of them"
        )
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    elif placement.accelerator == "cpu" and placement.devices > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // placement.devices))
    seed_everything(config.seed, verbose=False)
    resumed = find_run(config) if joined is None else None
    data = ChestXrayDataModule(config.data, config.augment, seed=config.seed)
    if config.data.synthetic:
        reporter.say(SYNTHETIC, style="yellow")
    cohort = data.prepare(progress=first)
    reporter.cohort(cohort, config.data.name)
    if config.data.sampling != SamplingConfig():
        reporter.sampling(data.sampling())
    _check_trainable(config, data, placement)
    task = _build_task(config, data, reporter)
    if not first:
        # A further rank writes nothing. Where it was started from outside it knows the folder of a
        # run that is resumed, and of a new one needs none: Lightning shares that of rank 0.
        run = RunFolder(joined) if joined else resumed or RunFolder(Path("runs"))
        return _train(config, data, task, placement, run, None, reporter, callbacks)
    with open_record(config, cohort, placement, resumed) as record:
        reporter.say(f"run {record.run.name} in {record.run.path}")
        record.tracker.log_dict(data.sampling(), "data/sampling.json")
        record.tracker.log_dict(task.loss.weights(data.labels.names), "data/loss_weights.json")
        with other_ranks(record.run.path, placement.devices):
            return _train(config, data, task, placement, record.run, record, reporter, callbacks)


def _check_trainable(config: Config, data: ChestXrayDataModule, placement: Placement) -> None:
    processes = placement.devices * config.trainer.num_nodes
    if config.data.batch_size % processes:
        raise ConfigError(
            f"data.batch_size={config.data.batch_size} cannot be shared evenly by {processes} "
            f"devices; use a multiple of {processes}"
        )
    if config.loss.classes == 3 and "three_class" not in config.data.policies:
        raise ConfigError(
            f"loss={config.loss.name} learns uncertain labels as a class of their own; add "
            "data.uncertain=three_class, or choose another loss"
        )
    counts = data.label_counts()
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


def _build_task(config: Config, data: ChestXrayDataModule, reporter: Reporter) -> MultiLabelTask:
    network = build_network(
        config.model,
        config.data.image,
        data.labels.names,
        tabular=len(data.tabular.outputs),
        classes=config.loss.classes,
    )
    if config.model.weights is not None:
        reporter.say(str(load_weights(network, config.model.weights)))
    if config.trainer.channels_last:
        network = network.to(memory_format=torch.channels_last)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    reporter.say(f"model {config.model.name}: {parameters:,} parameters")
    return MultiLabelTask(
        network,
        build_loss(config.loss, data.label_counts()),
        data.labels,
        model=config.model,
        optim=config.optim,
        trainer=config.trainer,
        seed=config.seed,
    )


def _train(
    config: Config,
    data: ChestXrayDataModule,
    task: MultiLabelTask,
    placement: Placement,
    run: RunFolder,
    record: Record | None,
    reporter: Reporter,
    callbacks: Sequence[Callback],
) -> dict[str, float | None]:
    best, last = _checkpoints(config, run)
    history = [History(run, record.tracker.log_metrics, reporter.say)] if record is not None else []
    settings: dict[str, Any] = {
        "gradient_clip_val": config.trainer.gradient_clip_val,
        "accumulate_grad_batches": config.trainer.accumulate_grad_batches,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    trainer = Trainer(
        accelerator=placement.accelerator,
        devices=placement.devices,
        num_nodes=config.trainer.num_nodes,
        strategy=_strategy(config, placement),
        precision=placement.precision,
        max_epochs=config.trainer.max_epochs,
        callbacks=[*history, *_callbacks(config), *callbacks, best, last],
        logger=False,
        use_distributed_sampler=False,
        default_root_dir=run.path,
        **(settings | config.trainer.lightning_options),
    )
    resumed = run.last_checkpoint
    if resumed is not None:
        reporter.say(f"continuing from {resumed}")
    try:
        trainer.fit(task, datamodule=data, ckpt_path=resumed, weights_only=True)
    except SystemExit:
        # Lightning turns Ctrl-C into a plain exit.
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise
    # Where an option of Lightning's kept validation from running, the last epoch stands in.
    _load_best(task, Path(best.best_model_path or last.best_model_path))
    predictions = {
        split: _predict(trainer, task, loader, split)
        for split, loader in (("val", data.val_dataloader()), ("test", data.test_dataloader()))
    }
    if record is None:
        return {}
    return write_outcome(config, record, data, task.network, predictions, reporter)


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
    best = ModelCheckpoint(
        dirpath=run.checkpoints,
        filename="best",
        monitor=config.trainer.monitor,
        mode="max" if config.trainer.higher_is_better else "min",
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    last = ModelCheckpoint(
        dirpath=run.checkpoints,
        filename="last",
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    return best, last


def _callbacks(config: Config) -> Iterator[Callback]:
    if config.optim.ema_decay is not None:
        yield EMAWeightAveraging(decay=config.optim.ema_decay)
    if config.trainer.patience is not None:
        yield EarlyStopping(
            monitor=config.trainer.monitor,
            mode="max" if config.trainer.higher_is_better else "min",
            patience=config.trainer.patience,
            check_on_train_epoch_end=False,  # not every epoch need be validated
        )


def _load_best(task: MultiLabelTask, path: Path) -> None:
    state = torch.load(path, map_location=task.device, weights_only=True)["state_dict"]
    task.load_state_dict(state)


def _predict(trainer: Trainer, task: MultiLabelTask, loader: Any, split: str) -> SplitPredictions:
    trainer.test(task, dataloaders=loader, verbose=False)
    rows, logits, targets = task.predictions.compute()
    return SplitPredictions(split, rows, logits, targets)


def _quiet_lightning() -> None:
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
        # An epoch that is not validated has no score, and cannot be the best.
        ".*could not find the monitored key.*",
    ):
        warnings.filterwarnings("ignore", message, UserWarning)
    # Lightning 2.6 uses a name that torch 2.13 deprecates.
    warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
