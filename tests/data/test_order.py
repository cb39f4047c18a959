"""Which images an epoch uses: balance that is seeded, reported, and the same on any device."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cxr_lightning.config.schema import SamplingConfig
from cxr_lightning.data.order import EpochOrder, expected_uses, training_order
from cxr_lightning.data.sampler import BatchSampler
from cxr_lightning.errors import ConfigError
from cxr_lightning.labels import LabelSpace

LABELS = LabelSpace(("Common", "Rare", "No Finding"))
NAN = np.nan
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


@pytest.mark.parametrize(
    ("findings", "no_finding", "thinned"),
    [
        ((0, 0), None, True),
        ((0, 1), None, False),
        ((0, NAN), None, False),  # it may have what is not known
        ((NAN, NAN), None, False),
        ((0, -1), None, False),
        ((0, 0.9), None, False),
        ((0, 0.1), None, True),  # a soft target of a first model
        ((0, 0), 1, True),
        ((NAN, NAN), 1, True),
        ((0, 1), 1, False),
        ((0, 0), 0, False),  # it has a finding that is no label here
        ((0, 0), NAN, True),
        ((NAN, 0), NAN, False),
        ((), 1, True),
        ((), 0, False),
        ((), NAN, False),
    ],
)
def test_the_unknown_is_not_thinned(
    findings: tuple[float, ...], no_finding: float | None, thinned: bool
) -> None:
    names = LABELS.names[: len(findings)] + (() if no_finding is None else ("No Finding",))
    row = [*findings, *([] if no_finding is None else [no_finding])]
    one = training_order(
        TABLE, ROWS[:1], np.array([row], np.float32), LabelSpace(names),
        SamplingConfig(no_finding=0.4), seed=0,
    )  # fmt: skip
    assert one.thinned is not None
    assert one.thinned.tolist() == [thinned]
    assert len(one(0)) == (0 if thinned else 1)


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


SOURCES = TABLE.assign(source=["large"] * 1080 + ["small"] * 20)
BALANCES: dict[str, dict[str, object]] = {
    "rare_labels": {"draw": "rare_labels"},
    "no_finding": {"no_finding": 0.5},
    "both": {"draw": "rare_labels", "no_finding": 0.5},
    "sources": {"draw": "sources"},
}


@pytest.mark.parametrize("name", BALANCES)
@pytest.mark.parametrize("world", [2, 3, 4])
class TestSeveralDevices:
    """Every balance, dealt to several devices: together they draw what one process draws."""

    SIZE = 12

    def order(self, name: str, seed: int = 5) -> EpochOrder:
        config = SamplingConfig(**BALANCES[name])  # type: ignore[arg-type]
        return training_order(SOURCES, ROWS, TARGETS, LABELS, config, seed=seed)

    def batches(self, name: str, epoch: int, rank: int, world: int, seed: int = 5) -> np.ndarray:
        sampler = BatchSampler(
            self.order(name, seed), batch_size=self.SIZE, rank=rank, world_size=world
        )
        sampler.set_epoch(epoch)
        found = np.array(list(sampler))
        assert (found[..., 0] == epoch).all()
        assert len(found) == len(sampler)
        return found[..., 1]  # (steps, images of this device)

    def test_together_they_are_the_order_of_one_process(self, name: str, world: int) -> None:
        for epoch in range(3):
            ranks = [self.batches(name, epoch, rank, world) for rank in range(world)]
            assert {one.shape for one in ranks} == {ranks[0].shape}
            together = np.stack(ranks, axis=2).reshape(-1)
            order = self.order(name)(epoch)
            assert len(together) == len(order) // self.SIZE * self.SIZE
            np.testing.assert_array_equal(together, order[: len(together)])
            # Each draw is of one device: what occurs twice was drawn twice.
            counts = [np.bincount(one.ravel() - 1000, minlength=100) for one in ranks]
            drawn = np.bincount(order[: len(together)] - 1000, minlength=100)
            np.testing.assert_array_equal(np.sum(counts, axis=0), drawn)
            if name == "no_finding":  # without replacement: no image on two devices
                assert max(drawn) == 1

    def test_seed_and_epoch_alone_decide(self, name: str, world: int) -> None:
        first = self.batches(name, 0, 1, world)
        np.testing.assert_array_equal(first, self.batches(name, 0, 1, world))
        assert (first != self.batches(name, 1, 1, world)).any()
        assert (first != self.batches(name, 0, 1, world, seed=6)).any()

    def test_it_balances_on_each_device_too(self, name: str, world: int) -> None:
        drawn = [
            np.concatenate([self.batches(name, epoch, rank, world).ravel() for epoch in range(60)])
            for rank in range(world)
        ]
        for rows in drawn:
            targets, small = TARGETS[rows - 1000], (rows >= 1080).mean()
            expected = expected_positives(self.order(name)) / len(self.order(name))
            np.testing.assert_allclose(targets.mean(axis=0), expected, atol=0.06)
            if name == "sources":
                assert small == pytest.approx(0.5, abs=0.06)
