"""The calls to look at: for each label the images the model was surest of, wrong or right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import pandas as pd

from cxr_lightning.errors import ConfigError, nearest
from cxr_lightning.evaluation.predictions import LOGIT, TRUTH, arrays, labels_of
from cxr_lightning.evaluation.thresholds import Thresholds

__all__ = ["MISTAKES", "Outcome", "most_confident"]

Outcome = Literal["false positive", "false negative", "true positive", "true negative"]
MISTAKES: tuple[Outcome, ...] = ("false positive", "false negative")


def most_confident(
    predictions: pd.DataFrame,
    thresholds: Thresholds,
    *,
    outcomes: Sequence[Outcome] = MISTAKES,
    per_label: int = 10,
) -> pd.DataFrame:
    """Return the most confident calls of each label and outcome, by default the mistakes.

    Positive calls are ranked from the highest probability down, negative ones from the lowest up;
    of equal ones the earlier row comes first.

    Returns
    -------
    DataFrame
        At most `per_label` rows per label and outcome: `label`, `outcome`, `rank` (1 is the most
        confident), `of` (how many such calls there are), `probability`, `threshold`, `row` (the
        position in `predictions`), `true_labels` (all that the image has, joined by "; "), and
        every column of `predictions` but those of the labels.
    """
    if per_label < 1:
        raise ValueError(f"per_label must be at least 1, given {per_label}")
    for outcome in outcomes:
        if outcome not in get_args(Outcome):
            allowed = get_args(Outcome)
            raise ConfigError(
                f"Outcome {outcome!r} is not known; allowed: {', '.join(allowed)}."
                f"{nearest(outcome, allowed)}"
            )
    labels = labels_of(predictions)
    y_true, y_score, _ = arrays(predictions)
    limits = thresholds.select(labels).array
    rows: list[dict[str, object]] = []
    for column, label in enumerate(labels):
        score = y_score[:, column]
        called = score >= limits[column]
        for outcome in outcomes:
            positive_call = outcome.endswith("positive")
            truth = positive_call == outcome.startswith("true")
            chosen = np.flatnonzero((y_true[:, column] == truth) & (called == positive_call))
            best = chosen[np.argsort((-1 if positive_call else 1) * score[chosen], kind="stable")]
            for rank, row in enumerate(best[:per_label].tolist(), start=1):
                present = [name for name, one in zip(labels, y_true[row], strict=True) if one == 1]
                rows.append(
                    {
                        "label": label,
                        "outcome": outcome,
                        "rank": rank,
                        "of": len(best),
                        "probability": score[row],
                        "threshold": limits[column],
                        "row": row,
                        "true_labels": "; ".join(present),
                    }
                )
    names = ["label", "outcome", "rank", "of", "probability", "threshold", "row", "true_labels"]
    found = pd.DataFrame(rows, columns=names)
    others = [name for name in predictions if not str(name).startswith((TRUTH, LOGIT))]
    about = predictions.iloc[found["row"].to_numpy(np.intp)][others].reset_index(drop=True)
    return pd.concat([found, about], axis=1)
