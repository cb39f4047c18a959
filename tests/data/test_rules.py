"""Rules over measurements: thresholds, the order of grades, and words that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cxr_lightning.data.rules import Rule, Ruler, grade_word

GRADES = {"none": 0, "trace": 1, "mild": 2, "mild-moderate": 3, "moderate": 4, "severe": 6, "2+": 4}
RULER = Ruler(GRADES, ("na", "not assessed"))
NAN = np.nan


def applied(rule: dict[str, object], cells: list[str]) -> np.ndarray:
    return RULER.apply(Rule(column="x", **rule), pd.Series(cells))


def test_numbers() -> None:
    cells = ["39.9", "40", " 55 ", "", "NA", "1e1"]
    np.testing.assert_array_equal(applied({"below": 40}, cells), [1, 0, 0, NAN, NAN, 1])
    np.testing.assert_array_equal(applied({"at_most": 40}, cells), [1, 1, 0, NAN, NAN, 1])
    np.testing.assert_array_equal(applied({"above": 40}, cells), [0, 0, 1, NAN, NAN, 0])
    between = applied({"at_least": 39, "below": 50}, cells)
    np.testing.assert_array_equal(between, [1, 1, 0, NAN, NAN, 0])


def test_grades_by_their_order() -> None:
    cells = ["None", "MILD", "mild to moderate", "Moderate", "2+", "severe", "Not  assessed", ""]
    np.testing.assert_array_equal(
        applied({"at_least": "moderate"}, cells), [0, 0, 0, 1, 1, 1, NAN, NAN]
    )
    np.testing.assert_array_equal(applied({"above": "mild"}, cells), [0, 0, 1, 1, 1, 1, NAN, NAN])


def test_equals() -> None:
    np.testing.assert_array_equal(applied({"equals": 3}, ["3", "3.0", "4", ""]), [1, 1, 0, NAN])
    words = applied({"equals": ("poor", "not readable")}, ["Poor", "good", "", "Not readable"])
    np.testing.assert_array_equal(words, [1, 0, NAN, 1])


@pytest.mark.parametrize(
    "spelling",
    ["mild-moderate", "Mild to Moderate", "mild/moderate", "mild - moderate", "MILD-TO-MODERATE",
     "mild \u2013 moderate"],
)  # fmt: skip
def test_spellings_of_one_grade(spelling: str) -> None:
    assert grade_word(spelling) == "mild-moderate"


def test_signs_are_kept() -> None:
    assert [grade_word(text) for text in ("2+", "1-2+", "-", "< 1", "-1")] == [
        "2+", "1-2+", "-", "< 1", "-1"]  # fmt: skip


def test_unknown_words_are_listed_with_their_lines() -> None:
    cells = pd.Series(["mild", "modrate", "Modrate", "modrate", "4/6"])
    problem = RULER.problem(Rule(column="ms", at_least="moderate"), cells, Path("echo.csv"))
    assert problem.startswith(
        "ms has words that are not among the grades:\n"
        "  - 'modrate' (lines 3, 5)\n  - 'Modrate' (line 4)\n  - '4/6' (line 6)\nGrades: none, "
    )
    parquet = RULER.problem(Rule(column="ms", at_least="mild"), cells, Path("echo.parquet"))
    assert "'modrate' (rows 2, 4)" in parquet


def test_what_is_no_number_is_listed_with_its_lines() -> None:
    cells = pd.Series(["35", "35-40", "", ">55", "inf"])
    assert RULER.problem(Rule(column="lvef", below=40), cells, Path("echo.csv")) == (
        "lvef must be numbers:\n  - '35-40' (line 3)\n  - '>55' (line 5)\n  - 'inf' (line 6)"
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "say below, above, at_least, at_most or equals"),
        ({"below": 40, "equals": 3}, "cannot be combined"),
        ({"below": 40, "at_least": "mild"}, "cannot be mixed"),
    ],
)
def test_rules_that_say_nothing_or_too_much(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Rule(column="x", **fields)


def test_a_grade_that_is_not_in_the_order() -> None:
    (problem,) = RULER.check("targets.ms", Rule(column="ms", at_least="modrate"))
    assert "'modrate' is not among the grades. Did you mean 'moderate'?" in problem


@given(st.lists(st.sampled_from([*GRADES, "", "na"]), min_size=1), st.sampled_from(list(GRADES)))
def test_below_and_at_least_divide_what_is_measured(cells: list[str], grade: str) -> None:
    below, rest = applied({"below": grade}, cells), applied({"at_least": grade}, cells)
    measured = ~np.isnan(below)
    np.testing.assert_array_equal(measured, ~np.isnan(rest))
    np.testing.assert_array_equal((below + rest)[measured], 1)
    np.testing.assert_array_equal(measured, [cell not in ("", "na") for cell in cells])
