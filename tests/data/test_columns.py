"""Texts as dates, ages, sexes and views."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cxr_lightning.data.columns import (
    bad_cells,
    parse_ages,
    parse_days,
    parse_numbers,
    parse_sexes,
    parse_views,
)

NAN = np.nan


def test_days() -> None:
    text = pd.Series(
        ["1970-01-02", "19700111", "2024-05-31T10:20:30", "2024-05-31 23:59", "", "NA"]
    )
    values, wrong = parse_days(text)
    np.testing.assert_array_equal(values, [1, 10, 19874, 19874, NAN, NAN])
    assert not wrong.any()


def test_days_that_are_not_guessed() -> None:
    values, wrong = parse_days(
        pd.Series(["31/05/2024", "2024-13-01", "2023-02-29", "5", "20240531x"])
    )
    assert wrong.all()
    assert np.isnan(values).all()
    np.testing.assert_array_equal(parse_days(pd.Series(["31/05/2024"]), "%d/%m/%Y").values, [19874])


def test_ages() -> None:
    values, wrong = parse_ages(pd.Series(["58", "058Y", "006M", "004W", "30d", "58.5", "", "old"]))
    expected = [58, 58, 0.5, 28 / 365.25, 30 / 365.25, 58.5, NAN, NAN]
    np.testing.assert_allclose(values, expected)
    assert wrong.tolist() == [False] * 7 + [True]


def test_sexes() -> None:
    values, wrong = parse_sexes(pd.Series(["M", "female", "MALE", "", "O", "1"]))
    assert values.tolist()[:5] == ["M", "F", "M", "UNKNOWN", "UNKNOWN"]
    assert wrong.tolist() == [False] * 5 + [True]


def test_views() -> None:
    words = ["PA", "ap", "AP SUPINE", "LL", "Lateral", "postero-anterior", "antero-posterior", ""]
    values, wrong = parse_views(pd.Series(words))
    assert values.tolist() == ["PA", "AP", "AP", "LATERAL", "LATERAL", "PA", "AP", "UNKNOWN"]
    assert not wrong.any()
    odd = parse_views(pd.Series(["XX", "PA LATERAL", "antero-posterior oblique", "FRONTAL"]))
    assert odd.values.tolist() == ["UNKNOWN"] * 4
    assert odd.wrong.all()


def test_numbers() -> None:
    values, wrong = parse_numbers(pd.Series(["1", "-2.5", "", "n/a", "3,5", "inf"]))
    np.testing.assert_array_equal(values, [1, -2.5, NAN, NAN, NAN, NAN])
    assert wrong.tolist() == [False] * 4 + [True] * 2


def test_wrong_cells_are_listed_by_what_they_hold() -> None:
    text = pd.Series(["x", "ok", "y", "x", "x", "x", "x", "x"])
    assert bad_cells(Path("a.csv"), text, (text != "ok").to_numpy()) == (
        "  - 'x' (lines 2, 5, 6, 7, 8 and 1 more)\n  - 'y' (line 4)"
    )
