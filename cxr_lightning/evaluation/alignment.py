"""Several models' predictions on one test set: the same images, truth and labels, or a clear no."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cxr_lightning.errors import DataError, bullet_list
from cxr_lightning.evaluation.predictions import (
    LOGIT,
    TRUTH,
    arrays,
    labels_of,
    validate_predictions,
)

__all__ = ["align_predictions"]


def align_predictions(
    tables: Sequence[pd.DataFrame],
    *,
    names: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
) -> list[pd.DataFrame]:
    """Return the tables with rows and labels in the order of the first.

    Parameters
    ----------
    names
        What to call the tables in a message; by default `table 1`, `table 2`, ...
    labels
        Keep these alone; by default every table must hold the same labels.

    Raises
    ------
    DataError
        Naming every difference: samples, patients, labels or known truth.
    """
    called = [f"table {i + 1}" for i in range(len(tables))] if names is None else list(names)
    if not tables or len(called) != len(tables):
        raise ValueError("at least one table is needed, and a name for each")
    checked = [
        validate_predictions(one, source=name) for one, name in zip(tables, called, strict=True)
    ]
    wanted = labels_of(checked[0]) if labels is None else tuple(labels)
    problems = []
    for one, name in zip(checked, called, strict=True):
        problems += _label_differences(one, name, wanted, called[0], choice=labels is not None)
    first = checked[0].set_index("sample_id", drop=False)
    for one, name in zip(checked[1:], called[1:], strict=True):
        problems += _sample_differences(first, one, name, called[0])
    if problems:
        raise _refusal(problems)
    aligned = [
        _keep_labels(one.set_index("sample_id", drop=False).loc[first.index], wanted)
        for one in checked
    ]
    for one, name in zip(aligned[1:], called[1:], strict=True):
        problems += _truth_differences(aligned[0], one, wanted, name, called[0])
    if problems:
        raise _refusal(problems)
    return [one.reset_index(drop=True) for one in aligned]


def _refusal(problems: list[str]) -> DataError:
    return DataError(
        "These predictions are not of one test set:\n"
        f"{bullet_list(problems)}\n"
        "Evaluate all models on the same data and split."
    )


def _label_differences(
    table: pd.DataFrame, name: str, wanted: Sequence[str], first: str, *, choice: bool
) -> list[str]:
    present = labels_of(table)
    problems = []
    if missing := [label for label in wanted if label not in present]:
        problems.append(f"{name} has no label {', '.join(missing)}")
    if not choice and (more := [label for label in present if label not in wanted]):
        problems.append(f"{name} has the label {', '.join(more)}, which {first} has not")
    return problems


def _sample_differences(
    first: pd.DataFrame, table: pd.DataFrame, name: str, first_name: str
) -> list[str]:
    other = table.set_index("sample_id", drop=False)
    problems = []
    for left, right, owner, lacking in (
        (first, other, first_name, name),
        (other, first, name, first_name),
    ):
        only = left.index.difference(right.index, sort=False)
        if len(only):
            problems.append(
                f"{len(only):,} images of {owner} are not in {lacking}, e.g. {only[0]!r}"
            )
    both = first.index.intersection(other.index, sort=False)
    moved = first.loc[both, "patient_id"] != other.loc[both, "patient_id"]
    if moved.any():
        problems.append(
            f"{int(moved.sum()):,} images have another patient_id in {name} than in {first_name}, "
            f"e.g. {both[moved.to_numpy()][0]!r}"
        )
    return problems


def _truth_differences(
    first: pd.DataFrame, table: pd.DataFrame, labels: Sequence[str], name: str, first_name: str
) -> list[str]:
    left, right = arrays(first, labels).y_true, arrays(table, labels).y_true
    different = ~((left == right) | (np.isnan(left) & np.isnan(right)))
    return [
        f"{TRUTH}{labels[column]} of {name} differs from {first_name} in "
        f"{int(different[:, column].sum()):,} images, e.g. "
        f"{first['sample_id'].iloc[int(different[:, column].argmax())]!r}"
        for column in np.flatnonzero(different.any(axis=0)).tolist()
    ]


def _keep_labels(table: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    others = [name for name in table if not str(name).startswith((TRUTH, LOGIT))]
    return table[[*others, *(f"{kind}{label}" for label in labels for kind in (TRUTH, LOGIT))]]
