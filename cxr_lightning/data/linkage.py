"""Radiographs joined to dated records of the same patient, and what the future must not reach.

Days are whole numbers. Two joins, each one vectorised pass: the nearest record on either
side, for labels, and the newest one that lies before, for inputs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["check_past", "nearest_records", "newest_before", "one_a_day"]

NONE = -1

Rows = npt.NDArray[np.int64]
Days = npt.NDArray[np.int64]


def one_a_day(patients: pd.Series, days: Days) -> Rows:
    """Return the rows to use, ascending: of several of one patient and day, the last of the table.

    A row is taken whole: filling its gaps from another row of that day would mix two examinations.
    """
    twice = pd.DataFrame({"patient": patients.to_numpy(), "day": days}).duplicated(keep="last")
    return np.flatnonzero(~twice.to_numpy())


def nearest_records(
    patients: pd.Series,
    days: Days,
    record_patients: pd.Series,
    record_days: Days,
    *,
    before: int,
    after: int,
) -> Rows:
    """Return the nearest record of the same patient for each radiograph.

    Parameters
    ----------
    patients, days
        Of the radiographs.
    record_patients, record_days
        Of the records; each day of a patient once (see :func:`one_a_day`).
    before, after
        How many days a record may lie before or after the radiograph, at most.

    Returns
    -------
    int64 array of shape (radiographs,)
        Row of the record, or -1 where there is none. Of two equally near, the earlier one.
    """
    earlier = _join(patients, days, record_patients, record_days, "backward", before)
    later = _join(patients, days, record_patients, record_days, "forward", after)
    past = np.where(earlier == NONE, np.inf, days - _at(record_days, earlier))
    future = np.where(later == NONE, np.inf, _at(record_days, later) - days)
    return np.where(future < past, later, earlier)


def newest_before(
    patients: pd.Series,
    limits: Days,
    record_patients: pd.Series,
    record_days: Days,
) -> Rows:
    """Return the newest record of the same patient that is dated before `limits`; -1: none.

    Parameters
    ----------
    patients
        Of the radiographs.
    limits
        The first day of each radiograph whose records may not be used.
    record_patients, record_days
        Of the records; each day of a patient once.
    """
    return _join(patients, limits - 1, record_patients, record_days, "backward", None)


def check_past(limits: Days, record_days: Days, rows: Rows) -> None:
    """Refuse inputs from a record that is not dated before its radiograph's limit.

    Raises
    ------
    RuntimeError
        The join is broken: a defect of this package, and a leak if it went on.
    """
    leaks = (rows != NONE) & (_at(record_days, rows) >= limits)
    if leaks.any():
        raise RuntimeError(
            f"{int(leaks.sum()):,} radiographs would be given inputs from a record that is not "
            "older than they are"
        )


def _join(
    patients: pd.Series,
    days: Days,
    record_patients: pd.Series,
    record_days: Days,
    direction: str,
    tolerance: int | None,
) -> Rows:
    codes, _ = pd.factorize(pd.concat([patients, record_patients], ignore_index=True))
    left = pd.DataFrame({"patient": codes[: len(patients)], "day": days})
    right = pd.DataFrame(
        {
            "patient": codes[len(patients) :],
            "day": record_days,
            "record": np.arange(len(record_days), dtype=np.int64),
        }
    )
    joined = pd.merge_asof(
        left.assign(image=np.arange(len(left))).sort_values("day", kind="stable"),
        right.sort_values("day", kind="stable"),
        on="day",
        by="patient",
        direction="backward" if direction == "backward" else "forward",
        tolerance=tolerance,
    )
    found = np.full(len(left), NONE, dtype=np.int64)
    found[joined["image"]] = joined["record"].fillna(NONE).astype(np.int64)
    return found


def _at(record_days: Days, rows: Rows) -> Days:
    """Days of records; of row -1, any."""
    return record_days[rows] if len(record_days) else np.zeros(len(rows), np.int64)
