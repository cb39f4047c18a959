"""What the features look like: principal components by label, variance, clusters, enrichment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from cxr_lightning.evaluation.clusters import Clusters, Components
from cxr_lightning.evaluation.plots.style import (
    BLUE,
    GREY,
    INK,
    PALETTE,
    TEXT,
    TITLE,
    VERMILION,
    display_name,
    label_panels,
    new_figure,
    tidy,
)

__all__ = [
    "cluster_figure",
    "enrichment_figure",
    "explained_variance_figure",
    "scatter_by_label",
    "scatter_in_space",
]

MARKERS = "osD^vP*Xph"
ABSENT = "#C9C9C9"


def scatter_by_label(
    points: ArrayLike, y_true: ArrayLike, labels: Sequence[str], *, axes_names: Sequence[str]
) -> Figure:
    """Draw points (n, 2) in a panel per label: its positives over all others.

    Unknown labels (NaN) are drawn as hollow dots.
    """
    xy, truth = np.asarray(points, np.float64), np.asarray(y_true, np.float64)
    figure, panels = label_panels(
        labels, x=axes_names[0], y=axes_names[1], title="Features by label", unit_square=False
    )
    size = _dot(len(xy))
    x, y = xy[:, 0], xy[:, 1]
    for index, axes in enumerate(panels):
        column = truth[:, index]
        unknown, positive = np.isnan(column), column == 1
        others = ~unknown & ~positive
        axes.scatter(x[others], y[others], s=size, c=ABSENT, linewidths=0)
        if unknown.any():
            axes.scatter(
                x[unknown], y[unknown], s=size, facecolors="none", edgecolors=GREY, linewidths=0.4
            )
        axes.scatter(x[positive], y[positive], s=1.6 * size, c=VERMILION, linewidths=0, alpha=0.85)
        axes.set_title(
            f"{display_name(labels[index])}\n{int(positive.sum()):,} of "
            f"{int((~unknown).sum()):,} positive",
            fontsize=TITLE,
            color=INK,
        )
        axes.set(xticks=[], yticks=[])
    return figure


def scatter_in_space(components: Components, clusters: Clusters) -> Figure:
    """Draw the first three principal components, coloured by cluster; 0 where there are fewer."""
    places = components.first(3)
    figure = new_figure(6.2, 5.4)
    axes: Any = figure.add_subplot(projection="3d")
    for cluster in range(clusters.k):
        chosen = clusters.assigned == cluster
        axes.scatter(
            *places[chosen].T,
            s=_dot(len(chosen)),
            c=PALETTE[cluster % len(PALETTE)],
            marker=MARKERS[cluster % len(MARKERS)],
            linewidths=0,
            label=f"cluster {cluster} ({int(chosen.sum()):,})",
        )
    names = component_names(components, 3)
    axes.set(xlabel=names[0], ylabel=names[1], zlabel=names[2])
    axes.xaxis.label.set_size(TEXT)
    axes.yaxis.label.set_size(TEXT)
    axes.zaxis.label.set_size(TEXT)
    axes.tick_params(labelsize=TEXT - 2)
    axes.set_box_aspect(None, zoom=0.88)  # else the name of the third axis is cut off
    axes.legend(fontsize=TEXT, frameon=False, loc="upper left")
    figure.suptitle("Features: three principal components", fontsize=TITLE + 2, color=INK)
    return figure


def component_names(components: Components, count: int) -> list[str]:
    """Return `PC 1 (34.1% of the variance)` and so on; of those there are not, `PC 3` alone."""
    shares = components.explained[:count]
    names = [f"PC {index + 1} ({share:.1%} of the variance)" for index, share in enumerate(shares)]
    return names + [f"PC {index + 1}" for index in range(len(names), count)]


def explained_variance_figure(components: Components) -> Figure:
    """Draw the share of the variance of each component, and their sum."""
    figure = new_figure(5.2, 3.2)
    axes = figure.subplots()
    tidy(axes)
    shown = components.explained[:20]
    at = np.arange(1, len(shown) + 1)
    axes.bar(at, shown, color=BLUE, width=0.8, label="each")
    axes.plot(at, np.cumsum(shown), color=VERMILION, marker="o", ms=3.5, label="sum so far")
    axes.set(ylim=(0, 1.02))
    axes.set_xlabel("principal component", fontsize=TITLE, color=INK)
    axes.set_ylabel("share of the variance", fontsize=TITLE, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=TEXT, frameon=False, loc="center right")
    axes.set_title("Variance explained", fontsize=TITLE + 2, color=INK)
    return figure


def cluster_figure(points: ArrayLike, clusters: Clusters, *, axes_names: Sequence[str]) -> Figure:
    """Draw points (n, 2) by cluster, and the silhouette of each k that was tried."""
    xy = np.asarray(points, np.float64)
    figure = new_figure(8.2, 3.9)
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    for axes in (left, right):
        tidy(axes)
    _scatter_clusters(left, xy, clusters)
    left.set(xticks=[], yticks=[])
    left.set_xlabel(axes_names[0], fontsize=TITLE, color=INK)
    left.set_ylabel(axes_names[1], fontsize=TITLE, color=INK)
    left.set_title(f"k-means, k = {clusters.k}", fontsize=TITLE + 1, color=INK)
    tried = sorted(clusters.silhouette)
    values = [clusters.silhouette[k] for k in tried]
    right.plot(tried, values, color=BLUE, marker="o", ms=4)
    right.plot(clusters.k, clusters.silhouette[clusters.k], color=VERMILION, marker="o", ms=7)
    right.set(ylim=(min(0, *values) - 0.02, max(0.5, *values) + 0.05))
    right.set_xticks(tried)
    right.set_xlabel("clusters k", fontsize=TITLE, color=INK)
    right.set_ylabel("mean silhouette (-1 to 1)", fontsize=TITLE, color=INK)
    right.set_title("Silhouette: the highest is taken", fontsize=TITLE + 1, color=INK)
    return figure


def _scatter_clusters(axes: Axes, xy: NDArray[np.float64], clusters: Clusters) -> None:
    for cluster in range(clusters.k):
        chosen = clusters.assigned == cluster
        axes.scatter(
            xy[chosen, 0],
            xy[chosen, 1],
            s=_dot(len(xy)),
            c=PALETTE[cluster % len(PALETTE)],
            marker=MARKERS[cluster % len(MARKERS)],
            linewidths=0,
            alpha=0.8,
            label=f"{cluster} ({int(chosen.sum()):,})",
        )
    axes.legend(
        title="cluster (images)", title_fontsize=TEXT, fontsize=TEXT, markerscale=1.6,
        loc="upper right", framealpha=0.85, edgecolor="none",
    )  # fmt: skip


def enrichment_figure(table: pd.DataFrame) -> Figure:
    """Draw how many of each cluster have each label, coloured by the ratio to what is expected.

    Half an image is added to both counts, so that 0 of 1 expected is no deep colour. In
    bold: q below 0.05 (see :func:`~cxr_lightning.evaluation.clusters.enrichment_table`).
    """
    labels, clusters = table["label"].unique(), np.sort(table["cluster"].unique())
    figure = new_figure(2.9 + 1.05 * len(clusters), 1.3 + 0.34 * len(labels))
    axes = figure.subplots()
    cells = table.set_index(["label", "cluster"])
    ratio = (table["positives"] + 0.5) / (table["n"] * table["prevalence"] + 0.5)
    grid = table.assign(ratio=ratio).pivot(index="label", columns="cluster", values="ratio")
    strength = np.log2(grid.loc[labels, clusters].to_numpy(np.float64).clip(1 / 8, 8))
    image = axes.imshow(strength, cmap="PuOr_r", vmin=-3, vmax=3, aspect="auto")
    for row, label in enumerate(labels):
        for column, cluster in enumerate(clusters):
            one = cells.loc[(label, cluster)]
            dark = abs(strength[row, column]) > 1.9
            axes.text(
                column,
                row,
                f"{int(one['positives']):,}/{int(one['n']):,}",
                ha="center",
                va="center",
                fontsize=TEXT,
                fontweight="bold" if one["q"] < 0.05 else "normal",
                color="white" if dark else INK,
            )
    sizes = table.groupby("cluster")["n"].max()
    axes.set_xticks(range(len(clusters)), [f"cluster {c}\n({sizes[c]:,})" for c in clusters])
    axes.set_yticks(range(len(labels)), [display_name(label) for label in labels])
    axes.tick_params(labelsize=TEXT, length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, ticks=[-3, -2, -1, 0, 1, 2, 3], pad=0.02)
    bar.ax.set_yticklabels(["1/8", "1/4", "1/2", "1", "2", "4", "8"], fontsize=TEXT)
    bar.set_label("observed / expected by the prevalence", fontsize=TEXT, color=INK)
    figure.suptitle("Labels in clusters (bold: q < 0.05)", fontsize=TITLE + 2, color=INK)
    return figure


def _dot(points: int) -> float:
    """Area of a dot, in square points: small where there are many."""
    return float(np.clip(4000 / max(points, 1), 3, 26))
