from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from cxr_lightning.errors import DataError
from cxr_lightning.evaluation.alignment import align_predictions
from cxr_lightning.evaluation.bootstrap import bootstrap_interval
from cxr_lightning.evaluation.comparison import bootstrap_p_value, compare_models, holm
from cxr_lightning.evaluation.delong import delong_test_per_label
from cxr_lightning.evaluation.discrimination import auroc_per_label, macro
from cxr_lightning.evaluation.predictions import arrays, labels_of, logits_of, with_logits


def worse(table: pd.DataFrame, noise: float = 1.0) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    logits = logits_of(table)
    return with_logits(table, (logits + rng.normal(0, noise, logits.shape)).round(1))


def compare(first, second, **options) -> pd.DataFrame:
    given = {"replicates": 100, "level": 0.9, "generator": np.random.default_rng(0)} | options
    return compare_models(first, second, **given)


# ---- the same test set ---------------------------------------------------------------------------


def test_rows_and_labels_follow_the_first(table: pd.DataFrame) -> None:
    shuffled = table.sample(frac=1, random_state=0)
    columns = [*reversed([str(name) for name in table])]
    first, second = align_predictions([table, shuffled[columns]])
    pd.testing.assert_frame_equal(first, table[[*first]])
    pd.testing.assert_frame_equal(second[[*first]], first)
    assert labels_of(second) == labels_of(table)


def test_all_differences_at_once(table: pd.DataFrame) -> None:
    other = table.drop(columns=["y_true/Mass", "logit/Mass"]).iloc[1:].copy()
    other["patient_id"] = ["x", *other["patient_id"].iloc[1:]]
    with pytest.raises(DataError) as error:
        align_predictions([table, other], names=("A", "B"))
    assert str(error.value) == (
        "These predictions are not of one test set:\n"
        "  - B has no label Mass\n"
        "  - 1 images of A are not in B, e.g. '00000000_000.png'\n"
        "  - 1 images have another patient_id in B than in A, e.g. '00000001_000.png'\n"
        "Evaluate all models on the same data and split."
    )
    with pytest.raises(DataError) as error:
        align_predictions([other, table.iloc[1:]], names=("A", "B"))
    assert "B has the label Mass, which A has not" in str(error.value)
    same = table[list(other)]
    kept = align_predictions([table, same], labels=["Effusion"])
    assert [labels_of(one) for one in kept] == [("Effusion",)] * 2


def test_other_truth_is_refused(table: pd.DataFrame) -> None:
    changed = table.copy()
    changed.loc[changed["y_true/Mass"] == 1, "y_true/Mass"] = np.nan
    changed.loc[7, "y_true/Effusion"] = 1 - table["y_true/Effusion"].fillna(0).iloc[7]
    positives = int((table["y_true/Mass"] == 1).sum())
    with pytest.raises(DataError) as error:
        compare(table, changed, names=("A", "B"))
    assert "y_true/Effusion of B differs from A in 1 images, e.g. '00000007_000.png'" in str(
        error.value
    )
    assert f"y_true/Mass of B differs from A in {positives} images" in str(error.value)


# ---- differences ---------------------------------------------------------------------------------


def test_numbers_equal_those_computed_from_the_files(table: pd.DataFrame) -> None:
    other = worse(table)
    found = compare(table, other).loc["Mass"]
    known = table["y_true/Mass"].notna()
    truth = table.loc[known, "y_true/Mass"]
    for name, sklearn in (("auroc", roc_auc_score), ("average_precision", average_precision_score)):
        values = [sklearn(truth, one.loc[known, "logit/Mass"]) for one in (table, other)]
        assert found[f"{name}_first"] == pytest.approx(values[0], abs=1e-12)
        assert found[f"{name}_second"] == pytest.approx(values[1], abs=1e-12)
        assert found[f"{name}_difference"] == pytest.approx(values[1] - values[0], abs=1e-12)
    assert found["images"] == known.sum()
    assert found["positives"] == truth.sum()
    delong = delong_test_per_label(
        arrays(table).y_true, arrays(table).y_score, arrays(other).y_score
    )
    assert found["delong_error"] == delong.standard_error[1]
    assert found["delong_p_value"] == delong.p_value[1]


def test_intervals_equal_explicit_paired_resampling(table: pd.DataFrame) -> None:
    other = worse(table)
    y_true, y_first, patients = arrays(table)
    labels = y_true.shape[1]

    def difference(truth, both):
        first, second = (
            auroc_per_label(truth[:, :labels], part)
            for part in (both[:, :labels], both[:, labels:])
        )
        return np.append(second - first, macro(second).value - macro(first).value)

    slow = bootstrap_interval(
        difference,
        np.hstack([y_true, np.full_like(y_true, np.nan)]),
        np.hstack([y_first, arrays(other).y_score]),
        patients,
        replicates=100,
        level=0.9,
        generator=np.random.default_rng(0),
    )
    found = compare(table, other)
    for part in ("low", "high"):
        np.testing.assert_allclose(
            found[f"auroc_difference_{part}"], getattr(slow, part), rtol=0, atol=1e-12
        )
    np.testing.assert_array_equal(found["auroc_difference_undefined"], slow.undefined)


def test_swapping_the_models_turns_the_signs(table: pd.DataFrame) -> None:
    other = worse(table)
    there, back = compare(table, other), compare(other, table)
    np.testing.assert_allclose(there["auroc_difference"], -back["auroc_difference"])
    np.testing.assert_allclose(there["auroc_difference_low"], -back["auroc_difference_high"])
    for name in ("auroc_difference_p_value", "delong_p_value"):
        np.testing.assert_allclose(there[name], back[name])


def test_a_model_against_itself(table: pd.DataFrame) -> None:
    found = compare(table, with_logits(table, 2 * logits_of(table))).drop(index="Hernia")
    assert (found["auroc_difference"] == 0).all()
    assert (found[["auroc_difference_low", "auroc_difference_high"]] == 0).all(axis=None)
    assert (found["auroc_difference_p_value"] == 1).all()
    assert (found["delong_p_value"].drop(index="macro") == 1).all()


def test_undefined_labels_are_nan_and_not_corrected_for(table: pd.DataFrame) -> None:
    found = compare(table, worse(table))
    hernia = found.loc["Hernia"]
    assert (
        hernia.drop(["images", "positives"])
        .filter(regex="auroc|delong|precision_[^d]")
        .drop("auroc_difference_undefined")
        .isna()
        .all()
    )
    assert hernia["auroc_difference_undefined"] == 100
    others = found.drop(index=["Hernia", "macro"])
    np.testing.assert_allclose(
        others["auroc_difference_p_holm"], holm(others["auroc_difference_p_value"])
    )
    np.testing.assert_allclose(others["delong_p_holm"], holm(others["delong_p_value"]))
    macro_row = found.loc["macro"]
    assert macro_row["auroc_difference_p_holm"] == macro_row["auroc_difference_p_value"]
    assert macro_row["auroc_difference"] == pytest.approx(others["auroc_difference"].mean())
    assert np.isnan(macro_row["delong_p_value"])


def test_the_bootstrap_agrees_with_delong_over_independent_images(make_table) -> None:
    table = make_table(5, 2000)
    table = table.assign(patient_id=table["sample_id"])
    other = worse(table, 0.5)
    found = compare(table, other, replicates=1000).drop(index=["Hernia", "macro"])
    np.testing.assert_allclose(
        found["auroc_difference_p_value"], found["delong_p_value"], atol=0.03
    )


# ---- p-values ------------------------------------------------------------------------------------


def test_p_value_by_hand() -> None:
    # of nine replicates one is below 0: twice (1 + 1) / (9 + 1)
    values = np.array([-1.0, 1, 2, 3, 4, 5, 6, 7, 8])
    assert bootstrap_p_value(values) == pytest.approx(0.4)
    assert bootstrap_p_value(-values) == pytest.approx(0.4)
    assert bootstrap_p_value(np.abs(values)) == pytest.approx(0.2)
    assert bootstrap_p_value(np.zeros(9)) == 1
    several = np.column_stack([values, np.full(9, np.nan), np.append(np.nan, values[1:])])
    np.testing.assert_allclose(bootstrap_p_value(several), [0.4, np.nan, 2 / 9])


def test_p_values_are_uniform_without_a_difference() -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(size=(400, 60))  # 400 experiments, true mean 0
    drawn = np.stack([data[:, rng.integers(0, 60, 60)].mean(axis=1) for _ in range(400)])
    p_value = bootstrap_p_value(drawn)
    assert (p_value < 0.05).mean() == pytest.approx(0.05, abs=0.025)
    assert p_value.mean() == pytest.approx(0.5, abs=0.05)


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm([0.04, 0.01, 0.03, 0.02]), [0.06, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(holm([0.5, np.nan, 0.01]), [0.5, np.nan, 0.02])
    np.testing.assert_allclose(holm([0.7, 0.6]), [1.0, 1.0])
    assert holm([]).shape == (0,)


@given(p_values=st.lists(st.floats(0, 1), min_size=1, max_size=8))
@settings(max_examples=60)
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values) -> None:
    corrected = holm(p_values)
    assert (corrected >= np.array(p_values)).all()
    for level in (0.01, 0.05, 0.2):
        # as in the paper: go up from the smallest, stop at the first that is too large
        rejected = set()
        for k, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
            if p_values[index] * (len(p_values) - k) > level:
                break
            rejected.add(index)
        assert rejected == {index for index, value in enumerate(corrected) if value <= level}
