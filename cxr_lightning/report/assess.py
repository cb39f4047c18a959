"""Everything that is computed of one model's predictions on one set of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr_lightning.config.schema import EvaluationConfig
from cxr_lightning.evaluation.calibration_metrics import calibration_metrics
from cxr_lightning.evaluation.calibrators import Calibration
from cxr_lightning.evaluation.cohort_groups import UNKNOWN
from cxr_lightning.evaluation.cooccurrence import Cooccurrence, cooccurrence
from cxr_lightning.evaluation.mistakes import most_confident
from cxr_lightning.evaluation.operating_points import operating_points
from cxr_lightning.evaluation.subgroups import Subgroups, subgroup_metrics
from cxr_lightning.evaluation.tables import flat_metrics, metrics_table
from cxr_lightning.evaluation.thresholds import Thresholds

__all__ = ["SUBGROUPS", "Assessment", "assess"]

SUBGROUPS = ("sex", "age_years", "view", "source")
"""Columns whose groups are compared where the predictions table has them."""


@dataclass(frozen=True)
class Assessment:
    """One model on one set of images.

    Attributes
    ----------
    name
        What to call the model.
    predictions
        The table that everything else is computed from.
    thresholds, calibration
        Fitted elsewhere: on validation.
    results
        See :func:`~cxr_lightning.evaluation.tables.metrics_table`.
    points
        Sensitivity at fixed specificity and the like.
    subgroups
        One per column that has at least two groups.
    together
        Labels that come together, in truth and as called.
    examples
        The surest calls of each label, right and wrong.
    metrics
        The results as flat names.
    evaluation
        How many replicates, which level.
    """

    name: str
    predictions: pd.DataFrame
    thresholds: Thresholds
    calibration: Calibration
    results: pd.DataFrame
    points: pd.DataFrame
    subgroups: tuple[Subgroups, ...]
    together: Cooccurrence
    examples: pd.DataFrame
    metrics: dict[str, float | None]
    evaluation: EvaluationConfig

    @property
    def files(self) -> dict[str, str]:
        """The tables as CSV, by the stem of their file's name."""
        files = {"results": self.results.to_csv(), "operating_points": self.points.to_csv()}
        for found in self.subgroups:
            files[f"subgroups_{found.in_files}"] = found.groups.to_csv(index=False)
            files[f"gaps_{found.in_files}"] = found.gaps.to_csv(index=False)
        return files


def assess(
    predictions: pd.DataFrame,
    thresholds: Thresholds,
    calibration: Calibration,
    *,
    evaluation: EvaluationConfig,
    seed: int,
    name: str = "model",
    prefix: str = "test",
    columns: Sequence[str] = SUBGROUPS,
) -> Assessment:
    """Compute everything of a predictions table.

    Parameters
    ----------
    seed
        Of the bootstrap.
    prefix
        First part of the metrics' names.
    columns
        Columns of the table to compare subgroups of; what it lacks, or what has one value only, is
        left out.
    """
    results = metrics_table(
        predictions,
        thresholds,
        replicates=evaluation.replicates,
        level=evaluation.level,
        generator=np.random.default_rng(seed),
    )
    subgroups = [
        subgroup_metrics(
            predictions,
            thresholds,
            column,
            replicates=evaluation.replicates,
            level=evaluation.level,
            generator=np.random.default_rng(seed),
        )
        for column in columns
        if _has_groups(predictions, column)
    ]
    return Assessment(
        name=name,
        predictions=predictions,
        thresholds=thresholds,
        calibration=calibration,
        results=results,
        points=operating_points(predictions),
        subgroups=tuple(subgroups),
        together=cooccurrence(predictions, thresholds),
        examples=most_confident(
            predictions,
            thresholds,
            outcomes=("true positive", "false positive", "false negative"),
            per_label=3,
        ),
        metrics=flat_metrics(results, prefix)
        | calibration_metrics(predictions, calibration, prefix=prefix),
        evaluation=evaluation,
    )


def _has_groups(predictions: pd.DataFrame, column: str) -> bool:
    if column not in predictions:
        return False
    values = predictions[column]
    known = values[values.notna() & ~values.astype(str).str.lower().isin(("", UNKNOWN))]
    return known.nunique() > 1
