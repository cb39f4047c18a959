"""What a reader is told of labels that users define."""

from __future__ import annotations

from cxr_lightning.assessment.models import _for_the_reader
from cxr_lightning.bundle import BundleInfo
from cxr_lightning.config.compose import compose
from cxr_lightning.data.rules import rules_of
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
