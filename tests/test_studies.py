"""The study table: every problem at once, patient splits, the leakage audit, the fingerprint."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_lightning.errors import DataError
from cxr_lightning.labels import LabelSpace
from cxr_lightning.studies import (
    audit_leakage,
    fingerprint,
    label_array,
    split_by_patient,
    validate_studies,
)

LABELS = LabelSpace(("Common", "Rare"))
FRACTIONS = {"train": 0.7, "val": 0.1, "test": 0.2}


def table(patients: list[int], seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    n = len(patients)
    return pd.DataFrame(
        {
            "sample_id": [f"{i:05}.png" for i in range(n)],
            "image_path": [f"images/{i:05}.png" for i in range(n)],
            "patient_id": [str(p) for p in patients],
            "study_id": [str(i) for i in range(n)],
            "view": "PA",
            "split": [("train", "val", "test")[p % 3] for p in patients],
            "age_years": 50.0,
            "sex": "F",
            "Common": (generator.random(n) < 0.4).astype(np.float32),
            "Rare": (generator.random(n) < 0.05).astype(np.float32),
        }
    )


def test_a_good_table_passes_unchanged() -> None:
    studies = table([0, 1, 2])
    assert validate_studies(studies, LABELS) is studies


def test_every_problem_is_reported_at_once() -> None:
    studies = table([0, 1, 3, 4])
    studies.loc[1, "sample_id"] = "00000.png"
    studies.loc[2, "view"] = "OBLIQUE"
    studies.loc[3, "sex"] = "f"
    studies.loc[0, "age_years"] = 414
    studies.loc[1, "patient_id"] = " "
    studies.loc[2, "Rare"] = 2
    with pytest.raises(DataError) as error:
        validate_studies(studies, LABELS, source="studies.csv")
    assert str(error.value) == (
        "studies.csv: 7 problem(s)\n"
        "  - patient_id is empty: row 1 (00000.png)\n"
        "  - sample_id occurs more than once: row 0 (00000.png); row 1 (00000.png)\n"
        "  - view must be one of PA, AP, LATERAL, UNKNOWN: row 2 (00002.png) 'OBLIQUE'\n"
        "  - sex must be one of M, F, UNKNOWN: row 3 (00003.png) 'f'\n"
        "  - age_years must be in [0, 120]: row 0 (00000.png) 414.0\n"
        "  - label Rare must be 1, 0, -1 (uncertain) or unknown: row 2 (00002.png) 2.0\n"
        "  - the test split is empty: no image has split=test"
    )


def test_missing_columns_are_named() -> None:
    with pytest.raises(DataError, match="missing columns: view, Rare"):
        validate_studies(table([0, 1, 2]).drop(columns=["view", "Rare"]), LABELS)


def test_unknown_and_uncertain_labels_are_allowed() -> None:
    studies = table([0, 1, 2]).assign(Rare=np.array([np.nan, -1, 1], dtype=np.float32))
    validate_studies(studies, LABELS)


@settings(max_examples=40)
@given(
    patients=st.lists(st.integers(0, 40), min_size=3, max_size=200).filter(
        lambda p: len(set(p)) >= 3
    ),
    seed=st.integers(0, 5),
)
def test_no_patient_crosses_a_split_and_none_is_empty(patients: list[int], seed: int) -> None:
    studies = split_by_patient(table(patients), FRACTIONS, labels=LABELS, seed=seed)
    assert audit_leakage(studies).clean
    assert set(studies["split"]) == {"train", "val", "test"}


def test_a_split_is_stratified_and_in_proportion() -> None:
    studies = table([i // 2 for i in range(4000)])
    split = split_by_patient(studies, FRACTIONS, labels=LABELS, seed=1)
    patients = split.groupby("split")["patient_id"].nunique() / 2000
    for name, share in FRACTIONS.items():
        assert patients[name] == pytest.approx(share, abs=0.002)
    has_rare = split.groupby("patient_id")["Rare"].max() > 0
    where = split.groupby("patient_id")["split"].agg(lambda part: part.iloc[0])
    # About 190 patients have the rare label: each split has its share to within two.
    for name, share in FRACTIONS.items():
        assert abs((where[has_rare] == name).sum() - share * has_rare.sum()) <= 2


def test_a_split_depends_on_its_seed_alone() -> None:
    studies = table(list(range(50)))
    one = split_by_patient(studies, FRACTIONS, labels=LABELS, seed=1)
    again = split_by_patient(studies, FRACTIONS, labels=LABELS, seed=1)
    other = split_by_patient(studies, FRACTIONS, labels=LABELS, seed=2)
    pd.testing.assert_frame_equal(one, again)
    assert (one["split"] != other["split"]).any()
    shuffled = split_by_patient(
        studies.sample(frac=1, random_state=0), FRACTIONS, labels=LABELS, seed=1
    )
    pd.testing.assert_series_equal(shuffled["split"].sort_index(), one["split"], check_names=False)


def test_too_few_patients() -> None:
    with pytest.raises(DataError, match=r"2 patient\(s\) cannot be divided into train, val, test"):
        split_by_patient(table([0, 1]), FRACTIONS, labels=LABELS, seed=0)


def test_audit_finds_patients_across_splits() -> None:
    studies = table([0, 1, 2, 3]).assign(patient_id=["a", "a", "b", "c"])
    report = audit_leakage(studies)
    assert report.patients == ("a",)
    assert "1 patient(s) in more than one split" in report.describe()


def test_audit_finds_identical_pixels_across_splits_only() -> None:
    studies = table([0, 3, 1, 2])  # train, train, val, test
    content = np.array([7, 7, 7, 8], dtype=np.uint64)
    report = audit_leakage(studies, content)
    assert report.duplicates == (("00000.png (train)", "00001.png (train)", "00002.png (val)"),)
    assert audit_leakage(studies, np.array([7, 7, 8, 9], dtype=np.uint64)).clean


def test_fingerprint_ignores_the_order_of_rows() -> None:
    studies = table(list(range(20)))
    shuffled = studies.sample(frac=1, random_state=1)
    assert fingerprint(studies, LABELS) == fingerprint(shuffled, LABELS)


@pytest.mark.parametrize("column", ["sample_id", "split", "Rare"])
def test_fingerprint_sees_every_change(column: str) -> None:
    studies = table(list(range(20)))
    changed = studies.copy()
    changed[column] = changed[column].sample(frac=1, random_state=3).to_numpy()
    changed.loc[0, column] = {"sample_id": "x.png", "split": "val", "Rare": 0.5}[column]
    assert fingerprint(studies, LABELS) != fingerprint(changed, LABELS)


def test_label_array_is_a_copy() -> None:
    studies = table([0, 1, 2])
    label_array(studies, LABELS)[:] = 9
    assert (studies["Rare"] <= 1).all()
