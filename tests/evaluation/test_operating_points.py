from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from cxr_lightning.evaluation.operating_points import operating_points
from cxr_lightning.evaluation.predictions import make_predictions


def test_numbers_equal_those_computed_from_the_file(table: pd.DataFrame) -> None:
    found = operating_points(table, specificity=0.8, sensitivity=0.7, max_fpr=0.2)
    known = table["y_true/Mass"].notna()
    truth = table.loc[known, "y_true/Mass"]
    score = 1 / (1 + np.exp(-table.loc[known, "logit/Mass"].astype(float)))
    fpr, tpr, _ = roc_curve(truth, score, drop_intermediate=False)
    mass = found.loc["Mass"]
    assert mass["sensitivity_at_specificity"] == pytest.approx(tpr[1 - fpr >= 0.8].max())
    assert mass["specificity_at_sensitivity"] == pytest.approx((1 - fpr)[tpr >= 0.7].max())
    assert mass["partial_auroc"] == pytest.approx(roc_auc_score(truth, score, max_fpr=0.2))
    assert found.loc["Hernia"].isna().all()


def test_averages_by_hand() -> None:
    # a: perfect, one positive; b: sensitivity 1/2 at specificity 1, two positives
    found = operating_points(
        make_predictions(
            sample_id=list("pqrs"),
            patient_id=list("pqrs"),
            study_id=list("pqrs"),
            split="test",
            labels=["a", "b"],
            y_true=[[1, 1], [0, 0], [0, 1], [0, 0]],
            logits=[[4, 3], [1, 2], [1, 1], [1, 0]],
        ),
        specificity=1.0,
    )["sensitivity_at_specificity"]
    assert found["a"] == 1
    assert found["b"] == 0.5
    assert found["macro"] == 0.75
    assert found["weighted"] == pytest.approx((1 * 1 + 2 * 0.5) / 3)
    assert found["micro"] == pytest.approx(2 / 3)  # of three positives two stand above all
