"""Dated records of patients: echocardiograms, and whatever else a hospital knows of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from cxr_lightning.config.schema import Section
from cxr_lightning.data.columns import DateFormat, bad_cells, parse_days, parse_numbers, shape_of
from cxr_lightning.data.linkage import check_past, newest_before, one_a_day
from cxr_lightning.data.rules import Rule, Ruler, grade_word
from cxr_lightning.data.tables import Delimiter, missing_columns, places, read_text_table
from cxr_lightning.errors import DataError

__all__ = [
    "RecordTable",
    "Records",
    "earlier_inputs",
    "first_forbidden_day",
    "labels_of",
    "read_records",
    "why_unlinked",
]


class RecordTable(Section):
    """A table with a row per examination of a patient."""

    file: Path | None = Field(None, description="CSV or Parquet, below data.root.")
    patient: str = Field("patient_id", description="Column of patients, as the radiographs have.")
    date: str = Field("date", description="Column of dates.")
    date_format: DateFormat | None = Field(
        None, description="How dates are written, e.g. %d.%m.%Y; none: 2024-05-31 or 20240531."
    )
    delimiter: Delimiter = Field(",", description="What separates the cells of a CSV file.")


@dataclass(frozen=True)
class Records:
    """Records that can be joined, one for each patient and day.

    Attributes
    ----------
    file : where they are from.
    text : every column as text, a row per record.
    patients : str of shape (records,).
    days : int64 of shape (records,), days since 1970-01-01.
    notes : what was not used.
    """

    file: Path
    text: pd.DataFrame
    patients: pd.Series
    days: npt.NDArray[np.int64]
    notes: tuple[str, ...] = ()


def read_records(
    root: Path,
    table: RecordTable,
    *,
    columns: Mapping[str, str],
    rules: Mapping[str, Rule],
    ruler: Ruler,
) -> Records:
    """Read a table of records and check every cell that will be used.

    Parameters
    ----------
    root
        Folder that its path is relative to.
    table
        The file and its columns.
    columns
        Column to what asks for it: all of them must be there.
    rules
        By name; their columns are read by `ruler`.

    Raises
    ------
    ConfigError, DataError
        A missing file or column; every date, number and grade that is not understood.
    """
    file = root / (table.file or "")
    text = read_text_table(
        file,
        required=(table.patient, table.date),
        what="examinations",
        delimiter=table.delimiter,
    )
    if problem := missing_columns(list(columns), text.columns):
        asking = {why for column, why in columns.items() if column not in text}
        raise DataError(f"{file}: {problem} Asked for by {', '.join(sorted(asking))}")
    days, wrong = parse_days(text[table.date], table.date_format)
    problems = []
    if wrong.any():
        hint = table.date_format or "2024-05-31, 20240531, or as date_format says"
        problems.append(
            f"{table.date} must be dates ({hint}):\n{bad_cells(file, text[table.date], wrong)}"
        )
    by_column = {(rule.column, rule.kind): rule for rule in rules.values()}
    problems += [ruler.problem(rule, text[rule.column], file) for rule in by_column.values()]
    if problems := [problem for problem in problems if problem]:
        raise DataError(f"{file}: what is not understood\n" + "\n".join(problems))
    patients = text[table.patient].str.strip()
    unusable = np.flatnonzero(np.isnan(days) | (patients == "").to_numpy())
    usable = np.setdiff1d(np.arange(len(text)), unusable)
    days = days[usable].astype(np.int64)
    chosen = one_a_day(patients.iloc[usable], days)
    notes = []
    if len(unusable):
        where = places(file, unusable)
        notes.append(f"{file.name}: not used, without patient or date: {len(unusable):,} ({where})")
    if again := len(usable) - len(chosen):
        notes.append(
            f"{file.name}: not used, because the same patient and day come again further down: "
            f"{again:,}"
        )
    rows = usable[chosen]
    return Records(
        file,
        text.iloc[rows].reset_index(drop=True),
        patients.iloc[rows].reset_index(drop=True),
        days[chosen],
        tuple(notes),
    )


def labels_of(
    records: Records, rows: npt.NDArray[np.int64], rules: Mapping[str, Rule], ruler: Ruler
) -> pd.DataFrame:
    """Return the labels that rules make of records: float32, 1, 0 or NaN; row -1 is all NaN."""
    padded = {
        name: np.append(ruler.apply(rule, records.text[rule.column]), np.float32(np.nan))
        for name, rule in rules.items()
    }
    return pd.DataFrame({name: values[rows] for name, values in padded.items()})


def first_forbidden_day(
    days: npt.NDArray[np.int64],
    echo: Records,
    record: npt.NDArray[np.int64],
    inputs: Records,
    *,
    same_day: bool,
) -> npt.NDArray[np.int64]:
    """Return the day from which on a radiograph's records may not be inputs, int64 of shape (n,).

    That is its own day (`days`), or the one after with `same_day`. Of the table that the labels
    come from, it is at the latest the day of the examination that they come from (`record`, rows of
    `echo`): nothing of it may be given away.
    """
    limits = days + int(same_day)
    return np.minimum(limits, echo.days[record]) if inputs.file.samefile(echo.file) else limits


def earlier_inputs(
    patients: pd.Series,
    limits: npt.NDArray[np.int64],
    records: Records,
    columns: tuple[str, ...],
    ruler: Ruler,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return columns of the newest record that is dated before each radiograph's limit.

    Returns
    -------
    DataFrame
        A row per radiograph: float64 where a column holds numbers, else words; NaN and "" where
        there is no such record or it lacks the value.
    tuple of str
        How each column was understood.

    Raises
    ------
    DataError
        A column that holds mostly numbers, and other things.
    """
    rows = newest_before(patients, limits, records.patients, records.days)
    check_past(limits, records.days, rows)
    inputs, notes, problems = {}, [], []
    for column in columns:
        text = records.text[column]
        blank = text.map(grade_word).isin(ruler.missing)
        numbers, wrong = parse_numbers(text.mask(blank, ""))
        filled = int((~blank).sum())
        if not wrong.any():
            inputs[column] = np.append(numbers, np.nan)[rows]
        elif wrong.sum() * 2 > filled:
            words = text.map(grade_word).mask(blank, "").to_numpy(object)
            inputs[column] = np.append(words, "")[rows]
        else:
            problems.append(f"{column} is mostly numbers:\n{bad_cells(records.file, text, wrong)}")
            continue
        kind = "words" if wrong.any() else "numbers"
        had = int((rows >= 0).sum())
        notes.append(f"input {column}: {kind}, from an earlier record of {had:,} radiographs")
    if problems:
        raise DataError(f"{records.file}: data.tabular_columns\n" + "\n".join(problems))
    return pd.DataFrame(inputs, index=patients.index), tuple(notes)


def why_unlinked(patients: pd.Series, records: Records) -> str:
    """Guess why no patient of the radiographs is in the records, without naming any."""
    ours, theirs = patients.dropna().drop_duplicates(), records.patients.drop_duplicates()
    for change, what in (
        (lambda ids: ids.str.lstrip("0"), "without leading zeros"),
        (lambda ids: ids.str.lower(), "in lower case"),
        (lambda ids: ids.str.replace(r"\.0$", "", regex=True), "without .0 at their end"),
        (lambda ids: ids.str.replace(r"\D", "", regex=True), "by their digits alone"),
    ):
        found = int(change(ours).isin(set(change(theirs)) - {""}).sum())
        if found:
            return f"{what} {found:,} of {len(ours):,} would be: write the ids alike in both"
    return f"ids look like {_shape(ours)} here and like {_shape(theirs)} there"


def _shape(ids: pd.Series) -> str:
    if ids.empty:
        return "nothing"
    return repr(str(ids.map(shape_of).value_counts().index[0]))
