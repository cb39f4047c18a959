"""Radiographs and records of one patient: the nearest on either side, and never from the future."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_lightning.data.linkage import check_past, nearest_records, newest_before, one_a_day

PEOPLE = st.sampled_from("abc")
DATED = st.lists(st.tuples(PEOPLE, st.integers(0, 40)), min_size=1, max_size=25)


def columns(rows: list[tuple[str, int]]) -> tuple[pd.Series, np.ndarray]:
    people, days = zip(*rows, strict=True)
    return pd.Series(people, dtype="str"), np.array(days, dtype=np.int64)


def nearest(images: list[tuple[str, int]], records: list[tuple[str, int]], **window: int) -> list:
    return nearest_records(*columns(images), *columns(records), **window).tolist()


def test_the_nearest_inside_of_the_window() -> None:
    records = [("a", 100), ("a", 130), ("b", 110)]
    images = [("a", 104), ("a", 120), ("a", 171), ("a", 69), ("b", 110), ("c", 110)]
    assert nearest(images, records, before=40, after=30) == [0, 1, -1, -1, 2, -1]
    assert nearest(images, records, before=41, after=31) == [0, 1, 1, 0, 2, -1]


def test_of_two_equally_near_the_earlier() -> None:
    assert nearest([("a", 10)], [("a", 15), ("a", 5)], before=9, after=9) == [1]


def test_of_one_day_the_last_row_whole() -> None:
    people, days = columns([("a", 1), ("b", 1), ("a", 1), ("a", 2)])
    assert one_a_day(people, days).tolist() == [1, 2, 3]


@given(DATED, DATED, st.integers(0, 20), st.integers(0, 20))
def test_as_by_going_through_all_pairs(
    images: list[tuple[str, int]], records: list[tuple[str, int]], before: int, after: int
) -> None:
    records = list(dict.fromkeys(records))
    expected = []
    for person, day in images:
        best, found = (after + before + 1, 2), -1
        for row, (other, when) in enumerate(records):
            inside = day - before <= when <= day + after
            key = (abs(when - day), int(when > day))
            if other == person and inside and key < best:
                best, found = key, row
        expected.append(found)
    assert nearest(images, records, before=before, after=after) == expected


@given(DATED, DATED)
def test_inputs_are_the_newest_before_the_limit(
    images: list[tuple[str, int]], records: list[tuple[str, int]]
) -> None:
    records = list(dict.fromkeys(records))
    people, limits = columns(images)
    rows = newest_before(people, limits, *columns(records))
    for (person, limit), row in zip(images, rows, strict=True):
        earlier = [when for other, when in records if other == person and when < limit]
        assert (row == -1) == (not earlier)
        if earlier:
            assert records[row] == (person, max(earlier))
    check_past(limits, columns(records)[1], rows)


def test_the_guard_sees_a_leak() -> None:
    limits, days = np.array([10, 10]), np.array([9, 10])
    check_past(limits, days, np.array([0, -1]))
    with pytest.raises(RuntimeError, match="1 radiographs would be given inputs"):
        check_past(limits, days, np.array([0, 1]))


def test_a_large_hospital_takes_a_moment() -> None:
    generator = np.random.default_rng(0)
    people = pd.Series(generator.integers(0, 30_000, 100_000).astype(str))
    days = generator.integers(0, 4000, 100_000)
    others = pd.Series(generator.integers(0, 30_000, 50_000).astype(str))
    when = generator.integers(0, 4000, 50_000)
    started = time.process_time()
    chosen = one_a_day(others, when)
    rows = nearest_records(people, days, others[chosen], when[chosen], before=90, after=90)
    assert time.process_time() - started < 5
    assert 0.05 < (rows >= 0).mean() < 0.2
