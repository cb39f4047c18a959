"""Batches: a function of (seed, epoch), the same images for any number of devices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_lightning.data.order import EpochOrder
from cxr_lightning.data.sampler import BatchSampler

ROWS = np.arange(100, 203)


def batches(
    shuffle: bool, *, epoch: int = 0, seed: int = 0, rank: int = 0, world: int = 1, size: int = 16
):  # type: ignore[no-untyped-def]
    order = EpochOrder(ROWS, seed) if shuffle else ROWS
    sampler = BatchSampler(order, batch_size=size, rank=rank, world_size=world)
    sampler.set_epoch(epoch)
    found = list(sampler)
    assert len(found) == len(sampler)
    return found


def rows(found) -> list[int]:  # type: ignore[no-untyped-def]
    return [row for batch in found for _, row in batch]


def test_training_sees_every_row_once_but_for_the_incomplete_batch() -> None:
    seen = rows(batches(True))
    assert len(seen) == len(set(seen)) == 96
    assert set(seen) < set(ROWS.tolist())


def test_order_changes_with_epoch_and_seed_and_repeats() -> None:
    assert rows(batches(True, epoch=1)) == rows(batches(True, epoch=1))
    assert rows(batches(True, epoch=1)) != rows(batches(True, epoch=2))
    assert rows(batches(True, seed=1)) != rows(batches(True, seed=2))


def test_addresses_carry_the_epoch() -> None:
    assert {epoch for batch in batches(True, epoch=7) for epoch, _ in batch} == {7}


@given(world=st.integers(1, 5), epoch=st.integers(0, 3))
def test_a_training_step_holds_the_same_images_for_any_number_of_devices(
    world: int, epoch: int
) -> None:
    size = 20 if world == 5 else 12
    one = batches(True, epoch=epoch, size=size)
    many = [batches(True, epoch=epoch, rank=rank, world=world, size=size) for rank in range(world)]
    for step, batch in enumerate(one):
        together = [address for device in many for address in device[step]]
        assert sorted(together) == sorted(batch)


@given(world=st.integers(1, 7), size=st.integers(1, 40))
def test_evaluation_covers_every_row_and_every_device_has_as_many_batches(
    world: int, size: int
) -> None:
    many = [batches(False, rank=rank, world=world, size=size) for rank in range(world)]
    assert {len(device) for device in many} == {len(many[0])}
    for step in zip(*many, strict=True):
        assert {len(batch) for batch in step} == {len(step[0])}
    assert {row for device in many for row in rows(device)} == set(ROWS.tolist())


def test_evaluation_on_one_device_repeats_nothing() -> None:
    assert rows(batches(False)) == ROWS.tolist()


def test_a_batch_larger_than_the_data() -> None:
    assert len(batches(True, size=1000)) == 1
    assert sorted(rows(batches(True, size=1000))) == ROWS.tolist()


@pytest.mark.parametrize("epoch", [0, 5])
def test_order_is_a_permutation(epoch: int) -> None:
    assert sorted(EpochOrder(ROWS, seed=1)(epoch)) == ROWS.tolist()
