"""Models with their predictions: computed from bundles, or read from saved tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import pandas as pd
import torch
from rich.progress import Progress

from cxr_lightning.assessment.model import Model
from cxr_lightning.assessment.models import Target, open_target, predict_target
from cxr_lightning.assessment.options import EvaluateOptions
from cxr_lightning.assessment.reading import Reading, fit_reading, no_reading, reading_of
from cxr_lightning.assessment.unseen import told_of_seen, unseen_by_all
from cxr_lightning.bundle import Bundle, load_bundle
from cxr_lightning.config.schema import DataConfig
from cxr_lightning.data.seen import UNSEEN
from cxr_lightning.errors import ConfigError, DataError, nearest
from cxr_lightning.evaluation.predictions import labels_of, read_predictions
from cxr_lightning.evaluation.study_level import predictions_per_study
from cxr_lightning.report.page import PARTS
from cxr_lightning.terminal import Reporter

__all__ = ["load_bundles", "predicted_models", "refits", "saved_models", "split_of"]

_FITTED = {"threshold", "threshold_target", "false_negative_cost", "calibration"}
_NOT_TEST = {
    "train": "The network was trained on these images: the numbers say how well it remembers them.",
    "val": "Thresholds and calibration were fitted on these images: the numbers are optimistic.",
    "all": "The network was trained, and thresholds and calibration were fitted, on some of these "
    "images: the numbers are optimistic.",
}


def refits(options: EvaluateOptions) -> bool:
    """Whether thresholds and calibration of bundles are fitted anew.

    They are where that is asked for, and where what is scored is not what they were fitted on.
    """
    asked = bool(options.evaluation.model_fields_set & _FITTED)
    return bool(options.bundle) and (asked or options.study != "none" or options.tta > 0)


def load_bundles(options: EvaluateOptions) -> dict[str, Bundle]:
    """Return the bundles by the names of their folders."""
    device = options.device
    if device == "auto":
        device = "gpu" if torch.cuda.is_available() else "cpu"
    if device == "gpu" and not torch.cuda.is_available():
        raise ConfigError("device=gpu: torch sees no GPU; use device=cpu")
    where = "cuda" if device == "gpu" else "cpu"
    names = _distinct([path.resolve().parent.name for path in options.bundle])
    return {
        name: load_bundle(path, device=where)
        for name, path in zip(names, options.bundle, strict=True)
    }


def predicted_models(
    bundles: Mapping[str, Bundle],
    config: DataConfig,
    options: EvaluateOptions,
    reporter: Reporter,
    *,
    validate: bool,
) -> list[Model]:
    """Return the bundles' predictions of a data set; `validate`: those of its validation too."""
    models = []
    targets = {name: open_target(bundle.info, config) for name, bundle in bundles.items()}
    if options.split == UNSEEN:
        targets = unseen_by_all(targets)
    for name, bundle in bundles.items():
        target = targets[name]
        _check_columns(target, options)
        splits = _splits(target, options, validate=validate)
        total = sum(len(target.rows(split)) for split in splits)
        tables = {}
        with Progress(console=reporter.console, transient=True) as progress:
            task = progress.add_task(f"{name} on {config.name}", total=total)
            for split in splits:
                table = predict_target(
                    bundle,
                    target,
                    split,
                    batch_size=options.batch_size,
                    tta=options.tta,
                    seed=options.seed,
                    columns=options.subgroups,
                    advance=partial(progress.advance, task),
                )
                if options.study != "none":
                    table = predictions_per_study(table, options.study)
                tables[split] = table
        table = tables[options.split]
        notes = target.notes
        seen = target.trained_on or (options.split in ("val", "all") and refits(options))
        if seen and options.split in _NOT_TEST:
            notes = (*notes, _NOT_TEST[options.split])
        elif told := told_of_seen(target, options.split):
            notes = (*notes, told)
        reading = reading_of(bundle.info, labels_of(table))
        models.append(Model(name, table, reading, tables.get("val"), bundle, target, notes))
    return models


def _splits(target: Target, options: EvaluateOptions, *, validate: bool) -> list[str]:
    """Return the parts to predict; without validation an ensemble is read without thresholds."""
    if not validate or options.split == "val":
        return [options.split]
    if (target.cohort.table["split"] == "val").any():
        return [options.split, "val"]
    if not refits(options) and options.weights != "validation":
        return [options.split]
    whose = "was validation in all of these trainings"
    raise DataError(
        f"split={options.split}: no patient of data={target.config.name} "
        f"{whose if options.split == UNSEEN else 'is a validation patient'}, so that "
        "weights=validation, and thresholds and calibration of evaluation.*, study or tta, have "
        "nothing to be fitted on: leave these out"
    )


def _check_columns(target: Target, options: EvaluateOptions) -> None:
    """Refuse columns that were asked for and are not there; the usual ones may be missing."""
    if "subgroups" not in options.model_fields_set:
        return
    labels = set(target.cohort.labels.names)
    allowed = [str(name) for name in target.cohort.table if str(name) not in labels]
    wrong = [name for name in options.subgroups if name not in allowed]
    if wrong:
        raise ConfigError(
            f"subgroups: data={target.config.name} has no column {', '.join(wrong)}."
            f"{nearest(wrong[0], allowed)} It has {', '.join(allowed)}"
        )


def saved_models(options: EvaluateOptions) -> list[Model]:
    """Return saved predictions, read by thresholds that are fitted on those of validation."""
    names = _distinct([path.resolve().parent.name for path in options.predictions])
    models = []
    for number, (name, path) in enumerate(zip(names, options.predictions, strict=True)):
        table = read_predictions(path)
        if "subgroups" in options.model_fields_set:
            wrong = [column for column in options.subgroups if column not in table]
            if wrong:
                raise ConfigError(f"subgroups: {path} has no column {', '.join(wrong)}")
        validation = read_predictions(options.validation[number]) if options.validation else None
        notes = tuple(_told_of_table(table, validation))
        if options.study != "none":
            table = predictions_per_study(table, options.study)
            if validation is not None:
                validation = predictions_per_study(validation, options.study)
        reading: Reading = no_reading(labels_of(table))
        if validation is not None:
            if missing := [one for one in labels_of(table) if one not in labels_of(validation)]:
                raise DataError(
                    f"{options.validation[number]}: lacks labels of {path}: {', '.join(missing)}"
                )
            told = "Thresholds and calibration were fitted on the validation predictions given."
            reading = fit_reading(validation, labels_of(table), options.evaluation, told)
        models.append(Model(name, table, reading, validation, notes=notes))
    return models


def split_of(models: Sequence[Model]) -> str:
    """Return the part that saved predictions are of, by their column split; several: "all"."""
    found = {str(split) for model in models for split in model.table["split"].unique()}
    return found.pop() if len(found) == 1 and found <= set(PARTS) else "all"


def _told_of_table(table: pd.DataFrame, validation: pd.DataFrame | None) -> Iterator[str]:
    """Say which images of a saved table are no test images."""
    trained, validated = ((table["split"] == name).sum() for name in ("train", "val"))
    if trained + validated:
        yield (
            f"Of these {len(table):,} images {trained:,} are of a training part and "
            f"{validated:,} of a validation part (column split): where the models were trained or "
            "chosen on them, the numbers are optimistic."
        )
    if validation is None:
        return
    if shared := table["sample_id"].isin(validation["sample_id"]).sum():
        yield (
            f"Thresholds and calibration were fitted on {shared:,} of these {len(table):,} images: "
            "the numbers are optimistic."
        )


def _distinct(names: Sequence[str]) -> list[str]:
    return [
        name if names.count(name) == 1 else f"{name}_{number}"
        for number, name in enumerate(names, start=1)
    ]
