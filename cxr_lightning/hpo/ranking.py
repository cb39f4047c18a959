"""Which trials are best, and the table of all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from cxr_lightning.hpo.space import Space
from cxr_lightning.hpo.trials import LAST_WORDS, REASON

__all__ = ["best_trials", "leaderboard", "pareto_front", "state_name"]

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
    front = {trial.number for trial in pareto_front(complete, space)}
    return sorted(
        complete,
        key=lambda trial: (trial.number not in front, *_costs(trial, space), trial.number),
    )


def pareto_front(trials: Sequence[FrozenTrial], space: Space) -> list[FrozenTrial]:
    """Return the complete trials that no other one surpasses in every objective.

    Trials of equal values do not surpass one another; with one objective: those of the best value.
    """
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    costs = {trial.number: _costs(trial, space) for trial in complete}

    def surpassed(own: tuple[float, ...]) -> bool:
        return any(
            other != own and all(a <= b for a, b in zip(other, own, strict=True))
            for other in costs.values()
        )

    return [trial for trial in complete if not surpassed(costs[trial.number])]


def _costs(trial: FrozenTrial, space: Space) -> tuple[float, ...]:
    """Return the objectives so that less is better."""
    return tuple(
        -value if way == "maximize" else value
        for way, value in zip(space.objective.values(), trial.values, strict=True)
    )


def leaderboard(trials: Sequence[FrozenTrial], space: Space) -> pd.DataFrame:
    """Return a row per trial: complete ones best first, then the others by number.

    Columns: `rank` (NaN unless complete), `trial`, `state`, the objectives (of a pruned trial: its
    last epoch's; NaN where there is none), `epochs`, `seconds`, the parameters (NaN where a trial
    does not have one), and `note`, the first of its last words or why it was pruned.
    """
    best = best_trials(trials, space)
    ranked = {trial.number: rank for rank, trial in enumerate(best, start=1)}
    rest = [trial for trial in trials if trial.number not in ranked]
    rows = []
    for trial in [*best, *sorted(rest, key=lambda one: one.number)]:
        values = trial.values or [math.nan] * len(space.metrics)
        note = str(trial.user_attrs.get(LAST_WORDS) or trial.user_attrs.get(REASON) or "")
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
