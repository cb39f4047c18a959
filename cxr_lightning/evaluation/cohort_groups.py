"""Who belongs to which subgroup: the values of any column, or bands of a number such as age."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from cxr_lightning.errors import ConfigError, DataError, nearest
from cxr_lightning.evaluation.predictions import LOGIT, TRUTH

__all__ = ["AGE_EDGES", "UNKNOWN", "bands", "group_column"]

AGE_EDGES = (20.0, 40.0, 60.0, 80.0)  # years; the bands of Seyyed-Kalantari et al. 2021
UNKNOWN = "unknown"
MOST_GROUPS = 20


def bands(values: ArrayLike, edges: Sequence[float]) -> pd.Categorical[str]:
    """Sort numbers into bands that include their lower edge.

    `edges` (20, 40) make "<20", "20–39" and "40+"; edges with a fraction make "2.5 to <4". NaN
    stays NaN.
    """
    if not edges or any(low >= high for low, high in pairwise(edges)):
        raise ConfigError(f"Edges of bands must rise and be at least one, given {list(edges)}.")
    whole = all(float(edge).is_integer() for edge in edges)
    middle = [
        f"{low:g}–{high - 1:g}" if whole and high - low > 1 else f"{low:g} to <{high:g}"
        for low, high in pairwise(edges)
    ]
    names = [f"<{edges[0]:g}", *middle, f"{edges[-1]:g}+"]
    numbers = np.asarray(values, dtype=np.float64)
    codes = np.where(np.isnan(numbers), -1, np.searchsorted(edges, numbers, side="right"))
    return pd.Categorical.from_codes(codes, categories=pd.Index(names), ordered=True)


def group_column(
    predictions: pd.DataFrame, column: str, *, edges: Sequence[float] | None = None
) -> pd.Categorical[str]:
    """Return the group of each row; what is missing or UNKNOWN belongs to the group `unknown`.

    Parameters
    ----------
    column
        Any column but those of the labels. Groups are ordered by their values.
    edges
        For numbers: the lower ends of all bands but the first; `age_years` has the default
        `AGE_EDGES`, other numbers of more than 20 values their quartiles.

    Raises
    ------
    ConfigError
        There is no such column, or its texts make more than 20 groups.
    DataError
        Edges were given for a column of text, or the column is empty.
    """
    allowed = [str(name) for name in predictions if not str(name).startswith((TRUTH, LOGIT))]
    if column not in allowed:
        raise ConfigError(
            f"The predictions have no column {column!r} to form subgroups by; they have "
            f"{', '.join(allowed)}.{nearest(column, allowed)}"
        )
    values = predictions[column]
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if edges is None and numeric and column == "age_years":
        edges = AGE_EDGES
    if edges is None and numeric and values.nunique() > MOST_GROUPS:
        quartiles = np.nanquantile(values.to_numpy(np.float64), [0.25, 0.5, 0.75])
        edges = sorted({float(f"{value:g}") for value in quartiles})  # as bands are named
    if edges is not None:
        if not numeric:
            raise DataError(f"Column {column!r} holds no numbers: it cannot be cut at {edges}.")
        found = bands(values, edges)
    else:
        known = values.notna() & ~values.isin(["", "UNKNOWN", UNKNOWN])
        codes, present = pd.factorize(values.where(known), sort=True)
        names = [f"{value:.12g}" if numeric else str(value) for value in present]
        found = pd.Categorical.from_codes(codes, categories=pd.Index(names))
    found = found.remove_unused_categories()
    if not len(found.categories):
        raise DataError(f"Column {column!r} is unknown for every image: there are no subgroups.")
    if len(found.categories) > MOST_GROUPS:
        raise ConfigError(
            f"Column {column!r} makes {len(found.categories):,} subgroups, more than "
            f"{MOST_GROUPS}; choose another column."
        )
    missing = found.isna()
    if missing.any():
        found = found.add_categories([UNKNOWN])
        found[missing] = UNKNOWN
    return found
