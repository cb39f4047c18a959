"""Columns of the study table as numbers for the network, by statistics of the training part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_lightning.data.previous import LABELLED, PREVIOUS, previous_column
from cxr_lightning.errors import ConfigError, DataError, bullet_list, nearest
from cxr_lightning.labels import LabelSpace
from cxr_lightning.studies import COLUMNS

__all__ = ["TabularEncoder", "fit_tabular", "input_columns", "is_missing"]

_NEVER = (frozenset(COLUMNS) | {LABELLED}) - {"view", "age_years", "sex"}
_MISSING = ("", "UNKNOWN")


@dataclass(frozen=True)
class _Numeric:
    """(value - mean) / std, and whether it is missing (then the value is 0)."""

    name: str
    mean: float
    std: float

    @property
    def outputs(self) -> tuple[str, ...]:
        return (self.name, f"{self.name} missing")

    def encode(self, table: pd.DataFrame) -> npt.NDArray[np.float32]:
        column = table[self.name]
        values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
        words = column[np.isnan(values)]
        words = words[~is_missing(words)].astype(str).drop_duplicates()
        if len(words):
            raise DataError(
                f"{self.name}: the network was trained with numbers of it; these are none:\n"
                f"{bullet_list([repr(word) for word in words], limit=5)}"
            )
        missing = np.isnan(values)
        scaled = np.where(missing, 0.0, (values - self.mean) / self.std)
        return np.stack([scaled, missing], axis=1).astype(np.float32)


@dataclass(frozen=True)
class _Categorical:
    """One column per category seen in training, and one for missing or never seen."""

    name: str
    categories: tuple[str, ...]

    @property
    def outputs(self) -> tuple[str, ...]:
        return (
            *(f"{self.name} {category}" for category in self.categories),
            f"{self.name} missing",
        )

    def encode(self, table: pd.DataFrame) -> npt.NDArray[np.float32]:
        codes = pd.Index(self.categories).get_indexer(pd.Index(_words(table[self.name])))
        return np.eye(len(self.outputs), dtype=np.float32)[codes]  # code -1: the last column


@dataclass(frozen=True)
class _Previous:
    """+1, -1 or 0 (unknown) per label of the previous visit, and whether there was one."""

    name: str
    labels: tuple[str, ...]

    @property
    def outputs(self) -> tuple[str, ...]:
        return (*(f"previous {label}" for label in self.labels), "previous visit")

    def encode(self, table: pd.DataFrame) -> npt.NDArray[np.float32]:
        columns = [previous_column(label) for label in self.labels]
        if previous_column("visit") not in table:  # e.g. a folder of images without a history
            return np.zeros((len(table), len(self.outputs)), np.float32)
        values = table[columns].to_numpy(np.float32) * 2 - 1
        visit = table[[previous_column("visit")]].to_numpy(np.float32)
        return np.hstack([np.nan_to_num(values), visit])


_KINDS = {"numeric": _Numeric, "categorical": _Categorical, "previous": _Previous}


@dataclass(frozen=True)
class TabularEncoder:
    """From a study table to the tabular inputs of a network. Part of the bundle."""

    columns: tuple[_Numeric | _Categorical | _Previous, ...] = ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return tuple(name for column in self.columns for name in column.outputs)

    def encode(self, table: pd.DataFrame) -> npt.NDArray[np.float32]:
        """Return the inputs: float32 of shape (rows, len(outputs)), without NaN.

        Raises
        ------
        DataError
            The table lacks a column.
        """
        wanted = [column.name for column in self.columns if not isinstance(column, _Previous)]
        if missing := [name for name in wanted if name not in table]:
            raise DataError(
                f"the network takes {', '.join(wanted)} beside the image; the table lacks "
                f"{', '.join(missing)}"
            )
        parts = [column.encode(table) for column in self.columns]
        return np.hstack(parts) if parts else np.zeros((len(table), 0), np.float32)

    def to_dict(self) -> list[dict[str, Any]]:
        """Return what :meth:`from_dict` reads, of plain JSON."""
        kinds = {cls: kind for kind, cls in _KINDS.items()}
        return [{"kind": kinds[type(column)], **asdict(column)} for column in self.columns]

    @classmethod
    def from_dict(cls, columns: Sequence[Mapping[str, Any]]) -> TabularEncoder:
        """Return the encoder that :meth:`to_dict` described."""
        built = []
        for column in columns:
            fields = {
                key: tuple(value) if isinstance(value, list) else value
                for key, value in column.items()
                if key != "kind"
            }
            built.append(_KINDS[column["kind"]](**fields))
        return cls(tuple(built))


def input_columns(studies: pd.DataFrame, labels: LabelSpace) -> tuple[str, ...]:
    """Return the columns that may be inputs: neither ids, paths and splits, nor any label."""
    return tuple(
        str(name)
        for name in studies
        if name not in _NEVER and name not in labels and not str(name).startswith("previous/")
    )


def fit_tabular(
    studies: pd.DataFrame, columns: Sequence[str], labels: LabelSpace
) -> TabularEncoder:
    """Return the encoder of `columns`, with the statistics of the training rows.

    Numbers are standardised; a missing one becomes the mean, and an indicator says so. Words are
    one-hot over those that occur in training.

    Raises
    ------
    ConfigError
        Columns that are not there, or may not be inputs, all at once.
    """
    allowed = input_columns(studies, labels)
    problems = []
    for name in columns:
        if name in labels:
            problems.append(f"{name!r} is a label: what is to be predicted cannot be an input")
        elif name != PREVIOUS and name not in allowed:
            problems.append(f"{name!r}.{nearest(name, (*allowed, PREVIOUS))}")
    if problems:
        raise ConfigError(
            f"data.tabular: not usable as input:\n{bullet_list(problems)}\n"
            f"Allowed: {', '.join((*allowed, PREVIOUS))}"
        )
    train = studies[studies["split"] == "train"]
    return TabularEncoder(tuple(_fit(train, name, labels) for name in columns))


def _fit(train: pd.DataFrame, name: str, labels: LabelSpace) -> _Numeric | _Categorical | _Previous:
    if name == PREVIOUS:
        return _Previous(name, labels.names)
    if pd.api.types.is_numeric_dtype(train[name]):
        values = train[name].to_numpy(np.float64)
        known = values[~np.isnan(values)]
        if not known.size:
            raise DataError(f"data.tabular: {name} is missing in every training image")
        # A constant carries nothing; any scale keeps it at 0.
        return _Numeric(name, float(known.mean()), float(known.std()) or 1.0)
    words = _words(train[name])
    return _Categorical(name, tuple(sorted(set(words.dropna()))))


def is_missing(column: pd.Series) -> pd.Series:
    """Say where a column has no value, as the encoder takes it: NaN, blank, or UNKNOWN."""
    return column.isna() if pd.api.types.is_numeric_dtype(column) else _words(column).isna()


def _words(column: pd.Series) -> pd.Series:
    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")  # a 3 beside a blank is read as 3.0
    words = column.astype("string").str.strip()
    return words.mask(words.isin(_MISSING))
