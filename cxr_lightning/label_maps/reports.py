"""The labels that are taken from reports: NIH's, and those of CheXpert and MIMIC-CXR.

NIH's come from NLP tools of 2017 (Wang et al., CVPR 2017), CheXpert's and MIMIC-CXR's from the
CheXpert labeler (Irvin et al., AAAI 2019), whose phrases are published
(github.com/stanfordmlgroup/chexpert-labeler, `phrases/mention`).
"""

from __future__ import annotations

from cxr_lightning.label_maps.match import caution, none, same
from cxr_lightning.labels import NO_FINDING

__all__ = ["CHEXPERT_TO_MIMIC", "CHEXPERT_TO_NIH", "NIH_TO_CHEXPERT"]

_FINDING = "the same radiographic finding, by its usual name in the report"
_CLEAN = (
    "none of the set's own findings: NIH does not look for fractures, CheXpert and MIMIC-CXR have "
    "no label for emphysema or hernia, though a mention of them withholds it"
)
_PNEUMONIA = (
    "a diagnosis more than a finding: CheXpert's labeler also counts `infection`, and both follow "
    "what the writer of the report knew of the patient"
)
_OPACITY = (
    "CheXpert counts infiltrates, reticulation, scars and every `opacity` as Lung Opacity; NIH's "
    "Infiltration is one of them"
)
_PLEURA = (
    "CheXpert's Pleural Other is thickening, scar and fibrothorax, and its labeler counts every "
    "`fibrosis`; NIH keeps Pleural_Thickening and Fibrosis apart"
)
_LESION = "CheXpert's Lung Lesion does not tell a mass from a nodule"

NIH_TO_CHEXPERT = (
    caution(NO_FINDING, _CLEAN),
    none(
        "Enlarged Cardiomediastinum",
        "NIH looks for the heart alone, and a normal heart may lie in a wide mediastinum",
    ),
    same("Cardiomegaly", _FINDING),
    none("Lung Opacity", f"{_OPACITY}, so that its absence rules out none of the others"),
    caution(
        "Lung Lesion",
        "a mass or a nodule; CheXpert's labeler also counts cavities, tumours and carcinoma",
        "Mass",
        "Nodule",
    ),
    same("Edema", _FINDING),
    same("Consolidation", _FINDING),
    caution("Pneumonia", _PNEUMONIA),
    same("Atelectasis", _FINDING),
    same("Pneumothorax", _FINDING),
    same("Pleural Effusion", "NIH's Effusion is that of the pleura", "Effusion"),
    none("Pleural Other", _PLEURA),
    none("Fracture", "NIH has no such label"),
    none("Support Devices", "NIH has no such label"),
)
CHEXPERT_TO_NIH = (
    same("Atelectasis", _FINDING),
    same("Cardiomegaly", _FINDING),
    same("Effusion", "NIH's Effusion is that of the pleura", "Pleural Effusion"),
    none("Infiltration", _OPACITY),
    none("Mass", _LESION),
    none("Nodule", _LESION),
    caution("Pneumonia", _PNEUMONIA),
    same("Pneumothorax", _FINDING),
    same("Consolidation", _FINDING),
    same("Edema", _FINDING),
    none("Emphysema", "CheXpert has no such label; a mention only withholds No Finding"),
    none("Fibrosis", _PLEURA),
    none("Pleural_Thickening", _PLEURA),
    none("Hernia", "CheXpert has no such label; a mention only withholds No Finding"),
    caution(NO_FINDING, _CLEAN),
)
_LABELER = "the same labels by the same labeler, from reports of another hospital"
CHEXPERT_TO_MIMIC = tuple(same(match.target, _LABELER) for match in NIH_TO_CHEXPERT)
