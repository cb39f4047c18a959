"""Principal components, clusters and enrichment against scikit-learn, SciPy and by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import fisher_exact
from sklearn.metrics import silhouette_score

from cxr_lightning.errors import DataError
from cxr_lightning.evaluation.clusters import (
    agreement_table,
    enrichment_table,
    find_clusters,
    principal_components,
)
from cxr_lightning.evaluation.plots.interactive import interactive_scatter, write_page
from cxr_lightning.evaluation.plots.representation import (
    cluster_figure,
    enrichment_figure,
    explained_variance_figure,
    scatter_by_label,
    scatter_in_space,
)


def blobs(k: int = 3, each: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = 12 * np.eye(k, 6)
    truth = np.repeat(np.arange(k), each)
    return centres[truth] + rng.normal(size=(k * each, 6)), truth


def test_components_are_those_of_the_singular_value_decomposition() -> None:
    values = np.random.default_rng(0).normal(size=(30, 5)) * [5, 3, 2, 1, 0.5]
    found = principal_components(values, components=3)
    centred = values - values.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    assert np.allclose(np.abs(found.scores), np.abs(u * s)[:, :3])
    assert np.allclose(found.explained, (s**2 / (s**2).sum())[:3])


def test_components_of_a_line_worked_out_by_hand() -> None:
    found = principal_components([[0, 0], [3, 4], [6, 8]])
    assert np.allclose(np.abs(found.scores[:, 0]), [5, 0, 5])
    assert found.explained[0] == pytest.approx(1)


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (np.ones((2, 4)), "2 images are too few"),
        (np.ones((5, 4)), "the same"),
        (np.full((5, 4), np.nan), "5 images have no features"),
    ],
)
def test_no_components(features: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        principal_components(features)


@pytest.mark.parametrize("k", [2, 3, 5])
def test_k_is_found_by_the_silhouette(k: int) -> None:
    points, truth = blobs(k)
    found = find_clusters(points, generator=np.random.default_rng(0))
    assert found.k == k
    assert agreement_table(found.assigned, {"truth": truth})["ari"].item() == 1
    assert found.silhouette[k] == pytest.approx(silhouette_score(points, truth))
    assert found.silhouette[k] == max(found.silhouette.values())


def test_the_largest_cluster_comes_first_and_the_seed_decides() -> None:
    points, truth = blobs(3)
    points, truth = points[20:], truth[20:]
    first = find_clusters(points, generator=np.random.default_rng(1))
    again = find_clusters(points, generator=np.random.default_rng(1))
    assert np.array_equal(first.assigned, again.assigned)
    sizes = np.bincount(first.assigned)
    assert sizes.tolist() == sorted(sizes, reverse=True)


def test_too_few_kinds_of_points() -> None:
    with pytest.raises(DataError, match="cannot be clustered"):
        find_clusters(np.repeat([[0.0], [1.0]], 5, axis=0), generator=np.random.default_rng(0))


def test_agreement_leaves_unknown_values_out() -> None:
    table = agreement_table(
        [0, 0, 1, 1, 1],
        {
            "label": [1, 1, 0, 0, np.nan],
            "view": ["PA", "PA", "PA", "AP", "UNKNOWN"],
            "one": ["x"] * 5,
        },
    ).set_index("attribute")
    assert table.loc["label", ["n", "values", "ari", "nmi"]].tolist() == [4, 2, 1, 1]
    assert table.loc["view", "n"] == 4
    # of 6 pairs 2 are together in clusters, 3 in views, 1 in both: as expected by chance, 2 x 3 / 6
    assert table.loc["view", "ari"] == pytest.approx(0)
    assert np.isnan(table.loc["one", "ari"])


def test_normalised_mutual_information_worked_out_by_hand() -> None:
    # Two clusters of 2; in the first both values, in the second one: entropies log 2 and
    # H(1/4) = 2 log 2 - 3/4 log 3; mutual information H(1/4) - H(value | cluster), the latter half
    # of log 2. Normalised by the mean of the two entropies.
    value = 2 * np.log(2) - 0.75 * np.log(3)
    expected = (value - 0.5 * np.log(2)) / ((value + np.log(2)) / 2)
    table = agreement_table([0, 0, 1, 1], {"view": ["AP", "PA", "PA", "PA"]})
    assert table["nmi"].item() == pytest.approx(expected, abs=1e-12)
    assert expected == pytest.approx(0.3437, abs=1e-4)


def test_enrichment_equals_fishers_exact_test() -> None:
    clusters = np.repeat([0, 1, 2], [30, 20, 10])
    rng = np.random.default_rng(0)
    truth = (rng.random((60, 2)) < 0.2 + 0.2 * clusters[:, None]).astype(float)
    truth[rng.random((60, 2)) < 0.1] = np.nan
    table = enrichment_table(clusters, truth, ["A", "B"])
    assert len(table) == 6
    for row in table.itertuples():
        column = truth[:, "AB".index(str(row.label))]
        known, inside = ~np.isnan(column), clusters == row.cluster
        square = [
            [int((known & i & (column == v)).sum()) for v in (1, 0)] for i in (inside, ~inside)
        ]
        assert [row.positives, row.n] == [square[0][0], sum(square[0])]
        assert row.p == pytest.approx(fisher_exact(square).pvalue)
        assert row.ratio == pytest.approx(row.share / np.nanmean(column))
    assert (table["q"] >= table["p"] - 1e-12).all()


def test_enrichment_worked_out_by_hand() -> None:
    # 2 positives of 4, both in the cluster of 2: 1 of the 6 ways to draw, and the opposite one
    table = enrichment_table([0, 0, 1, 1], [[1], [1], [0], [0]], ["A"])
    assert table["p"].tolist() == pytest.approx([1 / 3, 1 / 3])
    assert table["ratio"].tolist() == [2, 0]


def test_what_cannot_be_tested_is_nan() -> None:
    truth = [[0, 1, np.nan], [0, 0, np.nan], [0, 1, np.nan], [0, np.nan, np.nan]]
    table = enrichment_table([0, 0, 1, 1], truth, ["never", "some", "unknown"])
    by = table.set_index("label")
    assert by.loc["never", ["ratio", "p", "q"]].isna().all(axis=None)
    assert by.loc["unknown", ["share", "p"]].isna().all(axis=None)
    assert by.loc["some", "p"].notna().all()


def test_figures(tmp_path: Path) -> None:
    points, truth = blobs(3)
    labels = ["Mass", "Pleural_Thickening"]
    y_true = np.stack([truth == 0, truth == 2], axis=1).astype(float)
    y_true[:5, 1] = np.nan
    components = principal_components(points)
    clusters = find_clusters(points, generator=np.random.default_rng(0))
    by_label = scatter_by_label(
        components.scores[:, :2], y_true, labels, axes_names=["PC 1", "PC 2"]
    )
    assert [axes.get_title() for axes in by_label.axes] == [
        "Mass\n40 of 120 positive",
        "Pleural Thickening\n40 of 115 positive",
    ]
    for figure in (
        by_label,
        scatter_in_space(components, clusters),
        explained_variance_figure(components),
        cluster_figure(components.scores[:, :2], clusters, axes_names=["PC 1", "PC 2"]),
        enrichment_figure(enrichment_table(clusters.assigned, y_true, labels)),
    ):
        file = tmp_path / "figure.png"
        figure.savefig(file)
        assert file.stat().st_size > 5000


def test_the_page_holds_every_point_and_needs_no_network(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "sample_id": [f"{index:03d}.png" for index in range(6)],
            "cluster": [0, 0, 1, 1, 1, 1],
            "a": np.arange(6.0),
            "b": np.arange(6.0),
            "c": np.arange(6.0),
            "Mass": [1, 0, 0, np.nan, 0, 0],
        }
    )
    space = interactive_scatter(table, ["a", "b", "c"], ["Mass"], title="space")
    names = [trace.name for trace in space.data]
    assert names == ["cluster 0 (2)", "cluster 1 (4)", "absent (4)", "unknown (1)", "present (1)"]
    assert [trace.visible for trace in space.data] == [True, True, False, False, False]
    buttons = space.layout.updatemenus[0].buttons
    assert [button.label for button in buttons] == ["by cluster", "Mass"]
    assert list(buttons[1].args[0]["visible"]) == [False, False, True, True, True]
    plane = interactive_scatter(table, ["a", "b"], ["Mass"], title="plane")
    page = write_page([space, plane], tmp_path / "page.html", title="Features").read_text()
    assert page.count("<script") >= 2
    assert "cdn.plot.ly/plotly" not in page
    assert "005.png" in page
    assert page.count('"modeBarButtonsToRemove": ["sendChartToCloud"]') == 2
