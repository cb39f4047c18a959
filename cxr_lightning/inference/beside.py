"""Inputs beside the image, looked up by image or given as columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_lightning.data.columns import parse_ages, parse_sexes, parse_views
from cxr_lightning.data.tables import read_text_table
from cxr_lightning.data.tabular import TabularEncoder
from cxr_lightning.errors import DataError, bullet_list, nearest

__all__ = ["BesideTable", "encode_columns", "wanted_columns"]

IMAGE_COLUMNS = ("path", "image_path", "image", "sample_id")


def wanted_columns(encoder: TabularEncoder) -> tuple[str, ...]:
    """Return the columns that the network takes, without those of a previous visit."""
    return tuple(
        column["name"]
        for column in encoder.to_dict()
        if column["kind"] in ("numeric", "categorical")
    )


def encode_columns(
    encoder: TabularEncoder, table: pd.DataFrame, *, source: str = "the table"
) -> NDArray[np.float32] | None:
    """Return the inputs (rows, T); None where the network takes none.

    Columns that are not there are missing in every row; empty cells are missing. Ages, sexes and
    views are understood as in the tables of training: 058Y, male, "AP SUPINE".

    Raises
    ------
    DataError
        Numbers that are none and sexes that are not understood, all at once.
    """
    if not encoder.columns:
        return None
    filled, problems = table.copy(), []
    kinds = {column["name"]: column["kind"] for column in encoder.to_dict()}
    for name in wanted_columns(encoder):
        values = filled[name] if name in filled else pd.Series(None, filled.index, dtype="object")
        if name in ("age_years", "sex", "view"):
            filled[name], wrong = _as_in_training(name, values)
        elif kinds[name] == "numeric":
            given = values.replace("", None)
            numbers = pd.to_numeric(given, errors="coerce").astype(np.float64)
            filled[name], wrong = numbers, given[given.notna() & numbers.isna()]
        else:
            filled[name], wrong = values, values[:0]
        what = "a sex: M, F and UNKNOWN are" if name == "sex" else "a number"
        problems += [f"{name}: {value!r} is not {what}" for value in wrong.unique()]
    for column in [str(name) for name in filled if str(name).startswith("previous/")]:
        numbers = pd.to_numeric(filled[column], errors="coerce")
        filled[column] = numbers.fillna(0.0) if column == "previous/visit" else numbers
    if problems:
        raise DataError(f"{source}:\n{bullet_list(problems)}")
    return encoder.encode(filled)


def _as_in_training(name: str, values: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Return ages, sexes or views, and the cells that are not understood."""
    text = values.astype("string").fillna("").astype(str)
    if name == "view":  # what names no projection is UNKNOWN, in training too
        return pd.Series(parse_views(text).values, values.index), values[:0]
    read = parse_ages(text) if name == "age_years" else parse_sexes(text)
    return pd.Series(read.values, values.index), values[read.wrong]


class BesideTable:
    """Rows of a table by image.

    An image's row is that whose name is its path as given, or one of which the other is the end:
    `p1/a.dcm` is the row of `/scans/p1/a.dcm`, and so is `a.dcm`, where no other image has that
    name. An image for which several rows would do has none.

    Parameters
    ----------
    encoder
        What the network takes.
    file
        The table; None: every input is missing.

    Raises
    ------
    DataError
        The table lacks a column that the network takes, or one that names the image, lists an image
        twice, or holds words where numbers are wanted.
    """

    def __init__(self, encoder: TabularEncoder, file: Path | None) -> None:
        self.encoder = encoder
        self.without = 0
        self.file = file
        self._rows: dict[str, int] = {}
        self._ends: dict[str, int] = {}
        self._taken: dict[int, str] = {}
        table = pd.DataFrame()
        if file is not None and encoder.columns:
            table = read_text_table(file, required=wanted_columns(encoder))
            key = next((name for name in IMAGE_COLUMNS if name in table), None)
            if key is None:
                hint = nearest("image_path", table.columns)
                raise DataError(
                    f"{file}: no column names the image: {', '.join(IMAGE_COLUMNS)} would, this "
                    f"table has {', '.join(table.columns)}.{hint}"
                )
            read_text_table(file, required=(key,), filled=(key,), unique=key)
            for row, name in enumerate(table[key]):
                full, *ends = _ends(name)
                self._rows[full] = row
                for end in ends:
                    self._ends[end] = -1 if end in self._ends else row
        missing = pd.DataFrame({name: [""] for name in table}, index=[len(table)])
        whole = pd.concat([table, missing]) if len(table) else pd.DataFrame(index=[0])
        # The last row stands for images that the table does not name.
        self._encoded = encode_columns(encoder, whole, source=str(file))

    def of(self, paths: Sequence[str]) -> NDArray[np.float32] | None:
        """Return the inputs of some images, (n, T); images without a row are counted.

        Raises
        ------
        DataError
            See `rows`.
        """
        if self._encoded is None:
            return None
        rows = self.rows(paths)
        self.without += rows.count(-1)
        return self._encoded[rows]

    def rows(self, paths: Sequence[str]) -> list[int]:
        """Return the row of each image, -1 where it has none.

        Raises
        ------
        DataError
            A row is that of two images, of these or of earlier calls.
        """
        if not self._rows:  # no table, or nothing beside the image
            return [-1] * len(paths)
        found = [self._row(path) for path in paths]
        twice = []
        for row, path in zip(found, paths, strict=True):
            if row >= 0 and self._taken.setdefault(row, path) != path:
                twice.append(f"{self._taken[row]} and {path}")
        if twice:
            raise DataError(
                f"{self.file}: one row each would be that of several images; name them with their "
                f"folders in the table:\n{bullet_list(twice)}"
            )
        return found

    def _row(self, path: str) -> int:
        ends = _ends(path)
        named = next((self._rows[end] for end in ends if end in self._rows), None)
        return self._ends.get(ends[0], -1) if named is None else named


def _ends(path: str) -> list[str]:
    """Return a path without none, one, two ... of its first parts."""
    parts = Path(path).parts
    return [str(Path(*parts[start:])) for start in range(max(1, len(parts)))]
