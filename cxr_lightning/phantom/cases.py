"""What is known of one radiograph: the patient, the visit, and each finding with its severity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["BOXED", "CHRONIC", "FINDINGS", "MASS_FROM_MM", "Case", "Finding", "Side"]

Side = Literal["R", "L"]
"""The patient's side; the patient's right is on the left of the picture."""

FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
"""The 14 labels of NIH ChestX-ray14, in the order of their publication."""

BOXED = FINDINGS[:8]
"""The findings for which NIH publishes boxes (Wang et al., ChestX-ray8, CVPR 2017)."""

CHRONIC = frozenset(
    {"Cardiomegaly", "Emphysema", "Fibrosis", "Hernia", "Mass", "Nodule", "Pleural_Thickening"}
)

MASS_FROM_MM = 30.0
"""A nodule is at most 3 cm across (Fleischner Society glossary, 2008); above that it is a mass."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One lesion or process at one visit.

    Attributes
    ----------
    name
        One of `FINDINGS`.
    side
        The patient's side; findings of both sides or of the midline carry one as well.
    severity
        From 0 (barely there) to 1 (gross).
    key
        Tells apart several of the same name in one patient; place and shape follow from it, so that
        a lesion stays where it is from visit to visit.
    diameter
        Of a nodule or mass, in millimetres; 0 for all others.
    """

    name: str
    side: Side
    severity: float
    key: int = 0
    diameter: float = 0.0


@dataclass(frozen=True, slots=True)
class Case:
    """One radiograph before it is drawn; equal cases give equal pixels.

    Attributes
    ----------
    seed, patient, visit
        The address of every random draw; patients count from 1, visits from 0.
    age
        In years, at this visit.
    sex
        M or F.
    view
        PA (standing, in the radiology department) or AP (portable, at the bedside).
    findings
        Empty for No Finding.
    test
        Whether the patient is on the test list.
    """

    seed: int
    patient: int
    visit: int
    age: float
    sex: Literal["M", "F"]
    view: Literal["PA", "AP"]
    findings: tuple[Finding, ...]
    test: bool

    @property
    def image_index(self) -> str:
        """File name in NIH's form, such as 00000001_000.png."""
        return f"{self.patient:08d}_{self.visit:03d}.png"

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the findings, each once, in alphabetical order; empty for No Finding."""
        return tuple(sorted({finding.name for finding in self.findings}))

    def of(self, name: str) -> tuple[Finding, ...]:
        """Return the findings of one name."""
        return tuple(finding for finding in self.findings if finding.name == name)

    def severity(self, name: str) -> float:
        """Return the largest severity of the findings of one name, 0 where there is none."""
        return max((finding.severity for finding in self.of(name)), default=0.0)
