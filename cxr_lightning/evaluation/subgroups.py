"""Is the model as good for everyone: metrics of each subgroup, and the gap between subgroups.

Patients are resampled once for the whole table and every subgroup is scored on the same resamples,
so that gaps and their intervals belong together. Average precision rises with prevalence: its gap
tells of the groups as much as of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_lightning.evaluation._group_scores import (
    SUBGROUP_METRICS,
    GroupScores,
    enough,
    reasons_why_not,
    score_group,
    with_underdiagnosis,
)
from cxr_lightning.evaluation.bootstrap import percentile_interval
from cxr_lightning.evaluation.cohort_groups import UNKNOWN, group_column
from cxr_lightning.evaluation.predictions import PredictionArrays, arrays, labels_of
from cxr_lightning.evaluation.replicates import draw_patient_weights
from cxr_lightning.evaluation.tables import MACRO, metric_label
from cxr_lightning.evaluation.thresholds import Thresholds

__all__ = ["MIN_COUNT", "NO_FINDING", "SUBGROUP_METRICS", "Subgroups", "subgroup_metrics"]

Floats = NDArray[np.float64]

NO_FINDING = "No Finding"
MIN_COUNT = 10


class Subgroups(NamedTuple):
    """Two tables about the subgroups of one column.

    Attributes
    ----------
    column : what the groups are made of
    groups : DataFrame
        A row per `group`, `label` and `metric`: `images` (known entries), `patients`, `positives`,
        `negatives`, `value`, `low`, `high`, `undefined` (replicates left out), and `reason`, why
        there is no value; empty otherwise. The label `macro` is the mean over those labels that
        have enough of both classes in every group that has any; `labels` is how many. Its counts
        are sums over all labels, its patients those of the label known for most.
    gaps : DataFrame
        A row per `label` and `metric`: `gap`, the highest less the lowest group's value, with `low`
        and `high`; `highest`, `lowest` and how many `groups` were compared; `difference_low` and
        `difference_high`, the interval of the difference of just these two groups; `undefined`,
        `reason`. A gap is never negative, and by chance alone above 0: whether it is more than
        chance, ask the interval of the difference, and more than two groups make it optimistic.
        The group `unknown` takes no part.
    level : of the intervals
    min_count : images of a class that a value needs
    """

    column: str
    groups: pd.DataFrame
    gaps: pd.DataFrame
    level: float
    min_count: int

    @property
    def in_files(self) -> str:
        """The column as a part of a file's name: without slashes and the like."""
        return metric_label(self.column)


def subgroup_metrics(
    predictions: pd.DataFrame,
    thresholds: Thresholds,
    column: str,
    *,
    edges: Sequence[float] | None = None,
    replicates: int,
    level: float,
    generator: np.random.Generator,
    min_count: int = MIN_COUNT,
    no_finding: str = NO_FINDING,
) -> Subgroups:
    """Score every subgroup of a column, and compare them.

    The underdiagnosis rate is the share of the ill who are called well: of a finding's positives,
    those below its threshold; of the images in which the label `no_finding` is negative, those
    called positive for it (Seyyed-Kalantari et al., Nature Medicine 2021).

    Parameters
    ----------
    column, edges
        See `group_column`: any column; numbers are cut at `edges` (ages by default at 20, 40, 60
        and 80 years).
    min_count
        A value needs so many images of each class that it is computed from (sensitivity:
        positives; specificity: negatives; AUROC and average precision: both). Where there are
        fewer it is NaN, and `reason` begins with "too few".
    """
    if min_count < 1:
        raise ValueError(f"min_count must be at least 1, given {min_count}")
    labels = labels_of(predictions)
    data = arrays(predictions)
    limits = thresholds.select(labels).array
    members = group_column(predictions, column, edges=edges)
    names = [str(name) for name in members.categories]
    weights = draw_patient_weights(int(data.patients.max()) + 1, replicates, generator)
    inverted = np.array([label == no_finding for label in labels])
    scored = [
        score_group(
            PredictionArrays(*(part[members.codes == code] for part in data)), limits, weights
        )
        for code in range(len(names))
    ]
    # (groups, metrics, L): which classes each value is made of, and whether there are enough
    usable = np.array([enough(one, inverted, min_count) for one in scored])
    values = np.array([with_underdiagnosis(one.values, inverted) for one in scored])
    draws = np.array([with_underdiagnosis(one.draws, inverted) for one in scored])
    values = np.where(usable, values, np.nan)
    draws = np.where(usable[:, :, None], draws, np.nan)
    # a macro mean compares only where it is made of the same labels in every group
    compared = np.array([name != UNKNOWN for name in names])
    both = usable[:, 0] & compared[:, None]
    common = both[both.any(axis=1)].all(axis=0) & both.any()
    values = np.concatenate([values, _mean(values, common)], axis=-1)
    draws = np.concatenate([draws, _mean(draws, common)], axis=-1)

    reasons = [[*reasons_why_not(one, inverted, min_count), _no_macro(common)] for one in scored]
    table = _group_rows(names, labels, scored, values, draws, reasons, common, level)
    gaps = _gap_rows(names, labels, values, draws, compared, level)
    return Subgroups(column, table, gaps, level, min_count)


def _no_macro(common: NDArray[np.bool_]) -> list[str]:
    reason = "" if common.any() else "no label has enough images in every group"
    return [reason] * len(SUBGROUP_METRICS)


def _mean(values: Floats, common: NDArray[np.bool_]) -> Floats:
    if not common.any():
        return np.full((*values.shape[:-1], 1), np.nan)
    return values[..., common].mean(axis=-1, keepdims=True)


def _group_rows(
    names: Sequence[str],
    labels: Sequence[str],
    scored: Sequence[GroupScores],
    values: Floats,
    draws: Floats,
    reasons: Sequence[Sequence[Sequence[str]]],
    common: NDArray[np.bool_],
    level: float,
) -> pd.DataFrame:
    rows = []
    for g, name in enumerate(names):
        one = scored[g]
        counts = np.stack([one.positives + one.negatives, one.patients, one.positives])
        counts = np.vstack([counts, one.negatives])
        # the macro row: sums over labels; patients of the group whose label is known oftenest
        totals = counts.sum(axis=1)
        totals[1] = one.patients.max()
        for m, metric in enumerate(SUBGROUP_METRICS):
            interval = percentile_interval(values[g, m], draws[g, m], level=level)
            for column, label in enumerate([*labels, MACRO]):
                is_macro = column == len(labels)
                images, patients, positives, negatives = (
                    totals if is_macro else counts[:, column]
                ).tolist()
                reason = reasons[g][column][m]
                if not reason and np.isnan(values[g, m, column]):
                    reason = "not every label of the mean has a value"
                rows.append(
                    {
                        "group": name,
                        "label": label,
                        "metric": metric,
                        "images": images,
                        "patients": patients,
                        "positives": positives,
                        "negatives": negatives,
                        "labels": int(common.sum()) if is_macro else 1,
                        "value": interval.estimate[column],
                        "low": interval.low[column],
                        "high": interval.high[column],
                        "undefined": int(interval.undefined[column]),
                        "reason": reason,
                    }
                )
    return pd.DataFrame(rows)


def _gap_rows(
    names: Sequence[str],
    labels: Sequence[str],
    values: Floats,
    draws: Floats,
    compared: NDArray[np.bool_],
    level: float,
) -> pd.DataFrame:
    rows = []
    for column, label in enumerate([*labels, MACRO]):
        for m, metric in enumerate(SUBGROUP_METRICS):
            taking_part = np.flatnonzero(compared & ~np.isnan(values[:, m, column]))
            row: dict[str, Any] = {"label": label, "metric": metric, "groups": taking_part.size}
            ends = {"lowest": "", "highest": "", "undefined": 0}
            if taking_part.size < 2:
                numbers = ("gap", "low", "high", "difference_low", "difference_high")
                reason = "fewer than two groups have a value"
                rows.append(row | dict.fromkeys(numbers, np.nan) | ends | {"reason": reason})
                continue
            point = values[taking_part, m, column]
            drawn = draws[taking_part, m, :, column].T  # (replicates, groups)
            at = taking_part[[int(point.argmin()), int(point.argmax())]]
            # a replicate in which one group has no value has no gap: np.max passes NaN on
            difference = draws[at[1], m, :, column] - draws[at[0], m, :, column]
            pair = percentile_interval(np.ptp(point), difference, level=level)
            gap = percentile_interval(np.ptp(point), np.ptp(drawn, axis=1), level=level)
            rows.append(
                row
                | {
                    "gap": float(gap.estimate),
                    "low": float(gap.low),
                    "high": float(gap.high),
                    "difference_low": float(pair.low),
                    "difference_high": float(pair.high),
                    "lowest": names[at[0]],
                    "highest": names[at[1]],
                    "undefined": int(gap.undefined),
                    "reason": "",
                }
            )
    return pd.DataFrame(rows)
