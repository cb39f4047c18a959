"""Which images an epoch uses: balance that is seeded, reported, and the same on any device."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cxr_lightning.config.schema import SamplingConfig
from cxr_lightning.data.order import EpochOrder, expected_uses, training_order
from cxr_lightning.errors import ConfigError
from cxr_lightning.labels import LabelSpace

LABELS = LabelSpace(("Common", "Rare", "No Finding"))
ROWS = np.arange(1000, 1100)
# 40 with Common, of which 4 with Rare too; 60 without a finding
TARGETS = np.zeros((100, 3), np.float32)
TARGETS[:40, 0] = 1
TARGETS[:4, 1] = 1
TARGETS[40:, 2] = 1
TABLE = pd.DataFrame({"sample_id": np.arange(1100)})


def order(**config: object) -> EpochOrder:
    return training_order(TABLE, ROWS, TARGETS, LABELS, SamplingConfig(**config), seed=5)  # type: ignore[arg-type]


def expected_positives(one: EpochOrder) -> np.ndarray:
    return expected_uses(one) @ TARGETS


def mean_positives(one: EpochOrder, epochs: int = 300) -> np.ndarray:
    return np.mean([TARGETS[one(epoch) - 1000].sum(axis=0) for epoch in range(epochs)], axis=0)


def test_uniform_is_every_image_once() -> None:
    assert sorted(order()(0)) == ROWS.tolist()
    np.testing.assert_array_equal(expected_positives(order()), [40, 4, 60])


def test_rare_labels_are_drawn_more_often() -> None:
    one = order(draw="rare_labels")
    assert len(one) == len(one(0)) == 100
    # weights 25 (Rare), 2.5 (Common), 100/60 (No Finding): 100, 90, 100 of 290 in total
    expected = np.array([190, 100, 100]) / 290 * 100
    np.testing.assert_allclose(expected_positives(one), expected, rtol=1e-6)
    np.testing.assert_allclose(mean_positives(one), expected, atol=1.2)


def test_no_finding_is_thinned_by_other_images_each_epoch() -> None:
    one = order(no_finding=0.25)
    assert len(one) == len(one(0)) == 55
    assert len(set(one(0).tolist())) == 55
    assert set(ROWS[:40]) <= set(one(0).tolist())
    without = [set(one(epoch)) - set(ROWS[:40]) for epoch in (0, 1)]
    assert without[0] != without[1]
    np.testing.assert_allclose(expected_positives(one), [40, 4, 15])


def test_both_together() -> None:
    one = order(draw="rare_labels", no_finding=0.5)
    assert len(one) == 70
    np.testing.assert_allclose(mean_positives(one), expected_positives(one), atol=1.2)


def test_an_epoch_depends_on_seed_and_epoch_alone() -> None:
    one = order(draw="rare_labels", no_finding=0.5)
    np.testing.assert_array_equal(one(3), one(3))
    assert one(3).tolist() != one(4).tolist()
    other = training_order(
        TABLE, ROWS, TARGETS, LABELS, SamplingConfig(draw="rare_labels", no_finding=0.5), seed=6
    )
    assert one(3).tolist() != other(3).tolist()


def test_sources_are_drawn_alike() -> None:
    table = TABLE.assign(source=["large"] * 1090 + ["small"] * 10)
    one = training_order(table, ROWS, TARGETS, LABELS, SamplingConfig(draw="sources"), seed=0)
    share = np.mean([(one(epoch) >= 1090).mean() for epoch in range(300)])
    assert share == pytest.approx(0.5, abs=0.02)


def test_one_source_cannot_be_balanced() -> None:
    with pytest.raises(ConfigError, match="this data set is one source"):
        order(draw="sources")
