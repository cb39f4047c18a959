"""From images to studies: hand-worked pooling, unknown labels, contradictions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from cxr_lightning.errors import DataError
from cxr_lightning.evaluation.discrimination import auroc_per_label
from cxr_lightning.evaluation.predictions import arrays, make_predictions
from cxr_lightning.evaluation.study_level import predictions_per_study

NAN = np.nan


def predictions(
    studies: list[str],
    y_true: list[list[float]],
    logits: list[list[float]],
    *,
    patients: list[str] | None = None,
    splits: list[str] | None = None,
    **extra: list[object],
) -> pd.DataFrame:
    return make_predictions(
        sample_id=[f"image{row}" for row in range(len(studies))],
        patient_id=patients or [f"patient of {study}" for study in studies],
        study_id=studies,
        split=splits or "test",
        labels=["Edema", "Fracture"],
        y_true=y_true,
        logits=logits,
        extra=extra,
    )


@pytest.fixture
def table() -> pd.DataFrame:
    """Two views of study b, one image of a, one more of b: not in order."""
    return predictions(
        ["b", "a", "b", "b"],
        [[1, NAN], [0, 1], [NAN, NAN], [1, NAN]],
        [[logit(0.2), 1.0], [-3.0, 2.0], [logit(0.9), -1.0], [logit(0.4), 0.0]],
        view=["PA", "AP", "LATERAL", "PA"],
        sex=["F", "M", "F", "F"],
        age_years=[50.0, NAN, 50.0, 50.0],
    )


def test_maximum_by_hand(table: pd.DataFrame) -> None:
    studies = predictions_per_study(table, "max")
    assert studies["sample_id"].tolist() == studies["study_id"].tolist() == ["b", "a"]
    assert studies["images"].tolist() == [3, 1]
    np.testing.assert_allclose(expit(studies["logit/Edema"]), [0.9, expit(-3)], rtol=1e-6)
    np.testing.assert_array_equal(studies["logit/Fracture"], [1, 2])
    np.testing.assert_array_equal(studies["y_true/Edema"], [1, 0])
    np.testing.assert_array_equal(studies["y_true/Fracture"], [NAN, 1])


def test_mean_by_hand(table: pd.DataFrame) -> None:
    studies = predictions_per_study(table, "mean")
    np.testing.assert_allclose(expit(studies["logit/Edema"]), [0.5, expit(-3)], rtol=1e-6)


def test_what_differs_between_views_is_left_out(table: pd.DataFrame) -> None:
    studies = predictions_per_study(table)
    assert "view" not in studies
    assert studies["sex"].tolist() == ["F", "M"]
    np.testing.assert_array_equal(studies["age_years"], [50, NAN])


def test_certain_views_stay_finite_and_ordered() -> None:
    # As probabilities in float64 all of these are 0 or 1.
    table = predictions(
        ["a", "a", "b", "c"], [[1, 0]] * 4, [[90, -900], [95, -901], [80, 1], [1, 1]]
    )
    studies = predictions_per_study(table, "mean")
    edema = studies["logit/Edema"].to_numpy()
    # The mean of 1 - exp(-90) and 1 - exp(-95): half of what is missing is the former's.
    assert edema[0] == pytest.approx(90 - np.log(0.5 * (1 + np.exp(-5))), abs=1e-4)
    assert edema[0] > edema[1]
    assert studies["logit/Fracture"][0] == pytest.approx(-900 + np.log(0.5 * (1 + np.exp(-1))))


def test_the_input_is_not_changed(table: pd.DataFrame) -> None:
    before = table.copy(deep=True)
    predictions_per_study(table, "mean")
    pd.testing.assert_frame_equal(table, before)


def test_studies_again_give_the_same(table: pd.DataFrame) -> None:
    once = predictions_per_study(table, "max")
    again = predictions_per_study(once, "max")
    pd.testing.assert_frame_equal(
        again.drop(columns="images"), once.drop(columns="images"), check_like=True
    )


def test_every_contradiction_is_told() -> None:
    table = predictions(
        ["a", "a", "b", "b", "c", "c"],
        [[1, 0], [0, 0], [1, 1], [1, 1], [0, 1], [0, 0]],
        [[0, 0]] * 6,
        patients=["1", "1", "2", "3", "4", "4"],
        splits=["test", "test", "test", "test", "test", "val"],
    )
    with pytest.raises(DataError) as caught:
        predictions_per_study(table)
    assert str(caught.value) == (
        "images of one study contradict one another:\n"
        "  - study b: patient_id 2 and 3\n"
        "  - study c: split test and val\n"
        "  - study a: its images are both 1 and 0: Edema\n"
        "  - study c: its images are both 1 and 0: Fracture\n"
        "Scoring per study needs labels of the study; score these per image."
    )


def test_another_pooling_is_refused(table: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="max or mean"):
        predictions_per_study(table, "median")  # type: ignore[arg-type]


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["max", "mean"]))
def test_pooling_equals_a_loop_and_feeds_the_metrics(seed: int, pooling: str) -> None:
    generator = np.random.default_rng(seed)
    studies = generator.integers(0, 6, 12)
    truth = generator.integers(0, 2, (6, 2)).astype(float)
    logits = generator.normal(0, 4, (12, 2)).astype(np.float32)
    table = predictions([f"s{s}" for s in studies], truth[studies].tolist(), logits.tolist())
    pooled = predictions_per_study(table, pooling)  # type: ignore[arg-type]
    pool = np.max if pooling == "max" else np.mean
    for row, study in enumerate(dict.fromkeys(studies.tolist())):
        expected = pool(expit(logits[studies == study].astype(float)), axis=0)
        np.testing.assert_allclose(
            expit(pooled.loc[row, ["logit/Edema", "logit/Fracture"]].to_numpy(float)),
            expected,
            rtol=1e-5,
        )
    values = arrays(pooled)
    assert auroc_per_label(values.y_true, values.y_score).shape == (2,)
