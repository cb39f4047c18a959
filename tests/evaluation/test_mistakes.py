from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit

from cxr_lightning.errors import ConfigError
from cxr_lightning.evaluation.decisions import confusion_counts
from cxr_lightning.evaluation.mistakes import most_confident
from cxr_lightning.evaluation.predictions import arrays, labels_of, make_predictions
from cxr_lightning.evaluation.thresholds import Thresholds


def thresholds(labels, value: float = 0.5) -> Thresholds:
    return Thresholds(tuple(labels), (value,) * len(labels), (True,) * len(labels), "f1")


@pytest.fixture(scope="module")
def small() -> pd.DataFrame:
    return make_predictions(
        sample_id=list("pqrstu"),
        patient_id=list("pqrstu"),
        study_id=list("pqrstu"),
        split="test",
        labels=["x", "y"],
        y_true=[[0, 1], [0, 0], [0, 0], [1, 1], [1, 0], [np.nan, 1]],
        logits=logit([[0.7, 0.9], [0.9, 0.1], [0.2, 0.1], [0.1, 0.8], [0.3, 0.1], [0.95, 0.7]]),
        extra={"sex": list("MFMFMF")},
    )


def test_by_hand(small) -> None:
    found = most_confident(small, thresholds("xy"))
    assert [*found["sample_id"]] == ["q", "p", "s", "t"]
    assert [*found["outcome"]] == ["false positive"] * 2 + ["false negative"] * 2
    assert [*found["rank"]] == [1, 2, 1, 2]
    assert [*found["of"]] == [2] * 4
    np.testing.assert_allclose(found["probability"], [0.9, 0.7, 0.1, 0.3], rtol=1e-6)
    assert [*found["row"]] == [1, 0, 3, 4]
    assert [*found["true_labels"]] == ["", "y", "x; y", "x"]
    assert [*found["sex"]] == ["F", "M", "F", "M"]
    assert not any(str(name).startswith(("y_true/", "logit/")) for name in found)
    assert set(found["label"]) == {"x"}  # y has no mistake


def test_right_calls_on_request(small) -> None:
    found = most_confident(
        small, thresholds("xy"), outcomes=["true positive", "true negative"], per_label=1
    )
    assert [*zip(found["label"], found["outcome"], found["sample_id"], strict=True)] == [
        ("x", "true negative", "r"),
        ("y", "true positive", "p"),
        ("y", "true negative", "q"),  # of equal ones the first
    ]
    assert [*found["of"]] == [1, 3, 3]


def test_counts_are_those_of_the_confusion_matrix(table: pd.DataFrame) -> None:
    labels = labels_of(table)
    found = most_confident(table, thresholds(labels, 0.3), per_label=1000)
    counts = confusion_counts(*arrays(table)[:2], 0.3)
    sizes = found.groupby(["label", "outcome"]).size()
    for column, label in enumerate(labels):
        for outcome, expected in (("false positive", counts.fp), ("false negative", counts.fn)):
            assert sizes.get((label, outcome), 0) == expected[column]
    positive = found[found["outcome"] == "false positive"]
    assert (positive["probability"] >= 0.3).all()
    assert positive.groupby("label")["probability"].apply(lambda p: p.is_monotonic_decreasing).all()


def test_no_mistakes_is_an_empty_table(small) -> None:
    perfect = small.assign(
        **{f"logit/{name}": small[f"y_true/{name}"].fillna(0) * 8 - 4 for name in "xy"}
    )
    found = most_confident(perfect, thresholds("xy"))
    assert len(found) == 0
    assert {"label", "rank", "sample_id", "sex"} <= set(found)


def test_wrong_arguments(small) -> None:
    with pytest.raises(ConfigError) as error:
        most_confident(small, thresholds("xy"), outcomes=["false positives"])
    assert str(error.value) == (
        "Outcome 'false positives' is not known; allowed: false positive, false negative, true "
        "positive, true negative. Did you mean 'false positive'?"
    )
    with pytest.raises(ValueError, match="per_label must be at least 1"):
        most_confident(small, thresholds("xy"), per_label=0)
