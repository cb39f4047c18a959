"""Maps from logits to probabilities that mean what they say, one per label.

`temperature` divides the logits by one number (Guo et al., ICML 2017): it cannot shift them, so it
does not repair a loss that weighs positives. `platt` scales and shifts them (Platt, Advances in
Large Margin Classifiers 1999). `isotonic` takes any rising curve (Zadrozny and Elkan, KDD 2002): it
needs some hundred positives, ties scores, and may answer exactly 0 and 1. No map reverses an order.
`calibrator_fits` fits them on validation; a bundle keeps them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from cxr_lightning.errors import DataError
from cxr_lightning.evaluation.predictions import labels_of, logits_of, with_logits

__all__ = [
    "Calibration",
    "CalibrationKind",
    "CalibrationMap",
    "Identity",
    "Isotonic",
    "Platt",
    "Temperature",
    "calibrate_predictions",
]

Floats = NDArray[np.float64]
CalibrationKind = Literal["none", "temperature", "platt", "isotonic"]

CERTAIN = 1e-6  # probabilities of 0 and 1 have no logit: a calibrated table stops so far from them


class _Rescaled(ABC):
    """A map that changes the logit and keeps the sigmoid."""

    @abstractmethod
    def rescale(self, logits: Floats) -> Floats:
        """Return the calibrated logits of any shape."""

    def probability(self, logits: Floats) -> Floats:
        return expit(self.rescale(logits))


@dataclass(frozen=True)
class Identity(_Rescaled):
    """The sigmoid of the logit: nothing was asked for, or nothing could be fitted."""

    def rescale(self, logits: Floats) -> Floats:
        return logits


@dataclass(frozen=True)
class Temperature(_Rescaled):
    """sigmoid(logit / temperature)."""

    temperature: float

    def __post_init__(self) -> None:
        _check(0 < self.temperature < np.inf, f"temperature {self.temperature} is not positive")

    def rescale(self, logits: Floats) -> Floats:
        return logits / self.temperature


@dataclass(frozen=True)
class Platt(_Rescaled):
    """sigmoid(slope x logit + intercept)."""

    slope: float
    intercept: float

    def __post_init__(self) -> None:
        fine = 0 < self.slope < np.inf and abs(self.intercept) < np.inf
        _check(fine, f"slope {self.slope}, intercept {self.intercept}: must be finite, slope > 0")

    def rescale(self, logits: Floats) -> Floats:
        return self.slope * logits + self.intercept


@dataclass(frozen=True)
class Isotonic:
    """Straight lines between (logit, probability) points; level before the first, after the last.

    Both rise: logits strictly, probabilities in [0, 1].
    """

    logits: tuple[float, ...]
    probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        x, y = np.array(self.logits), np.array(self.probabilities)
        fine = x.size == y.size > 0 and bool(
            np.isfinite(x).all() and (np.diff(x) > 0).all() and (np.diff(y) >= 0).all()
        )
        _check(fine and 0 <= y[0] <= y[-1] <= 1, "points of an isotonic curve do not rise")

    def probability(self, logits: Floats) -> Floats:
        return np.interp(logits, self.logits, self.probabilities)

    def rescale(self, logits: Floats) -> Floats:
        """The logit of the probability, moved off 0 and 1 by at least `CERTAIN`."""
        return logit(np.clip(self.probability(logits), CERTAIN, 1 - CERTAIN))


def _check(fine: bool, problem: str) -> None:
    if not fine:
        raise DataError(f"A stored calibration is damaged: {problem}.")


CalibrationMap = Identity | Temperature | Platt | Isotonic
_MAPS: dict[str, Callable[..., CalibrationMap]] = {
    "none": Identity,
    "temperature": Temperature,
    "platt": Platt,
    "isotonic": Isotonic,
}


@dataclass(frozen=True)
class Calibration:
    """What turns a network's logits into probabilities.

    Attributes
    ----------
    labels : names, in the order of the columns
    kind : what was fitted
    maps : one per label; `Identity` where it could not be fitted
    fitted : False where validation had one class only, or one logit only; all of kind `none`
    """

    labels: tuple[str, ...]
    kind: CalibrationKind
    maps: tuple[CalibrationMap, ...]
    fitted: tuple[bool, ...]

    def __post_init__(self) -> None:
        if not len(self.labels) == len(self.maps) == len(self.fitted):
            raise ValueError("labels, maps and fitted must have one length")

    @classmethod
    def none(cls, labels: Sequence[str]) -> Calibration:
        """Return the calibration that leaves the sigmoid as it is."""
        count = len(labels)
        return cls(tuple(labels), "none", (Identity(),) * count, (False,) * count)

    def apply(self, logits: ArrayLike) -> Floats:
        """Return probabilities in [0, 1] of logits (n, L), both with one column per label."""
        columns = self._columns(logits).T
        found = [one.probability(x) for one, x in zip(self.maps, columns, strict=True)]
        return np.column_stack(found)

    def apply_logits(self, logits: ArrayLike) -> Floats:
        """Return the logits of the probabilities that `apply` gives, all finite.

        Isotonic probabilities are moved to at least 1e-6 and at most 1 - 1e-6 for that.
        """
        columns = self._columns(logits).T
        return np.column_stack([one.rescale(x) for one, x in zip(self.maps, columns, strict=True)])

    def _columns(self, logits: ArrayLike) -> Floats:
        values = np.asarray(logits, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != len(self.labels):
            raise ValueError(
                f"logits must have shape (n, {len(self.labels)}), given {values.shape}"
            )
        return values

    def select(self, labels: Sequence[str]) -> Calibration:
        """Return the calibration of these labels, in their order."""
        if missing := [label for label in labels if label not in self.labels]:
            raise DataError(
                f"No calibration was fitted for {', '.join(missing)}; there is one for "
                f"{', '.join(self.labels)}."
            )
        at = [self.labels.index(label) for label in labels]
        return Calibration(
            tuple(labels),
            self.kind,
            tuple(self.maps[i] for i in at),
            tuple(self.fitted[i] for i in at),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return a plain JSON object; floats keep every bit."""
        return {
            "kind": self.kind,
            "labels": {
                label: {
                    "fitted": fitted,
                    **{
                        name: list(value) if isinstance(value, tuple) else value
                        for name, value in vars(one).items()
                    },
                }
                for label, one, fitted in zip(self.labels, self.maps, self.fitted, strict=True)
            },
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], labels: Sequence[str] | None = None) -> Calibration:
        """Read what `to_dict` wrote.

        Parameters
        ----------
        labels
            Return the calibration of these labels, in their order. They are needed where `data` is
            empty, as in a bundle without calibration: the result is then `none`.

        Raises
        ------
        DataError
            An unknown kind, missing parameters, or parameters out of range.
        """
        if not data and labels is not None:
            return cls.none(labels)
        kind = data.get("kind")
        if kind not in _MAPS:
            raise DataError(
                f"A stored calibration is of kind {kind!r}; allowed: {', '.join(_MAPS)}."
            )
        found: dict[str, tuple[CalibrationMap, bool]] = {}
        for label, entry in data.get("labels", {}).items():
            fitted = bool(entry.get("fitted"))
            given = {
                name: tuple(map(float, value)) if isinstance(value, list) else float(value)
                for name, value in entry.items()
                if name != "fitted"
            }
            try:
                found[label] = _MAPS[kind if fitted else "none"](**given), fitted
            except TypeError as error:
                raise DataError(f"A stored calibration is damaged: {label}: {error}.") from error
        whole = cls(
            tuple(found),
            kind,
            tuple(one for one, _ in found.values()),
            tuple(fitted for _, fitted in found.values()),
        )
        return whole if labels is None else whole.select(labels)


def calibrate_predictions(predictions: pd.DataFrame, calibration: Calibration) -> pd.DataFrame:
    """Return the table with calibrated logits, so that all of evaluation can be run on it.

    They are float32 as in every table: images whose logits differ in the seventh digit may tie.
    """
    chosen = calibration.select(labels_of(predictions))
    return with_logits(predictions, chosen.apply_logits(logits_of(predictions)))
