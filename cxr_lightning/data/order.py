"""Which images an epoch uses, in which order: a function of (seed, epoch) alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_lightning.config.schema import SamplingConfig
from cxr_lightning.errors import ConfigError
from cxr_lightning.labels import NO_FINDING, LabelSpace

__all__ = ["EpochOrder", "expected_uses", "training_order"]


@dataclass(frozen=True)
class EpochOrder:
    """The rows of an epoch, in order.

    Attributes
    ----------
    rows : int64 of shape (n,)
        Rows of the study table.
    seed
        Seed of the order.
    weights : float64 of shape (n,), optional
        Rows are drawn with replacement in this proportion; None: each comes once.
    thinned : bool of shape (n,), optional
        Rows of which each epoch draws `kept` without replacement before anything else.
    kept
        How many of the thinned rows an epoch uses.
    """

    rows: npt.NDArray[np.int64]
    seed: int
    weights: npt.NDArray[np.float64] | None = None
    thinned: npt.NDArray[np.bool_] | None = None
    kept: int = 0

    def __len__(self) -> int:
        if self.thinned is None:
            return len(self.rows)
        return int((~self.thinned).sum()) + self.kept

    def __call__(self, epoch: int) -> npt.NDArray[np.int64]:
        """Return the rows of an epoch: int64 of shape (len(self),)."""
        generator = np.random.default_rng((self.seed, epoch))
        index = np.arange(len(self.rows))
        if self.thinned is not None:
            drawn = generator.choice(index[self.thinned], self.kept, replace=False)
            index = np.concatenate([index[~self.thinned], drawn])
        if self.weights is None:
            return self.rows[generator.permutation(index)]
        weights = self.weights[index]
        return self.rows[generator.choice(index, len(self), p=weights / weights.sum())]


def training_order(
    studies: pd.DataFrame,
    rows: npt.NDArray[np.int64],
    targets: npt.NDArray[np.float32],
    labels: LabelSpace,
    config: SamplingConfig,
    *,
    seed: int,
) -> EpochOrder:
    """Return the order of training that `config` describes.

    Parameters
    ----------
    studies
        The study table.
    rows : int64 of shape (n,)
        Its training rows.
    targets : float32 of shape (n, labels)
        Their labels; one of at least 0.5 counts as present, one below as absent, and NaN and -1
        (uncertain) as neither.

    Raises
    ------
    ConfigError
        sampling.draw=sources on a data set that has one source.
    """
    present = np.nan_to_num(targets) >= 0.5
    weights: npt.NDArray[np.float64] | None = None
    thinned: npt.NDArray[np.bool_] | None = None
    kept = 0
    if config.draw == "rare_labels":
        weights = _rarity(present)
    elif config.draw == "sources":
        if "source" not in studies:
            raise ConfigError(
                "data.sampling.draw=sources balances the sources of data=mix; this data set is one "
                "source. Use uniform or rare_labels."
            )
        source = studies["source"].iloc[rows]
        weights = np.asarray(1 / source.map(source.value_counts()), np.float64)
    if config.no_finding < 1:
        thinned = _shows_nothing(targets, labels)
        kept = round(config.no_finding * int(thinned.sum()))
    return EpochOrder(rows, seed, weights, thinned, kept)


def _shows_nothing(targets: npt.NDArray[np.float32], labels: LabelSpace) -> npt.NDArray[np.bool_]:
    """Tell of which rows it is known that they are without a finding: shape (n,).

    Those with No Finding, and where it is not known, those of which every finding is absent. What
    is unknown or uncertain is not absent.
    """
    finding = np.array([name != NO_FINDING for name in labels.names])
    present, absent = targets >= 0.5, (targets >= 0) & (targets < 0.5)
    nothing = present[:, ~finding].any(axis=1)
    all_absent = absent[:, finding].all(axis=1) & finding.any()  # of no findings, none is absent
    something = present[:, finding].any(axis=1) | absent[:, ~finding].any(axis=1)
    return np.asarray((nothing | all_absent) & ~something, dtype=np.bool_)


def _rarity(present: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Weigh each row by its rarest label: n / positives; rows without any form a label too."""
    columns = np.column_stack([present, ~present.any(axis=1)])
    count = columns.sum(axis=0)
    weight = np.divide(len(columns), count, out=np.zeros(len(count)), where=count > 0)
    rarest: npt.NDArray[np.float64] = (columns * weight).max(axis=1)
    return rarest


def expected_uses(order: EpochOrder) -> npt.NDArray[np.float64]:
    """Return how often an epoch uses each of the order's rows, on average: shape (n,)."""
    uses = np.ones(len(order.rows))
    if order.thinned is not None and order.thinned.any():
        uses[order.thinned] = order.kept / order.thinned.sum()
    if order.weights is not None:
        uses = uses * order.weights
        uses = uses * (len(order) / uses.sum())
    return uses
