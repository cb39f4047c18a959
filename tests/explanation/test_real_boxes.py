"""The 38 boxes of real radiographs: all counted, and where the table says, at any input size."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr_lightning.bundle import read_bundle_info
from cxr_lightning.data.nih import Config
from cxr_lightning.evaluation.localisation import localisation_table
from cxr_lightning.explanation.found_boxes import compare_with_boxes
from cxr_lightning.explanation.heat_maps import HeatMaps
from cxr_lightning.explanation.options import ExplainOptions
from cxr_lightning.explanation.source import open_source

BOXES = {
    "Atelectasis": 1,
    "Cardiomegaly": 2,
    "Effusion": 1,
    "Infiltration": 2,
    "Mass": 2,
    "Nodule": 2,
    "Pneumonia": 27,
    "Pneumothorax": 1,
}
CELLS = 32


@pytest.mark.shared
@pytest.mark.parametrize("size", [64, 90])
def test_heat_in_the_middle_of_a_real_box_hits_it(
    bundle_file: Path, shared_data: Path, size: int
) -> None:
    """The pictures are 256 pixels wide, the maps 32 cells and the boxes are of 1024."""
    root = shared_data / "nih_dev"
    raw = pd.read_csv(root / "BBox_List_2017.csv").iloc[:, :6]
    raw.columns = pd.Index(["sample_id", "label", "x", "y", "width", "height"])
    raw["label"] = raw["label"].replace("Infiltrate", "Infiltration")
    info = read_bundle_info(bundle_file)
    info = dataclasses.replace(info, image=info.image.model_copy(update={"size": size}))
    options = ExplainOptions(bundle=bundle_file, split="all", limit=1)
    source = open_source(info, tuple(BOXES), options, Config(name="nih", root=root))
    assert sorted(source.table["sample_id"]) == sorted(set(raw["sample_id"]))
    ids = list(source.table["sample_id"])
    values = np.zeros((len(ids), len(BOXES), CELLS, CELLS), np.float32)
    groups = dict(list(raw.groupby(["label", "sample_id"])))
    for (label, sample), boxes in groups.items():
        first = boxes.iloc[0]
        row = int((first["y"] + first["height"] / 2) * CELLS / 1024)
        column = int((first["x"] + first["width"] / 2) * CELLS / 1024)
        values[ids.index(sample), list(BOXES).index(label), row, column] = 1
    maps = HeatMaps(tuple(BOXES), values, np.zeros(values.shape[:2], bool))
    found = compare_with_boxes(maps, np.arange(len(ids)), source)
    table = localisation_table(found)
    counts = table[(table["measure"] == "IoU") & (table["threshold"] == 0.1)].set_index("label")
    assert counts["n"].to_dict() == BOXES | {"all labels": 38}
    game = table[table["measure"] == "pointing"].set_index("label").loc["all labels"]
    assert (game["hits"], game["n"]) == (len(groups), len(groups))
    for label in BOXES:
        present = [sample for sample in ids if (label, sample) in groups]
        for sample, one in zip(present, found[label], strict=True):
            boxes = groups[label, sample][["x", "y", "width", "height"]].to_numpy()
            np.testing.assert_array_equal(one.boxes, boxes)
            assert one.point is not None
            # The hottest point is the middle of a cell, which holds the middle of the box.
            middle = boxes[0, :2] + boxes[0, 2:] / 2
            assert np.abs(np.array(one.point) - middle).max() <= 1024 / CELLS / 2 + 1
