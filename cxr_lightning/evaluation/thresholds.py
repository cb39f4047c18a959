"""One threshold per label, fitted on validation and used everywhere else.

A threshold is placed half-way between the lowest score that is called positive and the next one
below it, so that rounding on the way (float32 logits, another runtime's sigmoid) does not move an
image of the validation set to the other side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_lightning.errors import ConfigError, DataError, nearest
from cxr_lightning.evaluation._checks import check_scores
from cxr_lightning.evaluation.discrimination import Curve, operating_curve

__all__ = ["FALLBACK", "Rule", "Thresholds", "fit_thresholds"]

Rule = Literal["f1", "youden", "sensitivity", "specificity", "cost"]
FALLBACK = 0.5


@dataclass(frozen=True)
class Thresholds:
    """Probabilities from which a label is called positive.

    Attributes
    ----------
    labels : names, in the order of the columns
    values : one probability per label
    fitted : False where validation had one class only and `FALLBACK` stands in
    rule : what was maximised, or which target was set
    target : the target of the rules `sensitivity` and `specificity`
    false_negative_cost : for the rule `cost`, a missed finding in units of a false alarm
    """

    labels: tuple[str, ...]
    values: tuple[float, ...]
    fitted: tuple[bool, ...]
    rule: Rule
    target: float | None = None
    false_negative_cost: float | None = None
    convention: str = field(default="probability >= threshold", init=False)

    def __post_init__(self) -> None:
        if not len(self.labels) == len(self.values) == len(self.fitted):
            raise ValueError("labels, values and fitted must have one length")

    @property
    def array(self) -> NDArray[np.float64]:
        """The values as float64 of shape (L,)."""
        return np.array(self.values, dtype=np.float64)

    def select(self, labels: Sequence[str]) -> Thresholds:
        """Return the thresholds of these labels, in their order."""
        if missing := [label for label in labels if label not in self.labels]:
            raise DataError(
                f"No threshold was fitted for {', '.join(missing)}; there are thresholds for "
                f"{', '.join(self.labels)}."
            )
        at = [self.labels.index(label) for label in labels]
        return Thresholds(
            tuple(labels),
            tuple(self.values[i] for i in at),
            tuple(self.fitted[i] for i in at),
            self.rule,
            self.target,
            self.false_negative_cost,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return a plain JSON object; floats keep every bit."""
        return {
            "convention": self.convention,
            "rule": self.rule,
            "target": self.target,
            "false_negative_cost": self.false_negative_cost,
            "labels": {
                label: {"threshold": value, "fitted": fitted}
                for label, value, fitted in zip(self.labels, self.values, self.fitted, strict=True)
            },
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Thresholds:
        """Read what `to_dict` wrote."""
        labels = data["labels"]
        return cls(
            labels=tuple(labels),
            values=tuple(float(entry["threshold"]) for entry in labels.values()),
            fitted=tuple(bool(entry["fitted"]) for entry in labels.values()),
            rule=data["rule"],
            target=data["target"],
            false_negative_cost=data["false_negative_cost"],
        )


def fit_thresholds(
    y_true: ArrayLike,
    y_score: ArrayLike,
    labels: Sequence[str],
    *,
    rule: Rule = "f1",
    target: float | None = None,
    false_negative_cost: float | None = None,
) -> Thresholds:
    """Choose one threshold per label on validation probabilities.

    Parameters
    ----------
    y_true, y_score
        Shape (n, L): 1, 0, NaN for unknown; probabilities in [0, 1].
    rule
        `f1` maximises F1; `youden` sensitivity + specificity - 1; `sensitivity` reaches the
        `target` with the highest specificity possible; `specificity` reaches the `target` with the
        highest sensitivity possible; `cost` minimises false positives + `false_negative_cost` x
        false negatives. Of equally good thresholds the one with fewest false positives is taken,
        and of these the highest.

    Returns
    -------
    Thresholds
        Where a label has one class only in validation: `FALLBACK`, and `fitted` is False.
    """
    _check_rule(rule, target, false_negative_cost)
    truth, score = check_scores(y_true, y_score)
    if truth.shape[1] != len(labels):
        raise ValueError(f"{len(labels)} labels for {truth.shape[1]} columns")
    known = ~np.isnan(truth)
    if (known & ((score < 0) | (score > 1))).any():
        raise ValueError("y_score must hold probabilities in [0, 1]; apply the sigmoid to logits")
    values, fitted = [], []
    for label in range(truth.shape[1]):
        rows = known[:, label]
        curve = operating_curve(truth[rows, label], score[rows, label])
        both = bool(curve.score.size and curve.tp[-1] > 0 and curve.fp[-1] > 0)
        value = FALLBACK
        if both:
            value = _place(curve, _best(curve, rule, target, false_negative_cost))
        values.append(value)
        fitted.append(both)
    return Thresholds(
        tuple(labels), tuple(values), tuple(fitted), rule, target, false_negative_cost
    )


def _check_rule(rule: str, target: float | None, false_negative_cost: float | None) -> None:
    if rule not in get_args(Rule):
        raise ConfigError(
            f"Threshold rule {rule!r} is not known; allowed: {', '.join(get_args(Rule))}."
            f"{nearest(rule, get_args(Rule))}"
        )
    if rule in ("sensitivity", "specificity") and (target is None or not 0 < target <= 1):
        raise ConfigError(
            f"Threshold rule {rule!r} needs a target above 0 and at most 1, given {target}."
        )
    if rule == "cost" and not (
        false_negative_cost is not None and 0 < false_negative_cost < np.inf
    ):
        raise ConfigError(
            "Threshold rule 'cost' needs false_negative_cost, a positive number (a missed finding "
            f"in units of a false alarm), given {false_negative_cost}."
        )


def _best(curve: Curve, rule: Rule, target: float | None, miss_cost: float | None) -> int:
    """Index of the lowest group that is called positive; -1 calls nothing positive."""
    tp, fp = np.append(0.0, curve.tp), np.append(0.0, curve.fp)
    positives, negatives = tp[-1], fp[-1]
    fn = positives - tp
    # whole numbers, or one division of whole numbers: equal thresholds compare as equal
    if rule == "f1":
        goodness = 2 * tp / (2 * tp + fp + fn)
    elif rule == "youden":
        goodness = tp * negatives - fp * positives
    elif rule == "sensitivity":
        goodness = np.where(tp / positives >= target, negatives - fp, -1.0)
        goodness = goodness * (positives + 1) + tp  # most true positives at that specificity
    elif rule == "specificity":
        goodness = np.where((negatives - fp) / negatives >= target, tp, -1.0)
    else:
        goodness = -(fp + miss_cost * fn)
    return int(np.argmax(goodness)) - 1  # the first of equals: the highest threshold


def _place(curve: Curve, index: int) -> float:
    """A number in (score below, score at `index`], half-way where float64 has room."""
    upper = curve.score[index] if index >= 0 else np.inf
    lower = curve.score[index + 1] if index + 1 < curve.score.size else 0.0
    if index < 0:  # above every score: half-way to 1, or just past it
        return (
            float((lower + 1) / 2)
            if lower < 1 and (lower + 1) / 2 > lower
            else float(np.nextafter(max(lower, 1.0), np.inf))
        )
    middle = (lower + upper) / 2
    return float(middle if lower < middle <= upper else upper)
