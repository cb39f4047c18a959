"""Which images form which batch, dealt to the devices."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from cxr_lightning.data.order import EpochOrder

__all__ = ["Address", "BatchSampler"]

# (epoch, row of the study table): all that a sample's randomness may depend on beside the seed.
Address = tuple[int, int]


class BatchSampler:
    """Yield lists of addresses, one per batch.

    A batch of `batch_size` images is shared out over the devices, so that the images of a step are
    the same for any number of them. In training the last, incomplete batch of an epoch is left for
    other epochs (batch statistics of one or two images do harm); in evaluation every row comes
    once, except that the last batch is filled up with repeated rows until each device has as many
    batches and none waits for another: whoever gathers them drops repeated rows.

    Parameters
    ----------
    rows
        Rows of the study table in the order of evaluation, or what gives those of an epoch of
        training.
    batch_size
        Images per step over all devices.
    rank, world_size
        This device, and how many there are.
    """

    def __init__(
        self,
        rows: npt.NDArray[np.int64] | EpochOrder,
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.rows = rows
        self.training = isinstance(rows, EpochOrder)
        self.batch_size = min(batch_size, len(rows)) if self.training else batch_size
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        whole, rest = divmod(len(self.rows), self.batch_size)
        return whole if self.training else whole + bool(rest)

    def __iter__(self) -> Iterator[list[Address]]:
        epoch = self.epoch
        order = self.rows(epoch) if isinstance(self.rows, EpochOrder) else self.rows
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            batch = order[start : start + self.batch_size]
            if not self.training and len(batch) % self.world_size:
                batch = np.resize(batch, -(-len(batch) // self.world_size) * self.world_size)
            yield [(epoch, int(row)) for row in batch[self.rank :: self.world_size]]
