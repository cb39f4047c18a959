from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import logit

from cxr_lightning.evaluation.cooccurrence import cooccurrence
from cxr_lightning.evaluation.predictions import labels_of, make_predictions
from cxr_lightning.evaluation.thresholds import Thresholds


def thresholds(labels, values) -> Thresholds:
    return Thresholds(tuple(labels), tuple(values), (True,) * len(labels), "f1")


def test_by_hand() -> None:
    table = make_predictions(
        sample_id=list("pqrst"),
        patient_id=list("pqrst"),
        study_id=list("pqrst"),
        split="test",
        labels=["a", "b", "c"],
        y_true=[[1, 1, 0], [1, 0, 0], [1, np.nan, 0], [0, 1, 0], [0, 0, 0]],
        logits=logit(
            np.array(
                [
                    [0.9, 0.9, 0.1],
                    [0.9, 0.9, 0.1],
                    [0.9, 0.9, 0.1],
                    [0.1, 0.1, 0.1],
                    [0.6, 0.1, 0.1],
                ]
            )
        ),
    )
    found = cooccurrence(table, thresholds("abc", [0.5, 0.5, 0.5]))
    np.testing.assert_array_equal(found.images, [[5, 4, 5], [4, 4, 4], [5, 4, 5]])
    np.testing.assert_array_equal(found.true_counts, [[3, 1, 0], [1, 2, 0], [0, 0, 0]])
    # the third image does not know b: its call of b is not counted
    np.testing.assert_array_equal(found.called_counts, [[4, 2, 0], [2, 2, 0], [0, 0, 0]])
    # of the two images with a that know b, one has it; of the three called a, two are called b
    np.testing.assert_allclose(found.true_share, [[1, 1 / 2, 0], [1 / 2, 1, 0], [np.nan] * 3])
    np.testing.assert_allclose(found.called_share, [[1, 2 / 3, 0], [1, 1, 0], [np.nan] * 3])
    assert [*found.images.index] == [*found.true_share.columns] == ["a", "b", "c"]


def test_equals_crosstab(table: pd.DataFrame) -> None:
    labels = labels_of(table)
    found = cooccurrence(table, thresholds(labels, [0.3] * len(labels)))
    counts = pd.crosstab(table["y_true/Effusion"], table["y_true/No Finding"])
    assert found.true_counts.loc["Effusion", "No Finding"] == counts.loc[1.0, 1.0]
    assert found.images.loc["Effusion", "No Finding"] == counts.to_numpy().sum()
    shares = counts.div(counts.sum(axis=1), axis=0)
    assert found.true_share.loc["Effusion", "No Finding"] == shares.loc[1.0, 1.0]
    np.testing.assert_array_equal(found.true_counts, found.true_counts.T)


def test_perfect_calls_are_the_truth(table: pd.DataFrame) -> None:
    labels = labels_of(table)
    perfect = table.assign(
        **{f"logit/{name}": table[f"y_true/{name}"].fillna(0) * 8 - 4 for name in labels}
    )
    found = cooccurrence(perfect, thresholds(labels, [0.5] * len(labels)))
    pd.testing.assert_frame_equal(found.true_counts, found.called_counts)
    pd.testing.assert_frame_equal(found.true_share, found.called_share)
