"""What a reader is told of labels that users define."""

from __future__ import annotations

import numpy as np

from cxr_lightning.assessment.models import _for_the_reader, open_target
from cxr_lightning.bundle import BundleInfo
from cxr_lightning.config.compose import compose
from cxr_lightning.data.previous import PREVIOUS
from cxr_lightning.data.rules import rules_of
from cxr_lightning.data.tabular import TabularEncoder
from cxr_lightning.evaluation.thresholds import Thresholds

LOWER = "data.targets.low_ef={column: lvef, below: 40}"
HIGHER = "data.targets.low_ef={column: lvef, below: 50}"


def told(trained: list[str], here: list[str]) -> str:
    config = compose(trained)
    info = BundleInfo(
        ("low_ef",),
        config.model,
        config.data.image,
        Thresholds(("low_ef",), (0.5,), (True,), "f1"),
        provenance={"rules": rules_of(config.data)},
    )
    return _for_the_reader(info, compose(here).data)


def test_rules_that_differ_are_named() -> None:
    same = told(["data=ehr", LOWER], ["data=ehr", LOWER])
    assert same.endswith("whether they mean the same is for the reader to judge.")
    other = told(["data=ehr", LOWER], ["data=ehr", HIGHER])
    assert other == (
        f"{same} Other rules:\n  - low_ef: lvef below 40 in training, lvef below 50 here"
    )


def test_a_table_has_no_rules() -> None:
    words = ["data=table", "data.csv=t.csv", "data.image=a", "data.patient=b", "data.labels=[c]"]
    assert rules_of(compose(words).data) == {}
    assert "data=table are defined by who uses it" in told(words, words)


def test_previous_labels_in_the_terms_of_the_bundle() -> None:
    """Those of a data set with other labels, as the labels themselves."""
    config = compose(["data.image.size=32"])
    labels = ("Effusion", "Mass")
    encoder = TabularEncoder.from_dict(
        [{"kind": "previous", "name": PREVIOUS, "labels": list(labels)}]
    )
    info = BundleInfo(
        labels,
        config.model,
        config.data.image,
        Thresholds(labels, (0.5, 0.5), (True, True), "f1"),
        tabular=encoder,
        provenance={"data": "nih"},
    )
    target = open_target(info, compose(["data=mimic_cxr", "data.root=phantom"]).data)
    table = target.cohort.table
    encoded = encoder.encode(table)
    visits = table.groupby("patient_id")["visit"].rank("dense")
    np.testing.assert_array_equal(encoded[:, 2] == 1, visits > 1)
    seen = table[visits == 1].groupby("patient_id")["Effusion"].max()
    second = visits == 2
    expected = table.loc[second, "patient_id"].map(seen).replace(-1, np.nan)
    np.testing.assert_array_equal(encoded[second, 0], np.nan_to_num(expected * 2 - 1))
    assert {-1, 1} <= set(encoded[second, 0].tolist())
    assert not encoded[:, 1].any()  # MIMIC-CXR does not tell masses
