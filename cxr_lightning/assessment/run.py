"""Evaluate models on data sets: tables, figures and a page per data set, and the matrix of all."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pandas as pd

from cxr_lightning.assessment.ensemble import Ensemble, add_ensemble, fit_ensemble
from cxr_lightning.assessment.model import Model
from cxr_lightning.assessment.options import EvaluateOptions
from cxr_lightning.assessment.predicted import (
    load_bundles,
    predicted_models,
    refits,
    saved_models,
    split_of,
)
from cxr_lightning.assessment.reading import Reading, refit_reading
from cxr_lightning.assessment.write import (
    Evaluated,
    compare,
    macro_auroc,
    macro_numbers,
    write_evaluated,
)
from cxr_lightning.config.schema import DataConfig
from cxr_lightning.evaluation.predictions import labels_of
from cxr_lightning.report.assess import Assessment, assess
from cxr_lightning.report.page import PARTS
from cxr_lightning.runs import check_new_folder
from cxr_lightning.terminal import Reporter
from cxr_lightning.tracking import TrackedRun, open_existing

__all__ = ["run_evaluate"]


def run_evaluate(options: EvaluateOptions, configs: Sequence[DataConfig]) -> Path:
    """Evaluate, write everything to a new folder, and return it.

    Raises
    ------
    ConfigError, DataError
        Before anything is written.
    """
    reporter = Reporter()
    saved = saved_models(options) if options.predictions else []
    if saved:
        options = options.model_copy(update={"split": split_of(saved)})
    folder = options.folder
    check_new_folder(folder, "output")
    evaluated = _evaluate(options, configs, saved, reporter)
    with ExitStack() as stack:
        tracked = None
        if options.run:
            opened = open_existing(options.run, options.tracking_uri, folder)
            tracked = stack.enter_context(opened)
        for one in evaluated:
            part = folder / one.data if len(evaluated) > 1 else folder
            write_evaluated(part, one, options)
            _say(one, options, reporter)
        if len(evaluated) > 1:
            _write_matrix(folder, evaluated, reporter)
        if tracked is not None:
            _send(tracked, folder, evaluated)
            reporter.say(f"sent to MLflow: {tracked.page}")
    drawn = "report.html, plots, " if options.evaluation.report else ""
    reporter.say(f"everything is in {folder}: {drawn}results and metrics, predictions")
    return folder


def _evaluate(
    options: EvaluateOptions,
    configs: Sequence[DataConfig],
    saved: list[Model],
    reporter: Reporter,
) -> list[Evaluated]:
    """Compute everything; nothing is written yet."""
    sets: dict[str, tuple[list[Model], DataConfig | None]] = {}
    if saved:
        sets["predictions"] = saved, None
    else:
        bundles = load_bundles(options)
        several = len(bundles) > 1 and options.ensemble != "none"
        for config in configs:
            name = config.name if config.name not in sets else f"{config.name}_{len(sets) + 1}"
            # What is fitted is fitted once, on the validation part of the first data set.
            validate = not sets and (several or refits(options))
            models = predicted_models(bundles, config, options, reporter, validate=validate)
            sets[name] = models, config
    first = next(iter(sets))
    readings: dict[str, Reading] = {}
    ensemble: Ensemble | None = None
    evaluated = []
    for data, (models, used) in sets.items():
        if refits(options):
            readings = readings or {model.name: _refit(model, first, options) for model in models}
            models = [_read_by(model, readings[model.name], data) for model in models]
        if len(models) > 1 and options.ensemble != "none":
            ensemble = ensemble or fit_ensemble(models, options.ensemble, options, reporter)
            models = add_ensemble(models, ensemble, data)
        assessed = _assess_all(models, options)
        comparisons = compare(assessed, options)
        evaluated.append(Evaluated(data, models, assessed, comparisons, used))
    return evaluated


def _refit(model: Model, data: str, options: EvaluateOptions) -> Reading:
    assert model.validation is not None  # predicted for the first data set
    told = f"Thresholds and calibration were fitted on the validation part of {data}."
    labels = labels_of(model.table)
    return refit_reading(model.reading, model.validation, labels, options.evaluation, told)


def _read_by(model: Model, reading: Reading, data: str) -> Model:
    return replace(model, reading=reading.select(labels_of(model.table), data))


def _assess_all(models: Sequence[Model], options: EvaluateOptions) -> list[Assessment]:
    return [
        assess(
            model.table,
            model.reading.thresholds,
            model.reading.calibration,
            evaluation=options.evaluation,
            seed=options.seed,
            name=model.name,
            prefix=options.split,
            columns=options.subgroups,
        )
        for model in models
    ]


def _say(one: Evaluated, options: EvaluateOptions, reporter: Reporter) -> None:
    for assessment in one.assessed:
        reporter.say(
            f"{assessment.name} on {one.data}: macro AUROC {macro_auroc(assessment.results)}"
        )
    last = one.assessed[-1]
    patients = last.predictions["patient_id"].nunique()
    scored = "images" if options.study == "none" else "studies"
    reporter.results(
        last.results,
        f"{last.name} on {one.data}, {PARTS[options.split]}: {len(last.predictions):,} {scored} "
        f"of {patients:,} patients; {options.evaluation.level:.0%} intervals by patient bootstrap",
    )
    for note in one.notes:
        reporter.say(note, style="yellow")


def _write_matrix(folder: Path, evaluated: Sequence[Evaluated], reporter: Reporter) -> None:
    rows = [
        {"model": each.name, "data": one.data, **macro_numbers(each.results)}
        for one in evaluated
        for each in one.assessed
    ]
    pd.DataFrame(rows).to_csv(folder / "external_validation.csv", index=False)
    matrix = pd.DataFrame(
        {
            one.data: {each.name: macro_auroc(each.results) for each in one.assessed}
            for one in evaluated
        }
    )
    reporter.say(f"macro AUROC of every model on every data set:\n{matrix.to_string()}")


def _send(tracked: TrackedRun, folder: Path, evaluated: Sequence[Evaluated]) -> None:
    """Send metrics as evaluate/DATA[/MODEL]/SPLIT/..., beside those of the run itself."""
    for one in evaluated:
        for each in one.assessed:
            model = f"/{each.name}" if len(one.assessed) > 1 else ""
            metrics = {
                f"evaluate/{one.data}{model}/{name}": value
                for name, value in each.metrics.items()
                if value is not None
            }
            tracked.log_metrics(metrics)
    tracked.log_artifacts(folder, folder.name)
