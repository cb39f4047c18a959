"""Which trials are best, and the table of all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from cxr_lightning.hpo.space import Space

__all__ = ["best_trials", "leaderboard", "state_name"]

_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def state_name(trial: FrozenTrial) -> str:
    """Return a trial's state as one word."""
    return _STATES[trial.state]


def best_trials(trials: Sequence[FrozenTrial], space: Space) -> list[FrozenTrial]:
    """Return the complete trials, best first.

    With several objectives: those of the Pareto front first, by the first objective, then the
    others.
    """
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    signs = [-1.0 if way == "maximize" else 1.0 for way in space.objective.values()]

    def costs(trial: FrozenTrial) -> tuple[float, ...]:
        return tuple(sign * value for sign, value in zip(signs, trial.values, strict=True))

    def dominated(trial: FrozenTrial) -> bool:
        own = costs(trial)
        return any(
            all(a <= b for a, b in zip(costs(other), own, strict=True)) and costs(other) != own
            for other in complete
        )

    several = len(signs) > 1
    return sorted(
        complete,
        key=lambda trial: (several and dominated(trial), *costs(trial), trial.number),
    )


def leaderboard(trials: Sequence[FrozenTrial], space: Space) -> pd.DataFrame:
    """Return a row per trial: complete ones best first, then the others by number.

    Columns: `rank` (NaN unless complete), `trial`, `state`, the objectives, `epochs`, `seconds`,
    the parameters (NaN where a trial does not have one), and `note`, the first of its last words
    or why it was pruned.
    """
    best = best_trials(trials, space)
    ranked = {trial.number: rank for rank, trial in enumerate(best, start=1)}
    rest = [trial for trial in trials if trial.number not in ranked]
    rows = []
    for trial in [*best, *sorted(rest, key=lambda one: one.number)]:
        values = trial.values or [math.nan] * len(space.metrics)
        note = str(trial.user_attrs.get("last_words") or trial.user_attrs.get("reason") or "")
        row: dict[str, Any] = {
            "rank": ranked.get(trial.number, math.nan),
            "trial": trial.number,
            "state": state_name(trial),
            **dict(zip(space.metrics, values, strict=False)),
            "epochs": trial.user_attrs.get("epochs", trial.last_step or math.nan),
            "seconds": _seconds(trial),
            **{name: trial.params.get(name) for name in space.parameters},
            "note": note.splitlines()[0] if note else "",
        }
        rows.append(row)
    columns = ["rank", "trial", "state", *space.metrics, "epochs", "seconds", *space.parameters]
    return pd.DataFrame(rows, columns=[*columns, "note"])


def _seconds(trial: FrozenTrial) -> float:
    return round(trial.duration.total_seconds(), 1) if trial.duration else math.nan
