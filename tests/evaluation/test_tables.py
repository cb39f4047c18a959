from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from cxr_lightning.errors import DataError
from cxr_lightning.evaluation.predictions import arrays, labels_of, make_predictions
from cxr_lightning.evaluation.tables import (
    few_of_a_class,
    flat_metrics,
    format_table,
    metrics_table,
)
from cxr_lightning.evaluation.thresholds import Thresholds, fit_thresholds


@pytest.fixture(scope="module")
def thresholds(make_table) -> Thresholds:
    validation = make_table(9)
    y_true, y_score, _ = arrays(validation)
    return fit_thresholds(y_true, y_score, labels_of(validation))


@pytest.fixture(scope="module")
def results(table, thresholds) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    return metrics_table(table, thresholds, replicates=100, level=0.95, generator=generator)


def test_rows_are_labels_then_averages(results) -> None:
    assert [*results.index] == [
        "Effusion",
        "Mass",
        "Pleural_Thickening",
        "Hernia",
        "No Finding",
        "macro",
        "micro",
        "weighted",
    ]


def test_numbers_equal_those_computed_from_the_file(table, thresholds, results) -> None:
    known = table["y_true/Mass"].notna()
    truth = table.loc[known, "y_true/Mass"]
    score = 1 / (1 + np.exp(-table.loc[known, "logit/Mass"].astype(float)))
    called = score >= thresholds.select(["Mass"]).values[0]
    row = results.loc["Mass"]
    assert row["images"] == known.sum()
    assert row["positives"] == truth.sum()
    assert row["prevalence"] == pytest.approx(truth.mean())
    assert row["auroc"] == pytest.approx(metrics.roc_auc_score(truth, score), abs=1e-12)
    assert row["average_precision"] == pytest.approx(metrics.average_precision_score(truth, score))
    assert row["f1"] == pytest.approx(metrics.f1_score(truth, called))
    assert row["accuracy"] == pytest.approx(metrics.accuracy_score(truth, called))
    assert row["auroc_low"] < row["auroc"] < row["auroc_high"]


def test_undefined_labels_are_nan_and_counted(results) -> None:
    hernia = results.loc["Hernia"]
    assert hernia["positives"] == 0
    undefined = [
        *("auroc", "auroc_low", "average_precision", "average_precision_high"),
        *("f1", "precision", "sensitivity", "balanced_accuracy", "mcc"),
    ]
    assert hernia[undefined].isna().all()
    assert hernia["auroc_undefined"] == 100
    assert hernia["specificity"] > 0
    assert hernia["threshold"] == 0.5
    assert not hernia["threshold_fitted"]
    assert results.loc["macro", "labels_undefined"] == 1
    others = results.loc[["Effusion", "Mass", "Pleural_Thickening", "No Finding"]]
    assert results.loc["macro", "auroc"] == pytest.approx(others["auroc"].mean())
    assert results.loc["macro", "f1"] == pytest.approx(others["f1"].mean())


def test_micro_takes_all_pairs(table, thresholds, results) -> None:
    y_true, y_score, _ = arrays(table)
    known = ~np.isnan(y_true)
    micro = results.loc["micro"]
    assert micro["images"] == known.sum()
    assert micro["auroc"] == pytest.approx(metrics.roc_auc_score(y_true[known], y_score[known]))
    called = (y_score >= thresholds.array)[known]
    assert micro["precision"] == pytest.approx(metrics.precision_score(y_true[known], called))


def test_weighted_counts_labels_by_their_positives(table, thresholds, results) -> None:
    defined = results.loc[["Effusion", "Mass", "Pleural_Thickening", "No Finding"]]
    weighted = results.loc["weighted"]
    for name in ("auroc", "average_precision", "f1", "sensitivity"):
        expected = np.average(defined[name], weights=defined["positives"])
        assert weighted[name] == pytest.approx(expected, abs=1e-12)
    assert weighted["auroc_low"] < weighted["auroc"] < weighted["auroc_high"]
    assert weighted["images"] == results.loc["macro", "images"]
    assert weighted["labels_undefined"] == 1


def test_thresholds_follow_names_not_positions(table, thresholds, results) -> None:
    shuffled = thresholds.select([*reversed(labels_of(table))])
    generator = np.random.default_rng(0)
    again = metrics_table(table, shuffled, replicates=100, level=0.95, generator=generator)
    pd.testing.assert_frame_equal(again, results)


def test_flat_names(results) -> None:
    flat = flat_metrics(results)
    assert [*flat][:4] == [
        "test/prevalence_macro",
        "test/auroc_macro",
        "test/auroc_macro_low",
        "test/auroc_macro_high",
    ]
    for name in (
        "test/auroc/Effusion",
        "test/auroc_low/Effusion",
        "test/average_precision_high/No Finding",
        "test/threshold/Pleural_Thickening",
        "test/images/Mass",
        "test/f1_micro",
        "test/auroc_weighted",
        "test/auroc_weighted_low",
        "test/average_precision_micro_low",
    ):
        assert isinstance(flat[name], float)
    assert flat["test/auroc/Hernia"] is None
    assert flat["test/labels_undefined"] == 1
    assert flat["test/auroc/Mass"] == results.loc["Mass", "auroc"]
    # every name is one that MLflow accepts, and strict JSON holds every value
    assert all(re.fullmatch(r"[\w\-. /:]+", name, re.ASCII) for name in flat)
    assert json.loads(json.dumps(flat, allow_nan=False)) == flat
    assert set(flat_metrics(results, prefix="val")) == {
        name.replace("test/", "val/", 1) for name in flat
    }


def one_row(labels: list[str]) -> pd.DataFrame:
    return make_predictions(
        sample_id=["a", "b"],
        patient_id=["1", "2"],
        study_id=["1", "2"],
        split="test",
        labels=labels,
        y_true=[[0] * len(labels), [1] * len(labels)],
        logits=[[0] * len(labels), [1] * len(labels)],
    )


def score(labels: list[str]) -> pd.DataFrame:
    return metrics_table(
        one_row(labels),
        Thresholds(tuple(labels), (0.6,) * len(labels), (True,) * len(labels), "f1"),
        replicates=10,
        level=0.95,
        generator=np.random.default_rng(0),
    )


def test_labels_that_mlflow_refuses_are_renamed() -> None:
    flat = flat_metrics(score(["Ödem (links)", "a/b"]))
    assert {"test/auroc/_dem _links_", "test/auroc/a_b"} <= set(flat)
    with pytest.raises(DataError) as error:
        flat_metrics(score(["a/b", "A?b", "c"]))
    assert str(error.value) == (
        "Labels that MLflow could not tell apart:\n"
        "  - 'a/b' and 'A?b'\n"
        "Only letters, digits, _ - . : and spaces count in a metric's name, and case does not. "
        "Rename one of each."
    )


def test_a_label_called_macro_is_refused() -> None:
    with pytest.raises(DataError, match="A label may not be called macro: the results table has"):
        score(["macro"])


def test_text_for_the_terminal(results) -> None:
    text = format_table(results)
    assert text.loc["Hernia", "AUROC"] == "–"
    assert text.loc["Hernia", "threshold"] == "0.500*"
    assert re.fullmatch(r"0\.\d{3} \(0\.\d{3}–[01]\.\d{3}\)", text.loc["Mass", "AUROC"])
    assert text.loc["macro", "threshold"] == "–"
    assert [*text.columns] == [
        *("n", "positive", "prevalence", "AUROC", "AP", "threshold"),
        *("F1", "precision", "sensitivity", "specificity", "accuracy"),
    ]


def test_intervals_of_few_images_are_marked(thresholds) -> None:
    """9 of one class are few, 10 are not, and without an interval nothing is to be marked."""
    truth = np.full((40, 3), np.nan)
    truth[:40, 0], truth[:9, 0] = 0, 1
    truth[:40, 1], truth[:10, 1] = 0, 1
    truth[:20, 2], truth[:15, 2] = 0, 1
    labels = ["Effusion", "Mass", "Hernia"]
    names = [f"p{index}" for index in range(40)]
    few = make_predictions(
        sample_id=names,
        patient_id=names,
        study_id=names,
        split="test",
        labels=labels,
        y_true=truth,
        logits=np.random.default_rng(0).normal(size=(40, 3)),
    )
    for replicates, expected in ((20, ["Effusion", "Hernia"]), (0, [])):
        results = metrics_table(
            few,
            thresholds,
            replicates=replicates,
            level=0.95,
            generator=np.random.default_rng(0),
        )
        assert few_of_a_class(results) == expected
        text = format_table(results)
        for column in ("AUROC", "AP"):
            assert [*text.index[text[column].str.endswith("†")]] == expected


def test_no_replicates(table, thresholds) -> None:
    generator = np.random.default_rng(0)
    results = metrics_table(table, thresholds, replicates=0, level=0.95, generator=generator)
    flat = flat_metrics(results)
    assert flat["test/auroc_macro_low"] is None
    assert flat["test/auroc_macro"] is not None
    assert re.fullmatch(r"0\.\d{3}", format_table(results).loc["Mass", "AUROC"])


def test_intervals_resample_patients_not_images(thresholds, make_table) -> None:
    """With every image four times, as many patients know as much: the interval stays as wide."""
    table = make_table(3, images=120, decimals=None)
    four = pd.concat([table.assign(sample_id=table["sample_id"] + str(i)) for i in range(4)])
    four = four.reset_index(drop=True)
    widths = []
    for one in (table, four):
        results = metrics_table(
            one, thresholds, replicates=400, level=0.95, generator=np.random.default_rng(0)
        )
        row = results.loc["No Finding"]
        widths.append(row["auroc_high"] - row["auroc_low"])
    assert widths[1] == pytest.approx(widths[0], rel=0.02)
