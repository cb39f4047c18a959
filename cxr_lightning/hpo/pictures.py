"""A study's figures as pictures, in the look of all other figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from cxr_lightning.evaluation.plots.style import (
    BLUE,
    GREY,
    INK,
    TEXT,
    TITLE,
    VERMILION,
    new_figure,
    tidy,
)
from cxr_lightning.hpo.parameter_pictures import (
    importances_picture,
    parallel_picture,
    slice_picture,
)
from cxr_lightning.hpo.ranking import best_trials, pareto_front
from cxr_lightning.hpo.space import Space
from cxr_lightning.hpo.trials import BASELINE

__all__ = ["draw"]


def draw(
    name: str, trials: Sequence[FrozenTrial], space: Space, shares: Mapping[str, float]
) -> Figure:
    """Draw one figure.

    Parameters
    ----------
    name
        As Optuna calls it: `optimization_history`, `slice`, `edf`, ...
    trials
        All that count; at least one is complete.
    space
        Objectives and parameters; the first objective is the one that is drawn.
    shares
        Importances, for `param_importances`.
    """
    if name == "param_importances":
        return importances_picture(shares)
    return _DRAWN[name](trials, space)


def _complete(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state == TrialState.COMPLETE]


def _first(trials: Sequence[FrozenTrial]) -> NDArray[np.float64]:
    return np.array([trial.values[0] for trial in trials], np.float64)


def _higher(space: Space) -> bool:
    return space.objective[space.metrics[0]] == "maximize"


def _single(title: str, x: str, y: str, *, width: float = 7.2) -> tuple[Figure, Axes]:
    figure = new_figure(width, 4.2)
    axes = figure.subplots()
    tidy(axes)
    axes.set_title(title, fontsize=TITLE + 2, color=INK)
    axes.set_xlabel(x, fontsize=TITLE, color=INK)
    axes.set_ylabel(y, fontsize=TITLE, color=INK)
    return figure, axes


def _legend(axes: Axes) -> None:
    axes.legend(loc="lower right", fontsize=TEXT, frameon=False, labelcolor=INK)


def _history(trials: Sequence[FrozenTrial], space: Space) -> Figure:
    complete = sorted(_complete(trials), key=lambda trial: trial.number)
    numbers = [trial.number for trial in complete]
    values = _first(complete)
    figure, axes = _single("Trials, and the best so far", "trial", space.metrics[0])
    axes.plot(numbers, values, "o", color=BLUE, ms=4.5, alpha=0.8, label="complete")
    best = (np.maximum if _higher(space) else np.minimum).accumulate(values)
    # The best is known from its trial on: a step, not a slope.
    axes.step(numbers, best, where="post", color=VERMILION, linewidth=1.4, label="best so far")
    baseline = next((trial for trial in complete if trial.user_attrs.get(BASELINE)), None)
    if baseline is not None:
        axes.axhline(
            baseline.values[0], color=GREY, linestyle="--", linewidth=1, label="where it started"
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(axes)
    return figure


def _edf(trials: Sequence[FrozenTrial], space: Space) -> Figure:
    values = np.sort(_first(_complete(trials)))
    figure, axes = _single(
        "How many trials are no better", space.metrics[0], "share of complete trials"
    )
    # From (smallest, 0) so that a single trial is a step as well.
    axes.step(
        np.r_[values[0], values],
        np.arange(values.size + 1) / values.size,
        where="post",
        color=BLUE,
        linewidth=1.6,
    )
    axes.set_ylim(-0.02, 1.02)
    if not _higher(space):
        axes.set_title("How many trials are as good or better", fontsize=TITLE + 2, color=INK)
    return figure


def _curves(trials: Sequence[FrozenTrial], space: Space) -> Figure:
    figure, axes = _single("Each trial by epoch", "epoch", space.metrics[0])
    best = next(iter(best_trials(trials, space)), None)
    looks = {
        TrialState.COMPLETE: (BLUE, "-", 0.55, "complete"),
        TrialState.PRUNED: (GREY, "--", 0.8, "pruned"),
    }
    named: set[str] = set()
    for trial in trials:
        if trial.state not in looks or not trial.intermediate_values:
            continue
        colour, line, alpha, label = looks[trial.state]
        width = 1.0
        if best is not None and trial.number == best.number:
            colour, alpha, width, label = VERMILION, 1.0, 2.0, f"best, trial {best.number}"
        steps = sorted(trial.intermediate_values)
        axes.plot(
            steps,
            [trial.intermediate_values[step] for step in steps],
            line,
            color=colour,
            alpha=alpha,
            linewidth=width,
            marker="o",
            ms=2.5,
            label=None if label in named else label,
        )
        named.add(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if named:
        _legend(axes)
    return figure


def _pareto(trials: Sequence[FrozenTrial], space: Space) -> Figure:
    complete = _complete(trials)
    front = {trial.number for trial in pareto_front(complete, space)}
    figure, axes = _single("Pareto front", space.metrics[1], space.metrics[0])
    rest = [trial for trial in complete if trial.number not in front]
    axes.plot(
        [trial.values[1] for trial in rest], _first(rest), "o", color=GREY, ms=4.5, label="others"
    )
    best = sorted((t for t in complete if t.number in front), key=lambda one: one.values[1])
    line = "-" if len(space.metrics) == 2 else ""  # of three, the points are no line
    axes.plot(
        [trial.values[1] for trial in best],
        _first(best),
        line,
        marker="o",
        color=VERMILION,
        ms=6,
        linewidth=1.2,
        drawstyle="steps-post" if space.objective[space.metrics[1]] == "minimize" else None,
        label="front",
    )
    for trial in best:
        axes.annotate(
            str(trial.number), (trial.values[1], trial.values[0]), xytext=(5, -9),
            textcoords="offset points", fontsize=TEXT, color=INK,
        )  # fmt: skip
    _legend(axes)
    return figure


_DRAWN: dict[str, Callable[[Sequence[FrozenTrial], Space], Figure]] = {
    "optimization_history": _history,
    "edf": _edf,
    "intermediate_values": _curves,
    "pareto_front": _pareto,
    "slice": slice_picture,
    "parallel_coordinate": parallel_picture,
}
