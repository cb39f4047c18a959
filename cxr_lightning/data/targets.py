"""What training aims at: labels after the uncertainty policies, drawn anew where they say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_lightning.config.schema import DataConfig
from cxr_lightning.errors import DataError
from cxr_lightning.evaluation.predictions import arrays, labels_of, read_predictions
from cxr_lightning.labels import LabelSpace, smoothing_range
from cxr_lightning.studies import label_array

__all__ = ["Targets", "scored_targets", "training_targets"]


@dataclass(frozen=True)
class Targets:
    """Targets of all rows of a study table.

    Attributes
    ----------
    values : float32 of shape (rows, labels)
        1, 0, NaN (unknown), a soft target in between, or -1 where still uncertain.
    low, high : float32 of shape (labels,) or (rows, labels)
        Range from which an uncertain label's target is drawn; NaN: it stays -1.
    """

    values: npt.NDArray[np.float32]
    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]

    def of(
        self,
        rows: npt.NDArray[np.int64],
        *,
        seed: int,
        epochs: npt.NDArray[np.int64],
        keys: npt.NDArray[np.uint64],
    ) -> npt.NDArray[np.float32]:
        """Return the targets (n, labels) of rows (n,) as they are in an epoch.

        A draw depends on (seed, epoch, sample) and the label alone.
        """
        targets = self.values[rows]
        low, high = self._range(rows)
        drawn = (targets == -1) & ~np.isnan(low)
        for i in np.flatnonzero(drawn.any(axis=1)):
            address = (seed, int(epochs[i]), int(keys[i]), _STREAM)
            uniform = np.random.default_rng(address).random(targets.shape[1], dtype=np.float32)
            soft = low[i] + (high[i] - low[i]) * uniform
            targets[i, drawn[i]] = soft[drawn[i]]
        return targets

    def counts(
        self, rows: npt.NDArray[np.int64], uses: npt.NDArray[np.float64]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return positives and negatives per label, float64; a soft target is part of both.

        What is drawn counts by the middle of its range; what is unknown or stays uncertain, not.

        Parameters
        ----------
        rows, uses
            Shape (n,): how often each row counts.
        """
        values = self.values[rows].astype(np.float64)
        low, high = self._range(rows)
        values = np.where(values == -1, (low + high) / 2, values)
        known = ~np.isnan(values)
        positives = uses @ np.where(known, values, 0.0)
        return positives, uses @ known - positives

    def _range(
        self, rows: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return low and high of rows, each of shape (n, labels)."""
        shape = self.values.shape
        return np.broadcast_to(self.low, shape)[rows], np.broadcast_to(self.high, shape)[rows]


# Tells this stream from that of the augmentations, which has the same address.
_STREAM = 1


def scored_targets(studies: pd.DataFrame, labels: LabelSpace) -> Targets:
    """Return what is evaluated: 1, 0, or NaN; what is uncertain is not scored."""
    values = label_array(studies, labels)
    values[values == -1] = np.nan
    nothing = np.full(len(labels), np.nan, np.float32)
    return Targets(values, nothing, nothing)


def training_targets(
    studies: pd.DataFrame,
    labels: LabelSpace,
    config: DataConfig,
    sources: Mapping[str, DataConfig] | None = None,
) -> Targets:
    """Apply `data.uncertain` to the labels of a study table.

    Parameters
    ----------
    sources
        The configuration of each value of the column `source`, which holds for its rows in place of
        `config`; None or empty: the table has one source.

    Raises
    ------
    ConfigError, DataError
        A policy for a label that is not there; a first model that does not fit.
    """
    if sources:
        return _targets_by_source(studies, labels, sources)
    policies = labels.policies(config.uncertain)
    raw = label_array(studies, labels)
    first_model = None
    if config.first_model is not None:
        first_model = _first_model(config, studies, labels)
    ranges = np.array(
        [smoothing_range(policy) or (np.nan, np.nan) for policy in policies], dtype=np.float32
    )
    values = labels.resolve(raw, policies, first_model=first_model)
    return Targets(values, ranges[:, 0], ranges[:, 1])


def _targets_by_source(
    studies: pd.DataFrame, labels: LabelSpace, sources: Mapping[str, DataConfig]
) -> Targets:
    values = label_array(studies, labels)
    low, high = np.full_like(values, np.nan), np.full_like(values, np.nan)
    for source, config in sources.items():
        rows = (studies["source"] == source).to_numpy(bool)
        aims = training_targets(studies[rows], labels, config)
        values[rows], low[rows], high[rows] = aims.values, aims.low, aims.high
    return Targets(values, low, high)


def _first_model(
    config: DataConfig, studies: pd.DataFrame, labels: LabelSpace
) -> npt.NDArray[np.float64]:
    file = config.first_model
    assert file is not None  # checked by the caller
    table = read_predictions(file)
    known = labels_of(table)
    policies = dict(zip(labels.names, labels.policies(config.uncertain), strict=True))
    wanted = [name for name, policy in policies.items() if policy == "self_trained"]
    if missing := [name for name in wanted if name not in known]:
        raise DataError(
            f"data.first_model={file}: has no predictions of {', '.join(missing)}; it has "
            f"{', '.join(known)}"
        )
    scores = pd.DataFrame(arrays(table).y_score, index=table["sample_id"], columns=list(known))
    found = scores.reindex(index=studies["sample_id"], columns=list(labels.names))
    uncertain = (label_array(studies, labels) == -1) & (studies["split"] == "train").to_numpy()[
        :, None
    ]
    absent = uncertain[:, [labels.names.index(name) for name in wanted]] & np.isnan(
        found[wanted].to_numpy()
    )
    if count := int(absent.any(axis=1).sum()):
        raise DataError(
            f"data.first_model={file}: lacks {count:,} training images with uncertain labels; "
            "write its predictions with: python -m cxr_lightning.evaluate bundle=FILE split=train"
        )
    return found.to_numpy()
