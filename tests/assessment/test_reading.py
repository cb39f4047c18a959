"""Where thresholds come from, and for which labels they can be had."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cxr_lightning.assessment.ensemble import fit_ensemble
from cxr_lightning.assessment.model import Model
from cxr_lightning.assessment.options import EvaluateOptions
from cxr_lightning.assessment.reading import fit_reading, no_reading, refit_reading
from cxr_lightning.config.schema import EvaluationConfig
from cxr_lightning.errors import ConfigError
from cxr_lightning.evaluation.predictions import make_predictions
from cxr_lightning.terminal import Reporter

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


@pytest.mark.parametrize("same", [True, False])
def test_an_ensemble_keeps_the_rule_that_its_members_share(validation, same: bool) -> None:  # type: ignore[no-untyped-def]
    rule = EvaluationConfig(threshold="sensitivity", threshold_target=0.95, calibration="isotonic")
    other = rule if same else EvaluationConfig(threshold="youden")
    readings = [fit_reading(validation, LABELS, one, "") for one in (rule, other)]
    models = [
        Model(name, validation, reading, validation)
        for name, reading in zip("AB", readings, strict=True)
    ]
    options = EvaluateOptions(predictions=(Path("a"), Path("b")))
    ensemble = fit_ensemble(models, "logit", options, Reporter(silent=True))
    found = ensemble.reading
    if same:
        assert (found.thresholds.rule, found.thresholds.target) == ("sensitivity", 0.95)
        assert found.calibration.kind == "isotonic"
    else:
        assert found.thresholds.rule == EvaluationConfig().threshold
        assert "members' rules for them differ" in found.told
