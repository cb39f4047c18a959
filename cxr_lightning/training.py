"""One run from configuration to results: what `fit`, sweeps and tests all call."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer, seed_everything

from cxr_lightning.config.schema import Config, SamplingConfig
from cxr_lightning.data.base import ChestXrayDataModule
from cxr_lightning.data.examples import augmented_examples
from cxr_lightning.errors import ConfigError, DataError
from cxr_lightning.evaluation.plots import augmentation_grid, save_figure
from cxr_lightning.hardware import Placement, place
from cxr_lightning.history import History
from cxr_lightning.launch import (
    external_rank,
    launched_run,
    other_ranks,
    started_externally,
)
from cxr_lightning.losses.base import build_loss
from cxr_lightning.models.network import build_network, suited_image
from cxr_lightning.models.weights import load_weights
from cxr_lightning.outcome import SplitPredictions, write_outcome, write_validation
from cxr_lightning.preflight import check_config, check_data
from cxr_lightning.record import Record, open_record
from cxr_lightning.resume import find_finished, find_run
from cxr_lightning.runs import STATE, RunFolder
from cxr_lightning.task import MultiLabelTask
from cxr_lightning.terminal import SYNTHETIC, Reporter
from cxr_lightning.trainer import BEST, LAST, build_trainer, quiet_lightning

__all__ = ["run_fit"]


def run_fit(
    config: Config,
    callbacks: Sequence[Callback] = (),
    *,
    splits: Sequence[str] = ("val", "test"),
    parent_run_id: str | None = None,
    prepared: ChestXrayDataModule | None = None,
) -> dict[str, float | None]:
    """Train, evaluate, and write everything that a run holds.

    Parameters
    ----------
    config
        The whole configuration.
    callbacks
        Further Lightning callbacks, e.g. one that prunes a trial.
    splits
        What is predicted at the end; without "test" the run is scored on validation alone, and
        never reads the test set.
    parent_run_id
        The MLflow run that this one is part of.
    prepared
        A module that has read and decoded the data already; used where it means the same images.

    Returns
    -------
    dict
        The final metrics, flat, by their MLflow names; None where undefined.

    Raises
    ------
    ConfigError, DataError
        Before training starts, and before anything of the run has been written.
    """
    quiet_lightning()
    joined = launched_run()
    first = joined is None and external_rank() == 0
    reporter = Reporter(silent=not first)
    placement = place(config.trainer)
    config = _suited(config, reporter)
    if joined is None:
        if done := find_finished(config):
            reporter.say(f"resume=auto: {done.path} is finished, nothing is left to do")
            return dict(json.loads((done.path / "metrics.json").read_text(encoding="utf-8")))
        check_config(config, placement)
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    elif placement.accelerator == "cpu" and placement.devices > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // placement.devices))
    seed_everything(config.seed, verbose=False)
    resumed = find_run(config) if first else None
    if config.resume == "auto" and resumed is None:
        reporter.say("resume=auto: no unfinished run of this configuration; a new one starts")
    data = ChestXrayDataModule(config.data, config.augment, seed=config.seed)
    if prepared is not None:
        data.reuse(prepared)
    if config.data.synthetic:
        reporter.say(SYNTHETIC, style="yellow")
    table = data.read()
    reporter.cohort(table, config.data.name)
    devices = placement.devices * config.trainer.num_nodes
    check_data(config, data, devices)
    cohort = data.prepare(progress=first)
    if cohort is not table:
        reporter.say("after leaving out what cannot be read:")
        reporter.cohort(cohort, config.data.name)
        check_data(config, data, devices)
    if config.data.sampling != SamplingConfig():
        reporter.sampling(data.sampling())
    task = _build_task(config, data, reporter)
    if not first:
        # A further rank writes nothing; one that was started from outside is told the folder.
        run = RunFolder(joined or Path("runs"))
        return _train(config, data, task, placement, run, None, reporter, callbacks, splits)
    with open_record(config, cohort, placement, resumed, splits, parent_run_id) as record:
        run, tracker = record.run, record.tracker
        reporter.say(f"run {run.name} in {run.path}")
        tracker.log_dict(data.sampling(), "data/sampling.json")
        tracker.log_dict(task.loss.weights(data.labels.names), "data/loss_weights.json")
        augmented = config.augment.transforms or config.augment.horizontal_flip
        if "test" in splits and augmented and config.evaluation.report:
            _show_augmentation(config, data, record)
        watched = [History(run, tracker.log_metrics, reporter.say, tracker.set_tags), *callbacks]
        with other_ranks(run.path, placement.devices, splits):
            return _train(config, data, task, placement, run, record, reporter, watched, splits)


def _suited(config: Config, reporter: Reporter) -> Config:
    """Scale images as pretrained weights expect them, and say so."""
    image = suited_image(config.model, config.data.image)
    if image is config.data.image:
        return config
    reporter.say(
        f"{config.model.name}: its weights take images of another scale, so data.image.mean="
        f"{image.mean:g} and data.image.std={image.std:g}"
    )
    data = config.data.model_copy(update={"image": image})
    return config.model_copy(update={"data": data})


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
    if config.model.head.fusion == "gated" and not data.tabular.outputs:
        reporter.say("model.head.fusion=gated: data.tabular is empty, so there is nothing to fuse")
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


def _show_augmentation(config: Config, data: ChestXrayDataModule, record: Record) -> None:
    """Draw what augmentation does, before an hour is spent on it."""
    figure = augmentation_grid(*augmented_examples(data, 4, 5), policy=config.augment.name)
    path = save_figure(figure, record.run.path / "plots" / "augmentation.png")
    record.tracker.log_artifact(path, "plots")


def _train(
    config: Config,
    data: ChestXrayDataModule,
    task: MultiLabelTask,
    placement: Placement,
    run: RunFolder,
    record: Record | None,
    reporter: Reporter,
    callbacks: Sequence[Callback],
    splits: Sequence[str],
) -> dict[str, float | None]:
    trainer = build_trainer(config, placement, run, callbacks)
    run = _agree(trainer, run, data.cohort.fingerprint)
    resumed = run.last_checkpoint
    if resumed is not None:
        reporter.say(f"continuing from {resumed}")
    try:
        trainer.fit(task, datamodule=data, ckpt_path=resumed, weights_only=True)
        _load_best(task, run)
        loaders = {"val": data.val_dataloader, "test": data.test_dataloader}
        predictions = {split: _predict(trainer, task, loaders[split](), split) for split in splits}
    except SystemExit:
        # Lightning turns Ctrl-C into a plain exit.
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise
    if record is None:
        return {}
    if "test" not in splits:
        return write_validation(config, record, data, predictions["val"])
    return write_outcome(config, record, data, task.network, predictions, reporter)


def _agree(trainer: Trainer, run: RunFolder, fingerprint: str) -> RunFolder:
    """Return the folder that rank 0 chose, on every rank that torchrun or SLURM started.

    Raises
    ------
    DataError
        On all ranks: they have not read the same images, labels and splits.
    ConfigError
        On all ranks: one does not see the folder, from which each reads the best epoch in the end.
    """
    if not started_externally():
        return run
    trainer.strategy.setup_environment()
    path, first = trainer.strategy.broadcast((str(run.path.absolute()), fingerprint))
    if not trainer.strategy.reduce_boolean_decision(fingerprint == first):
        raise DataError(
            "the processes of this run have read different data, or split them differently (their "
            "fingerprints differ). Give all machines the same files and the same configuration; "
            "where ids are hashed, one salt that all can read too (data.salt_file=FILE), since "
            "each home folder has its own. A data.cache_dir on each machine must be of these files."
        )
    if not trainer.strategy.reduce_boolean_decision(_appears(Path(path) / STATE)):
        raise ConfigError(
            f"{path}: a machine of this run does not see its folder. Name one on storage that all "
            "machines share, with run.dir=DIR."
        )
    return RunFolder(Path(path))


def _appears(file: Path, seconds: float = 60.0) -> bool:
    """Whether a file is there, or soon will be: network storage remembers absence for a while."""
    deadline = time.monotonic() + seconds
    while not file.is_file():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


def _load_best(task: MultiLabelTask, run: RunFolder) -> None:
    """Load the best epoch; where no epoch was validated, the last one stands in."""
    best, last = (run.checkpoints / f"{name}.ckpt" for name in (BEST, LAST))
    path = best if best.is_file() else last
    state = torch.load(path, map_location=task.device, weights_only=True)["state_dict"]
    task.load_state_dict(state)


def _predict(trainer: Trainer, task: MultiLabelTask, loader: Any, split: str) -> SplitPredictions:
    trainer.test(task, dataloaders=loader, verbose=False)
    return SplitPredictions(split, *task.tested)
