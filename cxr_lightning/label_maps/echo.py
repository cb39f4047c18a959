"""The six labels that are measured by echocardiography against those taken from reports.

None follows from any of the others, in either direction. Why, is said of each pair that a reader
might take for one: what a radiograph shows of a failing heart or a diseased valve is its
consequence, which comes late, of many causes, or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping

from cxr_lightning.label_maps.match import Match, none
from cxr_lightning.label_maps.reports import CHEXPERT_TO_NIH, NIH_TO_CHEXPERT
from cxr_lightning.labels import NO_FINDING

__all__ = [
    "ECHO_TO_CHEXPERT",
    "ECHO_TO_NIH",
    "FROM_REPORTS",
    "MEASURED",
    "PAIRS",
    "READ",
    "UNREAD",
]

MEASURED = "a measurement by echocardiography, which no report of a radiograph states"
"""Why a measured label without an entry of its own does not follow from a report."""

UNREAD = "an echocardiogram does not look for it, and no report was read for it"
"""Why a label of a report without an entry of its own does not follow from measurements."""

_HEART, _FLUID, _LUNG = "Cardiomegaly", "Effusion", "Edema"

PAIRS: Mapping[tuple[str, str], str] = {
    ("low_ef", _HEART): "an enlarged silhouette is neither necessary nor sufficient for an "
    "ejection fraction below 40 %: an acute or ischaemic ventricle fails before it dilates, and "
    "valves, a pericardial effusion or an AP projection enlarge the silhouette of one that does "
    "not",
    ("low_ef", _LUNG): "edema follows the filling pressure, which rises with a preserved ejection "
    "fraction too, and is absent once a failing ventricle is treated",
    ("low_ef", _FLUID): "pleural fluid has many causes, most of them not the heart",
    ("mitral_stenosis", _HEART): "the stenosis enlarges the left atrium and may leave the "
    "silhouette within its limits; most enlarged hearts have another cause",
    ("mitral_stenosis", _LUNG): "edema comes with a severe or decompensated stenosis, and of other "
    "causes far more often",
    ("aortic_stenosis", _HEART): "the ventricle thickens inwards and keeps the silhouette normal "
    "until it fails; calcification of the valve has no label",
    ("mitral_regurgitation", _HEART): "a chronic leak enlarges the heart as other diseases do, an "
    "acute or moderate one need not",
    ("mitral_regurgitation", _LUNG): "edema marks an acute or decompensated leak, and other causes",
    ("aortic_regurgitation", _HEART): "a chronic severe leak enlarges the left ventricle, a "
    "moderate one often leaves the silhouette normal",
    ("tricuspid_regurgitation", _HEART): "the silhouette does not say which chamber is enlarged, "
    "and the leak mostly follows a disease of the left heart or the lung",
    ("tricuspid_regurgitation", _FLUID): "fluid may follow the pressure in the veins, and has many "
    "other causes",
}
"""Why a measured label does not follow from a finding, by its name in NIH."""

READ: Mapping[str, str] = {
    NO_FINDING: "a radiograph without a finding does not exclude a low ejection fraction or a "
    "diseased valve, and a normal echocardiogram excludes no finding of the lungs",
    _HEART: "the silhouette may be enlarged without any of what was measured, and normal with it",
    "Enlarged Cardiomediastinum": "the mediastinum is wide of vessels and masses too, and normal "
    "with much of what was measured",
    _LUNG: "edema follows the filling pressure of the day, which no measured label states",
    _FLUID: "pleural fluid has many causes that an echocardiogram does not look for",
    "Pleural Effusion": "pleural fluid has many causes that an echocardiogram does not look for",
}
"""Why a finding does not follow from any of the measured labels."""


def _measured(label: str) -> Match:
    pairs = [f"{found}: {why}" for (name, found), why in PAIRS.items() if name == label]
    return none(label, f"{MEASURED}; {'; '.join(pairs)}")


FROM_REPORTS = tuple(map(_measured, dict.fromkeys(name for name, _ in PAIRS)))
ECHO_TO_NIH, ECHO_TO_CHEXPERT = (
    tuple(none(match.target, READ.get(match.target, UNREAD)) for match in matches)
    for matches in (CHEXPERT_TO_NIH, NIH_TO_CHEXPERT)
)
