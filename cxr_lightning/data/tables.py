"""Tables as they come: CSV (also gzipped) and Parquet files, read as text and checked."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import AfterValidator

from cxr_lightning.errors import DataError, bullet_list, nearest

__all__ = [
    "Delimiter",
    "is_parquet",
    "line_of",
    "missing_columns",
    "place",
    "places",
    "read_text_table",
]


TAB = "\t"


def _delimiter(text: str) -> str:
    text = TAB if text in ("tab", "\\t") else text
    if len(text) != 1 or text in '\r\n"':
        raise ValueError("one character, such as ';', or the word tab")
    return text


Delimiter = Annotated[str, AfterValidator(_delimiter)]
"""What separates the cells of a CSV file; `tab` may be written as that word."""


def read_text_table(
    file: Path,
    *,
    required: Sequence[str],
    filled: Sequence[str] = (),
    unique: str | None = None,
    what: str = "images",
    delimiter: str = ",",
) -> pd.DataFrame:
    """Read a table with every cell as text; an empty cell is "".

    Parameters
    ----------
    file
        CSV, gzipped CSV, or Parquet.
    required
        Columns that it must have. Spaces around column names do not count.
    filled
        Columns in which no cell may be empty.
    unique
        Column in which nothing may occur twice.
    what
        What a row of it is, for the messages.
    delimiter
        What separates the cells of a CSV file.

    Raises
    ------
    DataError
        The file is missing or unreadable, or everything that is wrong with it, by line.
    """
    raw = _read(file, delimiter).rename(columns=lambda name: str(name).strip())
    header = raw.columns if is_parquet(file) else _header(file, delimiter)
    if header.has_duplicates:
        names = sorted(set(header[header.duplicated()]))
        raise DataError(f"{file}: column(s) {', '.join(map(repr, names))} more than once")
    if other := _other_delimiter(raw, delimiter):
        raise DataError(
            f"{file}: its header is one column, {raw.columns[0]!r}; its cells seem to be separated "
            f"by {other!r}: set data.delimiter={'tab' if other == TAB else repr(other)} (or, with "
            "data=ehr, that of data.images, data.echo or data.inputs)"
        )
    if problem := missing_columns(required, raw.columns):
        raise DataError(f"{file}: {problem}")
    problems = []
    if unique is not None:
        twice = np.flatnonzero(raw[unique].duplicated(keep=False)).tolist()
        if twice:
            lines = [f"{place(file, row)}: {raw[unique].iat[row]}" for row in twice]
            problems.append(f"{what} listed more than once:\n{bullet_list(lines)}")
    for column in filled:
        blank = np.flatnonzero(raw[column].str.strip() == "").tolist()
        if blank:
            lines = [place(file, row) for row in blank]
            problems.append(f"{column} is empty:\n{bullet_list(lines)}")
    if problems:
        raise DataError(f"{file}: " + "\n".join(problems))
    return raw


def missing_columns(wanted: Sequence[str], columns: Iterable[str]) -> str:
    """Say which columns are not there, what is, and the nearest; "" where all are."""
    columns = list(columns)
    missing = [name for name in wanted if name not in columns]
    if not missing:
        return ""
    hints = "".join(nearest(name, columns) for name in missing)
    return f"missing column(s) {', '.join(missing)}; it has: {', '.join(columns)}.{hints}"


def line_of(row: int) -> int:
    """Return the line of a CSV file on which a row (from 0) stands: the header is line 1."""
    return row + 2


def place(file: Path, row: int) -> str:
    """Return where a row (from 0) is found: a line of a text file, a row (from 1) of a Parquet."""
    return f"row {row + 1}" if is_parquet(file) else f"line {line_of(row)}"


def places(file: Path, rows: npt.ArrayLike, *, limit: int = 5) -> str:
    """Return the places of several rows (from 0); beyond `limit` they are counted."""
    found = np.asarray(rows).tolist()
    word, first = ("row", 1) if is_parquet(file) else ("line", line_of(0))
    named = ", ".join(str(row + first) for row in found[:limit])
    more = f" and {len(found) - limit:,} more" if len(found) > limit else ""
    return f"{word}{'s' if len(found) > 1 else ''} {named}{more}"


def is_parquet(file: Path) -> bool:
    """Say whether a file is read as Parquet."""
    return file.suffix.lower() in (".parquet", ".pq")


def _read(file: Path, delimiter: str) -> pd.DataFrame:
    if not file.is_file():
        raise DataError(f"{file}: there is no such file")
    if file.suffix.lower() in (".xlsx", ".xls", ".ods"):
        raise DataError(f"{file}: a spreadsheet; save it as CSV (UTF-8) or Parquet")
    try:
        if is_parquet(file):
            return _as_text(pd.read_parquet(file))
        return _read_csv(file, delimiter)
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text ({error.reason}); save it as UTF-8") from None
    # pandas' and pyarrow's own errors are ValueErrors; the others are those of a file cut short
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: not a readable table: {error}") from None


def _read_csv(file: Path, delimiter: str) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            return pd.read_csv(
                file, dtype=str, keep_default_na=False, index_col=False, sep=delimiter
            )
        except pd.errors.ParserWarning:  # rows are longer than the header, which pandas would cut
            header = pd.read_csv(file, dtype=str, nrows=0, sep=delimiter).columns
            rows = pd.read_csv(
                file, dtype=str, keep_default_na=False, header=None, skiprows=1, sep=delimiter
            )
    beyond = rows.iloc[:, len(header) :]
    if (beyond != "").any(axis=None):
        row = int(np.flatnonzero((beyond != "").any(axis=1))[0])
        raise DataError(
            f"{file}: {place(file, row)} has {rows.shape[1]} cells and the header "
            f"{len(header)}; a value that holds {delimiter!r} must be quoted"
        )
    return rows.iloc[:, : len(header)].set_axis(header, axis=1)


def _header(file: Path, delimiter: str) -> pd.Index:
    """Return the names in a CSV file's header as they are: pandas numbers those that return."""
    first = pd.read_csv(file, dtype=str, keep_default_na=False, header=None, nrows=1, sep=delimiter)
    names = pd.Index(first.iloc[0].str.strip())
    return names[names != ""]


def _as_text(table: pd.DataFrame) -> pd.DataFrame:
    return table.apply(_column_as_text)


def _column_as_text(column: pd.Series) -> pd.Series:
    if pd.api.types.is_float_dtype(column):
        whole = column.dropna()
        # Whole numbers beside empty cells are kept as floats: 17.0 is the patient "17".
        if len(whole) and np.isfinite(whole).all() and (whole % 1 == 0).all():
            column = column.astype("Int64")
    return column.astype("string").fillna("").astype(str)


def _other_delimiter(raw: pd.DataFrame, delimiter: str) -> str:
    """Return what separates cells if all of the header is one; else ""."""
    header = str(raw.columns[0])
    others = (other for other in ";\t|," if other != delimiter and header.count(other) > 1)
    return next(others, "") if raw.shape[1] == 1 else ""
