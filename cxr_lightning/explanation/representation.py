"""Principal components, clusters and their tables and figures, written to a folder."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_lightning.errors import ConfigError
from cxr_lightning.evaluation.clusters import (
    agreement_table,
    enrichment_table,
    find_clusters,
    principal_components,
)
from cxr_lightning.evaluation.plots.interactive import interactive_scatter, write_page
from cxr_lightning.evaluation.plots.representation import (
    cluster_figure,
    component_names,
    enrichment_figure,
    explained_variance_figure,
    scatter_by_label,
    scatter_in_space,
)
from cxr_lightning.evaluation.plots.style import save_figure
from cxr_lightning.explanation.source import Source

__all__ = ["check_umap", "write_representation"]

CLUSTERED = 0.95
"""k-means works on the components that together explain this share of the variance."""


def write_representation(
    features: NDArray[np.float32],
    source: Source,
    folder: Path,
    *,
    stage: str,
    umap: bool,
    seed: int,
) -> str:
    """Write everything about the features of a source's images; return a sentence about it.

    `features.npz`, `representation.csv`, `agreement.csv`, `enrichment.csv`, figures, and the page
    `representation.html`.

    Raises
    ------
    DataError
        Fewer than three images, or features without any variance.
    """
    folder.mkdir(parents=True, exist_ok=True)
    components = principal_components(features)
    enough = int(np.searchsorted(np.cumsum(components.explained), CLUSTERED)) + 1
    generator = np.random.default_rng(seed)
    clusters = find_clusters(components.scores[:, :enough], generator=generator)
    table = source.table[["sample_id", "split", "view", "sex", "age_years"]].assign(
        cluster=clusters.assigned, **dict(zip(source.labels, source.truth.T, strict=True))
    )
    places, names = components.first(3), component_names(components, 3)
    layouts = {"pca": (names[:2], places[:, :2])}
    for axis in range(3):
        table[f"pc{axis + 1}"] = places[:, axis]
    if umap:
        laid_out = _umap(components.scores[:, :enough], seed)
        layouts["umap"] = (["UMAP 1", "UMAP 2"], laid_out)
        table["umap1"], table["umap2"] = laid_out.T
    table.to_csv(folder / "representation.csv", index=False, float_format="%.6g")
    np.savez_compressed(
        folder / "features.npz",
        features=features,
        sample_id=table["sample_id"].to_numpy(str),
        components=components.scores,
        explained=components.explained,
        cluster=clusters.assigned,
        stage=np.array(stage),
    )
    attributes = dict(zip(source.labels, source.truth.T, strict=True))
    attributes |= {name: table[name].to_numpy(object) for name in ("view", "sex")}
    agreement_table(clusters.assigned, attributes).to_csv(
        folder / "agreement.csv", index=False, float_format="%.6g"
    )
    enrichment = enrichment_table(clusters.assigned, source.truth, source.labels)
    enrichment.to_csv(folder / "enrichment.csv", index=False, float_format="%.6g")
    figures = {
        "explained_variance": explained_variance_figure(components),
        "enrichment": enrichment_figure(enrichment),
        "pca_3d": scatter_in_space(components, clusters),
    }
    for name, (axes, points) in layouts.items():
        figures[f"{name}_by_label"] = scatter_by_label(
            points, source.truth, source.labels, axes_names=axes
        )
        figures[f"{name}_clusters"] = cluster_figure(points, clusters, axes_names=axes)
    for name, figure in figures.items():
        save_figure(figure, folder / f"{name}.png")
    _write_page(table, source, names, folder, umap=umap)
    best = clusters.silhouette[clusters.k]
    return (
        f"{len(features):,} images, {features.shape[1]:,} features at {stage}: k-means prefers "
        f"{clusters.k} clusters (silhouette {best:.2f}"
        + ("; they hardly stand apart)" if best < 0.25 else ")")
    )


def _write_page(
    table: pd.DataFrame, source: Source, names: list[str], folder: Path, *, umap: bool
) -> None:
    named = table.rename(columns={f"pc{axis + 1}": name for axis, name in enumerate(names)})
    pages = [
        interactive_scatter(named, names, source.labels, title="Principal components, in space"),
        interactive_scatter(named, names[:2], source.labels, title="Principal components"),
    ]
    if umap:
        pages.append(interactive_scatter(named, ["umap1", "umap2"], source.labels, title="UMAP"))
    write_page(pages, folder / "representation.html", title="Features")


def check_umap() -> None:
    """Say how to get UMAP where it is missing."""
    if importlib.util.find_spec("umap") is None:
        raise ConfigError(
            "umap=true needs the package umap-learn: pip install 'cxr-lightning[umap]', or leave "
            "umap=true out; the principal components need nothing"
        )


def _umap(points: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Lay points out in two dimensions (McInnes et al., JOSS 2018); distances between groups say
    little.
    """
    import umap

    neighbours = min(15, len(points) - 1)
    laid_out = umap.UMAP(n_neighbors=neighbours, random_state=seed, n_jobs=1).fit_transform(points)
    return np.asarray(laid_out, np.float64)
