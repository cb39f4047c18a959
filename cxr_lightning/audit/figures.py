"""Figures of an audit: how common each label is, what comes together, and who the patients are."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cxr_lightning.audit.findings import Labels
from cxr_lightning.evaluation.plots.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    TEXT,
    TITLE,
    VERMILION,
    display_name,
    new_figure,
    tidy,
)
from cxr_lightning.studies import SPLITS

__all__ = ["label_values", "people", "prevalence", "together"]

_SPLIT_COLOURS = dict(zip(SPLITS, (BLUE, ORANGE, VERMILION), strict=True))


def prevalence(labels: Labels) -> Figure:
    """Draw the prevalence of each label in each split: a dot each, the commonest label on top."""
    table = labels.counts.pivot(index="label", columns="split", values="prevalence")
    table = table.loc[table.max(axis=1).sort_values().index]
    figure = new_figure(7.2, 0.8 + 0.27 * len(table))
    axes = figure.subplots()
    tidy(axes)
    for split in SPLITS:
        axes.plot(
            100 * table[split],
            np.arange(len(table)),
            "o",
            color=_SPLIT_COLOURS[split],
            markersize=5,
            label=split,
            alpha=0.85,
        )
    axes.set_yticks(np.arange(len(table)), [display_name(str(name)) for name in table.index])
    axes.set_xlim(left=0)
    axes.set_xlabel("positive among images with a known label, %", fontsize=TITLE, color=INK)
    axes.legend(frameon=False, fontsize=TEXT, loc="lower right")
    return figure


def label_values(labels: Labels) -> Figure:
    """Draw how many images say yes, no, uncertain or nothing of each label."""
    counts = labels.counts.groupby("label", sort=False)[
        ["positive", "uncertain", "unknown", "negative"]
    ].sum()
    share = 100 * counts.div(counts.sum(axis=1), axis=0)
    share = share.loc[share["positive"].sort_values().index]
    figure = new_figure(7.2, 0.9 + 0.27 * len(share))
    axes = figure.subplots()
    tidy(axes)
    left = np.zeros(len(share))
    colours = {"positive": VERMILION, "uncertain": ORANGE, "unknown": "#DDDDDD", "negative": BLUE}
    for name, colour in colours.items():
        width = share[name].to_numpy(float)
        axes.barh(np.arange(len(share)), width, left=left, color=colour, label=name, height=0.75)
        left += width
    axes.set_yticks(np.arange(len(share)), [display_name(str(name)) for name in share.index])
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of all images, %", fontsize=TITLE, color=INK)
    figure.legend(
        *axes.get_legend_handles_labels(),
        frameon=False, fontsize=TEXT, loc="outside upper center", ncols=4,
    )  # fmt: skip
    return figure


def together(labels: Labels, names: tuple[str, ...]) -> Figure:
    """Draw, of the images with the row's label, the share that have the column's too."""
    counts = labels.together.astype(float)
    own = np.diag(counts)
    share = np.divide(
        counts, own[:, None], out=np.full(counts.shape, np.nan), where=own[:, None] > 0
    )
    np.fill_diagonal(share, np.nan)
    side = max(3.6, 0.42 * len(names) + 1.9)
    figure = new_figure(side + 0.5, side)
    axes = figure.subplots()
    darkest = max(0.5, np.nanmax(share, initial=0))
    axes.imshow(share, cmap="Blues", vmin=0, vmax=darkest)
    shown = [display_name(name) for name in names]
    axes.set_xticks(np.arange(len(names)), shown, rotation=45, ha="right", fontsize=TEXT)
    axes.set_yticks(
        np.arange(len(names)),
        [f"{name} ({count:,.0f})" for name, count in zip(shown, own, strict=True)],
        fontsize=TEXT,
    )
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, colors=INK)
    for row, column in np.ndindex(share.shape):
        value = share[row, column]
        if row != column and not np.isnan(value):
            axes.text(
                column, row, f"{100 * value:.0f}",
                ha="center", va="center", fontsize=7,
                color="white" if value > 0.6 * darkest else INK,
            )  # fmt: skip
    axes.set_title(
        "of the images with the row's label, % that also have the column's",
        fontsize=TITLE, color=INK,
    )  # fmt: skip
    return figure


def people(studies: pd.DataFrame) -> Figure:
    """Draw the ages of patients at their first image, and the views of images, both by sex."""
    patients = studies.drop_duplicates("patient_id")
    figure = new_figure(7.2, 2.6)
    by_age, by_view = figure.subplots(ncols=2, width_ratios=(2, 1))
    tidy(by_age)
    tidy(by_view)
    bins = np.arange(0, 101, 5)
    views = [view for view in ("PA", "AP", "LATERAL", "UNKNOWN") if (studies["view"] == view).any()]
    left, below = np.zeros(len(bins) - 1), np.zeros(len(views))
    for sex, name, colour in (
        ("F", "female", BLUE),
        ("M", "male", GREEN),
        ("UNKNOWN", "not known", GREY),
    ):
        counts, _ = np.histogram(patients.loc[patients["sex"] == sex, "age_years"].dropna(), bins)
        seen = studies.loc[studies["sex"] == sex, "view"].value_counts()
        images = seen.reindex(views, fill_value=0).to_numpy()
        if images.any():
            by_age.bar(bins[:-1] + 2.5, counts, width=4.6, bottom=left, color=colour, label=name)
            by_view.bar(np.arange(len(views)), images, bottom=below, color=colour)
            left, below = left + counts, below + images
    by_age.set_xlabel("age at the first image, years", fontsize=TITLE, color=INK)
    by_age.set_ylabel("patients", fontsize=TITLE, color=INK)
    if patients["age_years"].notna().any():
        by_age.legend(frameon=False, fontsize=TEXT, loc="upper left")
    else:
        by_age.text(50, 0, "no age is known", ha="center", va="bottom", fontsize=TEXT, color=INK)
    names = {"LATERAL": "lateral", "UNKNOWN": "not known"}
    by_view.set_xticks(np.arange(len(views)), [names.get(view, view) for view in views])
    by_view.set_xlabel("view", fontsize=TITLE, color=INK)
    by_view.set_ylabel("images", fontsize=TITLE, color=INK)
    return figure
