"""The results as a table, a row per label plus their averages, and as flat names for MLflow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_lightning.errors import DataError, bullet_list
from cxr_lightning.evaluation.bootstrap import DISCRIMINATION, Interval, bootstrap_discrimination
from cxr_lightning.evaluation.decisions import confusion_counts, micro_counts, rates
from cxr_lightning.evaluation.discrimination import macro, weighted
from cxr_lightning.evaluation.predictions import arrays, labels_of, validate_predictions
from cxr_lightning.evaluation.thresholds import Thresholds

__all__ = [
    "AVERAGES",
    "FEW",
    "FEW_NOTE",
    "MACRO",
    "MICRO",
    "WEIGHTED",
    "few_of_a_class",
    "flat_metrics",
    "format_table",
    "metric_label",
    "metrics_table",
]

MACRO, MICRO, WEIGHTED = AVERAGES = "macro", "micro", "weighted"
FEW = 10
"""With fewer images of a class, the patients that a bootstrap draws from are too much alike."""
FEW_NOTE = f"† fewer than {FEW} of one class: the interval is too narrow to trust"
AT_THRESHOLD = (
    "f1",
    "precision",
    "sensitivity",
    "specificity",
    "accuracy",
    "balanced_accuracy",
    "mcc",
)
NOT_ALLOWED = re.compile(r"[^\w\-. :]", re.ASCII)  # by MLflow in a name; / separates our levels


def metrics_table(
    predictions: pd.DataFrame,
    thresholds: Thresholds,
    *,
    replicates: int,
    level: float,
    generator: np.random.Generator,
) -> pd.DataFrame:
    """Score a predictions table at thresholds that were fitted on another one.

    Returns
    -------
    DataFrame
        Index `label`: every label in its order, then `macro`, `micro` and `weighted`. Columns:
        `images` (known entries), `positives`, `prevalence`; `auroc` and `average_precision`, each
        with `_low`, `_high` (ends of the patient-bootstrap interval) and `_undefined` (replicates
        left out);
        `threshold`, `threshold_fitted`; `f1`, `precision`, `sensitivity`, `specificity`,
        `accuracy`, `balanced_accuracy`, `mcc`; `labels_undefined`, for the macro row the number of
        labels without AUROC. NaN where undefined. A macro entry is the mean over the labels that
        define it (the counts: sums); micro takes all (image, label) pairs as one problem, each
        called at its own label's threshold; weighted is the macro mean with each label weighing its
        positives.
    """
    table = validate_predictions(predictions)
    labels = labels_of(table)
    check_label_names(labels)
    y_true, y_score, patients = arrays(table)
    chosen = thresholds.select(labels)
    intervals = bootstrap_discrimination(
        y_true, y_score, patients, replicates=replicates, level=level, generator=generator
    )
    known, positives = (~np.isnan(y_true)).sum(axis=0), (y_true == 1).sum(axis=0)
    counts = confusion_counts(y_true, y_score, chosen.array)
    at_threshold, pooled = rates(counts), rates(micro_counts(counts))

    columns: dict[str, Any] = {
        "images": _with_averages(known, *[known.sum()] * 3),
        "positives": _with_averages(positives, *[positives.sum()] * 3),
    }

    def averaged(values: NDArray[Any], micro_value: Any) -> NDArray[Any]:
        mean = weighted(values, positives)
        return _with_averages(values, macro(values).value, micro_value, mean)

    columns["prevalence"] = averaged(_share(positives, known), _share(positives.sum(), known.sum()))
    for name in DISCRIMINATION:
        columns |= _interval_columns(name, intervals)
    columns["threshold"] = _with_averages(chosen.array, *[np.nan] * 3)
    columns["threshold_fitted"] = [*chosen.fitted, *[all(chosen.fitted)] * 3]
    for name in AT_THRESHOLD:
        columns[name] = averaged(at_threshold[name], pooled[name])
    undefined = np.isnan(intervals["auroc"].estimate).astype(np.int64)
    columns["labels_undefined"] = _with_averages(undefined, undefined.sum(), 0, undefined.sum())
    return pd.DataFrame(columns, index=pd.Index([*labels, *AVERAGES], name="label"))


def _interval_columns(name: str, intervals: dict[str, Interval]) -> dict[str, NDArray[Any]]:
    parts = [intervals[key] for key in (name, *(f"{name}_{row}" for row in AVERAGES))]
    return {
        f"{name}{suffix}": _with_averages(*(getattr(part, field) for part in parts))
        for suffix, field in (
            ("", "estimate"),
            ("_low", "low"),
            ("_high", "high"),
            ("_undefined", "undefined"),
        )
    }


def _with_averages(per_label: NDArray[Any], *averages: Any) -> NDArray[Any]:
    """Put the values of the rows `AVERAGES` behind those of the labels."""
    return np.concatenate([per_label, np.array(averages, dtype=per_label.dtype)])


def _share(part: Any, whole: Any) -> NDArray[np.float64]:
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def flat_metrics(table: pd.DataFrame, prefix: str = "test") -> dict[str, float | None]:
    """Return the table as one flat object, ready for metrics.json and MLflow.

    A label's value is `PREFIX/QUANTITY/LABEL` (`test/auroc/Effusion`, `test/auroc_low/Effusion`),
    so that MLflow shows one section per quantity, with the labels side by side; the summaries are
    `PREFIX/QUANTITY_macro`, `_micro` and `_weighted`, with `_low` and `_high` behind
    (`test/auroc_macro_low`), and `PREFIX/labels_undefined`, how many labels have no AUROC.
    Undefined is None. Characters that MLflow refuses in a label become `_`.
    """
    quantities = [
        str(name)
        for name in table
        if name != "threshold_fitted" and not str(name).endswith("_undefined")
    ]
    labels = [label for label in table.index if label not in AVERAGES]
    names = _metric_labels(labels)
    flat: dict[str, float | None] = {}
    for row in AVERAGES:
        for quantity in quantities:
            if quantity not in ("images", "positives", "threshold"):
                base, end = _interval_end(quantity)
                flat[f"{prefix}/{base}_{row}{end}"] = _none_if_nan(table.at[row, quantity])
    flat[f"{prefix}/labels_undefined"] = _none_if_nan(table.at[MACRO, "labels_undefined"])
    for quantity in quantities:
        for label in labels:
            flat[f"{prefix}/{quantity}/{names[label]}"] = _none_if_nan(table.at[label, quantity])
    return flat


def check_label_names(labels: Sequence[str]) -> None:
    """Refuse labels that a table of results, or MLflow, could not tell apart.

    Raises
    ------
    DataError
        Naming them.
    """
    if clash := [label for label in labels if label in AVERAGES]:
        raise DataError(
            f"A label may not be called {' or '.join(clash)}: the results table has a row of that "
            "name. Rename the label."
        )
    _metric_labels(labels)


def metric_label(label: str) -> str:
    """Return the label as it stands in a metric's name."""
    return NOT_ALLOWED.sub("_", label)


def _metric_labels(labels: Sequence[str]) -> dict[str, str]:
    names = {label: metric_label(label) for label in labels}
    taken: dict[str, list[str]] = {}
    for label, name in names.items():
        taken.setdefault(name.casefold(), []).append(label)
    if clash := [group for group in taken.values() if len(group) > 1]:
        raise DataError(
            "Labels that MLflow could not tell apart:\n"
            f"{bullet_list(' and '.join(map(repr, group)) for group in clash)}\n"
            "Only letters, digits, _ - . : and spaces count in a metric's name, and case does not. "
            "Rename one of each."
        )
    return names


def _interval_end(quantity: str) -> tuple[str, str]:
    for end in ("_low", "_high"):
        if quantity.endswith(end):
            return quantity.removesuffix(end), end
    return quantity, ""


def _none_if_nan(value: Any) -> float | None:
    number = float(value)
    return None if np.isnan(number) else number


def format_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table as text for a terminal or a report: rounded, intervals in one cell.

    Undefined is shown as an en dash; a threshold that could not be fitted carries a star, and an
    interval of a label of :func:`few_of_a_class` a dagger.
    """
    few = few_of_a_class(table)
    rows = {}
    for label, row in table.iterrows():
        cells = {
            "n": f"{row['images']:,.0f}",
            "positive": f"{row['positives']:,.0f}",
            "prevalence": _text(row["prevalence"], ".1%"),
            "AUROC": _interval_text(row, "auroc", "†" if label in few else ""),
            "AP": _interval_text(row, "average_precision", "†" if label in few else ""),
            "threshold": _text(row["threshold"])
            + ("" if row["threshold_fitted"] or np.isnan(row["threshold"]) else "*"),
        }
        titles = {"f1": "F1"}
        for name in ("f1", "precision", "sensitivity", "specificity", "accuracy"):
            cells[titles.get(name, name)] = _text(row[name])
        rows[label] = cells
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("label")


def few_of_a_class(table: pd.DataFrame) -> list[str]:
    """Return the labels whose interval rests on fewer than `FEW` positives or negatives."""
    labels = table.drop(index=[*AVERAGES])
    rarer = np.minimum(labels["positives"], labels["images"] - labels["positives"])
    return [str(name) for name in labels.index[(rarer < FEW) & labels["auroc_low"].notna()]]


def _text(value: float, spec: str = ".3f") -> str:
    return "–" if np.isnan(value) else format(value, spec)


def _interval_text(row: pd.Series, name: str, mark: str) -> str:
    text = _text(row[name])
    if np.isnan(row[f"{name}_low"]):
        return text
    return f"{text} ({row[f'{name}_low']:.3f}–{row[f'{name}_high']:.3f}){mark}"
