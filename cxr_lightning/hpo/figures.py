"""Figures of a study: one interactive page, and each as a picture."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import optuna
from matplotlib import pyplot as plt
from optuna.trial import FrozenTrial, TrialState

from cxr_lightning.evaluation.plots.interactive import write_page
from cxr_lightning.hpo.space import Space

__all__ = ["importances", "write_figures"]

_log = logging.getLogger("cxr_lightning.hpo")


def importances(study: optuna.Study) -> dict[str, float]:
    """Return how much each parameter matters for being among the best tenth; empty: too few trials.

    PED-ANOVA (Watanabe et al., IJCAI 2023), of the first objective and of parameters that every
    complete trial has.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < 4 or not _varied(complete):
        return {}
    with _quiet():
        try:
            return dict(
                optuna.importance.get_param_importances(
                    study, evaluator=_evaluator(), target=_first(study)
                )
            )
        except (ValueError, RuntimeError) as problem:  # such as objectives that are all equal
            _log.debug("no importances: %s", problem)
            return {}


def _evaluator() -> Any:
    with _quiet():
        return optuna.importance.PedAnovaImportanceEvaluator()


def _varied(trials: Sequence[FrozenTrial]) -> list[str]:
    """Return the parameters that several values of were tried."""
    names = dict.fromkeys(name for trial in trials for name in trial.params)
    return [
        name
        for name in names
        if len({trial.params[name] for trial in trials if name in trial.params}) > 1
    ]


def _first(study: optuna.Study) -> Callable[[FrozenTrial], float] | None:
    return (lambda trial: float(trial.values[0])) if len(study.directions) > 1 else None


def write_figures(study: optuna.Study, space: Space, folder: Path, *, title: str) -> list[Path]:
    """Write every figure that the study's trials allow, and return the files.

    `sweep.html` has them all to point at; `NAME.png` each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        return []
    varied = _varied(complete)
    pages: list[Any] = []
    files: list[Path] = []
    with _quiet():
        for name, options in _kinds(study, space, varied):
            try:
                figure = getattr(optuna.visualization, f"plot_{name}")(study, **options)
                picture = _picture(study, name, options, folder / f"{name}.png")
            except (ValueError, RuntimeError, ZeroDivisionError) as problem:
                # Some need more trials, or values that differ.
                _log.debug("no figure %s: %s", name, problem)
                continue
            figure.update_layout(template="plotly_white", height=520)
            pages.append(figure)
            files.append(picture)
        if pages:
            files.insert(0, write_page(pages, folder / "sweep.html", title=title))
    return files


def _kinds(
    study: optuna.Study, space: Space, varied: Sequence[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the names of Optuna's figures, and what each is given."""
    names = list(space.metrics)
    several = len(names) > 1
    target = {"target": _first(study)} if several else {}
    named = target | {"target_name": names[0]}
    if several:
        yield "pareto_front", {"target_names": names}
    yield "optimization_history", named
    if varied:
        if importances(study):
            yield "param_importances", named | {"evaluator": _evaluator()}
        yield "parallel_coordinate", named | {"params": list(varied)}
        yield "slice", named | {"params": list(varied)}
    yield "edf", named
    if not several:
        yield "intermediate_values", {}


def _picture(study: optuna.Study, name: str, options: dict[str, Any], path: Path) -> Path:
    # Optuna draws with pyplot, and changes its style for all that comes after.
    with mpl.rc_context():
        drawn = getattr(optuna.visualization.matplotlib, f"plot_{name}")(study, **options)
        axes = drawn.flat[0] if hasattr(drawn, "flat") else drawn
        figure = axes.figure
        try:
            panels = len(options.get("params", ())) if name == "slice" else 0
            figure.set_size_inches(max(9.0, 2.6 * panels), 5.0)
            figure.savefig(path, dpi=110, bbox_inches="tight")
        finally:
            plt.close(figure)
    return path


@contextmanager
def _quiet() -> Iterator[None]:
    """Draw without a display, and without Optuna's warnings of what is experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        previous = mpl.get_backend()
        plt.switch_backend("agg")
        try:
            yield
        finally:
            if previous.lower() != "agg":
                plt.switch_backend(previous)
