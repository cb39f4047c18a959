from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from cxr_lightning.evaluation.bootstrap import bootstrap_discrimination
from cxr_lightning.evaluation.discrimination import average_precision_per_label
from cxr_lightning.evaluation.plots import (
    confusion_matrices,
    display_name,
    precision_recall_curves,
    reliability_diagrams,
    roc_curves,
    save_figure,
    training_curves,
)
from cxr_lightning.evaluation.predictions import arrays, labels_of


def panel(figure: Figure, title: str):
    return next(axes for axes in figure.axes if axes.get_title().startswith(title))


def texts(axes) -> str:
    return " | ".join(text.get_text() for text in axes.texts)


def test_display_name() -> None:
    assert display_name("Pleural_Thickening") == "Pleural Thickening"
    assert display_name("No Finding") == "No Finding"


def test_roc(table) -> None:
    y_true, y_score, patients = arrays(table)
    interval = bootstrap_discrimination(
        y_true, y_score, patients, replicates=50, level=0.9, generator=np.random.default_rng(0)
    )["auroc"]
    figure = roc_curves(
        y_true, y_score, labels_of(table), interval=interval, thresholds=np.full(5, 0.3)
    )
    assert len(figure.axes) == 5
    assert "with 90% interval" in figure.get_suptitle()
    mass = panel(figure, "Mass")
    low, high = interval.low[1], interval.high[1]
    assert mass.get_title() == f"Mass\n{interval.estimate[1]:.3f} ({low:.3f}–{high:.3f})"
    _, curve, dot = mass.lines
    # the area under what is drawn is the AUROC, and the dot lies where 0.3 decides
    area = np.trapezoid(curve.get_ydata(), curve.get_xdata())
    assert area == pytest.approx(interval.estimate[1], abs=1e-12)
    called = y_score[:, 1] >= 0.3
    assert dot.get_ydata()[0] == pytest.approx(called[y_true[:, 1] == 1].mean())
    assert dot.get_xdata()[0] == pytest.approx(called[y_true[:, 1] == 0].mean())
    hernia = panel(figure, "Hernia")
    assert not hernia.lines
    assert "no positive\namong" in texts(hernia)


def test_precision_recall(table) -> None:
    y_true, y_score, _ = arrays(table)
    figure = precision_recall_curves(y_true, y_score, labels_of(table), thresholds=0.3)
    mass = panel(figure, "Mass")
    prevalence, curve, _ = mass.lines
    assert prevalence.get_ydata()[0] == pytest.approx(np.nanmean(y_true[:, 1]))
    recall, precision = curve.get_xdata(), curve.get_ydata()
    area = np.sum(np.diff(recall) * precision[1:])  # drawn as steps from the left
    assert area == pytest.approx(average_precision_per_label(y_true, y_score)[1])
    assert curve.get_drawstyle() == "steps-pre"


def test_confusion_by_hand() -> None:
    y_true = np.array([[1, 0], [1, 0], [0, 0], [0, np.nan]], dtype=float)
    y_score = np.array([[0.9, 0.1], [0.4, 0.1], [0.2, 0.6], [0.1, 0.1]])
    figure = confusion_matrices(y_true, y_score, ["a", "b_c"], thresholds=[0.5, 0.25])
    assert [axes.get_title() for axes in figure.axes] == ["a\nt = 0.500", "b c\nt = 0.250"]
    assert texts(figure.axes[0]) == "1\n50.0% | 1\n50.0% | 0\n0.0% | 2\n100.0%"
    assert texts(figure.axes[1]) == "0\nno images | 0\nno images | 1\n33.3% | 2\n66.7%"


def test_reliability(table) -> None:
    y_true, y_score, _ = arrays(table)
    y_true = y_true.copy()
    y_true[:, 1] = np.nan
    figure = reliability_diagrams(y_true, y_score, labels_of(table))
    assert "no image\nhas this label known" in texts(panel(figure, "Mass"))
    assert panel(figure, "Effusion").get_title().startswith("Effusion\nECE 0.")


@pytest.mark.parametrize("labels", [1, 2, 4, 14])
def test_every_text_is_inside_its_figure(labels: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = [*("Pleural_Thickening", "Consolidation", "Cardiomegaly") * 5][:labels]
    y_true = (rng.random((80, labels)) < 0.3).astype(float)
    y_score = rng.random(y_true.shape)
    for figure in (
        roc_curves(y_true, y_score, names, thresholds=0.5),
        precision_recall_curves(y_true, y_score, names, thresholds=0.5),
        confusion_matrices(y_true, y_score, names, thresholds=0.5),
        reliability_diagrams(y_true, y_score, names),
    ):
        path = save_figure(figure, tmp_path / "new" / "figure.png", dpi=50)
        assert path.stat().st_size > 1000
        width, height = figure.canvas.get_width_height()
        shown = [figure._suptitle, *(axes.title for axes in figure.axes)]
        # Half a pixel: fonts are as large as each resolution allows.
        boxes = [text.get_window_extent().padded(-0.5) for text in shown]
        for box in boxes:
            assert box.x0 >= 0
            assert box.x1 <= width
            assert box.y1 <= height
        for index, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[index + 1 :])


def test_training_curves() -> None:
    history = pd.DataFrame(
        {
            "epoch": [0, 1, 2, 3],
            "train/loss": [0.9, 0.6, 0.5, 0.4],
            "val/loss": [0.8, np.nan, 0.5, 0.6],
            "val/auroc_macro": [0.5, 0.6, 0.8, 0.7],
            "lr/backbone": [1e-4, 1e-4, 1e-5, 1e-5],
            "lr/head": [1e-3, 1e-3, 1e-4, 1e-4],
        }
    )
    figure = training_curves(history)
    loss, score, rate = figure.axes
    assert [line.get_label() for line in loss.lines[:2]] == ["training", "validation"]
    np.testing.assert_array_equal(loss.lines[1].get_xdata(), [1, 3, 4])
    assert score.get_title() == "Validation scores (best: epoch 3)"
    assert [text.get_text() for text in rate.get_legend().texts] == ["backbone", "head"]
    assert rate.get_yscale() == "log"
    by_loss = training_curves(history, monitor="val/loss")
    assert by_loss.axes[1].get_title() == "Validation scores (best: epoch 3)"


def test_training_curves_of_one_epoch_without_validation() -> None:
    figure = training_curves(pd.DataFrame({"epoch": [0], "train/loss": [0.5], "lr": [0.0]}))
    assert texts(figure.axes[1]) == "nothing was recorded"
    assert figure.axes[2].get_yscale() == "linear"
    with pytest.raises(ValueError, match="history has no column epoch; it has loss"):
        training_curves(pd.DataFrame({"loss": [1.0]}))


def test_no_global_state(table) -> None:
    before = dict(mpl.rcParams)
    y_true, y_score, _ = arrays(table)
    roc_curves(y_true, y_score, labels_of(table))
    assert dict(mpl.rcParams) == before


def test_no_labels() -> None:
    with pytest.raises(ValueError, match="no labels to draw"):
        roc_curves(np.zeros((3, 0)), np.zeros((3, 0)), [])
