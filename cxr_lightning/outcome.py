"""The end of a run: predictions, thresholds, metrics, plots, the bundle, to folder and MLflow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr_lightning import __version__
from cxr_lightning.assessment.reading import Reading, fit_reading
from cxr_lightning.bundle import Bundle, BundleInfo, save_bundle
from cxr_lightning.config.compose import config_to_yaml
from cxr_lightning.config.schema import Config
from cxr_lightning.data.base import ChestXrayDataModule
from cxr_lightning.data.cohort import Cohort, split_counts
from cxr_lightning.data.rules import rules_of
from cxr_lightning.data.seen import seen_patients
from cxr_lightning.evaluation.plots import save_figure, training_curves
from cxr_lightning.evaluation.predictions import (
    arrays,
    make_predictions,
    write_predictions,
)
from cxr_lightning.evaluation.tables import (
    AVERAGES,
    FEW_NOTE,
    few_of_a_class,
    flat_metrics,
    format_table,
    metrics_table,
)
from cxr_lightning.evaluation.thresholds import fit_thresholds
from cxr_lightning.hardware import place
from cxr_lightning.history import read_history
from cxr_lightning.inference.reference import describe_training_images
from cxr_lightning.models.network import Network
from cxr_lightning.record import Record
from cxr_lightning.report.assess import Assessment, assess
from cxr_lightning.report.figures import assessment_figures
from cxr_lightning.report.page import ReportContext, report_page
from cxr_lightning.report.pictures import heat_maps, pictures
from cxr_lightning.terminal import SYNTHETIC, Reporter
from cxr_lightning.tracking.configuration import without_password

__all__ = ["SplitPredictions", "write_outcome", "write_validation"]


@dataclass(frozen=True)
class SplitPredictions:
    """Rows (n,) of the study table, logits and targets (n, labels) of a split."""

    split: str
    rows: np.ndarray
    logits: np.ndarray
    targets: np.ndarray

    def table(self, cohort: Cohort) -> pd.DataFrame:
        """Return the predictions table."""
        studies = cohort.table.iloc[self.rows]
        return make_predictions(
            sample_id=list(studies["sample_id"]),
            patient_id=list(studies["patient_id"]),
            study_id=list(studies["study_id"]),
            split=self.split,
            labels=cohort.labels.names,
            y_true=self.targets,
            logits=self.logits,
            extra={
                name: list(studies[name])
                for name in ("view", "sex", "age_years", "source")
                if name in studies
            },
        )


def write_outcome(
    config: Config,
    record: Record,
    data: ChestXrayDataModule,
    network: Network,
    predictions: Mapping[str, SplitPredictions],
    reporter: Reporter,
) -> dict[str, float | None]:
    """Evaluate the predictions and write all outputs; returns the flat metrics."""
    run, tracker, cohort = record.run, record.tracker, data.cohort
    tables = {split: one.table(cohort) for split, one in predictions.items()}
    for split, table in tables.items():
        tracker.log_artifact(
            write_predictions(table, run.path / f"predictions_{split}.parquet"), "predictions"
        )
    reading = fit_reading(tables["val"], cohort.labels.names, config.evaluation, "")
    one = assess(
        tables["test"],
        reading.thresholds,
        reading.calibration,
        evaluation=config.evaluation,
        seed=config.seed,
        name=run.name,
    )
    results, metrics = one.results, one.metrics
    text = json.dumps(metrics, indent=2, allow_nan=False) + "\n"
    tracker.log_artifact(run.write("metrics.json", text))
    for name, rows in one.files.items():
        tracker.log_artifact(run.write(f"{name}.csv", rows))
    tracker.log_metrics({name: value for name, value in metrics.items() if value is not None})
    bundle = run.path / "bundle.safetensors"
    info = _bundle_info(config, data, network, reading)
    save_bundle(bundle, network, info)
    tracker.log_artifact(bundle)
    tracker.log_model(bundle, register_as=config.run.register_as)
    tracker.log_artifact(run.path / "history.csv")
    tracker.set_tags({"mlflow.note.content": _description(config, cohort, results)})
    if config.evaluation.report:
        _report(config, record, data, one, Bundle(info, network.eval()))
    level = f"{config.evaluation.level:.0%}"
    title = f"test set, {level} intervals by patient bootstrap; thresholds from validation"
    reporter.results(results, title)
    if config.data.synthetic:
        reporter.say(SYNTHETIC, style="yellow")
    _farewell(config, record, reporter)
    return metrics


def write_validation(
    config: Config, record: Record, data: ChestXrayDataModule, predictions: SplitPredictions
) -> dict[str, float | None]:
    """Score a run on validation alone, as a trial of a sweep is; returns the flat metrics.

    Thresholds are fitted on the images that they are scored on: what depends on them is optimistic.
    """
    run, tracker = record.run, record.tracker
    table = predictions.table(data.cohort)
    tracker.log_artifact(write_predictions(table, run.path / "predictions_val.parquet"))
    y_true, y_score, _ = arrays(table)
    results = metrics_table(
        table,
        fit_thresholds(y_true, y_score, data.cohort.labels.names, rule="f1"),
        replicates=0,
        level=config.evaluation.level,
        generator=np.random.default_rng(config.seed),
    )
    metrics = flat_metrics(results, "val")
    text = json.dumps(metrics, indent=2, allow_nan=False) + "\n"
    tracker.log_artifact(run.write("metrics.json", text))
    # The names of the curves hold every epoch; those of the epoch that was kept stand beside them.
    curves = {"val/auroc_macro", "val/average_precision_macro"}
    tracker.log_metrics(
        {
            name.replace("val/", "best/") if name in curves else name: value
            for name, value in metrics.items()
            if value is not None
        }
    )
    tracker.log_artifact(run.path / "history.csv")
    return metrics


def _description(config: Config, cohort: Cohort, results: pd.DataFrame) -> str:
    """Return what MLflow shows on the run's page: data, split and the table of results."""
    counts = split_counts(cohort).loc["images"]
    text = format_table(results)
    chosen = ["n", "positive", "AUROC", "AP", "sensitivity", "specificity"]
    rows = [["label", *chosen], ["---"] * (len(chosen) + 1)]
    # MLflow folds a long description away: the summary comes first.
    ordered = text.loc[[*AVERAGES, *cohort.labels.names], chosen]
    rows += [[str(label), *map(str, row)] for label, row in ordered.iterrows()]
    lines = [SYNTHETIC, ""] if config.data.synthetic else []
    lines += [
        f"**{config.model.name}** on **{config.data.name}**, split: {config.data.split} "
        f"({counts['train']:,} / {counts['val']:,} / {counts['test']:,} images to train, validate, "
        "test). Test set; intervals by patient bootstrap; thresholds from validation.",
        "",
        *("| " + " | ".join(row) + " |" for row in rows),
        *(["", f"{FEW_NOTE}."] if few_of_a_class(results) else []),
    ]
    return "\n".join(lines)


def _report(
    config: Config,
    record: Record,
    data: ChestXrayDataModule,
    one: Assessment,
    bundle: Bundle,
) -> None:
    """Write the figures as files, and the page that shows them with all the rest."""
    run, cohort = record.run, data.cohort
    history = pd.DataFrame(read_history(run))
    curves = training_curves(history, monitor=config.trainer.monitor)
    figures = assessment_figures(one)
    for name, figure in ({"curves": curves} | figures).items():
        path = save_figure(figure, run.path / "plots" / f"{name}.png")
        record.tracker.log_artifact(path, "plots")
    images = split_counts(cohort).loc["images"]
    context = ReportContext(
        title=f"{config.model.name} on {config.data.name}",
        facts={
            "run": run.name,
            "model": config.model.name,
            "trained on": f"{images['train']:,} images; {images['val']:,} to validate",
            "split": f"{config.data.split}, by patient",
            "loss": config.loss.name,
            "seed": str(config.seed),
            "epochs": f"{len(history)}, the best by {config.trainer.monitor}",
        },
        data=config.data.name,
        split="test",
        cohort=cohort,
        synthetic=config.data.synthetic,
        configuration=config_to_yaml(without_password(config)),
        picture=pictures(cohort.table, data.cache) if config.evaluation.pictures else None,
        heat_map=(
            heat_maps(cohort.table, data.cache, bundle) if config.evaluation.pictures else None
        ),
        curves=curves,
    )
    record.tracker.log_artifact(run.write("report.html", report_page(one, context, figures)))


def _bundle_info(
    config: Config,
    data: ChestXrayDataModule,
    network: Network,
    reading: Reading,
) -> BundleInfo:
    cohort = data.cohort
    device = "cuda" if place(config.trainer).accelerator == "gpu" else "cpu"
    counts = split_counts(cohort).loc[["images", "patients"]]
    return BundleInfo(
        labels=cohort.labels.names,
        model=config.model,
        image=config.data.image,
        thresholds=reading.thresholds,
        calibration=reading.calibration.to_dict(),
        tabular=data.tabular,
        classes=config.loss.classes,
        familiarity=describe_training_images(network, data, device=device),
        seen=seen_patients(cohort, config.data),
        provenance={
            "data": config.data.name,
            "data_sets": list(config.data.kinds),
            "rules": rules_of(config.data),
            "split": config.data.split,
            "fingerprint": cohort.fingerprint,
            "counts": {str(split): column.to_dict() for split, column in counts.items()},
            "seed": config.seed,
            "cxr_lightning": __version__,
        },
    )


def _farewell(config: Config, record: Record, reporter: Reporter) -> None:
    folder = record.run.path
    drawn = "report.html, plots/, " if config.evaluation.report else ""
    reporter.say(f"everything is in {folder}: {drawn}metrics.json, predictions, bundle.safetensors")
    uri = config.run.tracking_uri
    if not uri.startswith("http"):
        where = (
            "" if uri == "sqlite:///mlflow.db" else " --backend-store-uri URI (that of this run)"
        )
        reporter.say(f"to look at it: mlflow ui{where}   (in this folder), then open")
    else:
        reporter.say("to look at it, open")
    reporter.say(f"  {record.tracker.page}")
