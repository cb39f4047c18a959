"""What a network's features say of the images: principal components, clusters, enrichment.

Features are those of any stage, pooled, one row per image. Clusters are found without the labels
and then held against them; a cluster that follows the view position or the sex is worth as much
attention as one that follows a finding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control, hypergeom
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import (
    adjusted_rand_score,
    normalized_mutual_info_score,
    silhouette_score,
)

from cxr_lightning.errors import DataError

__all__ = [
    "FEWEST_IMAGES",
    "Clusters",
    "Components",
    "agreement_table",
    "enrichment_table",
    "find_clusters",
    "principal_components",
]

SILHOUETTE_IMAGES = 2000
"""The silhouette needs all distances; beyond so many images it is taken over a random part."""

FEWEST_IMAGES = 3
"""So many span components at all."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Components:
    """Principal components of the features.

    Attributes
    ----------
    scores : float64 of shape (n, components), the images in order of decreasing variance.
    explained : float64 of shape (components,), share of the variance of each.
    """

    scores: Floats
    explained: Floats

    def first(self, count: int) -> Floats:
        """Return the first components, (n, count), zero where there are fewer."""
        shown = self.scores[:, :count]
        return np.pad(shown, ((0, 0), (0, count - shown.shape[1])))


@dataclass(frozen=True)
class Clusters:
    """k-means with the k of the greatest silhouette.

    Attributes
    ----------
    assigned : int64 of shape (n,), 0 to k - 1, the largest cluster first.
    silhouette : mean silhouette of each k that was tried, -1 to 1.
    """

    assigned: NDArray[np.int64]
    silhouette: Mapping[int, float]

    @property
    def k(self) -> int:
        return int(self.assigned.max()) + 1


def principal_components(features: ArrayLike, *, components: int = 50) -> Components:
    """Return the first principal components of features (n, F), or as many as there are.

    The features are centred, not scaled: a unit that hardly varies stays of little weight. The
    sign of a component is arbitrary; it is chosen so that its greatest entry is positive.

    Raises
    ------
    DataError
        Fewer than 3 images, values that are not finite, or features that are all the same.
    """
    values = np.asarray(features, np.float64)
    if len(values) < FEWEST_IMAGES:
        raise DataError(f"{len(values)} images are too few for principal components; use 3 or more")
    if not np.isfinite(values).all():
        raise DataError(f"{int((~np.isfinite(values)).any(axis=1).sum())} images have no features")
    if not values.std(axis=0).any():
        raise DataError("the features of all images are the same: there is nothing to compare")
    wanted = min(components, len(values) - 1, values.shape[1])
    pca = PCA(wanted, svd_solver="full")
    return Components(pca.fit_transform(values), pca.explained_variance_ratio_)


def find_clusters(points: ArrayLike, *, generator: np.random.Generator, most: int = 10) -> Clusters:
    """Find clusters of points (n, D), usually principal components, by k-means.

    k is the one from 2 to `most` with the greatest mean silhouette (Rousseeuw, Journal of
    Computational and Applied Mathematics 1987). A silhouette near 0 says that the clusters touch:
    k-means cuts any cloud into pieces.
    """
    values = np.asarray(points, np.float64)
    # identical images cannot lie in different clusters
    most = min(most, len(np.unique(values, axis=0)) - 1)
    if most < 2:
        raise DataError(f"{len(values)} images, of too few kinds, cannot be clustered")
    part = np.arange(len(values))
    if len(part) > SILHOUETTE_IMAGES:
        part = np.sort(generator.choice(part, SILHOUETTE_IMAGES, replace=False))
    seed = int(generator.integers(2**31))
    fits, scores = {}, {}
    for k in range(2, most + 1):
        fits[k] = KMeans(k, n_init=10, random_state=seed).fit_predict(values)
        several = len(np.unique(fits[k][part])) > 1
        scores[k] = float(silhouette_score(values[part], fits[k][part])) if several else np.nan
    best = max(scores, key=lambda k: (scores[k] if np.isfinite(scores[k]) else -2.0, -k))
    sizes = np.bincount(fits[best], minlength=best)
    rank = np.empty(best, np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(best)
    return Clusters(rank[fits[best]], scores)


def agreement_table(assigned: ArrayLike, attributes: Mapping[str, ArrayLike]) -> pd.DataFrame:
    """Compare clusters with labels and other attributes: a row each.

    Parameters
    ----------
    assigned : array-like of shape (n,)
    attributes
        Arrays (n,) of numbers or words; NaN, None and "UNKNOWN" are left out.

    Returns
    -------
    DataFrame
        `attribute`, `n` (known), `values` (distinct), `ari` (adjusted Rand index, 0 by chance, 1
        for the same partition; Hubert and Arabie 1985) and `nmi` (normalised mutual information,
        arithmetic mean). NaN where only one value or one cluster is left.
    """
    clusters = np.asarray(assigned)
    rows = []
    for name, given in attributes.items():
        values = pd.Series(np.asarray(given))
        known = (values.notna() & (values != "UNKNOWN")).to_numpy()
        codes, distinct = pd.factorize(values[known])
        part = clusters[known]
        defined = len(distinct) > 1 and len(np.unique(part)) > 1
        rows.append(
            {
                "attribute": name,
                "n": int(known.sum()),
                "values": len(distinct),
                "ari": float(adjusted_rand_score(codes, part)) if defined else np.nan,
                "nmi": float(normalized_mutual_info_score(codes, part)) if defined else np.nan,
            }
        )
    return pd.DataFrame(rows, columns=["attribute", "n", "values", "ari", "nmi"])


def enrichment_table(assigned: ArrayLike, y_true: ArrayLike, labels: Sequence[str]) -> pd.DataFrame:
    """Count each label in each cluster and test whether it is more or less common there.

    Parameters
    ----------
    y_true : array-like of shape (n, L)
        1, 0, or NaN where unknown, which counts nowhere.

    Returns
    -------
    DataFrame
        A row per label and cluster: `positives` of `n` known in the cluster, their `share`, the
        `prevalence` over all clusters, `ratio` of the two, `p` (two-sided hypergeometric test,
        which is Fisher's exact test) and `q` (false discovery rate over all rows; Benjamini and
        Hochberg, JRSS B 1995). NaN where undefined. Images of one patient are not independent: the
        p values are then too small, and only their order should be trusted.
    """
    clusters, truth = np.asarray(assigned), np.asarray(y_true, np.float64)
    rows = []
    for index, label in enumerate(labels):
        column = truth[:, index]
        known = ~np.isnan(column)
        total, everywhere = int(known.sum()), int((column == 1).sum())
        for cluster in np.unique(clusters):
            inside = known & (clusters == cluster)
            n, positives = int(inside.sum()), int((column[inside] == 1).sum())
            prevalence = everywhere / total if total else np.nan
            share = positives / n if n else np.nan
            rows.append(
                {
                    "label": label,
                    "cluster": int(cluster),
                    "positives": positives,
                    "n": n,
                    "share": share,
                    "prevalence": prevalence,
                    "ratio": share / prevalence if everywhere else np.nan,
                    "p": _two_sided(positives, total, everywhere, n),
                }
            )
    table = pd.DataFrame(rows)
    tested = table["p"].notna()
    table["q"] = np.nan
    if tested.any():
        table.loc[tested, "q"] = false_discovery_control(table.loc[tested, "p"].to_numpy())
    return table


def _two_sided(positives: int, total: int, everywhere: int, drawn: int) -> float:
    """Probability of a table as unlikely as this one or more so; NaN where it could not differ."""
    if not 0 < everywhere < total or not 0 < drawn < total:
        return np.nan
    law = hypergeom(total, everywhere, drawn)
    outcomes = np.arange(max(0, drawn + everywhere - total), min(drawn, everywhere) + 1)
    chances = law.pmf(outcomes)
    likely = chances <= law.pmf(positives) * (1 + 1e-7)  # rounding, as SciPy's fisher_exact allows
    return float(min(1.0, chances[likely].sum()))
