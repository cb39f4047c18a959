"""Predictions like those of a real test set: rare findings, ties, unknowns, repeat visits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from cxr_lightning.evaluation.predictions import make_predictions

LABELS = ("Effusion", "Mass", "Pleural_Thickening", "Hernia", "No Finding")


def predictions(seed: int = 0, images: int = 300, *, decimals: int | None = 1) -> pd.DataFrame:
    """Hernia has no positive; rounding makes ties."""
    rng = np.random.default_rng(seed)
    prevalence = np.array([0.2, 0.08, 0.05, 0.0, 0.5])
    y_true = (rng.random((images, len(LABELS))) < prevalence).astype(np.float32)
    logits = rng.normal(size=y_true.shape) + 1.2 * y_true - 1.5
    if decimals is not None:
        logits = logits.round(decimals)
    y_true[rng.random(y_true.shape) < 0.1] = np.nan
    patients = rng.integers(0, images // 3, images)
    return make_predictions(
        sample_id=[f"{index:08d}_000.png" for index in range(images)],
        patient_id=[f"{patient:05d}" for patient in patients],
        study_id=[f"study{index}" for index in range(images)],
        split="test",
        labels=LABELS,
        y_true=y_true,
        logits=logits,
        extra={
            "sex": rng.choice(["M", "F"], images),
            "age_years": rng.uniform(1, 95, images),
        },
    )


@pytest.fixture(scope="session")
def make_table() -> Callable[..., pd.DataFrame]:
    return predictions


@pytest.fixture(scope="session")
def table() -> pd.DataFrame:
    return predictions()
