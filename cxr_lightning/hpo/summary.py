"""What a sweep found, in the folder and on the sweep's page in MLflow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from optuna.trial import FrozenTrial

from cxr_lightning.config.schema import Config
from cxr_lightning.hpo.check import Composer
from cxr_lightning.hpo.figures import importances, write_figures
from cxr_lightning.hpo.parent import ParentRun
from cxr_lightning.hpo.progress import describe_values, duration
from cxr_lightning.hpo.ranking import best_trials, leaderboard
from cxr_lightning.hpo.space import Space
from cxr_lightning.hpo.study import SweepStudy
from cxr_lightning.hpo.trials import BASELINE
from cxr_lightning.terminal import SYNTHETIC
from cxr_lightning.tracking.configuration import keep_config

__all__ = ["full_config", "write_space", "write_summary"]

_SHOWN = 8


def write_space(parent: ParentRun, space: Space, base: Config, folder: Path) -> None:
    """Keep what is searched, once, beside the parent run."""
    keep_config(parent.run, base, folder / "base.yaml")
    text = yaml.safe_dump(space.model_dump(mode="json", exclude={"given"}), sort_keys=False)
    (folder / "space.yaml").write_text(text, encoding="utf-8")
    parent.run.log_artifact(folder / "space.yaml")
    parent.run.log_params(
        {
            "objective": ", ".join(f"{way} {name}" for name, way in space.objective.items()),
            "sampler": space.sampler.name,
            "pruner": space.pruner.name,
            **{f"space.{name}": _spec(spec) for name, spec in space.parameters.items()},
        }
    )


def _spec(spec: Any) -> str:
    values = spec.model_dump(mode="json", exclude_defaults=True, exclude={"type"})
    return ", ".join(f"{key}: {value}" for key, value in values.items())


def full_config(composer: Composer, trial: FrozenTrial) -> Config:
    """Return a trial's configuration with the whole budget, ready for `fit`."""
    config = composer.full(list(trial.user_attrs["overrides"]))
    run = config.run.model_copy(update={"dir": None, "name": None})
    return config.model_copy(update={"run": run, "resume": "never"})


def write_summary(
    study: SweepStudy,
    composer: Composer,
    parent: ParentRun,
    folder: Path,
    *,
    facts: dict[str, Any],
    figures: bool = True,
    extra: Sequence[str] = (),
) -> pd.DataFrame:
    """Write leaderboard, best configuration, figures and description; returns the leaderboard.

    Parameters
    ----------
    facts
        Of the data: `counts`, `synthetic`.
    figures
        Draw them too, which takes some seconds.
    extra
        Further lines of the description, such as the refits.
    """
    trials, space = study.trials(), study.space
    table = leaderboard(trials, space)
    table.to_csv(folder / "leaderboard.csv", index=False)
    parent.run.log_artifact(folder / "leaderboard.csv")
    best = best_trials(trials, space)
    if best:
        keep_config(parent.run, full_config(composer, best[0]), folder / "best.yaml")
        if len(space.metrics) > 1:  # of one objective, the parent has the curve
            named = zip(space.metrics, best[0].values, strict=True)
            parent.run.log_metrics({f"best/{key.replace('/', '_')}": one for key, one in named})
    if figures:
        title = f"sweep {study.name}"
        for file in write_figures(study.study, space, folder / "figures", title=title):
            parent.run.log_artifact(file, "figures")
    parent.run.set_tags(
        {
            "sweep.trials": str(study.total),
            "mlflow.note.content": _description(study, table, best, facts, extra),
        }
    )
    return table


def _description(
    study: SweepStudy,
    table: pd.DataFrame,
    best: Sequence[FrozenTrial],
    facts: dict[str, Any],
    extra: Sequence[str],
) -> str:
    """Return what MLflow shows on the sweep's page; the best comes first."""
    space = study.space
    lines: list[str] = []  # MLflow folds all but the first few
    if best:
        values = ", ".join(
            f"{name} **{value:.4f}**"
            for name, value in zip(space.metrics, best[0].values, strict=True)
        )
        front = "First of the Pareto front" if len(space.metrics) > 1 else "Best"
        lines.append(
            f"{front}: {values}, trial {best[0].number}: `{describe_values(best[0].params)}`"
        )
        lines += _against_baseline(best, space)
    lines += ["", _counts(study, table, facts), ""]
    lines += [SYNTHETIC, ""] if facts.get("synthetic") else []
    lines += extra
    if best:
        shown = table.head(_SHOWN).drop(columns=["state", "note"])
        shown = shown.dropna(axis="columns", how="all")
        lines += [_markdown(shown), ""]
    if found := importances(study.study):
        parts = ", ".join(f"{name} {share:.0%}" for name, share in list(found.items())[:6])
        lines += [f"What mattered most for being in the better half: {parts}.", ""]
    failed = table[table["state"] == "failed"]
    if len(failed):
        causes = Counter(failed["note"]).most_common(3)
        lines += [f"Failed: {'; '.join(f'{count} × {cause}' for cause, count in causes)}", ""]
    lines.append(
        "Numbers of trials are of validation, and the best of many is a little too good; no trial "
        "read the test set. Files: leaderboard.csv, best.yaml "
        "(`python -m cxr_lightning.fit --config best.yaml`), figures/sweep.html."
    )
    return "\n".join(lines)


def _against_baseline(best: Sequence[FrozenTrial], space: Space) -> list[str]:
    baseline = next((trial for trial in best if trial.user_attrs.get(BASELINE)), None)
    if baseline is None:
        return []
    name = space.metrics[0]
    gain = best[0].values[0] - baseline.values[0]
    return [
        f"The configuration it started from: {name} {baseline.values[0]:.4f} (trial "
        f"{baseline.number}, the same budget); the best is {gain:+.4f} from there."
    ]


def _counts(study: SweepStudy, table: pd.DataFrame, facts: dict[str, Any]) -> str:
    states = table["state"].value_counts()
    parts = ", ".join(f"{count} {state}" for state, count in states.items())
    counts = facts.get("counts", {})
    images = " / ".join(f"{counts[split]:,}" for split in ("train", "val") if split in counts)
    seconds = float(table["seconds"].sum())
    return (
        f"{len(table)} of {study.total} trials: {parts}; {duration(seconds)} of training, "
        f"{table['epochs'].sum():,.0f} epochs; {images} images to train and validate; sampler "
        f"{study.space.sampler.name}, pruner {study.space.pruner.name}."
    )


def _markdown(table: pd.DataFrame) -> str:
    rows = [list(map(str, table.columns)), ["---"] * len(table.columns)]
    rows += [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cell(value: Any) -> str:
    if value is None or value != value:
        return "–"
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e6 else f"{value:.4g}"
    return str(value).replace("|", "\\|")
