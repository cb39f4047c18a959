"""The report: one page for a reader who was not there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from cxr_lightning import __version__
from cxr_lightning.audit.people import table_one
from cxr_lightning.data.cohort import Cohort
from cxr_lightning.evaluation.plots import display_name
from cxr_lightning.evaluation.predictions import labels_of, logits_of
from cxr_lightning.evaluation.tables import AVERAGES, FEW_NOTE, few_of_a_class, format_table
from cxr_lightning.html import figure_svg, picture_png, render_page, table_html
from cxr_lightning.report.assess import Assessment
from cxr_lightning.report.tables import (
    AT_THRESHOLD,
    calibration_table,
    column_name,
    comparison_table,
    gap_words,
    point_table,
    subgroup_table,
    threshold_table,
)

__all__ = ["PARTS", "Comparison", "ReportContext", "report_page"]

Picture = Callable[[str, str], npt.NDArray[np.uint8] | None]
"""From a sample id and a label to its picture, grey or in colour; None: there is none."""

PARTS = {
    "train": "the training part",
    "val": "the validation part",
    "test": "the test part",
    "all": "all parts",
    "unseen": "unseen patients",
}
"""How the parts of a data set are called before a reader."""

_PICTURE = 165  # CSS pixels
_CAPTIONS = {
    "roc": "Receiver operating characteristic. The dot is the threshold in use.",
    "precision_recall": "Precision against recall. The broken line is the prevalence: what chance "
    "gives.",
    "confusion": "Calls at the thresholds against the truth.",
    "reliability": "Observed share of positives against the predicted probability, in bins of "
    "equally many images. On the diagonal, a probability can be taken at its word.",
    "net_benefit": "Decision curves (Vickers and Elkin 2006): the benefit of acting on the model "
    "at a threshold probability, in true positives per 100 images, against acting on all or none.",
    "together": "How often labels come together, in the truth and in the calls.",
    "curves": "Training.",
}


@dataclass(frozen=True)
class Comparison:
    """Two models on the same images: the table of `compare_models`, and its figure."""

    names: tuple[str, str]
    table: pd.DataFrame
    figure: Figure


@dataclass(frozen=True)
class ReportContext:
    """What the page says around the numbers.

    Attributes
    ----------
    title
        Of the page.
    facts
        Model card: what, on what, how trained; shown in order.
    data
        Name of the data set that was evaluated.
    split
        Which part of it, one of `PARTS`.
    scored
        What is scored: images, or studies.
    fitted
        Where thresholds and calibration come from; a sentence.
    cohort
        Who was evaluated; None where only a predictions table is known.
    synthetic
        Whether the images are phantoms.
    notes
        What a reader must know before the numbers, e.g. labels that are not comparable.
    configuration
        YAML; empty: unknown.
    picture, heat_map
        Return the picture of an example, and the same with the evidence for a label over it.
    curves
        Training curves.
    comparisons, others
        Further models on the same images, and single rows of further assessments.
    together
        Curves of all models.
    """

    title: str
    facts: Mapping[str, str]
    data: str
    split: str
    scored: str = "images"
    fitted: str = "Thresholds and calibration were fitted on the validation patients of training."
    cohort: Cohort | None = None
    synthetic: bool = False
    notes: Sequence[str] = ()
    configuration: str = ""
    picture: Picture | None = None
    heat_map: Picture | None = None
    curves: Figure | None = None
    comparisons: Sequence[Comparison] = ()
    others: pd.DataFrame | None = None
    together: Figure | None = None
    downloads: Mapping[str, str] = field(default_factory=dict)


def report_page(one: Assessment, context: ReportContext, figures: Mapping[str, Figure]) -> str:
    """Return the report as one self-contained HTML page.

    `figures` are those of :func:`~cxr_lightning.report.figures.assessment_figures`.
    """
    figures = dict(figures)
    subgroups = [
        (
            column_name(found.column),
            figure_svg(figures.pop(f"subgroups_{found.in_files}"), alt=f"AUROC by {found.column}"),
            table_html(subgroup_table(found), index="group"),
            gap_words(found),
        )
        for found in one.subgroups
    ]
    results = format_table(one.results)
    ranking = [name for name in results if name not in AT_THRESHOLD]
    marks = {AVERAGES[0]: "rule"}
    return render_page(
        "report.html.j2",
        title=context.title,
        version=__version__,
        synthetic=context.synthetic,
        facts=context.facts,
        notes=context.notes,
        data=context.data,
        split=context.split,
        part=PARTS[context.split],
        fitted=context.fitted,
        level=f"{one.evaluation.level:.0%}",
        replicates=one.evaluation.replicates,
        headline=_headline(one, context.scored),
        scored=_count(one, context.scored),
        results=table_html(results[ranking], index="label", marks=marks),
        at_threshold=table_html(threshold_table(one), index="label", marks=marks),
        undefined=[
            str(name)
            for name, row in one.results.iterrows()
            if name not in AVERAGES and np.isnan(row["auroc"])
        ],
        few=few_of_a_class(one.results),
        few_note=FEW_NOTE,
        unfitted=[
            name
            for name, fitted in zip(one.thresholds.labels, one.thresholds.fitted, strict=True)
            if not fitted
        ],
        points=table_html(point_table(one.points), index="label", marks=marks),
        calibration=table_html(calibration_table(one), index="label", marks=marks),
        calibration_kind=one.calibration.kind,
        figures=[
            (name, _CAPTIONS.get(name, ""), figure_svg(figure, alt=name.replace("_", " ")))
            for name, figure in figures.items()
        ],
        curves=figure_svg(context.curves, alt="training curves") if context.curves else None,
        subgroups=subgroups,
        flow=context.cohort.flow if context.cohort else (),
        table_one=table_html(table_one(context.cohort.table)) if context.cohort else None,
        fingerprint=context.cohort.fingerprint if context.cohort else None,
        examples=_examples(one, context),
        explained=context.heat_map is not None,
        comparisons=[
            (
                first,
                second,
                figure_svg(found.figure, alt=f"{second} against {first}"),
                table_html(comparison_table(found.table), index="label", marks={"macro": "rule"}),
            )
            for found in context.comparisons
            for first, second in (found.names,)
        ],
        others=table_html(context.others, index="model") if context.others is not None else None,
        together=figure_svg(context.together, alt="ROC of all models")
        if context.together
        else None,
        configuration=context.configuration,
        downloads=context.downloads,
    )


def _headline(one: Assessment, scored: str) -> dict[str, str]:
    macro = one.results.loc["macro"]

    def number(name: str) -> str:
        if np.isnan(macro[name]):
            return "undefined"
        text = f"{macro[name]:.3f}"
        low, high = macro[f"{name}_low"], macro[f"{name}_high"]
        return text if np.isnan(low) else f"{text} ({low:.3f} to {high:.3f})"

    return {
        "evaluated": _count(one, scored),
        "macro AUROC": number("auroc"),
        "macro average precision": number("average_precision"),
    }


def _count(one: Assessment, scored: str) -> str:
    patients = one.predictions["patient_id"].nunique()
    return f"{len(one.predictions):,} {scored} of {patients:,} patients"


def _examples(one: Assessment, context: ReportContext) -> list[tuple[str, Markup]]:
    """Return a gallery per label: its surest calls, right and wrong."""
    if context.picture is None:
        return []
    galleries = []
    labels = labels_of(one.predictions)
    calibration = one.calibration.select(labels)
    chances = calibration.apply(logits_of(one.predictions, labels))
    for label, part in one.examples.groupby("label", sort=False):
        cells = []
        column = labels.index(str(label))
        for row in part.to_dict("records"):
            chance = chances[row["row"], column] if calibration.fitted[column] else None
            values = {str(key): value for key, value in row.items()} | {"chance": chance}
            cell = _example(values, str(label), context)
            if cell is not None:
                cells.append(cell)
        if cells:
            gallery = Markup('<div class="gallery">{}</div>').format(Markup("").join(cells))
            galleries.append((display_name(str(label)), gallery))
    return galleries


def _example(row: dict[str, Any], label: str, context: ReportContext) -> Markup | None:
    assert context.picture is not None  # checked by the caller
    pixels = context.picture(row["sample_id"], label)
    if pixels is None:
        return None
    shown = [picture_png(pixels, alt=row["sample_id"], width=_PICTURE)]
    first = row["rank"] == 1  # one of a kind is enough, and every map costs a backward pass
    heat = context.heat_map(row["sample_id"], label) if context.heat_map and first else None
    if heat is not None:
        shown.append(picture_png(heat, alt=f"evidence for {label}", width=_PICTURE))
    said = f"score {row['probability']:.3f}, threshold {row['threshold']:.3f}"
    if row["chance"] is not None:
        said += f", calibrated {row['chance']:.1%}"
    if heat is not None and not np.ptp(heat, axis=-1).any():  # grey: nothing lies over it
        said += "; no map"
    truth = row["true_labels"] or "none of the labels"
    return Markup(
        '<div style="width:{}px"><strong>{}</strong><div style="display:flex;gap:4px">{}</div>{}: '
        '{}<br><span class="soft">truth: {}<br>{}</span></div>'
    ).format(
        len(shown) * _PICTURE + 4,
        row["outcome"],
        Markup("").join(shown),
        display_name(label),
        said,
        truth,
        row["sample_id"],
    )
