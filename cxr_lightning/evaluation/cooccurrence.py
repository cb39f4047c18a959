"""Which labels come together, in the truth and in the model's calls."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_lightning.evaluation.predictions import arrays, labels_of
from cxr_lightning.evaluation.thresholds import Thresholds

__all__ = ["Cooccurrence", "cooccurrence"]


class Cooccurrence(NamedTuple):
    """Square DataFrames, labels by labels; each cell is over the images that know both labels.

    Attributes
    ----------
    images : images that know both labels
    true_counts, called_counts : images with both labels; the diagonal counts the label alone
    true_share, called_share : of the images with the row's label, the share with the column's;
        NaN where there is none
    """

    images: pd.DataFrame
    true_counts: pd.DataFrame
    called_counts: pd.DataFrame
    true_share: pd.DataFrame
    called_share: pd.DataFrame


def cooccurrence(predictions: pd.DataFrame, thresholds: Thresholds) -> Cooccurrence:
    """Count labels that occur together, in the truth and in the calls at the thresholds.

    The same images count for both, so that the two can be compared: an image that does not know
    one of two labels is left out of their cell.
    """
    labels = labels_of(predictions)
    y_true, y_score, _ = arrays(predictions)
    known = ~np.isnan(y_true)
    present = y_true == 1
    called = (y_score >= thresholds.select(labels).array) & known

    def together(left: NDArray[np.bool_], right: NDArray[np.bool_]) -> pd.DataFrame:
        counts = left.T.astype(np.int64) @ right.astype(np.int64)
        return pd.DataFrame(counts, index=[*labels], columns=[*labels])

    def share(both: pd.DataFrame, row: pd.DataFrame) -> pd.DataFrame:
        return both / row.where(row > 0)

    true_counts, called_counts = together(present, present), together(called, called)
    return Cooccurrence(
        images=together(known, known),
        true_counts=true_counts,
        called_counts=called_counts,
        # the row's label among those images that know the column's as well
        true_share=share(true_counts, together(present, known)),
        called_share=share(called_counts, together(called, known)),
    )
