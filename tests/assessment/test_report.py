"""What the page says beside its pictures, and below its subgroups."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy.special import expit

from cxr_lightning.config.schema import EvaluationConfig
from cxr_lightning.evaluation.calibrators import Calibration, Platt
from cxr_lightning.evaluation.predictions import make_predictions
from cxr_lightning.evaluation.subgroups import subgroup_metrics
from cxr_lightning.evaluation.thresholds import Thresholds
from cxr_lightning.report.assess import Assessment, assess
from cxr_lightning.report.figures import assessment_figures
from cxr_lightning.report.page import ReportContext, report_page
from cxr_lightning.report.tables import gap_words

THRESHOLDS = Thresholds(("a",), (0.498,), (True,), "f1")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    truth = np.tile([0, 1], 60)[:, None]
    names = [f"i{row}" for row in range(120)]
    return make_predictions(
        sample_id=names,
        patient_id=names,
        study_id=names,
        split="val",
        labels=("a",),
        y_true=truth,
        logits=rng.normal(size=(120, 1)) + truth,
        extra={"scanner": ["x", "x", "y", "y", "z", "z"] * 20},
    )


def assessed(table: pd.DataFrame, calibration: Calibration) -> Assessment:
    rule = EvaluationConfig(replicates=20)
    return assess(table, THRESHOLDS, calibration, evaluation=rule, seed=0, prefix="val")


def grey(sample: str, label: str) -> npt.NDArray[np.uint8]:
    return np.tile(np.arange(8, dtype=np.uint8), (8, 1))


def test_examples_say_scores_chances_and_empty_maps(table: pd.DataFrame) -> None:
    def no_map(sample: str, label: str) -> npt.NDArray[np.uint8]:
        return np.repeat(grey(sample, label)[..., None], 3, axis=-1)

    def some_map(sample: str, label: str) -> npt.NDArray[np.uint8]:
        heat = no_map(sample, label)
        heat[0, 0] = 200, 100, 0
        return heat

    logit = float(table.loc[table["y_true/a"] == 1, "logit/a"].max())
    score = f"score {expit(logit):.3f}, threshold 0.498"
    platt = Calibration(("a",), "platt", (Platt(0.5, -1.0),), (True,))
    for calibration, heat, said in (
        (Calibration.none(["a"]), some_map, f"{score}<br>"),
        (platt, some_map, f"{score}, calibrated {expit(0.5 * logit - 1):.1%}<br>"),
        (Calibration.none(["a"]), no_map, f"{score}; no map<br>"),
    ):
        one = assessed(table, calibration)
        context = ReportContext("t", {}, "d", "val", picture=grey, heat_map=heat, notes=["p\nq"])
        page = report_page(one, context, assessment_figures(one))
        assert said in page
        assert "yellow where most speaks for the label" in page
    assert '<p class="box lines">p\nq</p>' in page
    assert "<strong>the validation part</strong> of <strong>d</strong>" in page


def test_the_largest_of_several_gaps_is_said_to_be_optimistic(table: pd.DataFrame) -> None:
    for groups, said in ((("x", "y"), False), (("x", "y", "z"), True)):
        part = table[table["scanner"].isin(groups)].reset_index(drop=True)
        found = subgroup_metrics(
            part,
            THRESHOLDS,
            "scanner",
            replicates=20,
            level=0.95,
            generator=np.random.default_rng(0),
        )
        assert gap_words(found).endswith("; the largest of 3 pairs: optimistic.") == said
