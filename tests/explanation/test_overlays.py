"""Pictures with heat and boxes on them, and which are shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cxr_lightning.bundle import load_bundle
from cxr_lightning.errors import ConfigError
from cxr_lightning.explanation.examples import choose_examples
from cxr_lightning.explanation.overlays import CYAN, draw_boxes, overlay, overlay_for


def test_where_there_is_no_heat_the_radiograph_shows() -> None:
    picture = np.arange(64, dtype=np.uint8).reshape(8, 8)
    heat = np.zeros((8, 8))
    heat[2, 3] = 1
    drawn = overlay(picture, heat)
    assert drawn.dtype == np.uint8
    cold = heat == 0
    assert np.array_equal(drawn[cold], np.repeat(picture[cold][:, None], 3, axis=1))
    red, green, blue = drawn[2, 3].tolist()
    assert min(red, green) > 2 * blue  # yellow


def test_more_heat_is_lighter_and_less_grey() -> None:
    drawn = overlay(np.full((1, 11), 60), np.linspace(0, 1, 11)[None]).astype(int)[0]
    luma = drawn @ [0.299, 0.587, 0.114]
    assert (np.diff(luma) > 0).all()
    assert (np.diff(drawn[:, 0] - drawn[:, 2]) >= 0).all()


def test_boxes_are_drawn_on_a_copy() -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    drawn = draw_boxes(picture, [(10, 5, 20, 30)])
    assert not picture.any()
    rows, columns = np.nonzero((drawn == CYAN).all(axis=2))
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (10, 5, 29, 34)
    assert not drawn[15:25, 20].any()


def test_overlay_for(bundle_file: Path) -> None:
    bundle = load_bundle(bundle_file)
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64), dtype=np.uint8)
    drawn = overlay_for(bundle, images, ["Mass", "Hernia"], "gradcam++")
    assert drawn.shape == (2, 2, 64, 64, 3)
    assert drawn.dtype == np.uint8
    assert not np.array_equal(drawn[:, 0], drawn[:, 1])
    assert overlay_for(bundle, images[:1]).shape == (1, 14, 64, 64, 3)
    with pytest.raises(ConfigError, match="Did you mean 'Mass'"):
        overlay_for(bundle, images, ["Mas"])


def test_which_examples_are_chosen() -> None:
    truth = np.array([1, 1, 1, 0, 0, np.nan, 1, 0], np.float32)
    probability = np.array([0.9, 0.2, 0.5, 0.8, 0.1, 1.0, 0.7, 0.3], np.float32)
    boxed = np.array([0, 1, 0, 0, 0, 0, 0, 0], bool)
    # with a box, then by probability; then the most probable ones without the finding
    assert choose_examples(truth, probability, boxed, 3).tolist() == [1, 0, 3]
    assert choose_examples(truth, probability, boxed, 6).tolist() == [1, 0, 6, 2, 3, 7]
    assert choose_examples(truth, probability, boxed, 0).tolist() == []
    none = np.zeros(8, np.float32)
    assert choose_examples(none, probability, boxed, 3).tolist() == [5, 0, 3]
    # where negatives run short, positives fill up
    assert choose_examples(none + 1, probability, ~boxed, 3).tolist() == [5, 0, 3]
