from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr_lightning.errors import DataError
from cxr_lightning.evaluation.predictions import (
    arrays,
    labels_of,
    make_predictions,
    read_predictions,
    validate_predictions,
    write_predictions,
)


def test_parquet_round_trip_keeps_every_bit(table: pd.DataFrame, tmp_path: Path) -> None:
    path = write_predictions(table, tmp_path / "predictions_test.parquet")
    again = read_predictions(path)
    pd.testing.assert_frame_equal(again, table)
    assert [*tmp_path.iterdir()] == [path]
    assert {str(table[f"{kind}/Mass"].dtype) for kind in ("y_true", "logit")} == {"float32"}


def test_arrays_by_hand() -> None:
    table = make_predictions(
        sample_id=["a", "b", "c"],
        patient_id=["7", "3", "7"],
        study_id=["1", "2", "3"],
        split=["val", "val", "test"],
        labels=["x", "y"],
        y_true=[[1, np.nan], [0, 1], [1, 0]],
        logits=[[0.0, 1.0], [-2.0, 2.0], [20.0, -20.0]],
    )
    y_true, y_score, patients = arrays(table)
    np.testing.assert_array_equal(y_true, [[1, np.nan], [0, 1], [1, 0]])
    np.testing.assert_allclose(y_score[:2], [[0.5, 0.731058578], [0.119202922, 0.880797078]])
    assert y_score.dtype == np.float64
    np.testing.assert_array_equal(patients, [0, 1, 0])
    assert labels_of(table) == ("x", "y")
    np.testing.assert_array_equal(arrays(table, ["y"]).y_true[:, 0], y_true[:, 1])


def test_neighbouring_float32_logits_stay_distinct_probabilities() -> None:
    for value in np.array([-80, -20, -3.3, -1e-6, 1e-6, 0.7, 9, 15, 20], dtype=np.float32):
        table = make_predictions(
            sample_id=["a", "b"],
            patient_id=["1", "2"],
            study_id=["1", "2"],
            split="test",
            labels=["x"],
            y_true=[[0], [1]],
            logits=[[value], [np.nextafter(value, np.float32(np.inf))]],
        )
        low, high = arrays(table).y_score[:, 0]
        assert low < high


def test_unknown_label_is_named() -> None:
    table = make_predictions(
        sample_id=["a"],
        patient_id=["1"],
        study_id=["1"],
        split="test",
        labels=["Mass", "Edema"],
        y_true=[[0, 1]],
        logits=[[0, 1]],
    )
    with pytest.raises(DataError) as error:
        arrays(table, ["Mas"])
    assert str(error.value) == "The predictions hold no label Mas; they hold Mass, Edema."


def test_all_problems_at_once() -> None:
    table = pd.DataFrame(
        {
            "sample_id": ["a", "b", "a", ""],
            "patient_id": [1, 2, 3, 4],
            "split": ["test"] * 4,
            "y_true/Mass": [1.0, 0.0, -1.0, np.nan],
            "logit/Mass": [0.1, np.inf, 0.2, 0.3],
            "y_true/Edema": [1.0, 0.0, 0.0, 1.0],
            "logit/Hernia": ["0.1", "much", "0.3", "0.4"],
        }
    )
    with pytest.raises(DataError) as error:
        validate_predictions(table, source="p.parquet")
    assert str(error.value) == (
        "p.parquet: not a predictions table:\n"
        "  - sample_id is empty in 1 row (3)\n"
        "  - patient_id holds int64 in 4 rows (0, 1, 2, ...); ids are text, so that leading zeros "
        "stay\n"
        "  - column study_id is missing\n"
        "  - sample_id repeats in 2 rows (0, 2), e.g. 'a'\n"
        "  - y_true/Edema has no logit/Edema\n"
        "  - logit/Hernia has no y_true/Hernia\n"
        "  - y_true/Mass must be 1, 0 or NaN; -1.0 in 1 row (2)\n"
        "  - logit/Mass is not a finite number in 1 row (1)\n"
        "  - logit/Hernia is not a finite number in 1 row (1)\n"
        "It needs the text columns sample_id, patient_id, study_id, split, and for each label "
        "y_true/LABEL (1, 0, NaN) and logit/LABEL."
    )


def test_validation_does_not_touch_its_input(table: pd.DataFrame) -> None:
    wide = table.astype({"logit/Mass": np.float64})
    assert str(validate_predictions(wide)["logit/Mass"].dtype) == "float32"
    assert str(wide["logit/Mass"].dtype) == "float64"


def test_files_that_are_not_there_or_not_parquet(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file; a finished fit writes"):
        read_predictions(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("sample_id,patient_id\n")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read_predictions(tmp_path / "text.parquet")


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"must have shape \(1, 2\)"):
        make_predictions(
            sample_id=["a"],
            patient_id=["1"],
            study_id=["1"],
            split="test",
            labels=["x", "y"],
            y_true=[[0]],
            logits=[[0]],
        )
