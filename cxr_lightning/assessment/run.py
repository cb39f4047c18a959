"""Evaluate models on data sets: tables, figures and a page per data set, and the matrix of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from rich.progress import Progress

from cxr_lightning.assessment.model import Model
from cxr_lightning.assessment.models import open_target, predict_target
from cxr_lightning.assessment.options import EvaluateOptions
from cxr_lightning.assessment.write import macro_auroc, write_assessment
from cxr_lightning.bundle import Bundle, load_bundle
from cxr_lightning.config.schema import DataConfig
from cxr_lightning.errors import ConfigError
from cxr_lightning.evaluation.calibrator_fits import fit_calibration
from cxr_lightning.evaluation.calibrators import Calibration
from cxr_lightning.evaluation.ensembles import ensemble_predictions, fit_ensemble_weights
from cxr_lightning.evaluation.predictions import (
    arrays,
    labels_of,
    logits_of,
    read_predictions,
)
from cxr_lightning.evaluation.study_level import predictions_per_study
from cxr_lightning.evaluation.thresholds import FALLBACK, Thresholds, fit_thresholds
from cxr_lightning.report.assess import Assessment, assess
from cxr_lightning.terminal import Reporter

__all__ = ["run_evaluate"]


def run_evaluate(options: EvaluateOptions, configs: Sequence[DataConfig]) -> Path:
    """Evaluate, write everything to a new folder, and return it.

    Raises
    ------
    ConfigError, DataError
        Before anything is written.
    """
    reporter = Reporter()
    folder = options.out or _default_folder(options)
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"out={folder}: exists and is not empty; choose another folder")
    sets: dict[str, list[Model]] = {}
    if options.predictions:
        sets["predictions"] = _saved(options)
    else:
        bundles = _load(options)
        for config in configs:
            name = config.name if config.name not in sets else f"{config.name}_{len(sets) + 1}"
            sets[name] = _predicted(bundles, config, options, reporter)
    matrix: dict[str, dict[str, str]] = {}
    reading: _Reading | None = None
    for data, models in sets.items():
        if len(models) > 1 and options.ensemble != "none":
            # Fitted once, on the validation part of the first data set, as for a single model.
            reading = reading or _fit_ensemble(models, options, reporter)
            models = [*models, _ensemble(models, reading, options)]
        assessed = _assess_all(models, options)
        part = folder / data if len(sets) > 1 else folder
        write_assessment(part, data, models, assessed, options)
        for one in assessed:
            matrix.setdefault(one.name, {})[data] = macro_auroc(one)
            reporter.say(f"{one.name} on {data}: macro AUROC {macro_auroc(one)}")
        reporter.results(assessed[-1].results, options.evaluation.level)
        for note in models[0].target.notes if models[0].target else ():
            reporter.say(note, style="yellow")
    if len(sets) > 1:
        table = pd.DataFrame.from_dict(matrix, orient="index")
        table.to_csv(folder / "external_validation.csv", index_label="model")
        reporter.say(f"macro AUROC of every model on every data set:\n{table.to_string()}")
    reporter.say(f"everything is in {folder}: report.html, results and metrics, predictions, plots")
    return folder


def _default_folder(options: EvaluateOptions) -> Path:
    first = (options.bundle or options.predictions)[0]
    return first.parent / f"evaluate_{options.split}"


def _load(options: EvaluateOptions) -> dict[str, Bundle]:
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


def _distinct(names: Sequence[str]) -> list[str]:
    return [
        name if names.count(name) == 1 else f"{name}_{number}"
        for number, name in enumerate(names, start=1)
    ]


def _predicted(
    bundles: Mapping[str, Bundle], config: DataConfig, options: EvaluateOptions, reporter: Reporter
) -> list[Model]:
    models = []
    several = len(bundles) > 1 and options.ensemble != "none"
    for name, bundle in bundles.items():
        target = open_target(bundle.info, config)
        splits = [options.split, *(["val"] if several and options.split != "val" else [])]
        total = sum(len(target.rows(split)) for split in splits)
        tables = []
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
                    advance=partial(progress.advance, task),
                )
                pooled = table
                if options.study != "none":
                    pooled = predictions_per_study(table, options.study)
                tables.append(pooled)
        labels = labels_of(tables[0])
        models.append(
            Model(
                name=name,
                table=tables[0],
                thresholds=bundle.info.thresholds.select(labels),
                calibration=Calibration.from_dict(
                    bundle.info.calibration, bundle.info.labels
                ).select(labels),
                validation=tables[1] if len(tables) > 1 else None,
                bundle=bundle,
                target=target,
            )
        )
    return models


def _saved(options: EvaluateOptions) -> list[Model]:
    names = _distinct([path.resolve().parent.name for path in options.predictions])
    models = []
    for number, (name, path) in enumerate(zip(names, options.predictions, strict=True)):
        table = read_predictions(path)
        validation = read_predictions(options.validation[number]) if options.validation else None
        if options.study != "none":
            table = predictions_per_study(table, options.study)
            if validation is not None:
                validation = predictions_per_study(validation, options.study)
        thresholds, calibration = _fitted(validation, labels_of(table), options)
        models.append(Model(name, table, thresholds, calibration, validation))
    return models


def _fitted(
    validation: pd.DataFrame | None, labels: tuple[str, ...], options: EvaluateOptions
) -> tuple[Thresholds, Calibration]:
    """Fit on validation; without it 0.5 stands in for every threshold, marked as not fitted."""
    if validation is None:
        count = len(labels)
        stand_in = Thresholds(labels, (FALLBACK,) * count, (False,) * count, "f1")
        return stand_in, Calibration.none(labels)
    y_true, y_score, _ = arrays(validation, labels)
    rule = options.evaluation
    thresholds = fit_thresholds(
        y_true,
        y_score,
        labels,
        rule=rule.threshold,
        target=rule.threshold_target,
        false_negative_cost=rule.false_negative_cost,
    )
    calibration = fit_calibration(
        y_true, logits_of(validation, labels), labels, kind=rule.calibration
    )
    return thresholds, calibration


@dataclass(frozen=True)
class _Reading:
    """How an ensemble is put together and read."""

    weights: npt.NDArray[np.float64] | None
    thresholds: Thresholds
    calibration: Calibration


def _shared_labels(models: Sequence[Model]) -> list[str]:
    return [
        name
        for name in labels_of(models[0].table)
        if all(name in labels_of(model.table) for model in models)
    ]


def _together(
    tables: Sequence[pd.DataFrame],
    models: Sequence[Model],
    weights: npt.NDArray[np.float64] | None,
    options: EvaluateOptions,
) -> pd.DataFrame:
    assert options.ensemble != "none"  # checked by the caller
    return ensemble_predictions(
        tables,
        mean=options.ensemble,
        weights=weights,
        names=[model.name for model in models],
        labels=_shared_labels(models),
    )


def _fit_ensemble(
    models: Sequence[Model], options: EvaluateOptions, reporter: Reporter
) -> _Reading:
    assert options.ensemble != "none"  # checked by the caller
    validations = [model.validation for model in models if model.validation is not None]
    complete = len(validations) == len(models)
    weights = None
    if options.weights == "validation":
        if not complete:
            raise ConfigError("weights=validation needs the validation predictions of every model")
        names = [model.name for model in models]
        weights = fit_ensemble_weights(
            validations, mean=options.ensemble, names=names, labels=_shared_labels(models)
        )
        said = ", ".join(f"{n} {w:.2f}" for n, w in zip(names, weights, strict=True))
        reporter.say(f"weights of the ensemble, fitted on validation: {said}")
    validation = _together(validations, models, weights, options) if complete else None
    thresholds, calibration = _fitted(validation, tuple(_shared_labels(models)), options)
    return _Reading(weights, thresholds, calibration)


def _ensemble(models: Sequence[Model], reading: _Reading, options: EvaluateOptions) -> Model:
    table = _together([model.table for model in models], models, reading.weights, options)
    labels, first = labels_of(table), models[0]
    return Model(
        "ensemble",
        table,
        reading.thresholds.select(labels),
        reading.calibration.select(labels),
        bundle=first.bundle,
        target=first.target,
    )


def _assess_all(models: Sequence[Model], options: EvaluateOptions) -> list[Assessment]:
    return [
        assess(
            model.table,
            model.thresholds,
            model.calibration,
            evaluation=options.evaluation,
            seed=options.seed,
            name=model.name,
            prefix=options.split,
            columns=options.subgroups,
        )
        for model in models
    ]
