"""Inputs beside the image, looked up by image or given as columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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

    Columns that are not there are missing in every row; empty cells are missing.

    Raises
    ------
    DataError
        Numbers that are none, all at once.
    """
    if not encoder.columns:
        return None
    filled, problems = table.copy(), []
    kinds = {column["name"]: column["kind"] for column in encoder.to_dict()}
    for name in wanted_columns(encoder):
        values = filled[name] if name in filled else pd.Series(None, filled.index, dtype="object")
        if kinds[name] == "numeric":
            given = values.replace("", None)
            numbers = pd.to_numeric(given, errors="coerce").astype(np.float64)
            wrong = given[given.notna() & numbers.isna()]
            problems += [f"{name}: {value!r} is not a number" for value in wrong.unique()]
            values = numbers
        filled[name] = values
    for column in [str(name) for name in filled if str(name).startswith("previous/")]:
        numbers = pd.to_numeric(filled[column], errors="coerce")
        filled[column] = numbers.fillna(0.0) if column == "previous/visit" else numbers
    if problems:
        raise DataError(f"{source}:\n{bullet_list(problems)}")
    return encoder.encode(filled)


class BesideTable:
    """Rows of a table by image.

    An image's row is that whose name is its path as given, or else its file name, where only one
    row has it.

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
        self._rows: dict[str, int] = {}
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
            self._rows = _by_name(list(table[key]))
        missing = pd.DataFrame({name: [""] for name in table}, index=[len(table)])
        whole = pd.concat([table, missing]) if len(table) else pd.DataFrame(index=[0])
        # The last row stands for images that the table does not name.
        self._encoded = encode_columns(encoder, whole, source=str(file))

    def of(self, paths: Sequence[str]) -> NDArray[np.float32] | None:
        """Return the inputs of some images, (n, T); images without a row are counted."""
        if self._encoded is None:
            return None
        rows = [self._rows.get(path, self._rows.get(Path(path).name, -1)) for path in paths]
        self.without += rows.count(-1)
        return self._encoded[rows]


def _by_name(names: list[str]) -> dict[str, int]:
    short = pd.Series([Path(name).name for name in names])
    once = ~short.duplicated(keep=False)
    found = {name: row for row, name in enumerate(short) if once[row]}
    return found | {name: row for row, name in enumerate(names)}
