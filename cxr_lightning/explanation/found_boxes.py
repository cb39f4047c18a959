"""Where heat maps and drawn boxes meet: the table, its figure, its metrics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_lightning.evaluation.localisation import (
    ALL,
    Localised,
    localisation_table,
    localise,
    on_picture,
)
from cxr_lightning.evaluation.plots.localisation import localisation_curves
from cxr_lightning.evaluation.plots.style import save_figure
from cxr_lightning.evaluation.tables import metric_label
from cxr_lightning.explanation.heat_maps import HeatMaps
from cxr_lightning.explanation.source import BOX_SPACE, Source
from cxr_lightning.terminal import Reporter

__all__ = ["compare_with_boxes", "write_localisation"]


def compare_with_boxes(
    maps: HeatMaps, rows: NDArray[np.int64], source: Source
) -> dict[str, list[Localised]]:
    """Compare the maps of `rows` with the boxes drawn on them, label by label, in BOX_SPACE."""
    found: dict[str, list[Localised]] = {label: [] for label in maps.labels}
    for place, row in enumerate(rows.tolist()):
        placed, shape = source.placement(row)
        for index, label in enumerate(maps.labels):
            boxes = source.boxes_of(row, label)
            if len(boxes):
                heat = on_picture(
                    maps.values[place, index], placed, source.image.size, shape, BOX_SPACE
                )
                found[label].append(localise(heat, boxes))
    return found


def write_localisation(
    maps: HeatMaps,
    rows: NDArray[np.int64],
    source: Source,
    folder: Path,
    *,
    method: str,
    reporter: Reporter,
) -> dict[str, float]:
    """Write `localisation.csv` and its figure, say the pointing game, return MLflow's metrics.

    Nothing is written where no image has a box.
    """
    if source.boxes.empty:
        reporter.say("no boxes for these images and labels: localisation is left out")
        return {}
    table = localisation_table(compare_with_boxes(maps, rows, source))
    table.to_csv(folder / "localisation.csv", index=False, float_format="%.6g")
    figure = localisation_curves(table, title=f"Localisation by {method}")
    save_figure(figure, folder / "localisation.png")
    game = table[(table["measure"] == "pointing") & (table["label"] == ALL)].iloc[0]
    reporter.say(
        f"pointing game: the hottest point lies in a drawn box in {int(game['hits']):,} of "
        f"{int(game['n']):,} cases ({game['share']:.0%}, {game['low']:.0%}–{game['high']:.0%}); a "
        f"random point would in {game['chance']:.0%}"
        + (
            ""
            if np.isnan(game["other_images"])
            else f", the hottest points of the label's other images in {game['other_images']:.0%}"
        )
    )
    return _metrics(table)


def _metrics(table: pd.DataFrame) -> dict[str, float]:
    """Return shares by names such as `localisation/iou_0.1/Mass`, undefined ones left out."""
    metrics = {}
    for row in table[table["share"].notna()].to_dict("records"):
        measure = str(row["measure"]).lower()
        if measure != "pointing":
            measure += f"_{row['threshold']:g}"
        label = "all" if row["label"] == ALL else metric_label(str(row["label"]))
        metrics[f"localisation/{measure}/{label}"] = float(row["share"])
    return metrics
