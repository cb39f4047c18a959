"""From pictures to probabilities, decisions and flags: what every way of serving shares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from cxr_lightning.bundle import BundleInfo
from cxr_lightning.evaluation.calibrators import Calibration
from cxr_lightning.evaluation.familiarity import nearly_constant
from cxr_lightning.inference.runtimes import Compute

__all__ = ["FLAGS", "Predicted", "Predictor", "nothing_predicted", "prediction_table"]

FLAGS = ("nearly constant", "inverted", "unfamiliar")


@dataclass(frozen=True)
class Predicted:
    """What was found in n images.

    Attributes
    ----------
    logits : float32 (n, L)
    probability : float64 (n, L), the sigmoid of the logits; what the thresholds are compared with
    calibrated : float64 (n, L)
    positive : bool (n, L), probability >= threshold
    unfamiliarity : float64 (n,), distance from the training images as a multiple of the limit;
        NaN where the bundle does not describe them
    flags : for each image those of `FLAGS` that apply
    """

    logits: NDArray[np.float32]
    probability: NDArray[np.float64]
    calibrated: NDArray[np.float64]
    positive: NDArray[np.bool_]
    unfamiliarity: NDArray[np.float64]
    flags: tuple[tuple[str, ...], ...]


class Predictor:
    """A bundle and what computes its network.

    Parameters
    ----------
    info
        Thresholds, calibration and the description of the training images.
    compute
        From images to logits and features.
    """

    def __init__(self, info: BundleInfo, compute: Compute) -> None:
        self.info = info
        self.compute = compute
        self.calibration = Calibration.from_dict(info.calibration, info.labels)
        self.thresholds = info.thresholds.select(info.labels).array

    def __call__(
        self, images: NDArray[np.uint8], tabular: NDArray[np.float32] | None = None
    ) -> Predicted:
        """Predict images (n, size, size); `tabular` (n, T) where the network takes any."""
        logits, features = self.compute(images, tabular)
        probability = expit(logits.astype(np.float64))
        familiarity = self.info.familiarity
        constant = nearly_constant(images)
        if familiarity is None:
            unfamiliarity = np.full(len(images), np.nan)
            inverted = np.zeros(len(images), bool)
        else:
            unfamiliarity = familiarity.distances(features)
            # Of a constant picture polarity means nothing.
            inverted = (familiarity.polarity_scores(images) < 0) & ~constant
        applies = np.column_stack([constant, inverted, unfamiliarity > 1])
        return Predicted(
            logits,
            probability,
            self.calibration.apply(logits),
            probability >= self.thresholds,
            unfamiliarity,
            tuple(
                tuple(flag for flag, yes in zip(FLAGS, row, strict=True) if yes) for row in applies
            ),
        )


def nothing_predicted(info: BundleInfo) -> Predicted:
    """Return what was found in no image."""
    shape = (0, len(info.labels))
    found = np.zeros(shape)
    return Predicted(
        np.zeros(shape, np.float32), found, found, np.zeros(shape, bool), np.zeros(0), ()
    )


def prediction_table(predicted: Predicted, info: BundleInfo) -> pd.DataFrame:
    """Return a row per image.

    Columns: `flags` (text, several joined by "; "), `unfamiliarity`, and for each label
    `probability/LABEL`, `calibrated/LABEL`, `positive/LABEL` (bool), `threshold/LABEL`.
    """
    columns: dict[str, object] = {
        "flags": pd.Series(["; ".join(flags) for flags in predicted.flags], dtype="str"),
        "unfamiliarity": predicted.unfamiliarity,
    }
    thresholds = info.thresholds.select(info.labels).values
    for index, label in enumerate(info.labels):
        columns[f"probability/{label}"] = predicted.probability[:, index]
        columns[f"calibrated/{label}"] = predicted.calibrated[:, index]
        columns[f"positive/{label}"] = predicted.positive[:, index]
        columns[f"threshold/{label}"] = np.full(len(predicted.logits), thresholds[index])
    return pd.DataFrame(columns)
