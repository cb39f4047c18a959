"""Tables as they come: CSV (also gzipped) and Parquet files, read as text and checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cxr_lightning.errors import DataError, bullet_list, nearest

__all__ = ["line_of", "read_text_table"]


def read_text_table(
    file: Path,
    *,
    required: Sequence[str],
    filled: Sequence[str] = (),
    unique: str | None = None,
    what: str = "images",
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

    Raises
    ------
    DataError
        The file is missing or unreadable, or everything that is wrong with it, by line.
    """
    raw = _read(file).rename(columns=lambda name: str(name).strip())
    if missing := [name for name in required if name not in raw.columns]:
        hints = "".join(nearest(name, raw.columns) for name in missing)
        raise DataError(
            f"{file}: missing column(s) {', '.join(missing)}; it has: {', '.join(raw.columns)}."
            f"{hints}"
        )
    problems = []
    if unique is not None:
        twice = np.flatnonzero(raw[unique].duplicated(keep=False)).tolist()
        if twice:
            lines = [f"line {line_of(row)}: {raw[unique].iat[row]}" for row in twice]
            problems.append(f"{what} listed more than once:\n{bullet_list(lines)}")
    for column in filled:
        blank = np.flatnonzero(raw[column].str.strip() == "").tolist()
        if blank:
            lines = [f"line {line_of(row)}" for row in blank]
            problems.append(f"{column} is empty:\n{bullet_list(lines)}")
    if problems:
        raise DataError(f"{file}: " + "\n".join(problems))
    return raw


def line_of(row: int) -> int:
    """Return the line of a CSV file on which a row (from 0) stands: the header is line 1."""
    return row + 2


def _read(file: Path) -> pd.DataFrame:
    if not file.is_file():
        raise DataError(f"{file}: there is no such file")
    try:
        if file.suffix.lower() in (".parquet", ".pq"):
            return _as_text(pd.read_parquet(file))
        return pd.read_csv(file, dtype=str, keep_default_na=False, index_col=False)
    except (ValueError, OSError) as error:  # pandas' and pyarrow's own are of these kinds
        raise DataError(f"{file}: not a readable table: {error}") from None


def _as_text(table: pd.DataFrame) -> pd.DataFrame:
    return table.apply(lambda column: column.astype("string").fillna("").astype(str))
