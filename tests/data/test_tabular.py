"""Tabular inputs: training statistics only, missing said so, and never what lies ahead."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_lightning.data.previous import with_previous_labels
from cxr_lightning.data.tabular import TabularEncoder, fit_tabular
from cxr_lightning.errors import ConfigError, DataError
from cxr_lightning.labels import LabelSpace

LABELS = LabelSpace(("Edema", "Mass"))
NAN = np.nan


def studies() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "sample_id": list("abcdef"),
            "patient_id": ["1", "1", "1", "1", "2", "3"],
            "visit": [0.0, 1, 1, 2, 0, NAN],
            "split": ["train"] * 4 + ["val", "test"],
            "age_years": [40.0, 60, NAN, 50, 999, 50],
            "sex": ["F", "M", "UNKNOWN", "F", "M", "X"],
            "lvef": [30.0, 30, 30, 30, 60, NAN],
            "Edema": np.array([1, 0, NAN, 1, 0, 1], np.float32),
            "Mass": np.array([0, -1, 1, 0, 0, 0], np.float32),
        }
    )


def test_numbers_are_standardised_by_training_rows() -> None:
    encoder = fit_tabular(studies(), ["age_years"], LABELS)
    assert encoder.outputs == ("age_years", "age_years missing")
    std = np.std([40, 60, 50])
    expected = [[-10 / std, 0], [10 / std, 0], [0, 1], [0, 0], [949 / std, 0], [0, 0]]
    np.testing.assert_allclose(encoder.encode(studies()), expected, rtol=1e-6)


def test_words_are_one_hot_over_those_of_training() -> None:
    encoder = fit_tabular(studies(), ["sex"], LABELS)
    assert encoder.outputs == ("sex F", "sex M", "sex missing")
    expected = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    np.testing.assert_array_equal(encoder.encode(studies()), expected)


def test_a_constant_carries_nothing() -> None:
    encoder = fit_tabular(studies(), ["lvef"], LABELS)
    encoded = encoder.encode(studies())
    assert np.isfinite(encoded).all()
    np.testing.assert_array_equal(encoded[:4], 0)
    np.testing.assert_array_equal(encoded[5], [0, 1])


def test_previous_labels_by_hand() -> None:
    table = with_previous_labels(studies(), LABELS)
    # Visit 1 has two images: Edema 0 and unknown -> 0; Mass uncertain and 1 -> 1.
    np.testing.assert_array_equal(table["previous/Edema"], [NAN, 1, 1, 0, NAN, NAN])
    np.testing.assert_array_equal(table["previous/Mass"], [NAN, 0, 0, 1, NAN, NAN])
    np.testing.assert_array_equal(table["previous/visit"], [0, 1, 1, 1, 0, 0])
    encoder = fit_tabular(table, ["previous_labels"], LABELS)
    assert encoder.outputs == ("previous Edema", "previous Mass", "previous visit")
    expected = [[0, 0, 0], [1, -1, 1], [1, -1, 1], [-1, 1, 1], [0, 0, 0], [0, 0, 0]]
    np.testing.assert_array_equal(encoder.encode(table), expected)
    # Where no history is given there is none.
    np.testing.assert_array_equal(encoder.encode(studies()), np.zeros((6, 3)))


def test_previous_labels_are_those_known_before() -> None:
    """Past visits that were labelled too late, or by the examination that gives the truth."""
    table = pd.DataFrame(
        {
            "patient_id": ["1"] * 5 + ["2"] * 3,
            "visit": [0.0, 10, 20, 30, 60, 0, 5, NAN],
            "labelled": [-4.0, 15, 20, 20, 31, NAN, NAN, NAN],
            "Edema": np.array([1, 0, 1, 1, 0, 0, 1, 1], np.float32),
            "Mass": np.zeros(8, np.float32),
        },
        index=[3, 1, 4, 15, 9, 2, 6, 5],
    )
    found = with_previous_labels(table, LABELS)
    # Visit 10 knows -4; 20 knows 15; 30 is labelled by 20's own examination, so knows 15; 60 all.
    np.testing.assert_array_equal(found["previous/Edema"], [NAN, 1, 0, 0, 1, NAN, 0, NAN])
    np.testing.assert_array_equal(found["previous/visit"], [0, 1, 1, 1, 1, 0, 1, 0])
    assert found.index.tolist() == table.index.tolist()
    none = with_previous_labels(table.assign(visit=NAN), LABELS)
    assert none["previous/visit"].tolist() == [0] * 8


@given(st.data())
def test_nothing_comes_from_the_same_or_a_later_visit(data: st.DataObject) -> None:
    """Planting another truth in a visit changes no input of that visit or of any before it."""
    n = data.draw(st.integers(1, 12))
    table = pd.DataFrame(
        {
            "patient_id": data.draw(st.lists(st.sampled_from("AB"), min_size=n, max_size=n)),
            "visit": [
                float(v) for v in data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
            ],
            "Edema": np.float32(
                data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=n, max_size=n))
            ),
            "Mass": np.zeros(n, np.float32),
        }
    )
    patient, visit = data.draw(st.sampled_from("AB")), data.draw(st.integers(0, 3))
    planted = table.copy()
    hit = (table["patient_id"] == patient) & (table["visit"] == visit)
    planted.loc[hit, "Edema"] = 1 - planted.loc[hit, "Edema"]
    column = "previous/Edema"
    before = with_previous_labels(table, LABELS)[column]
    after = with_previous_labels(planted, LABELS)[column]
    untouched = (table["patient_id"] != patient) | (table["visit"] <= visit)
    np.testing.assert_array_equal(before[untouched], after[untouched])


def test_previous_labels_need_an_order_of_visits() -> None:
    with pytest.raises(ConfigError, match="needs to know which visit came first"):
        with_previous_labels(studies().drop(columns="visit"), LABELS)


def test_what_may_not_be_an_input() -> None:
    with pytest.raises(ConfigError) as error:
        fit_tabular(studies(), ["Edema", "age", "patient_id", "sex"], LABELS)
    assert str(error.value) == (
        "data.tabular: not usable as input:\n"
        "  - 'Edema' is a label: what is to be predicted cannot be an input\n"
        "  - 'age'.\n"
        "  - 'patient_id'.\n"
        "Allowed: visit, age_years, sex, lvef, previous_labels"
    )


def test_a_column_without_any_value() -> None:
    table = studies().assign(lvef=NAN)
    with pytest.raises(DataError, match="lvef is missing in every training image"):
        fit_tabular(table, ["lvef"], LABELS)


def test_a_table_that_lacks_a_column() -> None:
    encoder = fit_tabular(studies(), ["age_years", "sex"], LABELS)
    with pytest.raises(DataError, match="takes age_years, sex beside the image; the table lacks s"):
        encoder.encode(studies().drop(columns="sex"))


def test_the_encoder_survives_json() -> None:
    table = with_previous_labels(studies(), LABELS)
    encoder = fit_tabular(table, ["age_years", "sex", "previous_labels"], LABELS)
    again = TabularEncoder.from_dict(json.loads(json.dumps(encoder.to_dict())))
    assert again == encoder
    np.testing.assert_array_equal(again.encode(table), encoder.encode(table))


def test_no_columns_no_inputs() -> None:
    encoder = fit_tabular(studies(), [], LABELS)
    assert encoder.encode(studies()).shape == (6, 0)


def test_what_is_of_another_kind_than_in_training() -> None:
    words = TabularEncoder.from_dict([{"kind": "categorical", "name": "x", "categories": ["3"]}])
    np.testing.assert_array_equal(
        words.encode(pd.DataFrame({"x": [3.0, np.nan, 4.0]})), [[1, 0], [0, 1], [0, 1]]
    )
    numbers = TabularEncoder.from_dict([{"kind": "numeric", "name": "x", "mean": 1, "std": 2}])
    np.testing.assert_array_equal(
        numbers.encode(pd.DataFrame({"x": ["3", "", "1"]})), [[1, 0], [0, 1], [0, 0]]
    )
    with pytest.raises(DataError, match=r"x: the network was trained with numbers.*\n  - 'tall'"):
        numbers.encode(pd.DataFrame({"x": ["3", "tall", "tall"]}))
