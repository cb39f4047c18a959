"""What an evaluation leaves on the disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from matplotlib.figure import Figure

from cxr_lightning.assessment.ensemble import ENSEMBLE
from cxr_lightning.assessment.model import Model
from cxr_lightning.assessment.options import EvaluateOptions
from cxr_lightning.bundle import BundleInfo
from cxr_lightning.config.schema import DataConfig
from cxr_lightning.evaluation.comparison import compare_models
from cxr_lightning.evaluation.plots import difference_forest, roc_of_models, save_figure
from cxr_lightning.evaluation.predictions import LOGIT, TRUTH, labels_of, write_predictions
from cxr_lightning.evaluation.tables import AVERAGES, metrics_table
from cxr_lightning.report.assess import Assessment
from cxr_lightning.report.figures import assessment_figures
from cxr_lightning.report.page import Comparison, ReportContext, report_page
from cxr_lightning.report.pictures import heat_maps, pictures

__all__ = ["Evaluated", "compare", "macro_auroc", "macro_numbers", "write_evaluated"]

_NOT_ASKED = (
    "image", "labels", "tabular", "uncertain", "first_model", "sampling", "batch_size", "workers",
    "residency",
)  # fmt: skip


@dataclass(frozen=True)
class Evaluated:
    """All models on one data set; the last is the ensemble where there is one."""

    data: str
    models: Sequence[Model]
    assessed: Sequence[Assessment]
    comparisons: Sequence[Comparison]
    config: DataConfig | None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of the data before the numbers; each thing once."""
        return tuple(dict.fromkeys(note for one in self.models for note in one.notes))


def macro_numbers(results: pd.DataFrame) -> dict[str, float]:
    """Return macro AUROC, the ends of its interval, and over how many labels it is."""
    labels = len(results) - len(AVERAGES) - int(results["labels_undefined"]["macro"])
    names = {"auroc": "auroc", "low": "auroc_low", "high": "auroc_high"}
    return {name: results[column]["macro"] for name, column in names.items()} | {"labels": labels}


def macro_auroc(results: pd.DataFrame) -> str:
    """Return macro AUROC with its interval, and over how many labels, as text."""
    auroc, low, high, labels = macro_numbers(results).values()
    if np.isnan(auroc):
        return "undefined"
    interval = "" if np.isnan(low) else f" ({low:.3f}-{high:.3f})"
    return f"{auroc:.3f}{interval}, {labels} labels"


def write_evaluated(folder: Path, done: Evaluated, options: EvaluateOptions) -> None:
    """Write tables, metrics, figures and the page of one data set."""
    folder.mkdir(parents=True, exist_ok=True)
    several = len(done.models) > 1
    for one in done.assessed:
        end = f"_{one.name}" if several else ""
        write_predictions(one.predictions, folder / f"predictions{end}.parquet")
        for name, table in one.files.items():
            (folder / f"{name}{end}.csv").write_text(table, encoding="utf-8")
        text = json.dumps(one.metrics, indent=2, allow_nan=False) + "\n"
        (folder / f"metrics{end}.json").write_text(text, encoding="utf-8")
    for pair in done.comparisons:
        pair.table.to_csv(folder / "comparison_{}_{}.csv".format(*pair.names))
    configuration = _configuration(done, options)
    (folder / "evaluate.yaml").write_text(configuration, encoding="utf-8")
    if not options.evaluation.report:
        return
    # The page is about the last: the ensemble where there is one.
    model, one = done.models[-1], done.assessed[-1]
    target, bundle, shown = model.target, model.bundle, options.pictures
    figures = assessment_figures(one)
    for name, figure in figures.items():
        save_figure(figure, folder / "plots" / f"{name}.png")
    together = _roc_of_all(done.assessed) if several else None
    if together is not None:
        save_figure(together, folder / "plots" / "roc_of_models.png")
    context = ReportContext(
        title=f"{one.name} on {done.data}",
        facts=_facts(done.models, options),
        data=done.data,
        split=options.split,
        scored=_scored(options),
        fitted=model.reading.told,
        cohort=target.cohort if target else None,
        synthetic=bool(target and target.config.synthetic),
        notes=done.notes,
        configuration=configuration,
        picture=pictures(target.cohort.table, target.cache) if shown and target else None,
        heat_map=(
            heat_maps(target.cohort.table, target.cache, bundle)
            if shown and target and bundle
            else None
        ),
        comparisons=done.comparisons,
        others=_others(done.assessed, options) if several else None,
        together=together,
    )
    (folder / "report.html").write_text(report_page(one, context, figures), encoding="utf-8")


def _configuration(done: Evaluated, options: EvaluateOptions) -> str:
    """Return what was asked for as YAML; an address of MLflow may hold a password."""
    asked = options.model_dump(mode="json", exclude={"run", "tracking_uri"})
    if done.config is not None:
        # What the bundle decides, and what only training reads, would mislead here.
        asked["data"] = done.config.model_dump(
            mode="json", serialize_as_any=True, exclude=set(_NOT_ASKED)
        )
    text: str = yaml.safe_dump(asked, sort_keys=False, allow_unicode=True)
    return text


def _facts(models: Sequence[Model], options: EvaluateOptions) -> dict[str, str]:
    """Return the model card of the last; of an ensemble, those of its members."""
    *members, model = models
    reading = model.reading
    how = "" if options.study == "none" else f" ({options.study})"
    facts = {"scored": _scored(options) + how}
    if model.name == ENSEMBLE:
        kind = "probabilities" if options.ensemble == "probability" else "logits"
        facts["model"] = f"mean {kind} of {', '.join(one.name for one in members)}; weights: " + (
            "fitted on validation" if options.weights == "validation" else "equal"
        )
        for one in members:
            if one.bundle is not None:
                facts[one.name] = "; ".join(_of_bundle(one.bundle.info).values())
        facts["labels"] = ", ".join(labels_of(model.table))
        if model.bundle is not None and options.pictures:
            facts["heat maps"] = f"of {members[0].name}"
    elif model.bundle is not None:
        facts |= _of_bundle(model.bundle.info) | {"labels": ", ".join(model.bundle.info.labels)}
    if any(reading.thresholds.fitted):
        target = reading.thresholds.target or reading.thresholds.false_negative_cost
        facts["thresholds by"] = reading.thresholds.rule + (f", {target:g}" if target else "")
        facts["calibration"] = reading.calibration.kind
    if options.tta:
        facts["test-time augmentation"] = f"mean of the image and {options.tta} varied copies"
    return facts


def _scored(options: EvaluateOptions) -> str:
    return "images" if options.study == "none" else "studies"


def _of_bundle(info: BundleInfo) -> dict[str, str]:
    return {
        "model": info.model.name,
        "trained on": f"{info.provenance.get('data', 'unknown')}{_counted(info.provenance)}, "
        f"fingerprint {info.provenance.get('fingerprint', 'unknown')}",
        "input": f"{info.image.size} x {info.image.size} pixels"
        + (f" and {len(info.tabular.outputs)} tabular inputs" if info.tabular.columns else ""),
    }


def _counted(provenance: Mapping[str, Any]) -> str:
    train = provenance.get("counts", {}).get("train", {})
    if not {"images", "patients"} <= set(train):
        return ""
    return f", {train['images']:,} images of {train['patients']:,} patients"


def compare(assessed: Sequence[Assessment], options: EvaluateOptions) -> list[Comparison]:
    """Compare every two models on the same images, over the labels that both know."""
    found = []
    for first, second in combinations(assessed, 2):
        labels = [
            name for name in labels_of(first.predictions) if name in labels_of(second.predictions)
        ]
        names = (first.name, second.name)
        table = compare_models(
            first.predictions,
            second.predictions,
            replicates=options.evaluation.replicates,
            level=options.evaluation.level,
            generator=np.random.default_rng(options.seed),
            names=names,
            labels=labels,
        )
        figure = difference_forest(table, level=options.evaluation.level, names=names)
        found.append(Comparison(names, table, figure))
    return found


def _roc_of_all(assessed: Sequence[Assessment]) -> Figure | None:
    """Draw the labels that all models know."""
    tables = {one.name: one.predictions for one in assessed}
    shared = _shared(assessed)
    return roc_of_models(tables, shared) if shared else None


def _shared(assessed: Sequence[Assessment]) -> list[str]:
    known = [labels_of(one.predictions) for one in assessed]
    return [name for name in known[0] if all(name in labels for labels in known)]


def _others(assessed: Sequence[Assessment], options: EvaluateOptions) -> pd.DataFrame | None:
    """Return a row per model: means over the labels that all know, which alone can be compared."""
    shared = _shared(assessed)
    if not shared:
        return None
    rows = {}
    for one in assessed:
        results = _results_of(one, shared, options)
        macro = results.loc["macro"]
        rows[one.name] = {
            "macro AUROC": macro_auroc(results),
            "macro average precision": f"{macro['average_precision']:.3f}",
            "F1": f"{macro['f1']:.3f}",
            "sensitivity": f"{macro['sensitivity']:.3f}",
            "specificity": f"{macro['specificity']:.3f}",
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _results_of(one: Assessment, labels: Sequence[str], options: EvaluateOptions) -> pd.DataFrame:
    """Return the results over some of the labels."""
    others = [name for name in labels_of(one.predictions) if name not in labels]
    if not others:
        return one.results
    return metrics_table(
        one.predictions.drop(columns=[kind + name for name in others for kind in (TRUTH, LOGIT)]),
        one.thresholds,
        replicates=options.evaluation.replicates,
        level=options.evaluation.level,
        generator=np.random.default_rng(options.seed),
    )
