"""Where thresholds come from, and for which labels they can be had."""

from __future__ import annotations

import numpy as np
import pytest

from cxr_lightning.assessment.reading import fit_reading, no_reading, refit_reading
from cxr_lightning.config.schema import EvaluationConfig
from cxr_lightning.errors import ConfigError
from cxr_lightning.evaluation.predictions import make_predictions

LABELS = ("a", "b")


@pytest.fixture(scope="module")
def validation():  # type: ignore[no-untyped-def]
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 2, (60, 2))
    names = [f"i{row}" for row in range(60)]
    return make_predictions(
        sample_id=names,
        patient_id=names,
        study_id=names,
        split="val",
        labels=LABELS,
        y_true=truth,
        logits=generator.normal(size=(60, 2)) + truth,
    )


def test_what_was_not_asked_for_stays_the_rule_of_training(validation) -> None:  # type: ignore[no-untyped-def]
    trained = EvaluationConfig(threshold="cost", false_negative_cost=5, calibration="temperature")
    before = fit_reading(validation, LABELS, trained, "in training")
    asked = EvaluationConfig(calibration="isotonic")
    after = refit_reading(before, validation, LABELS, asked, "here")
    assert after.thresholds == before.thresholds
    assert (after.calibration.kind, after.told) == ("isotonic", "here")
    youden = refit_reading(before, validation, LABELS, EvaluationConfig(threshold="youden"), "")
    assert youden.thresholds.rule == "youden"
    assert youden.thresholds.false_negative_cost is None
    assert youden.calibration.to_dict() == before.calibration.to_dict()


def test_labels_that_validation_does_not_tell() -> None:
    reading = no_reading(("a", "b", "c"))
    assert reading.select(("c", "a"), "nih").thresholds.labels == ("c", "a")
    assert not any(reading.thresholds.fitted)
    with pytest.raises(ConfigError, match=r"data=nih tells d, .* name data=nih first"):
        reading.select(("a", "d"), "nih")
