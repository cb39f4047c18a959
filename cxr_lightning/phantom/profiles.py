"""Which diseases go together: the kinds of patient a cohort is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["PROFILES", "Profile"]


@dataclass(frozen=True, slots=True)
class Profile:
    """A kind of patient.

    Attributes
    ----------
    share
        Of all patients.
    age
        Mean and standard deviation at the first visit, in years.
    visits
        Mean number of visits.
    bedside
        Probability that a visit's radiograph is a portable AP one.
    rates
        Probability of each finding at a visit.
    """

    share: float
    age: tuple[float, float]
    visits: float
    bedside: float
    rates: dict[str, float] = field(default_factory=dict)


PROFILES = {
    "healthy": Profile(
        0.453,
        (42, 16),
        2.2,
        0.24,
        {"Nodule": 0.01, "Atelectasis": 0.02, "Infiltration": 0.02, "Pleural_Thickening": 0.004},
    ),
    "heart failure": Profile(
        0.07,
        (62, 13),
        3.0,
        0.55,
        {
            "Cardiomegaly": 0.58,
            "Edema": 0.45,
            "Effusion": 0.42,
            "Infiltration": 0.18,
            "Atelectasis": 0.12,
        },
    ),
    "infection": Profile(
        0.135,
        (46, 18),
        2.5,
        0.5,
        {
            "Infiltration": 0.6,
            "Pneumonia": 0.28,
            "Consolidation": 0.27,
            "Effusion": 0.17,
            "Atelectasis": 0.08,
        },
    ),
    "obstructive": Profile(
        0.055,
        (62, 10),
        2.6,
        0.25,
        {
            "Emphysema": 0.72,
            "Pneumothorax": 0.14,
            "Fibrosis": 0.12,
            "Nodule": 0.1,
            "Infiltration": 0.15,
            "Pleural_Thickening": 0.07,
        },
    ),
    "tumour": Profile(
        0.085,
        (57, 13),
        2.7,
        0.25,
        {
            "Nodule": 0.45,
            "Mass": 0.45,
            "Effusion": 0.2,
            "Atelectasis": 0.13,
            "Infiltration": 0.1,
            "Consolidation": 0.04,
            "Pleural_Thickening": 0.06,
        },
    ),
    "collapsed lung": Profile(
        0.05,
        (42, 16),
        2.8,
        0.45,
        {"Pneumothorax": 0.72, "Atelectasis": 0.2, "Effusion": 0.2, "Emphysema": 0.07},
    ),
    "interstitial": Profile(
        0.04,
        (60, 11),
        2.2,
        0.12,
        {"Fibrosis": 0.8, "Pleural_Thickening": 0.15, "Infiltration": 0.14, "Emphysema": 0.06},
    ),
    "pleural": Profile(
        0.045,
        (56, 13),
        2.1,
        0.2,
        {"Pleural_Thickening": 0.75, "Effusion": 0.22, "Fibrosis": 0.07, "Atelectasis": 0.1},
    ),
    "hiatal hernia": Profile(
        0.042, (65, 11), 2.1, 0.2, {"Hernia": 0.92, "Atelectasis": 0.14, "Effusion": 0.06}
    ),
    "after surgery": Profile(
        0.025,
        (58, 14),
        3.2,
        0.85,
        {
            "Atelectasis": 0.6,
            "Effusion": 0.4,
            "Infiltration": 0.2,
            "Consolidation": 0.12,
            "Pneumothorax": 0.1,
        },
    ),
}
"""Shares add up to 1; images per finding follow from shares, visits and rates together."""
