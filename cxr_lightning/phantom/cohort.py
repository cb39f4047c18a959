"""A synthetic cohort: patients, visits, views, and findings that come together, grow and resolve.

Prevalence follows the order of NIH ChestX-ray14 (No Finding about half of all images, Infiltration
and Effusion the most frequent findings, Hernia the rarest) but not its numbers: rare findings are
raised to about 3 % of images, so that each has positives in every split of 2,000 images. NIH's own
Hernia rate (0.2 %) would leave about 4 images among 2,000.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Literal

import numpy as np

from cxr_lightning.phantom.cases import CHRONIC, MASS_FROM_MM, Case, Finding, Side
from cxr_lightning.phantom.profiles import PROFILES, Profile
from cxr_lightning.phantom.streams import stream

__all__ = ["make_cohort"]

_GOLDEN = 0.6180339887498949
_TEST_BLOCK = 5
_MOST_VISITS = 8
_SIDED: dict[str, float] = {
    "Effusion": 0.35,
    "Infiltration": 0.45,
    "Pleural_Thickening": 0.4,
    "Atelectasis": 0.2,
    "Consolidation": 0.12,
    "Pneumonia": 0.1,
}
"""Findings that may lie on both sides, and how often they do."""


def make_cohort(images: int, seed: int) -> list[Case]:
    """Return the first `images` radiographs of the endless cohort of a seed.

    A smaller cohort is the beginning of a larger one of the same seed. Cases are ordered by
    patient, then visit. One patient of every five is marked for the test list. The kinds of patient
    follow a low-discrepancy sequence, so that even small cohorts have nearly the stated prevalence.
    """
    cases: list[Case] = []
    patient = 0
    while len(cases) < images:
        patient += 1
        cases.extend(_patient_cases(seed, patient))
    return cases[:images]


def _patient_cases(seed: int, patient: int) -> list[Case]:
    generator = stream(seed, patient, None, "patient")
    profile = _profile(seed, patient)
    sex: Literal["M", "F"] = "M" if generator.random() < 0.56 else "F"
    age = float(np.clip(generator.normal(*profile.age), 16, 92))
    visits = int(min(_MOST_VISITS, generator.geometric(1 / profile.visits)))
    test = _is_test(seed, patient)
    courses = [
        course
        for name, rate in profile.rates.items()
        for course in _courses(seed, patient, name, rate, visits)
    ]
    cases = []
    for visit in range(visits):
        findings = tuple(finding for course in courses if (finding := course[visit]) is not None)
        view = _view(generator, profile, findings)
        cases.append(Case(seed, patient, visit, age, sex, view, findings, test))
        age += float(generator.exponential(0.5))
    return cases


def _profile(seed: int, patient: int) -> Profile:
    start = stream(seed, 0, None, "profiles").random()
    position = (start + patient * _GOLDEN) % 1.0
    ends = accumulate(profile.share for profile in PROFILES.values())
    for profile, end in zip(PROFILES.values(), ends, strict=True):
        if position < end:
            return profile
    return next(reversed(PROFILES.values()))


def _is_test(seed: int, patient: int) -> bool:
    block, place = divmod(patient - 1, _TEST_BLOCK)
    return int(stream(seed, 0, None, "test list", block).integers(_TEST_BLOCK)) == place


def _view(
    generator: np.random.Generator, profile: Profile, findings: tuple[Finding, ...]
) -> Literal["PA", "AP"]:
    illness = max((f.severity for f in findings if f.name not in CHRONIC), default=0.0)
    return "AP" if generator.random() < min(0.95, profile.bedside + 0.25 * illness) else "PA"


def _courses(
    seed: int, patient: int, name: str, rate: float, visits: int
) -> list[list[Finding | None]]:
    """Return the course over the visits of each lesion of one name: present or not, how severe."""
    generator = stream(seed, patient, None, f"course of {name}")
    present = _presence(generator, rate, 0.97 if name in CHRONIC else 0.45, visits)
    if not any(present):
        return []
    if name in ("Nodule", "Mass"):
        return _growths(generator, name, present)
    side: Side = "R" if generator.random() < 0.53 else "L"
    severities = _severities(generator, name, present)
    courses = [_one_side(name, side, severities, 0)]
    if generator.random() < _SIDED.get(name, 0.0):
        other: Side = "L" if side == "R" else "R"
        factor = float(generator.uniform(0.4, 1.0))
        milder = [s if s is None else s * factor for s in severities]
        courses.append(_one_side(name, other, milder, 1))
    return courses


def _one_side(
    name: str, side: Side, severities: list[float | None], key: int
) -> list[Finding | None]:
    return [None if s is None else Finding(name, side, s, key) for s in severities]


def _presence(
    generator: np.random.Generator, rate: float, persistence: float, visits: int
) -> list[bool]:
    """Return a two-state Markov chain whose share of True is `rate` at every visit."""
    present = [bool(generator.random() < rate)]
    for _ in range(visits - 1):
        chance = (1 - persistence) * rate + (persistence if present[-1] else 0.0)
        present.append(bool(generator.random() < chance))
    return present


def _severities(
    generator: np.random.Generator, name: str, present: list[bool]
) -> list[float | None]:
    """Return a severity per visit: chronic findings drift upwards, acute ones come and go."""
    severities: list[float | None] = []
    current: float | None = None
    for here in present:
        if not here:
            current = None
        elif current is None:
            current = float(generator.beta(1.7, 1.6))
        elif name in CHRONIC:
            current = min(1.0, current + abs(float(generator.normal(0.02, 0.04))))
        else:
            current = float(np.clip(current + generator.normal(-0.04, 0.2), 0.03, 1.0))
        severities.append(current)
    return severities


def _growths(
    generator: np.random.Generator, name: str, present: list[bool]
) -> list[list[Finding | None]]:
    """Return nodules and masses; a nodule that grows beyond 3 cm is called a mass from then on."""
    count = 1 + int(generator.choice(4, p=(0.5, 0.25, 0.15, 0.1))) if name == "Nodule" else 1
    courses = []
    for key in range(count):
        side: Side = "R" if generator.random() < 0.54 else "L"
        conspicuity = float(generator.beta(1.8, 1.6))
        if name == "Nodule":
            diameter = float(8 + 21 * generator.beta(1.8, 1.6))
        else:
            diameter = float(MASS_FROM_MM + 3 + 45 * generator.beta(1.3, 2.0))
        course: list[Finding | None] = []
        for here in present:
            called = "Mass" if diameter > MASS_FROM_MM else "Nodule"
            lesion = Finding(called, side, conspicuity, _lesion_key(name, key), diameter)
            course.append(lesion if here else None)
            diameter = min(85.0, diameter * float(np.exp(generator.normal(0.05, 0.07))))
        courses.append(course)
    return courses


def _lesion_key(name: str, key: int) -> int:
    return key if name == "Nodule" else 10 + key
