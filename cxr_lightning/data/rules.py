"""Labels as rules over measurements: ejection fraction below 40 %, stenosis moderate or worse.

Grades are words with an order, and the order is written in the configuration. A word that is not
in it, or a number that is none, is never guessed: all are reported with their rows.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field, model_validator

from cxr_lightning.config.schema import DataConfig, Section
from cxr_lightning.data.columns import Parsed, bad_cells, each_distinct, parse_numbers
from cxr_lightning.errors import nearest

__all__ = ["Rule", "Ruler", "grade_word", "rules_of"]

_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "below": operator.lt,
    "above": operator.gt,
    "at_least": operator.ge,
    "at_most": operator.le,
}
# What stands between two words or numbers: spaces, hyphens, dashes, slashes, "to".
_BETWEEN = re.compile(r"(?<=[\w+)])[\s\-/\u2010-\u2014]+(?:to[\s\-/\u2010-\u2014]+)?(?=[\w(])")


class Rule(Section):
    """Something that holds of a row or does not: all of the comparisons given, of one column."""

    column: str = Field(description="Column of the table.")
    below: float | str | None = Field(None, description="Less than this number or grade.")
    above: float | str | None = Field(None, description="More than this number or grade.")
    at_least: float | str | None = Field(None, description="This number or grade, or more.")
    at_most: float | str | None = Field(None, description="This number or grade, or less.")
    equals: float | str | tuple[str, ...] | None = Field(
        None, description="Exactly this number, this word, or one of these words."
    )

    @property
    def bounds(self) -> dict[str, float | str]:
        """The comparisons by order, by name."""
        given = ((name, getattr(self, name)) for name in _COMPARISONS)
        return {name: value for name, value in given if value is not None}

    @property
    def kind(self) -> str:
        """What the column holds: number, grade or word."""
        if self.bounds:
            return "grade" if isinstance(next(iter(self.bounds.values())), str) else "number"
        return "number" if isinstance(self.equals, float) else "word"

    @model_validator(mode="after")
    def _compares_one_kind_of_thing(self) -> Rule:
        if not self.bounds and self.equals is None:
            raise ValueError(f"{self.column}: say below, above, at_least, at_most or equals")
        if self.bounds and self.equals is not None:
            raise ValueError(f"{self.column}: equals cannot be combined with other comparisons")
        if len({isinstance(value, str) for value in self.bounds.values()}) > 1:
            raise ValueError(f"{self.column}: numbers and grades cannot be mixed in one rule")
        return self

    def __str__(self) -> str:
        parts = [f"{name.replace('_', ' ')} {_plain(value)}" for name, value in self.bounds.items()]
        if self.equals is not None:
            words = (self.equals,) if isinstance(self.equals, float | str) else self.equals
            parts.append("is " + " or ".join(_plain(word) for word in words))
        return f"{self.column} {' and '.join(parts)}"


def rules_of(config: DataConfig) -> dict[str, str]:
    """Return the rules that a data set's labels are, as text by label; none of data without."""
    return {name: str(rule) for name, rule in getattr(config, "targets", {}).items()}


class Ruler:
    """Applies rules to a table of text, and collects what it could not read.

    Parameters
    ----------
    grades
        The order of the words: equal numbers are equal grades.
    missing
        Words that stand for no measurement.
    """

    def __init__(self, grades: Mapping[str, float], missing: Sequence[str]) -> None:
        self.grades = {grade_word(word): float(rank) for word, rank in grades.items()}
        self.missing = frozenset(grade_word(word) for word in missing) | {""}

    def check(self, name: str, rule: Rule) -> list[str]:
        """Return what is wrong with a rule's grades, a sentence each."""
        unknown = [
            value
            for value in rule.bounds.values()
            if isinstance(value, str) and grade_word(value) not in self.grades
        ]
        return [
            f"{name}: {word!r} is not among the grades.{nearest(word, self.grades)} "
            f"Grades: {', '.join(self.grades)}"
            for word in unknown
        ]

    def apply(self, rule: Rule, text: pd.Series) -> npt.NDArray[np.float32]:
        """Return 1 where the rule holds, 0 where not, NaN where there is no measurement."""
        values = self.read(rule, text).values
        if rule.kind == "word":
            assert rule.equals is not None  # or the kind would be another
            wanted = (rule.equals,) if isinstance(rule.equals, float | str) else rule.equals
            holds = np.isin(values, [grade_word(str(word)) for word in wanted])
            return np.where(values == "", np.nan, holds).astype(np.float32)
        holds = np.ones(len(values), bool)
        for name, bound in rule.bounds.items():
            limit = self.grades[grade_word(bound)] if isinstance(bound, str) else bound
            holds &= _COMPARISONS[name](values, limit)
        if rule.equals is not None:
            holds &= values == rule.equals
        return np.where(np.isnan(values), np.nan, holds).astype(np.float32)

    def read(self, rule: Rule, text: pd.Series) -> Parsed:
        """Return the numbers, ranks or words of a column; what is missing is NaN or ""."""
        if rule.kind == "number":
            blank = text.map(grade_word).isin(self.missing)
            return parse_numbers(text.mask(blank, ""))
        if rule.kind == "word":
            return each_distinct(text, self._word, np.object_)
        return each_distinct(text, self._rank, np.float64)

    def problem(self, rule: Rule, text: pd.Series, file: Path) -> str:
        """Say which cells of a column cannot be read, and where; "" where all can."""
        wrong = self.read(rule, text).wrong
        if not wrong.any():
            return ""
        if rule.kind == "number":
            return f"{rule.column} must be numbers:\n{bad_cells(file, text, wrong)}"
        return (
            f"{rule.column} has words that are not among the grades:\n"
            f"{bad_cells(file, text, wrong)}\n"
            f"Grades: {', '.join(self.grades)}.\nGive a word its place in data.grades, or name it "
            "in data.missing."
        )

    def _rank(self, word: str) -> float | None:
        key = grade_word(word)
        return np.nan if key in self.missing else self.grades.get(key)

    def _word(self, word: str) -> str:
        key = grade_word(word)
        return "" if key in self.missing else key


def grade_word(text: str) -> str:
    """Return a word as it is compared: "Mild to  Moderate", "mild/moderate" are mild-moderate."""
    return _BETWEEN.sub("-", text.strip().lower())


def _plain(value: float | str) -> str:
    return f"{value:g}" if isinstance(value, float) else value
