"""Columns of text as dates, ages, sexes, views and numbers; what is not understood is pointed out.

Every function looks at each distinct text once. None of them raises: the caller lists what is wrong
with a whole table at once, with :func:`bad_cells`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import AfterValidator

from cxr_lightning.data.tables import places
from cxr_lightning.errors import bullet_list

__all__ = [
    "MISSING",
    "DateFormat",
    "Parsed",
    "bad_cells",
    "each_distinct",
    "parse_ages",
    "parse_days",
    "parse_numbers",
    "parse_sexes",
    "parse_views",
    "plausible_ages",
    "shape_of",
]

MISSING = ("", "na", "n/a", "nan", "null", "<na>", ".", "missing", "unknown", "not available")
"""What people write where there is nothing, in lower case."""

_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([YMWD]?)")
_YEARS = {"": 1.0, "Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
_SEXES = {
    **dict.fromkeys(("m", "male", "man"), "M"),
    **dict.fromkeys(("f", "female", "woman"), "F"),
    **dict.fromkeys((*MISSING, "u", "o", "other"), "UNKNOWN"),
}
_LATERAL = frozenset({"LL", "RL", "LLD", "RLD", "LAT", "LATERAL", "L", "R", "LEFT", "RIGHT"})


def _date_format(form: str) -> str:
    day = datetime(2024, 5, 31)
    try:
        understood = datetime.strptime(day.strftime(form), form) == day
    except ValueError as error:
        raise ValueError(f"{form!r} is no format of dates ({error}), as %d.%m.%Y is") from None
    if not understood:
        raise ValueError(f"{form!r} does not tell year, month and day, as %d.%m.%Y does")
    return form


DateFormat = Annotated[str, AfterValidator(_date_format)]
"""A format of :meth:`datetime.datetime.strptime` that tells a day."""


class Parsed(NamedTuple):
    """Values of a column, and which of its cells were not understood (bool, same shape)."""

    values: npt.NDArray[Any]
    wrong: npt.NDArray[np.bool_]


def each_distinct(text: pd.Series, read: Callable[[str], Any], dtype: npt.DTypeLike) -> Parsed:
    """Apply `read` to each distinct text, stripped; None from it means: not understood."""
    codes, words = pd.factorize(text)
    found = [read(str(word).strip()) for word in words]
    wrong = np.array([value is None for value in found], dtype=bool)
    filler: Any = np.nan if np.issubdtype(np.dtype(dtype), np.floating) else ""
    values = np.array([filler if value is None else value for value in found], dtype=dtype)
    return Parsed(values[codes], wrong[codes])


def parse_days(text: pd.Series, form: str | None = None) -> Parsed:
    """Return dates as days since 1970-01-01, float64; NaN where empty. A time of day is dropped.

    Parameters
    ----------
    text
        2024-05-31, 20240531 (as in DICOM), either with a time behind it, or what `form` says.
    form
        A format of :func:`datetime.datetime.strptime`, such as ``%d.%m.%Y``; without one, orders
        such as 31/05/2024 are not guessed.
    """
    codes, distinct = pd.factorize(text.str.strip())
    words = pd.Series(distinct.astype(str), dtype="str")
    empty = np.array([word.lower() in MISSING for word in words], dtype=bool)
    if form is None:
        iso = words.str.extract(r"^(\d{4})-?(\d{2})-?(\d{2})(?:[T ]?[\d:.]+(?:[+-][\d:]+|Z)?)?$")
        words, form = iso[0] + iso[1] + iso[2], "%Y%m%d"
    stamps = pd.to_datetime(words, format=form, errors="coerce")
    wrong = stamps.isna().to_numpy() & ~empty
    days = stamps.to_numpy().astype("datetime64[D]").astype(np.float64)
    days[stamps.isna().to_numpy()] = np.nan
    return Parsed(days[codes], wrong[codes])


def parse_ages(text: pd.Series) -> Parsed:
    """Return ages in years, float64: 58, 58.5, and DICOM's 058Y, 012M, 003W and 030D (PS3.5)."""

    def read(word: str) -> float | None:
        if word.lower() in MISSING:
            return np.nan
        match = _AGE.fullmatch(word.upper())
        return None if match is None else float(match[1]) * _YEARS[match[2]]

    return each_distinct(text, read, np.float64)


def plausible_ages(
    ages: npt.NDArray[np.float64], *, oldest: float, zero: bool = True
) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    """Return ages in years, NaN for those over `oldest`, and a note that counts these, if any.

    `zero`: whether an age of 0 is one, rather than unknown.
    """
    odd = (ages > oldest) | ((ages == 0) & (not zero))
    stated = f"over {oldest:g}" if zero else f"of 0 or over {oldest:g}"
    note = f"{int(odd.sum()):,} image(s) state an age {stated}: it is unknown"
    return np.where(odd, np.nan, ages), (note,) if odd.any() else ()


def parse_sexes(text: pd.Series) -> Parsed:
    """Return M, F or UNKNOWN."""
    return each_distinct(text, lambda word: _SEXES.get(word.lower()), np.object_)


def parse_views(text: pd.Series) -> Parsed:
    """Return PA, AP, LATERAL or UNKNOWN; several words ("AP SUPINE") count by the one that says it.

    What names another position is not understood, and UNKNOWN.
    """

    def read(word: str) -> str | None:
        parts = re.findall(r"[A-Z]+", word.upper())
        if word.lower() in MISSING:
            return "UNKNOWN"
        named = {part for part in parts if part in ("PA", "AP")}
        named |= {"LATERAL"} if _LATERAL & set(parts) else set()
        joined = " ".join(parts)
        named |= {"PA"} if "POSTERO ANTERIOR" in joined or "POSTEROANTERIOR" in joined else set()
        named |= {"AP"} if "ANTERO POSTERIOR" in joined or "ANTEROPOSTERIOR" in joined else set()
        return named.pop() if len(named) == 1 and "OBLIQUE" not in parts else None

    parsed = each_distinct(text, read, np.object_)
    return Parsed(np.where(parsed.wrong, "UNKNOWN", parsed.values), parsed.wrong)


def parse_numbers(text: pd.Series, missing: Sequence[str] = MISSING) -> Parsed:
    """Return float64; NaN for the words of `missing` (in lower case). Infinity is no number."""

    def read(word: str) -> float | None:
        if word.lower() in missing:
            return np.nan
        try:
            number = float(word)
        except ValueError:
            return None
        return number if np.isfinite(number) else None

    return each_distinct(text, read, np.float64)


def bad_cells(file: Path, text: pd.Series, wrong: npt.NDArray[np.bool_]) -> str:
    """List the distinct texts of the wrong cells, the most frequent first, and where they are."""
    rows = np.flatnonzero(wrong)
    counted = text.iloc[rows].value_counts()
    found = pd.Series(rows).groupby(text.iloc[rows].to_numpy()).apply(list)
    return bullet_list(f"{word!r} ({places(file, found[word])})" for word in counted.index)


def shape_of(text: str) -> str:
    """Return a text with every letter as A and every digit as 9: how it is written, not what."""
    return re.sub(r"[^\W\d_]", "A", re.sub(r"\d", "9", text))
