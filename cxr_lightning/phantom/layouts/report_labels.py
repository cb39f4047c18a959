"""The 14 labels that CheXpert and MIMIC-CXR take from reports, for the findings that are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cxr_lightning.phantom.cases import Case, Finding, Side
from cxr_lightning.phantom.streams import stream

__all__ = [
    "LABELS",
    "NO_FINDING",
    "SHOWN_BY",
    "has_lateral",
    "held_out",
    "inpatients",
    "read_by_radiologist",
    "report",
]

NO_FINDING, DEVICES = "No Finding", "Support Devices"
SHOWN_BY: dict[str, tuple[str, ...]] = {
    "Enlarged Cardiomediastinum": ("Cardiomegaly",),
    "Cardiomegaly": ("Cardiomegaly",),
    "Lung Opacity": ("Infiltration", "Consolidation", "Pneumonia", "Edema"),
    "Lung Lesion": ("Mass", "Nodule"),
    "Edema": ("Edema",),
    "Consolidation": ("Consolidation",),
    "Pneumonia": ("Pneumonia",),
    "Atelectasis": ("Atelectasis",),
    "Pneumothorax": ("Pneumothorax",),
    "Pleural Effusion": ("Effusion",),
    "Pleural Other": ("Pleural_Thickening", "Fibrosis"),
    "Fracture": ("Fracture",),
}
"""The drawn findings that make a label positive."""

LABELS = (NO_FINDING, *SHOWN_BY, DEVICES)
"""In the order of CheXpert's tables (Irvin et al., AAAI 2019)."""

_OFTEN_DENIED = ("Pneumothorax", "Pleural Effusion", "Consolidation", "Edema", "Cardiomegaly")
_GROUP = 8
_BROKEN = 0.06


def read_by_radiologist(case: Case, devices: bool) -> dict[str, int | None]:
    """Return every label as 1 or 0, as in the tables that radiologists made."""
    shown = {name: int(any(map(case.of, drawn))) for name, drawn in SHOWN_BY.items()}
    return {NO_FINDING: int(not case.findings), **shown, DEVICES: int(devices)}


def report(case: Case, devices: bool, *, labeler: str = "report") -> dict[str, int | None]:
    """Return what a labeler finds in the report: 1, 0, -1 (uncertain) or None (not mentioned).

    Mild findings are often uncertain; of what is absent a report denies some and is silent about
    most. No Finding is 1 or not mentioned, never 0. Another `labeler` of the same report differs
    now and then.
    """
    words = stream(case.seed, case.patient, case.visit, "report")
    misread = stream(case.seed, case.patient, case.visit, f"errors of {labeler}")
    labels: dict[str, int | None] = {NO_FINDING: None}
    for name, present in read_by_radiologist(case, devices).items():
        doubt, silence = words.random(2)
        missed = misread.random() < 0.02
        if name == NO_FINDING:
            continue
        if present:
            severities = [case.severity(drawn) for drawn in SHOWN_BY.get(name, ())]
            mild = max(severities, default=1.0) < 0.35
            labels[name] = -1 if doubt < (0.4 if mild else 0.06) or missed else 1
        elif silence < (0.25 if name in _OFTEN_DENIED else 0.04):
            labels[name] = 0
        else:
            labels[name] = -1 if doubt < 0.02 else None
    # Emphysema or a hernia in a report withholds No Finding, though neither has a label.
    doubts = [name for name in SHOWN_BY if labels[name] == -1]
    return labels | {NO_FINDING: None if case.findings or doubts else 1}


def has_lateral(case: Case) -> bool:
    """Say whether a lateral was taken too: of most patients who can stand."""
    drawn = stream(case.seed, case.patient, case.visit, "lateral taken").random()
    return case.view == "PA" and bool(drawn < 0.6)


def inpatients(cases: Sequence[Case]) -> list[Case]:
    """Return the cases of a hospital: some have broken ribs, most without a finding are left out.

    In CheXpert one study of ten has no finding and in MIMIC-CXR one of three, in NIH's every other.
    """

    def stays(case: Case) -> bool:
        drawn = stream(case.seed, case.patient, case.visit, "inpatient").random()
        return bool(case.findings) or bool(drawn < 0.3)

    return [case for case in map(_with_fracture, cases) if stays(case)]


def _with_fracture(case: Case) -> Case:
    generator = stream(case.seed, case.patient, None, "fracture")
    if generator.random() > _BROKEN:
        return case
    side: Side = "R" if generator.random() < 0.5 else "L"
    broken = Finding("Fracture", side, float(generator.beta(1.7, 1.6)))
    return replace(case, findings=(*case.findings, broken))


def held_out(cases: Sequence[Case]) -> frozenset[int]:
    """Return the validation patients: one of every eight that are not in the test set."""
    patients = list(dict.fromkeys(case.patient for case in cases if not case.test))
    if not patients:
        return frozenset()
    seed = cases[0].seed
    chosen = (
        _GROUP * group + int(stream(seed, 0, None, "validation list", group).integers(_GROUP))
        for group in range(1 + len(patients) // _GROUP)
    )
    return frozenset(patients[place] for place in chosen if place < len(patients))
