from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from sklearn.metrics import log_loss

from cxr_lightning.errors import ConfigError, DataError
from cxr_lightning.evaluation.ensembles import ensemble_predictions, fit_ensemble_weights
from cxr_lightning.evaluation.predictions import (
    arrays,
    logits_of,
    make_predictions,
    with_logits,
)


def one_label(probabilities, y_true) -> pd.DataFrame:
    names = [str(row) for row in range(len(y_true))]
    return make_predictions(
        sample_id=names,
        patient_id=names,
        study_id=names,
        split="val",
        labels=["x"],
        y_true=np.reshape(y_true, (-1, 1)),
        logits=logit(np.reshape(probabilities, (-1, 1))),
    )


def noisy(table: pd.DataFrame, noise: float, seed: int) -> pd.DataFrame:
    logits = logits_of(table)
    return with_logits(table, logits + np.random.default_rng(seed).normal(0, noise, logits.shape))


@pytest.fixture(scope="module")
def three(make_table) -> list[pd.DataFrame]:
    table = make_table(4, 400, decimals=None)
    return [noisy(table, noise, seed) for seed, noise in enumerate((0.3, 1.0, 3.0))]


def loss_of(tables, weights, mean) -> float:
    """From the logits alone, by scikit-learn."""
    logits = np.stack([logits_of(one) for one in tables])
    if mean == "logit":
        score = expit(np.tensordot(weights, logits, 1))
    else:
        score = np.tensordot(weights, expit(logits), 1)
    y_true = arrays(tables[0]).y_true
    known = ~np.isnan(y_true)
    return float(log_loss(y_true[known], score[known]))


def test_means_by_hand() -> None:
    tables = [one_label([0.2, 0.5], [1, 0]), one_label([0.8, 0.9], [1, 0])]
    probability = arrays(ensemble_predictions(tables)).y_score[:, 0]
    np.testing.assert_allclose(probability, [0.5, 0.7], rtol=1e-6)
    # odds 1/4 and 4, 1 and 9: their geometric means are 1 and 3
    by_logit = arrays(ensemble_predictions(tables, mean="logit")).y_score[:, 0]
    np.testing.assert_allclose(by_logit, [0.5, 0.75], rtol=1e-6)
    weighted = arrays(ensemble_predictions(tables, weights=[0.25, 0.75])).y_score[:, 0]
    np.testing.assert_allclose(weighted, [0.65, 0.8], rtol=1e-6)


def test_certain_models_stay_finite() -> None:
    table = one_label([0.5, 0.5], [1, 0])
    tables = [with_logits(table, [[90.0], [-90.0]]), with_logits(table, [[95.0], [0.0]])]
    found = logits_of(ensemble_predictions(tables))[:, 0]
    # 1 - p is the mean of exp(-90) and exp(-95); p is the mean of about 0 and 1/2
    assert found[0] == pytest.approx(90 + np.log(2 / (1 + np.exp(-5))), rel=1e-6)
    assert found[1] == pytest.approx(logit(0.25), rel=1e-6)


def test_the_table_is_that_of_the_first(three) -> None:
    shuffled = three[1].sample(frac=1, random_state=0)
    found = ensemble_predictions([three[0], shuffled])
    others = [name for name in found if not str(name).startswith("logit/")]
    pd.testing.assert_frame_equal(found[others], three[0][others])
    expected = (expit(logits_of(three[0])) + expit(logits_of(three[1]))) / 2
    np.testing.assert_allclose(arrays(found).y_score, expected, rtol=1e-6)
    alone = ensemble_predictions([three[2]], mean="logit")
    pd.testing.assert_frame_equal(alone, three[2])


def test_weights_by_hand() -> None:
    # two constants around the prevalence of 0.4: mixed half and half they meet it
    y_true = [1, 1, 0, 0, 0]
    tables = [one_label([share] * 5, y_true) for share in (0.2, 0.6)]
    np.testing.assert_allclose(fit_ensemble_weights(tables), [0.5, 0.5], atol=1e-5)
    # in logits: 0.4 lies between them at this place
    place = (logit(0.4) - logit(0.2)) / (logit(0.6) - logit(0.2))
    found = fit_ensemble_weights(tables, mean="logit")
    np.testing.assert_allclose(found, [1 - place, place], atol=1e-5)
    # a model that is worse everywhere gets nothing
    tables = [one_label(np.where(y_true, share, 1 - share), y_true) for share in (0.9, 0.6)]
    np.testing.assert_array_equal(fit_ensemble_weights(tables), [1, 0])
    assert fit_ensemble_weights(tables[:1]) == [1.0]


@pytest.mark.parametrize("mean", ["probability", "logit"])
def test_no_weights_have_a_lower_loss(mean, three) -> None:
    found = fit_ensemble_weights(three, mean=mean)
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(1, abs=1e-12)
    best = loss_of(three, found, mean)
    for a, b in product(range(11), repeat=2):
        if a + b <= 10:
            other = np.array([a, b, 10 - a - b]) / 10
            assert best <= loss_of(three, other, mean) + 1e-7
    assert found[0] > found[2]


def test_unknown_entries_do_not_count(three) -> None:
    found = fit_ensemble_weights(three)
    unknown = three[0].filter(like="y_true/").isna().to_numpy()
    changed = [with_logits(one, np.where(unknown, 50, logits_of(one))) for one in three]
    np.testing.assert_array_equal(fit_ensemble_weights(changed), found)


def test_wrong_arguments(three) -> None:
    with pytest.raises(ConfigError) as error:
        ensemble_predictions(three, weights=[0.5, 0.5])
    assert str(error.value) == (
        "An ensemble of 3 models needs 3 weights that are not negative and sum to 1, "
        "given 0.5, 0.5."
    )
    for weights in ([1.5, -0.5, 0], [0.5, 0.5, 0.5], [np.nan, 0.5, 0.5]):
        with pytest.raises(ConfigError, match="that are not negative and sum to 1"):
            ensemble_predictions(three, weights=weights)
    with pytest.raises(ConfigError, match="Did you mean 'logit'"):
        ensemble_predictions(three, mean="logits")
    with pytest.raises(DataError, match="not of one test set"):
        ensemble_predictions([three[0], three[1].iloc[1:]])
    unknown = [one.assign(**{name: np.nan for name in one if "y_true/" in name}) for one in three]
    with pytest.raises(DataError, match="No label is known"):
        fit_ensemble_weights(unknown)
