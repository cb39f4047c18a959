"""Figures of calibration, subgroups, comparisons, decisions and co-occurrence."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score

from cxr_lightning.evaluation.calibration import expected_calibration_error_per_label
from cxr_lightning.evaluation.comparison import compare_models
from cxr_lightning.evaluation.cooccurrence import cooccurrence
from cxr_lightning.evaluation.decision_curves import decision_curves
from cxr_lightning.evaluation.plots import (
    calibration_curves,
    cooccurrence_maps,
    difference_forest,
    net_benefit_curves,
    roc_of_models,
    subgroup_forest,
)
from cxr_lightning.evaluation.predictions import (
    arrays,
    labels_of,
    logits_of,
    make_predictions,
    with_logits,
)
from cxr_lightning.evaluation.subgroups import subgroup_metrics
from cxr_lightning.evaluation.thresholds import Thresholds


def thresholds(table: pd.DataFrame) -> Thresholds:
    labels = labels_of(table)
    return Thresholds(labels, (0.3,) * len(labels), (True,) * len(labels), "f1")


def subgroups(table: pd.DataFrame, column: str):
    generator = np.random.default_rng(0)
    return subgroup_metrics(
        table, thresholds(table), column, replicates=20, level=0.9, generator=generator
    )


def comparison(table: pd.DataFrame) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    other = with_logits(table, logits_of(table) + rng.normal(size=logits_of(table).shape))
    return compare_models(table, other, replicates=50, level=0.9, generator=rng)


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_calibration_shows_both(table: pd.DataFrame) -> None:
    y_true, before, _ = arrays(table)
    after = before**2
    figure = calibration_curves(y_true, before, after, labels_of(table))
    errors = [expected_calibration_error_per_label(y_true, score)[0] for score in (before, after)]
    assert figure.axes[0].get_title() == f"Effusion\nECE {errors[0]:.3f} → {errors[1]:.3f}"
    assert len(figure.axes[0].containers) == 2
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["before calibration", "after"]


def test_subgroup_points_lie_where_the_table_says(table: pd.DataFrame) -> None:
    found = subgroups(table, "sex")
    figure = subgroup_forest(found, "auroc")
    (axes,) = figure.axes
    rows = found.groups[(found.groups["metric"] == "auroc") & found.groups["value"].notna()]
    drawn = sorted(line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 1)
    np.testing.assert_allclose(drawn, sorted(rows["value"]))
    reasons = found.groups[(found.groups["metric"] == "auroc") & found.groups["value"].isna()]
    assert len(reasons)
    assert set(texts(axes)) == {f"{g}: {r}" for g, r in reasons[["group", "reason"]].to_numpy()}
    assert axes.get_title() == "By sex, with 90% intervals"
    with pytest.raises(ValueError, match=r"metric must be one of auroc, .* given 'f1'"):
        subgroup_forest(found, "f1")


def test_differences_lie_where_the_table_says(table: pd.DataFrame) -> None:
    found = comparison(table)
    figure = difference_forest(found, "average_precision", level=0.9, names=("A", "B"))
    (axes,) = figure.axes
    points = [line for line in axes.lines if len(line.get_xdata()) == 1]
    expected = found["average_precision_difference"].dropna()
    np.testing.assert_allclose([line.get_xdata()[0] for line in points], expected)
    certain = found["average_precision_difference_p_holm"].dropna() < 0.1
    assert [line.get_markerfacecolor() != "white" for line in points] == [*certain]
    assert "undefined: one class only" in texts(axes)
    assert "B minus A" in axes.get_xlabel()


def test_models_in_the_same_panels(table: pd.DataFrame) -> None:
    worse = table.assign(**{"logit/Effusion": -table["logit/Effusion"]})
    figure = roc_of_models({"one": table, "two": worse}, ["Effusion"])
    (axes,) = figure.axes
    known = table["y_true/Effusion"].notna()
    truth, logit = table.loc[known, "y_true/Effusion"], table.loc[known, "logit/Effusion"]
    _, *curves = axes.lines  # the first is chance
    for line, score in zip(curves, (logit, -logit), strict=True):
        expected = roc_auc_score(truth, score)
        assert np.trapezoid(line.get_ydata(), line.get_xdata()) == pytest.approx(expected)
        assert f"{expected:.3f}" in axes.get_title()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "two"]


def test_no_p_value_without_replicates(table: pd.DataFrame) -> None:
    rng = np.random.default_rng(0)
    found = compare_models(table, table, replicates=0, level=0.9, generator=rng)
    assert found["auroc_difference_p_value"].isna().all()
    figure = difference_forest(found, level=0.9, names=("A", "B"))
    said = [text for axes in figure.axes for text in texts(axes)]
    assert not any("0.001" in text for text in said)
    assert "–" in said


def test_a_forest_taller_than_paper_has_two_columns() -> None:
    rng = np.random.default_rng(0)
    rows, names = [str(row) for row in range(300)], [f"L{number}" for number in range(14)]
    table = make_predictions(
        sample_id=rows,
        patient_id=rows,
        study_id=rows,
        split="test",
        labels=names,
        y_true=rng.random((300, 14)) < 0.4,
        logits=rng.normal(size=(300, 14)),
        extra={"age_years": rng.uniform(1, 95, 300)},
    )
    found = subgroups(table, "age_years")
    figure = subgroup_forest(found, "auroc")
    left, right = figure.axes
    words = [[tick.get_text() for tick in axes.get_yticklabels()] for axes in (left, right)]
    assert words == [names[:8], [*names[8:], "macro mean", ""]]
    rows_of = found.groups[(found.groups["metric"] == "auroc") & found.groups["value"].notna()]
    drawn = [
        line.get_xdata()[0]
        for axes in (left, right)
        for line in axes.lines
        if len(line.get_xdata()) == 1
    ]
    np.testing.assert_allclose(sorted(drawn), sorted(rows_of["value"]))
    assert figure.get_figheight() < 11


def test_net_benefit_by_model(table: pd.DataFrame) -> None:
    y_true, y_score, _ = arrays(table)
    curves = decision_curves(y_true, y_score)
    figure = net_benefit_curves({"a": curves, "b": curves}, labels_of(table))
    _, treat_all, first, _ = figure.axes[0].lines
    shown = len(first.get_xdata())
    np.testing.assert_allclose(first.get_xdata(), 100 * curves.thresholds[:shown])
    np.testing.assert_allclose(first.get_ydata(), 100 * curves.model[:shown, 0])
    np.testing.assert_allclose(treat_all.get_ydata(), 100 * curves.treat_all[:shown, 0])
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["a", "b", "act on all", "act on none"]
    with pytest.raises(ValueError, match="1 to 3 models can be drawn, given 4"):
        net_benefit_curves(dict.fromkeys("abcd", curves), labels_of(table))


def test_maps_hold_the_shares(table: pd.DataFrame) -> None:
    found = cooccurrence(table, thresholds(table))
    figure = cooccurrence_maps(found)
    truth, called, bar = figure.axes
    share = 100 * found.true_share.to_numpy()
    expected = ["–" if np.isnan(value) else f"{value:.0f}" for value in share.ravel()]
    assert texts(truth) == expected
    assert "–" in expected  # no image has Hernia
    count = found.called_counts.loc["Mass", "Mass"]
    assert called.get_yticklabels()[1].get_text() == f"Mass ({count:,})"
    assert bar.get_ylabel() == "share of the row's images (%)"


@pytest.mark.parametrize("labels", [1, 2, 14])
def test_texts_are_inside_and_apart(labels: int) -> None:
    rng = np.random.default_rng(0)
    names = [f"{name}{i}" for i in range(5) for name in ("Pleural_Thickening", "Mass", "Edema")]
    rows = [str(row) for row in range(300)]
    y_true = (rng.random((300, labels)) < 0.3).astype(float)
    table = make_predictions(
        sample_id=rows,
        patient_id=rows,
        study_id=rows,
        split="test",
        labels=names[:labels],
        y_true=y_true,
        logits=rng.normal(size=y_true.shape),
        extra={"age_years": rng.uniform(1, 95, 300)},
    )
    _, y_score, _ = arrays(table)
    figures: list[Figure] = [
        calibration_curves(y_true, y_score, y_score**2, names[:labels]),
        subgroup_forest(subgroups(table, "age_years"), "auroc"),
        roc_of_models({"densenet121": table, "ensemble": table}, names[:labels]),
        difference_forest(comparison(table), level=0.9, names=("densenet121", "efficientnet")),
        net_benefit_curves(decision_curves(y_true, y_score), names[:labels]),
        cooccurrence_maps(cooccurrence(table, thresholds(table))),
    ]
    for figure in figures:
        figure.draw_without_rendering()
        width, height = figure.canvas.get_width_height()
        around = [figure._suptitle, figure._supxlabel, *figure.legends]
        boxes = [one.get_window_extent() for one in around if one is not None]
        boxes += [axes.get_tightbbox() for axes in figure.axes]
        for box in boxes:
            assert box.x0 >= -1
            assert box.x1 <= width + 1
            assert box.y0 >= -1
            assert box.y1 <= height + 1
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
