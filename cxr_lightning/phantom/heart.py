"""Diseases of the heart: how severe in whom, what they do to the silhouette, what echo would say.

Each disease has a severity from 0 to 1, and from 0.5 on is moderate or worse. Signs are shared
between diseases, as in patients: a large heart is that of a weak ventricle or of a leaking valve.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from cxr_lightning.phantom.cases import Case, Finding
from cxr_lightning.phantom.streams import stream

__all__ = ["DISEASES", "ejection_fraction", "heart_severities", "with_heart_disease"]

DISEASES: dict[str, float] = {
    "low_ef": 0.24,
    "ms": 0.16,
    "as": 0.17,
    "mr": 0.18,
    "ar": 0.14,
    "tr": 0.2,
}
"""A weak left ventricle; mitral and aortic stenosis; mitral, aortic and tricuspid regurgitation.
With the share of patients in whom each is moderate or worse."""

_DRAWN_ELSEWHERE = ("Cardiomegaly", "Edema")


def heart_severities(seed: int, patient: int, visit: int) -> dict[str, float]:
    """Return the severity of each disease at a visit; from visit to visit it creeps upwards."""
    severities = {}
    for name, share in DISEASES.items():
        generator = stream(seed, patient, None, f"heart {name}")
        ill = generator.random() < share
        start = 0.52 + 0.48 * generator.beta(2.2, 1.3) if ill else 0.46 * generator.beta(1.1, 2.6)
        severities[name] = float(min(1.0, start + (0.01 * visit if ill else 0.0)))
    return severities


def ejection_fraction(severity: float) -> float:
    """Return the left ventricle's ejection fraction in percent; 0.5 is 41 %."""
    return 63 - 44 * severity


def with_heart_disease(case: Case, severities: Mapping[str, float]) -> Case:
    """Return the case with the signs of its heart in place of those of the cohort."""
    visible = {name: max(0.0, (value - 0.25) / 0.75) for name, value in severities.items()}
    congestion = stream(case.seed, case.patient, case.visit, "congestion").random()
    signs = {
        "Cardiomegaly": max(0.6 * visible["low_ef"], 0.7 * visible["mr"], 0.7 * visible["ar"]),
        "Left Atrial Enlargement": max(visible["ms"], 0.6 * visible["mr"]),
        "Right Atrial Enlargement": visible["tr"],
        "Aortic Dilatation": max(visible["as"], 0.6 * visible["ar"]),
        "Edema": congestion * max(0.5 * visible["low_ef"], 0.7 * visible["ms"]),
    }
    others = tuple(one for one in case.findings if one.name not in _DRAWN_ELSEWHERE)
    drawn = tuple(
        Finding(name, "L", float(np.clip(value, 0, 1)))
        for name, value in signs.items()
        if value > 0.1
    )
    return replace(case, findings=(*others, *drawn))
