"""Patients, visits and findings: repeatable, disjoint, and in NIH's order of frequency."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from cxr_lightning.phantom import FINDINGS, Case, make_cohort
from cxr_lightning.phantom.cases import MASS_FROM_MM
from cxr_lightning.phantom.profiles import PROFILES


@pytest.fixture(scope="module")
def cohort() -> list[Case]:
    return make_cohort(2000, 0)


def positives(cases: list[Case]) -> np.ndarray:
    return np.array([[name in case.labels for name in FINDINGS] for case in cases])


def test_the_same_seed_gives_the_same_cohort(cohort: list[Case]) -> None:
    assert make_cohort(2000, 0) == cohort
    assert make_cohort(2000, 1) != cohort


@pytest.mark.parametrize("images", [1, 2, 17, 500])
def test_a_smaller_cohort_is_the_beginning(cohort: list[Case], images: int) -> None:
    assert make_cohort(images, 0) == cohort[:images]


def test_image_names_are_unique_and_ordered(cohort: list[Case]) -> None:
    names = [case.image_index for case in cohort]
    assert names == sorted(set(names))
    assert names[0] == "00000001_000.png"


@pytest.mark.parametrize("seed", range(4))
def test_prevalence(seed: int) -> None:
    cases = make_cohort(2000, seed)
    share = dict(zip(FINDINGS, positives(cases).mean(axis=0), strict=True))
    assert 0.42 < np.mean([not case.labels for case in cases]) < 0.56
    assert min(share.values()) > 0.018
    assert max(share.values()) < 0.2
    assert {"Infiltration", "Effusion"} == set(sorted(share, key=share.__getitem__)[-2:])
    assert 0.3 < np.mean([case.view == "AP" for case in cases]) < 0.5
    assert 0.5 < np.mean([case.sex == "M" for case in cases]) < 0.62


def test_hernia_is_the_rarest_over_many_seeds() -> None:
    share = np.mean([positives(make_cohort(1500, seed)).mean(axis=0) for seed in range(8)], axis=0)
    assert FINDINGS[int(share.argmin())] == "Hernia"
    assert share.min() > 0.025


@pytest.mark.parametrize("seed", range(6))
def test_every_label_is_in_every_split(seed: int) -> None:
    cases = make_cohort(2000, seed)
    for test in (True, False):
        assert positives([case for case in cases if case.test is test]).any(axis=0).all()


def test_lists_are_disjoint_by_patient_and_a_fifth_is_test(cohort: list[Case]) -> None:
    lists: dict[int, set[bool]] = {}
    for case in cohort:
        lists.setdefault(case.patient, set()).add(case.test)
    assert all(len(found) == 1 for found in lists.values())
    whole_blocks = 5 * (len(lists) // 5)
    test = [found == {True} for patient, found in lists.items() if patient <= whole_blocks]
    assert np.mean(test) == pytest.approx(0.2)


def test_five_patients_are_enough_for_both_lists() -> None:
    for seed in range(20):
        cases = [case for case in make_cohort(60, seed) if case.patient <= 5]
        assert {case.test for case in cases} == {True, False}


@pytest.mark.parametrize(
    ("first", "second", "lift"),
    [
        ("Edema", "Cardiomegaly", 4),
        ("Edema", "Effusion", 2),
        ("Pneumonia", "Infiltration", 2),
        ("Pneumonia", "Consolidation", 2),
        ("Emphysema", "Pneumothorax", 2),
        ("Emphysema", "Fibrosis", 2),
        ("Mass", "Nodule", 3),
    ],
)
def test_findings_that_come_together(first: str, second: str, lift: float) -> None:
    table = positives(make_cohort(8000, 5))
    a, b = table[:, FINDINGS.index(first)], table[:, FINDINGS.index(second)]
    assert b[a].mean() > lift * b.mean()


def test_visits_follow_one_another(cohort: list[Case]) -> None:
    for before, after in pairwise(cohort):
        if before.patient == after.patient:
            assert after.visit == before.visit + 1
            assert after.age >= before.age
            assert after.sex == before.sex
        else:
            assert after.patient == before.patient + 1
            assert after.visit == 0


def test_chronic_findings_last_and_acute_ones_resolve(cohort: list[Case]) -> None:
    def persistence(name: str) -> float:
        kept = [
            name in after.labels
            for before, after in pairwise(cohort)
            if before.patient == after.patient and name in before.labels
        ]
        return float(np.mean(kept))

    assert persistence("Emphysema") > 0.85
    assert persistence("Fibrosis") > 0.85
    assert 0.2 < persistence("Pneumonia") < 0.85
    assert 0.2 < persistence("Effusion") < 0.85


def test_three_centimetres_divide_nodules_from_masses() -> None:
    grown = 0
    for before, after in pairwise(make_cohort(6000, 2)):
        for finding in after.findings:
            if finding.name in ("Nodule", "Mass"):
                assert (finding.name == "Mass") == (finding.diameter > MASS_FROM_MM)
                assert 6 < finding.diameter <= 85
            else:
                assert finding.diameter == 0
        if before.patient == after.patient:
            nodules = {finding.key for finding in before.of("Nodule")}
            grown += bool(nodules & {finding.key for finding in after.of("Mass")})
    assert grown > 0


def test_cases_are_within_bounds(cohort: list[Case]) -> None:
    for case in cohort:
        assert 16 <= case.age < 110
        assert all(0 <= finding.severity <= 1 for finding in case.findings)
        assert all(finding.name in FINDINGS for finding in case.findings)
        keys = [(finding.name, finding.key) for finding in case.findings]
        assert len(keys) == len(set(keys))


def test_profiles_add_up() -> None:
    assert sum(profile.share for profile in PROFILES.values()) == pytest.approx(1)
    assert {name for profile in PROFILES.values() for name in profile.rates} == set(FINDINGS)
