"""What an evaluation leaves on the disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from cxr_lightning.assessment.model import Model
from cxr_lightning.assessment.options import EvaluateOptions
from cxr_lightning.evaluation.comparison import compare_models
from cxr_lightning.evaluation.plots import difference_forest, save_figure
from cxr_lightning.evaluation.predictions import labels_of, write_predictions
from cxr_lightning.report.assess import Assessment
from cxr_lightning.report.figures import assessment_figures
from cxr_lightning.report.page import Comparison, ReportContext, report_page
from cxr_lightning.report.pictures import heat_maps, pictures

__all__ = ["macro_auroc", "write_assessment"]


def macro_auroc(one: Assessment) -> str:
    """Return macro AUROC with its interval, and over how many labels, as text."""
    row = one.results.loc["macro"]
    if np.isnan(row["auroc"]):
        return "undefined"
    labels = len(labels_of(one.predictions)) - int(one.results["labels_undefined"]["macro"])
    text = f"{row['auroc']:.3f}"
    if not np.isnan(row["auroc_low"]):
        text += f" ({row['auroc_low']:.3f}-{row['auroc_high']:.3f})"
    return f"{text}, {labels} labels"


def write_assessment(
    folder: Path,
    data: str,
    models: Sequence[Model],
    assessed: Sequence[Assessment],
    options: EvaluateOptions,
) -> None:
    """Write tables, metrics, figures and the page of one data set."""
    folder.mkdir(parents=True, exist_ok=True)
    several = len(models) > 1
    for one in assessed:
        end = f"_{one.name}" if several else ""
        write_predictions(one.predictions, folder / f"predictions{end}.parquet")
        one.results.to_csv(folder / f"results{end}.csv")
        one.points.to_csv(folder / f"operating_points{end}.csv")
        for found in one.subgroups:
            found.groups.to_csv(folder / f"subgroups_{found.column}{end}.csv", index=False)
            found.gaps.to_csv(folder / f"gaps_{found.column}{end}.csv", index=False)
        text = json.dumps(one.metrics, indent=2, allow_nan=False) + "\n"
        (folder / f"metrics{end}.json").write_text(text, encoding="utf-8")
    comparisons = _comparisons(folder, assessed, options)
    # The page is about the last: the ensemble where there is one, else the only model.
    model, one = models[-1], assessed[-1]
    target, bundle, shown = model.target, model.bundle, options.pictures
    figures = assessment_figures(one)
    for name, figure in figures.items():
        save_figure(figure, folder / "plots" / f"{name}.png")
        figure.set_layout_engine("none")
    context = ReportContext(
        title=f"{one.name} on {data}",
        facts=_facts(model, options),
        data=data,
        split=options.split,
        cohort=target.cohort if target else None,
        synthetic=bool(target and target.config.synthetic),
        notes=target.notes if target else (),
        picture=pictures(target.cohort.table, target.cache) if shown and target else None,
        heat_map=(
            heat_maps(target.cohort.table, target.cache, bundle)
            if shown and target and bundle
            else None
        ),
        comparisons=comparisons,
        others=_others(assessed) if several else None,
    )
    (folder / "report.html").write_text(report_page(one, context, figures), encoding="utf-8")


def _facts(model: Model, options: EvaluateOptions) -> dict[str, str]:
    facts = {"scored": "images" if options.study == "none" else f"studies ({options.study})"}
    if model.bundle is not None:
        info = model.bundle.info
        facts |= {
            "model": info.model.name,
            "trained on": f"{info.provenance.get('data', 'unknown')}, fingerprint "
            f"{info.provenance.get('fingerprint', 'unknown')}",
            "input": f"{info.image.size} x {info.image.size} pixels"
            + (f" and {len(info.tabular.outputs)} tabular inputs" if info.tabular.columns else ""),
        }
    if options.tta:
        facts["test-time augmentation"] = f"mean of the image and {options.tta} varied copies"
    return facts


def _comparisons(
    folder: Path, assessed: Sequence[Assessment], options: EvaluateOptions
) -> list[Comparison]:
    found = []
    for first, second in combinations(assessed, 2):
        labels = [
            name for name in labels_of(first.predictions) if name in labels_of(second.predictions)
        ]
        table = compare_models(
            first.predictions,
            second.predictions,
            replicates=options.evaluation.replicates,
            level=options.evaluation.level,
            generator=np.random.default_rng(options.seed),
            names=(first.name, second.name),
            labels=labels,
        )
        names = (first.name, second.name)
        table.to_csv(folder / f"comparison_{first.name}_{second.name}.csv")
        figure = difference_forest(table, level=options.evaluation.level, names=names)
        found.append(Comparison(names, table, figure))
    return found


def _others(assessed: Sequence[Assessment]) -> pd.DataFrame:
    rows = {}
    for one in assessed:
        macro = one.results.loc["macro"]
        rows[one.name] = {
            "macro AUROC": macro_auroc(one),
            "macro average precision": f"{macro['average_precision']:.3f}",
            "F1": f"{macro['f1']:.3f}",
            "sensitivity": f"{macro['sensitivity']:.3f}",
            "specificity": f"{macro['specificity']:.3f}",
        }
    return pd.DataFrame.from_dict(rows, orient="index")
