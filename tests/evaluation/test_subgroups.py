from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit
from sklearn.metrics import average_precision_score, recall_score, roc_auc_score

from cxr_lightning.errors import ConfigError, DataError
from cxr_lightning.evaluation.bootstrap import bootstrap_interval
from cxr_lightning.evaluation.cohort_groups import bands, group_column
from cxr_lightning.evaluation.discrimination import auroc_per_label
from cxr_lightning.evaluation.predictions import arrays, labels_of, make_predictions
from cxr_lightning.evaluation.subgroups import SUBGROUP_METRICS, Subgroups, subgroup_metrics
from cxr_lightning.evaluation.thresholds import Thresholds


def thresholds_of(table: pd.DataFrame, value: float = 0.3) -> Thresholds:
    labels = labels_of(table)
    return Thresholds(labels, (value,) * len(labels), (True,) * len(labels), "f1")


def subgroups(table: pd.DataFrame, column: str = "sex", **options) -> Subgroups:
    given = {"replicates": 100, "level": 0.95, "generator": np.random.default_rng(0)} | options
    return subgroup_metrics(table, thresholds_of(table), column, **given)


def value(found: Subgroups, group: str, label: str, metric: str, part: str = "value"):
    rows = found.groups.set_index(["group", "label", "metric"])
    return rows.loc[(group, label, metric), part]


def gap(found: Subgroups, label: str, metric: str) -> pd.Series:
    return found.gaps.set_index(["label", "metric"]).loc[(label, metric)]


# ---- groups --------------------------------------------------------------------------------------


def test_bands_by_hand() -> None:
    ages = [0, 19.99, 20, 39.5, 40, 120, np.nan]
    found = bands(ages, [20, 40])
    assert [*found.categories] == ["<20", "20–39", "40+"]
    assert [*found[:6]] == ["<20", "<20", "20–39", "20–39", "40+", "40+"]
    assert pd.isna(found[6])
    assert [*bands([1.0], [0.5, 1.5]).categories] == ["<0.5", "0.5 to <1.5", "1.5+"]
    with pytest.raises(ConfigError, match=r"Edges of bands must rise .* given \[40, 20\]"):
        bands(ages, [40, 20])


def test_groups_of_columns() -> None:
    table = make_predictions(
        sample_id=list("abcd"),
        patient_id=list("abcd"),
        study_id=list("abcd"),
        split="test",
        labels=["x"],
        y_true=[[0]] * 4,
        logits=[[0]] * 4,
        extra={
            "view": ["PA", "AP", "UNKNOWN", "PA"],
            "age_years": [70.0, 19.0, np.nan, 81.0],
            "grade": [2.0, 10.0, np.nan, 2.0],
            "inpatient": [True, False, True, True],
            "empty": ["", None, "UNKNOWN", ""],
            "text": ["m", "n", "o", "p"],
        },
    )
    assert [*group_column(table, "view")] == ["PA", "AP", "unknown", "PA"]
    assert [*group_column(table, "age_years")] == ["60–79", "<20", "unknown", "80+"]
    assert [*group_column(table, "age_years", edges=[50])] == ["50+", "<50", "unknown", "50+"]
    # numbers keep their order
    assert [*group_column(table, "grade").categories] == ["2", "10", "unknown"]
    assert [*group_column(table, "inpatient")] == ["True", "False", "True", "True"]
    with pytest.raises(DataError, match="Column 'empty' is unknown for every image"):
        group_column(table, "empty")
    with pytest.raises(DataError, match="Column 'text' holds no numbers"):
        group_column(table, "text", edges=[3])
    with pytest.raises(ConfigError) as error:
        group_column(table, "veiw")
    assert str(error.value) == (
        "The predictions have no column 'veiw' to form subgroups by; they have sample_id, "
        "patient_id, study_id, split, view, age_years, grade, inpatient, empty, text. "
        "Did you mean 'view'?"
    )


def test_too_many_groups(table: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match="makes 300 subgroups, more than 20; choose another"):
        group_column(table, "study_id")


def test_numbers_of_many_values_are_cut_at_their_quartiles(table: pd.DataFrame) -> None:
    weights = np.arange(300.0)
    weights[:3] = np.nan
    found = group_column(table.assign(weight=weights), "weight")
    assert found.value_counts().to_dict() == {
        "<77": 74, "77–150": 74, "151–224": 74, "225+": 75, "unknown": 3
    }  # fmt: skip
    skewed = group_column(table.assign(weight=np.maximum(weights, 260)), "weight")
    assert list(skewed.categories) == ["260+", "unknown"]  # three quartiles of one value
    close = group_column(table.assign(weight=1e6 + np.arange(300.0) / 1e4), "weight")
    assert list(close.categories) == ["1e+06+"]


# ---- metrics -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_hand() -> pd.DataFrame:
    """Women: 2 of 4 ill found; men: 3 of 4. Of the ill women 3 are called well, of the men 1."""
    ill = np.array([1, 1, 1, 1, 0, 0] * 2)
    score = np.array([0.9, 0.8, 0.2, 0.1, 0.7, 0.1, 0.9, 0.8, 0.7, 0.1, 0.2, 0.1])
    well = np.array([0.1, 0.9, 0.9, 0.9, 0.9, 0.9, 0.1, 0.1, 0.1, 0.9, 0.9, 0.9])
    names = [str(row) for row in range(12)]
    return make_predictions(
        sample_id=names,
        patient_id=names,
        study_id=names,
        split="test",
        labels=["Mass", "No Finding"],
        y_true=np.column_stack([ill, 1 - ill]),
        logits=logit(np.column_stack([score, well])),
        extra={"sex": ["F"] * 6 + ["M"] * 6},
    )


def test_rates_by_hand(by_hand) -> None:
    found = subgroups(by_hand, min_count=2)
    for group, sensitivity, specificity, auroc in (
        ("F", 0.5, 0.5, 5.5 / 8),
        ("M", 0.75, 1, 6.5 / 8),
    ):
        assert value(found, group, "Mass", "sensitivity") == sensitivity
        assert value(found, group, "Mass", "specificity") == specificity
        assert value(found, group, "Mass", "underdiagnosis_rate") == 1 - sensitivity
        assert value(found, group, "Mass", "auroc") == auroc
    # No Finding is negative in the ill; called positive for it, they are underdiagnosed
    assert value(found, "F", "No Finding", "underdiagnosis_rate") == 0.75
    assert value(found, "M", "No Finding", "underdiagnosis_rate") == 0.25
    row = gap(found, "No Finding", "underdiagnosis_rate")
    assert (row["gap"], row["lowest"], row["highest"], row["groups"]) == (0.5, "M", "F", 2)
    assert value(found, "M", "macro", "underdiagnosis_rate") == 0.25
    assert value(found, "M", "macro", "sensitivity", "labels") == 2
    assert value(found, "F", "Mass", "auroc", "positives") == 4
    assert value(found, "F", "Mass", "auroc", "negatives") == 2


def test_equals_scikit_learn_on_each_group(table: pd.DataFrame) -> None:
    found = subgroups(table, min_count=1)
    for sex in ("F", "M"):
        rows = table[(table["sex"] == sex) & table["y_true/Mass"].notna()]
        truth, score = rows["y_true/Mass"], 1 / (1 + np.exp(-rows["logit/Mass"].astype(float)))
        expected = {
            "auroc": roc_auc_score(truth, score),
            "average_precision": average_precision_score(truth, score),
            "sensitivity": recall_score(truth, score >= 0.3),
            "specificity": recall_score(truth, score >= 0.3, pos_label=0),
            "underdiagnosis_rate": 1 - recall_score(truth, score >= 0.3),
        }
        for metric in SUBGROUP_METRICS:
            assert value(found, sex, "Mass", metric) == pytest.approx(expected[metric], abs=1e-12)
        assert value(found, sex, "Mass", "auroc", "images") == len(rows)
        assert value(found, sex, "Mass", "auroc", "patients") == rows["patient_id"].nunique()


def test_gap_and_interval_equal_explicit_resampling(table: pd.DataFrame) -> None:
    women = (table["sex"] == "F").to_numpy()
    y_true, y_score, patients = arrays(table)

    def of_groups(truth, score_and_sex):
        score, sex = score_and_sex[:, :-1], score_and_sex[:, -1] == 1
        found = [auroc_per_label(truth[rows][:, :-1], score[rows]) for rows in (sex, ~sex)]
        return np.stack([*found, np.abs(found[0] - found[1]), found[0] - found[1]])

    unknown = np.full((len(table), 1), np.nan)
    slow = bootstrap_interval(
        of_groups,
        np.hstack([y_true, unknown]),
        np.column_stack([y_score, women]),
        patients,
        replicates=100,
        level=0.95,
        generator=np.random.default_rng(0),
    )
    found = subgroups(table, min_count=1)
    for column, label in enumerate(("Effusion", "Mass", "Pleural_Thickening")):
        for part in ("low", "high"):
            expected = getattr(slow, part)[:, column]
            for row, sex in enumerate(("F", "M")):
                assert value(found, sex, label, "auroc", part) == pytest.approx(expected[row])
            assert gap(found, label, "auroc")[part] == pytest.approx(expected[2])
        row = gap(found, label, "auroc")
        ends = slow.low[3, column], slow.high[3, column]
        if row["highest"] == "M":
            ends = -ends[1], -ends[0]
        assert (row["difference_low"], row["difference_high"]) == pytest.approx(ends)
        assert row["gap"] == pytest.approx(slow.estimate[2, column], abs=1e-12)


def test_too_few_is_said_not_scored(by_hand) -> None:
    found = subgroups(by_hand, min_count=4)
    # four positives are enough for the sensitivity, two negatives not for the rest
    assert value(found, "F", "Mass", "sensitivity") == 0.5
    for metric in ("auroc", "average_precision", "specificity"):
        assert np.isnan(value(found, "F", "Mass", metric))
        assert np.isnan(value(found, "F", "Mass", metric, "low"))
        assert value(found, "F", "Mass", metric, "reason") == "too few: 2 negatives"
        row = gap(found, "Mass", metric)
        assert np.isnan([row["gap"], row["low"], row["difference_high"]]).all()
        assert row["reason"] == "fewer than two groups have a value"
    # the ill are the negatives of No Finding
    assert value(found, "F", "No Finding", "underdiagnosis_rate") == 0.75
    assert value(found, "F", "No Finding", "sensitivity", "reason") == "too few: 2 positives"
    reason = "no label has enough images in every group"
    assert value(found, "M", "macro", "auroc", "reason") == reason
    both = subgroups(by_hand, min_count=5)
    reason = "too few: 4 positives and 2 negatives"
    assert value(both, "F", "Mass", "auroc", "reason") == reason


def test_the_default_needs_ten(table: pd.DataFrame) -> None:
    found = subgroups(table, "age_years").groups
    scored = found[(found["label"] != "macro") & (found["metric"] == "auroc")]
    few = (scored["positives"] < 10) | (scored["negatives"] < 10)
    assert few.any()
    assert (~few).any()
    assert scored["value"].isna().eq(few).all()
    assert scored["reason"].str.startswith("too few: ").eq(few).all()


def test_unknown_is_shown_but_not_compared(by_hand) -> None:
    table = by_hand.assign(sex=["F"] * 3 + ["UNKNOWN"] * 6 + ["M"] * 3)
    found = subgroups(table, min_count=1)
    assert "unknown" in set(found.groups["group"])
    assert gap(found, "Mass", "sensitivity")["groups"] == 2


def test_macro_is_over_the_same_labels_everywhere(table: pd.DataFrame) -> None:
    found = subgroups(table, min_count=10)
    wide = found.groups[found.groups["metric"] == "auroc"].pivot(
        index="group", columns="label", values="value"
    )
    common = [label for label in labels_of(table) if wide[label].notna().all()]
    assert 0 < len(common) < 5
    for sex in ("F", "M"):
        assert wide.loc[sex, "macro"] == pytest.approx(wide.loc[sex, common].mean())
        assert value(found, sex, "macro", "auroc", "labels") == len(common)


def test_the_same_generator_state_gives_the_same_tables(table: pd.DataFrame) -> None:
    for left, right in zip(subgroups(table)[1:3], subgroups(table)[1:3], strict=True):
        pd.testing.assert_frame_equal(left, right)


def test_no_replicates_is_no_interval(table: pd.DataFrame) -> None:
    found = subgroups(table, replicates=0)
    assert found.groups["value"].notna().any()
    assert found.groups["low"].isna().all()
    assert found.gaps["high"].isna().all()


def test_wrong_minimum(table: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="min_count must be at least 1, given 0"):
        subgroups(table, min_count=0)
