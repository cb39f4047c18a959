"""The predictions table: one row per image, and all that evaluation ever reads.

Columns: `sample_id`, `patient_id`, `study_id`, `split` (text); optionally `view`, `sex` (text) and
`age_years` (float); then for each label `y_true/<label>` (float32: 1, 0, NaN for unknown) and
`logit/<label>` (float32).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from cxr_lightning.errors import DataError, bullet_list
from cxr_lightning.whole_file import whole_file

__all__ = [
    "LOGIT",
    "OPTIONAL_COLUMNS",
    "TEXT_COLUMNS",
    "TRUTH",
    "PredictionArrays",
    "arrays",
    "labels_of",
    "logits_of",
    "make_predictions",
    "read_predictions",
    "validate_predictions",
    "with_logits",
    "write_predictions",
]

TEXT_COLUMNS = ("sample_id", "patient_id", "study_id", "split")
OPTIONAL_COLUMNS = ("view", "sex", "age_years")
TRUTH, LOGIT = "y_true/", "logit/"


class PredictionArrays(NamedTuple):
    """What the metrics take.

    y_true : (n, L) float64, NaN where unknown; y_score : (n, L) float64 probabilities;
    patients : (n,) integer codes from 0, in the order in which patients first appear.
    """

    y_true: NDArray[np.float64]
    y_score: NDArray[np.float64]
    patients: NDArray[np.intp]


def make_predictions(
    *,
    sample_id: Sequence[str],
    patient_id: Sequence[str],
    study_id: Sequence[str],
    split: str | Sequence[str],
    labels: Sequence[str],
    y_true: ArrayLike,
    logits: ArrayLike,
    extra: Mapping[str, Sequence[object]] | None = None,
) -> pd.DataFrame:
    """Build and validate the table.

    Parameters
    ----------
    y_true, logits
        Shape (n, L), columns in the order of `labels`.
    extra
        Further columns, such as `view`, `sex`, `age_years`, by name.
    """
    truth, logit = np.asarray(y_true, np.float32), np.asarray(logits, np.float32)
    shape = (len(sample_id), len(labels))
    if truth.shape != shape or logit.shape != shape:
        raise ValueError(
            f"y_true and logits must have shape {shape} (sample ids, labels), "
            f"given {truth.shape} and {logit.shape}"
        )
    columns: dict[str, object] = {
        "sample_id": list(sample_id),
        "patient_id": list(patient_id),
        "study_id": list(study_id),
        "split": [split] * len(sample_id) if isinstance(split, str) else list(split),
        **{name: list(values) for name, values in (extra or {}).items()},
    }
    for index, label in enumerate(labels):
        columns[TRUTH + label] = truth[:, index]
        columns[LOGIT + label] = logit[:, index]
    return validate_predictions(pd.DataFrame(columns))


def validate_predictions(table: pd.DataFrame, *, source: str = "predictions") -> pd.DataFrame:
    """Return a copy with float32 label columns, or raise one DataError that lists every problem."""
    problems = [*_id_problems(table), *_label_problems(table)]
    if len(table) == 0:
        problems.append("no rows")
    if problems:
        raise DataError(
            f"{source}: not a predictions table:\n{bullet_list(problems)}\n"
            "It needs the text columns sample_id, patient_id, study_id, split, and for each label "
            "y_true/LABEL (1, 0, NaN) and logit/LABEL."
        )
    casts = {f"{kind}{label}": np.float32 for label in labels_of(table) for kind in (TRUTH, LOGIT)}
    return table.astype(casts)


def _id_problems(table: pd.DataFrame) -> list[str]:
    problems = []
    for column in TEXT_COLUMNS:
        if column not in table:
            problems.append(f"column {column} is missing")
            continue
        values = table[column]
        empty = values.isna() | (values == "")
        if empty.any():
            problems.append(f"{column} is empty in {_rows(empty)}")
        not_text = ~empty & ~values.map(lambda value: isinstance(value, str)).astype(bool)
        if not_text.any():
            problems.append(
                f"{column} holds {type(values[not_text].iloc[0]).__name__} in {_rows(not_text)}; "
                "ids are text, so that leading zeros stay"
            )
    if "sample_id" in table:
        repeated = table["sample_id"].duplicated(keep=False) & table["sample_id"].notna()
        if repeated.any():
            first = table.loc[repeated, "sample_id"].iloc[0]
            problems.append(f"sample_id repeats in {_rows(repeated)}, e.g. {first!r}")
    return problems


def _label_problems(table: pd.DataFrame) -> list[str]:
    truths = [str(name).removeprefix(TRUTH) for name in table if str(name).startswith(TRUTH)]
    logits = [str(name).removeprefix(LOGIT) for name in table if str(name).startswith(LOGIT)]
    problems = [f"{TRUTH}{name} has no {LOGIT}{name}" for name in truths if name not in logits]
    problems += [f"{LOGIT}{name} has no {TRUTH}{name}" for name in logits if name not in truths]
    if not truths and not logits:
        problems.append("no label columns")
    for label in truths:
        values = pd.to_numeric(table[TRUTH + label], errors="coerce")
        wrong = (table[TRUTH + label].notna() & values.isna()) | ~(
            values.isna() | values.isin([0, 1])
        )
        if wrong.any():
            problems.append(
                f"{TRUTH}{label} must be 1, 0 or NaN; {table.loc[wrong, TRUTH + label].iloc[0]!s} "
                f"in {_rows(wrong)}"
            )
    for label in logits:
        values = pd.to_numeric(table[LOGIT + label], errors="coerce")
        wrong = ~values.astype(np.float64).abs().lt(np.inf)  # NaN is not below either
        if wrong.any():
            problems.append(f"{LOGIT}{label} is not a finite number in {_rows(wrong)}")
    return problems


def _rows(mask: pd.Series) -> str:
    where = np.flatnonzero(mask.to_numpy())
    shown = ", ".join(str(row) for row in where[:3])
    more = ", ..." if len(where) > 3 else ""
    return f"{len(where):,} row{'s' if len(where) > 1 else ''} ({shown}{more})"


def labels_of(table: pd.DataFrame) -> tuple[str, ...]:
    """Return the labels in the order of their logit columns."""
    return tuple(str(name).removeprefix(LOGIT) for name in table if str(name).startswith(LOGIT))


def arrays(table: pd.DataFrame, labels: Sequence[str] | None = None) -> PredictionArrays:
    """Return y_true, y_score (sigmoid of the logits, in float64) and patient codes.

    Distinct float32 logits stay distinct probabilities up to a logit of about 23 (and down to a
    magnitude of 1e-8); beyond that float64 cannot hold the difference and such images tie.
    """
    names = labels_of(table) if labels is None else tuple(labels)
    logits = logits_of(table, names)
    y_true = table[[TRUTH + name for name in names]].to_numpy(np.float64)
    return PredictionArrays(y_true, expit(logits), pd.factorize(table["patient_id"])[0])


def logits_of(table: pd.DataFrame, labels: Sequence[str] | None = None) -> NDArray[np.float64]:
    """Return the logits as float64 of shape (n, L), in the order of `labels` (default: all)."""
    names = labels_of(table) if labels is None else tuple(labels)
    if missing := [name for name in names if LOGIT + name not in table]:
        raise DataError(
            f"The predictions hold no label {', '.join(missing)}; "
            f"they hold {', '.join(labels_of(table))}."
        )
    return table[[LOGIT + name for name in names]].to_numpy(np.float64)


def with_logits(table: pd.DataFrame, logits: ArrayLike) -> pd.DataFrame:
    """Return a validated copy whose logits are these, shape (n, L), in the order of its labels."""
    values, labels = np.asarray(logits, np.float32), labels_of(table)
    if values.shape != (len(table), len(labels)):
        raise ValueError(
            f"logits must have shape {(len(table), len(labels))}, given {values.shape}"
        )
    columns = {LOGIT + label: values[:, index] for index, label in enumerate(labels)}
    return validate_predictions(table.assign(**columns))


def write_predictions(table: pd.DataFrame, path: Path) -> Path:
    """Write the validated table as Parquet, complete or not at all."""
    checked = validate_predictions(table)
    with whole_file(path) as partial:
        checked.to_parquet(partial, index=False)
    return path


def read_predictions(path: Path) -> pd.DataFrame:
    """Read and validate a table written by `write_predictions`."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; a finished fit writes predictions_test.parquet.")
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({error}).") from error
    return validate_predictions(table, source=str(path))
