from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix

from cxr_lightning.evaluation.decision_curves import decision_curves, net_benefit
from cxr_lightning.evaluation.predictions import arrays


def test_by_hand() -> None:
    # 10 images, 2 positives. At 0.2 a false alarm weighs 1/4, at 0.5 as much as a finding
    y_true = np.array([1, 1, 0, 0, 0, 0, 0, 0, 0, 0, np.nan])[:, None]
    y_score = np.array([0.9, 0.3, 0.5, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.9])[:, None]
    found = decision_curves(y_true, y_score, thresholds=[0.2, 0.5, 0.95])
    # at 0.2 two found and two false alarms (the threshold itself is called); at 0.5 one and one
    np.testing.assert_allclose(found.model[:, 0], [(2 - 2 / 4) / 10, (1 - 1) / 10, 0], atol=1e-15)
    # everyone: two found, eight false alarms; worth nothing at the prevalence
    np.testing.assert_allclose(
        found.treat_all[:, 0], [0, (2 - 8) / 10, (2 - 8 * 19) / 10], atol=1e-12
    )
    assert found.prevalence == pytest.approx([0.2])


def test_the_example_of_the_paper_s_formula() -> None:
    # 22 of 100 found with 30 false alarms at 10 %: 0.22 - 0.30 / 9
    assert net_benefit(22, 30, 100, 0.1) == pytest.approx(0.22 - 0.30 / 9)
    assert np.isnan(net_benefit(0, 0, 0, 0.1))


def test_equals_the_formula_on_scikit_learn_s_counts(table: pd.DataFrame) -> None:
    y_true, y_score, _ = arrays(table)
    found = decision_curves(y_true, y_score)
    assert found.thresholds.shape == (108,)
    known = ~np.isnan(y_true[:, 1])
    truth, score = y_true[known, 1], y_score[known, 1]
    for index in range(0, 108, 7):
        p = found.thresholds[index]
        _, fp, _, tp = confusion_matrix(truth, score >= p, labels=[0, 1]).ravel()
        expected = tp / known.sum() - fp / known.sum() * p / (1 - p)
        assert found.model[index, 1] == pytest.approx(expected, abs=1e-12)
        share = truth.mean()
        expected = share - (1 - share) * p / (1 - p)
        assert found.treat_all[index, 1] == pytest.approx(expected, abs=1e-12)
    # without a positive, acting is never worth it
    assert (found.model[:, 3] <= 0).all()


def test_bounds(table: pd.DataFrame) -> None:
    y_true, y_score, _ = arrays(table)
    found = decision_curves(y_true, y_score)
    assert (found.model <= found.prevalence + 1e-12).all()
    perfect = decision_curves(y_true, np.nan_to_num(y_true))
    np.testing.assert_allclose(perfect.model, np.tile(perfect.prevalence, (108, 1)), atol=1e-12)


def test_unknown_labels_and_wrong_arguments() -> None:
    found = decision_curves([[np.nan, 1], [np.nan, 0]], [[0.1, 0.9], [0.2, 0.1]])
    assert np.isnan(found.model[:, 0]).all()
    assert np.isfinite(found.model[:, 1]).all()
    with pytest.raises(ValueError, match="lie between 0 and 1"):
        decision_curves([[1]], [[0.5]], thresholds=[0.5, 1.0])
    with pytest.raises(ValueError, match="apply the sigmoid to logits"):
        decision_curves([[1]], [[2.5]])
