"""Several models as one: put together, weighted, and read by their validation predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_lightning.assessment.model import Model
from cxr_lightning.assessment.options import EvaluateOptions
from cxr_lightning.assessment.reading import Reading, fit_reading, no_reading, refit_reading
from cxr_lightning.errors import ConfigError
from cxr_lightning.evaluation.ensembles import (
    EnsembleMean,
    ensemble_predictions,
    fit_ensemble_weights,
)
from cxr_lightning.evaluation.predictions import labels_of
from cxr_lightning.terminal import Reporter

__all__ = ["ENSEMBLE", "Ensemble", "add_ensemble", "fit_ensemble"]

ENSEMBLE = "ensemble"
"""The name under which several models are one."""


@dataclass(frozen=True)
class Ensemble:
    """How an ensemble is put together and read; `weights` of shape (models,), None: equal."""

    mean: EnsembleMean
    weights: npt.NDArray[np.float64] | None
    reading: Reading


def fit_ensemble(
    models: Sequence[Model], mean: EnsembleMean, options: EvaluateOptions, reporter: Reporter
) -> Ensemble:
    """Fit on the models' validation predictions, where all have them.

    Raises
    ------
    ConfigError, DataError
        Weights are asked for without validation; models without a common label, or on other images.
    """
    labels = _shared_labels(models)
    validations = [model.validation for model in models if model.validation is not None]
    complete = len(validations) == len(models)
    weights = None
    if options.weights == "validation":
        if not complete:
            raise ConfigError("weights=validation needs the validation predictions of every model")
        names = [model.name for model in models]
        weights = fit_ensemble_weights(validations, mean=mean, names=names, labels=labels)
        said = ", ".join(f"{n} {w:.2f}" for n, w in zip(names, weights, strict=True))
        reporter.say(f"weights of the ensemble, fitted on validation: {said}")
    if not complete:
        return Ensemble(mean, weights, no_reading(labels))
    together = _together(validations, models, mean, weights, labels)
    told = "Thresholds and calibration of the ensemble were fitted on its validation predictions."
    if len({_rule(model.reading) for model in models}) > 1:
        told += " Its members' rules for them differ; it follows the evaluation's own."
        reading = fit_reading(together, labels, options.evaluation, told)
    else:
        reading = refit_reading(models[0].reading, together, labels, options.evaluation, told)
    return Ensemble(mean, weights, reading)


def add_ensemble(models: Sequence[Model], ensemble: Ensemble, data: str) -> list[Model]:
    """Return the models and, behind them, all of them as one."""
    labels, first = _shared_labels(models), models[0]
    tables = [model.table for model in models]
    table = _together(tables, models, ensemble.mean, ensemble.weights, labels)
    reading = ensemble.reading.select(labels, data)
    one = Model(ENSEMBLE, table, reading, bundle=first.bundle, target=first.target)
    return [*models, one]


def _rule(reading: Reading) -> tuple[object, ...]:
    chosen = reading.thresholds
    return (
        chosen.rule, chosen.target, chosen.false_negative_cost, reading.calibration.kind
    )  # fmt: skip


def _shared_labels(models: Sequence[Model]) -> list[str]:
    shared = [
        name
        for name in labels_of(models[0].table)
        if all(name in labels_of(model.table) for model in models)
    ]
    if not shared:
        names = ", ".join(model.name for model in models)
        raise ConfigError(f"{names} have no label in common: nothing can be compared")
    return shared


def _together(
    tables: Sequence[pd.DataFrame],
    models: Sequence[Model],
    mean: EnsembleMean,
    weights: npt.NDArray[np.float64] | None,
    labels: Sequence[str],
) -> pd.DataFrame:
    names = [model.name for model in models]
    return ensemble_predictions(tables, mean=mean, weights=weights, names=names, labels=labels)
