"""What the parameters of a study's trials have to do with their results, as pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

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
from cxr_lightning.hpo.ranking import best_trials
from cxr_lightning.hpo.space import Categorical, Space, plain

__all__ = ["importances_picture", "parallel_picture", "slice_picture", "varied"]

# Late trials, and good ones, are dark; see `_shades` for its pale end.
_COLOURS = "viridis_r"


def importances_picture(shares: Mapping[str, float]) -> Figure:
    """Draw the shares of :func:`cxr_lightning.hpo.figures.importances` as bars, largest on top."""
    names = list(shares)[::-1]
    figure = new_figure(7.2, 1.3 + 0.34 * len(names))
    axes = figure.subplots()
    tidy(axes)
    bars = axes.barh(names, [shares[name] for name in names], color=BLUE, height=0.6)
    axes.bar_label(bars, [f"{shares[name]:.0%}" for name in names], padding=3, fontsize=TEXT)
    axes.set_xlim(0, max(shares.values()) * 1.12)
    axes.set_title("What mattered for being in the better half", fontsize=TITLE + 2, color=INK)
    axes.set_xlabel("share (PED-ANOVA)", fontsize=TITLE, color=INK)
    return figure


def varied(trials: Sequence[FrozenTrial]) -> list[str]:
    """Return the parameters of which several values were tried."""
    names = dict.fromkeys(name for trial in trials for name in trial.params)
    return [
        name
        for name in names
        if len({plain(trial.params[name]) for trial in trials if name in trial.params}) > 1
    ]


def _places(
    name: str, trials: Sequence[FrozenTrial], space: Space
) -> tuple[NDArray[np.float64], list[str] | None, bool]:
    """Return trials' places (NaN: it has none), the places' names, and whether to take logs."""
    spec = space.parameters[name]
    if not isinstance(spec, Categorical):
        places = [float(trial.params.get(name, math.nan)) for trial in trials]
        return np.array(places), None, spec.log
    tried = {plain(trial.params[name]) for trial in trials if name in trial.params}
    names = [plain(one) for one in spec.choices if plain(one) in tried]
    index = {one: float(place) for place, one in enumerate(names)}
    places = [
        index.get(plain(trial.params[name]), math.nan) if name in trial.params else math.nan
        for trial in trials
    ]
    return np.array(places), names, False


def slice_picture(trials: Sequence[FrozenTrial], space: Space) -> Figure:
    """Draw the first objective of complete trials over each parameter, late trials darker."""
    complete = best_trials(trials, space)
    names = varied(complete)
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure = new_figure(3.3 * columns + 0.6, 2.7 * rows + 0.5)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    values = np.array([trial.values[0] for trial in complete], np.float64)
    numbers = [trial.number for trial in complete]
    shades = Normalize(min(numbers), max(numbers))
    for axes in grid[len(names) :]:
        axes.remove()
    for axes, name in zip(grid, names, strict=False):
        tidy(axes)
        places, words, log = _places(name, complete, space)
        axes.scatter(
            places,
            values,
            c=numbers,
            cmap=_COLOURS,
            norm=shades,
            s=20,
            alpha=0.85,
        )
        axes.set_title(name, fontsize=TITLE, color=INK)
        if log:
            axes.set_xscale("log")
            known = places[~np.isnan(places)]
            wide = known.max() / known.min() > 100
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 3.0)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        if words is not None:
            axes.set_xlim(-0.5, len(words) - 0.5)
            crowded = sum(map(len, words)) > 22
            axes.set_xticks(
                range(len(words)), words,
                rotation=30 if crowded else 0, ha="right" if crowded else "center",
            )  # fmt: skip
    figure.supylabel(space.metrics[0], fontsize=TITLE, color=INK)
    bar = figure.colorbar(ScalarMappable(shades, _COLOURS), ax=list(grid[: len(names)]), pad=0.02)
    bar.set_label("trial", fontsize=TITLE, color=INK)
    bar.ax.tick_params(labelsize=TEXT)
    return figure


def parallel_picture(trials: Sequence[FrozenTrial], space: Space) -> Figure:
    """Draw each complete trial as a line through its values, better ones darker."""
    complete = best_trials(trials, space)[::-1]  # the best on top
    names = varied(complete)
    figure = new_figure(1.9 * (len(names) + 1) + 0.6, 4.6)
    axes = figure.subplots()
    values = np.array([trial.values[0] for trial in complete], np.float64)
    columns = [_scaled(values, log=False)]
    ends: list[tuple[str, str] | list[str]] = [(f"{values.min():.3g}", f"{values.max():.3g}")]
    for name in names:
        places, words, log = _places(name, complete, space)
        columns.append(_scaled(places, log=log))
        known = places[~np.isnan(places)]
        ends.append(words or (f"{known.min():.3g}", f"{known.max():.3g}"))
    higher = space.objective[space.metrics[0]] == "maximize"
    colour = columns[0] if higher else 1 - columns[0]
    lines = np.column_stack(columns)
    cmap = _shades()
    for line, shade, trial in zip(lines, colour, complete, strict=True):
        best = trial is complete[-1]
        axes.plot(
            line,  # a gap where the trial does not have the parameter
            color=VERMILION if best else cmap(shade),
            linewidth=2.4 if best else 1.1,
            alpha=1.0 if best else 0.75,
            marker="o",
            ms=3,
            label=f"best, trial {trial.number}" if best else None,
        )
    for place, texts in enumerate(ends):
        axes.axvline(place, color=GREY, linewidth=0.8, zorder=0)
        for height, text in zip(np.linspace(0, 1, len(texts)), texts, strict=True):
            axes.text(
                place + 0.03, height + 0.012, text, fontsize=TEXT, color=INK,
                bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6},
            )  # fmt: skip
    axes.set_xticks(range(len(names) + 1), [space.metrics[0], *names], fontsize=TEXT, color=INK)
    axes.tick_params(axis="x", length=0)
    axes.set(yticks=[], xlim=(-0.1, len(names) + 0.45), ylim=(-0.06, 1.1))
    axes.spines[:].set_visible(False)
    axes.set_title("Parallel coordinates: darker is better", fontsize=TITLE + 2, color=INK)
    figure.legend(loc="outside lower center", fontsize=TEXT, frameon=False, labelcolor=INK)
    return figure


def _shades() -> Callable[[float], tuple[float, ...]]:
    """Return a map from 0 (worst) to 1 (best) to a colour that can be seen on white."""
    whole = colormaps[_COLOURS]
    return lambda share: whole(0.15 + 0.75 * share)


def _scaled(places: NDArray[np.float64], *, log: bool) -> NDArray[np.float64]:
    """Return places from 0 to 1; one place alone stands in the middle. NaN stays."""
    values = np.log(places) if log else places
    low, high = np.nanmin(values), np.nanmax(values)
    if high == low:
        return np.where(np.isnan(values), np.nan, 0.5)
    return (values - low) / (high - low)
