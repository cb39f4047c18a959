"""Boxes, overlaps and tables by cases worked out by hand, and in 1024-pixel space."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from cxr_lightning.config.schema import ImageConfig
from cxr_lightning.data.images import placement, resize_to_square
from cxr_lightning.evaluation.localisation import (
    ALL,
    OVERLAPS,
    hottest_point,
    localisation_table,
    localise,
    on_picture,
    overlaps,
    regions,
)
from cxr_lightning.evaluation.plots.localisation import localisation_curves


def test_overlaps_worked_out_by_hand() -> None:
    # 4 x 4 against 4 x 2 that shares 2 x 2, against one inside it, and against one far away
    iou, iobb = overlaps([[0, 0, 4, 4]], [[2, 2, 4, 2], [1, 1, 2, 2], [9, 9, 1, 1]])
    assert iou.tolist() == [[4 / 20, 4 / 16, 0.0]]
    assert iobb.tolist() == [[4 / 8, 1.0, 0.0]]


def test_overlaps_of_nothing() -> None:
    iou, iobb = overlaps([[0, 0, 4, 4]], np.zeros((0, 4)))
    assert iou.shape == iobb.shape == (1, 0)


boxes = st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(1, 20)] * 2)


@given(boxes, boxes)
def test_overlaps_equal_those_of_drawn_masks(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    first, second = (np.zeros((40, 40), bool) for _ in range(2))
    for mask, (x, y, width, height) in ((first, a), (second, b)):
        mask[y : y + height, x : x + width] = True
    shared = (first & second).sum()
    iou, iobb = overlaps([a], [b])
    assert iou[0, 0] == pytest.approx(shared / (first | second).sum())
    assert iobb[0, 0] == pytest.approx(shared / second.sum())
    assert overlaps([b], [a])[0][0, 0] == pytest.approx(iou[0, 0])


def test_regions_of_both_cuts() -> None:
    heat = np.zeros((8, 10))
    heat[1:3, 1:4] = 0.5  # above 60 of 255, below 180
    heat[2, 2] = 1.0
    heat[3, 4] = 0.4  # hangs on by a corner
    heat[6, 8:10] = 0.3
    heat[7, 0] = 0.2  # below both
    # x, y, width, height: the large region and its core, and the faint one
    assert regions(heat).tolist() == [[1, 1, 4, 3], [2, 2, 1, 1], [8, 6, 2, 1]]


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_a_constant_map_has_no_region_and_no_point(value: float) -> None:
    heat = np.full((5, 5), value)
    assert regions(heat).shape == (0, 4)
    assert hottest_point(heat) is None


def test_a_shift_and_a_scale_change_nothing() -> None:
    heat = np.random.default_rng(0).random((12, 12))
    assert np.array_equal(regions(heat), regions(3 * heat + 7))
    assert hottest_point(heat) == hottest_point(3 * heat + 7)


def test_the_hottest_point_of_a_plateau_is_its_middle() -> None:
    heat = np.zeros((9, 9))
    heat[2:5, 4:9] = 1
    assert hottest_point(heat) == (6.5, 3.5)


def test_a_uniform_map_stays_uniform() -> None:
    placed = placement(300, 200, ImageConfig(size=64))
    drawn = on_picture(np.full((2, 3, 4, 4), 0.5), placed, 64, (300, 200), (30, 20))
    assert drawn.shape == (2, 3, 30, 20)
    assert np.allclose(drawn, 0.5)


def test_linear_between_the_centres_of_cells() -> None:
    placed = placement(8, 8, ImageConfig(size=32))
    heat = np.array([[0.0, 1.0], [0.0, 1.0]])
    # centres of the cells lie at 2 and 6 of 8 pixels, those of the pixels at 0.5, 1.5, ...
    expected = [0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1]
    assert np.allclose(on_picture(heat, placed, 32, (8, 8), (8, 8)), [expected] * 8)


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("size", [64, 224])
@pytest.mark.parametrize("shape", [(512, 512), (600, 400), (256, 640)])
def test_the_place_is_right_whatever_size_and_fit(
    fit: Literal["pad", "crop", "stretch"], size: int, shape: tuple[int, int]
) -> None:
    """A bright square in a picture, found by the pixels of the network's square, comes back."""
    config = ImageConfig(size=size, fit=fit)
    height, width = shape
    picture = np.zeros(shape, np.uint8)
    side = min(shape) // 2
    top, left = (height - side) // 2 + side // 4, (width - side) // 2 - side // 5
    picture[top : top + side, left : left + side] = 255
    # a heat map of one cell per pixel that looks exactly at what the network sees
    heat = resize_to_square(picture, config) / 255
    drawn = on_picture(heat, placement(height, width, config), size, shape, (1024, 1024))
    in_space = [left / width, top / height, side / width, side / height]
    truth = np.array(in_space) * 1024
    found = localise(drawn, [truth])
    # the network's pixels blur the edges by about half of one
    assert found.iou.max() > (0.94 if size > 64 else 0.82)
    assert found.point is not None
    middle = truth[:2] + truth[2:] / 2
    assert np.abs(np.array(found.point) - middle).max() < 2 * 1024 / size
    assert found.chance == pytest.approx(truth[2] * truth[3] / 1024**2, rel=0.02)


def test_what_was_cropped_away_carries_no_heat() -> None:
    placed = placement(100, 300, ImageConfig(size=50, fit="crop"))
    drawn = on_picture(np.ones((5, 5)), placed, 50, (100, 300), (100, 300))
    assert drawn[:, 100:200].min() == 1
    assert drawn[:, :100].max() == drawn[:, 200:].max() == 0


def _spot(x: int, y: int, width: int, height: int) -> np.ndarray:
    heat = np.zeros((100, 100))
    heat[y : y + height, x : x + width] = 1
    return heat


def test_the_table_worked_out_by_hand() -> None:
    mass = [
        localise(_spot(10, 10, 20, 20), [[10, 10, 20, 20]]),  # IoU 1
        localise(_spot(10, 10, 10, 20), [[10, 10, 20, 20], [60, 60, 10, 10]]),  # IoU 0.5 and 0
        localise(np.zeros((100, 100)), [[50, 50, 10, 10]]),  # an empty map
    ]
    table = localisation_table({"Mass": mass, "Hernia": []})
    cells = table.set_index(["label", "measure", "threshold"])
    for threshold, hits in ((0.1, 2), (0.4, 2), (0.5, 1), (0.7, 1)):  # above, not at
        assert cells.loc[("Mass", "IoU", threshold), ["hits", "n"]].tolist() == [hits, 4]
    assert cells.loc[("Mass", "IoBB", 0.7), "hits"] == 2  # the spot lies inside
    # at T = 0.5 the half box of the second image is a false one
    assert cells.loc[("Mass", "IoU", 0.5), "false_per_image"] == pytest.approx(1 / 3)
    game = table[(table["label"] == "Mass") & (table["measure"] == "pointing")].iloc[0]
    assert game[["hits", "n", "images", "empty_maps"]].tolist() == [2, 3, 3, 1]
    assert game["chance"] == pytest.approx((0.04 + 0.05 + 0.01) / 3)
    # the points (20, 20) and (15, 20), each on the two other images: 2 of 4
    assert game["other_images"] == pytest.approx(0.5)
    low, high = binomtest(2, 3).proportion_ci(method="wilson")
    assert [game["low"], game["high"]] == pytest.approx([low, high])


def test_a_label_without_boxes_is_undefined_not_zero() -> None:
    table = localisation_table({"Hernia": []})
    assert table["share"].isna().all()
    assert (table["n"] == 0).all()
    assert len(table) == 2 * (2 * len(OVERLAPS) + 1)
    assert set(table["label"]) == {"Hernia", ALL}


def test_the_figure_has_a_panel_for_each_label_with_boxes() -> None:
    one = [localise(_spot(10, 10, 20, 20), [[10, 10, 20, 20]])]
    figure = localisation_curves(localisation_table({"Mass": one, "Nodule": one, "Hernia": []}))
    titles = [axes.get_title() for axes in figure.axes]
    assert [title.split("\n")[0] for title in titles] == [
        "Mass: 1 box",
        "Nodule: 1 box",
        f"{ALL}: 2 boxes",
    ]
    alone = localisation_curves(localisation_table({"Mass": one, "Hernia": []}))
    assert len(alone.axes) == 1
