"""Which labels of different data sets say the same, which nearly, and which do not: with reasons.

What a label means is what its makers looked for. NIH's come from reports by NLP tools of 2017 (Wang
et al., CVPR 2017), CheXpert's and MIMIC-CXR's from the CheXpert labeler (Irvin et al., AAAI 2019),
whose phrases are published (github.com/stanfordmlgroup/chexpert-labeler, `phrases/mention`), and
those of an EHR from measurements. The maps below are data: for every label of one set, the labels
of the other from which it follows, and why or why not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_lightning.errors import bullet_list
from cxr_lightning.labels import NO_FINDING, LabelSpace

__all__ = [
    "MAPS",
    "Match",
    "describe_matches",
    "match_any",
    "match_labels",
    "translate_labels",
]

Degree = Literal["same", "caution", "none"]


@dataclass(frozen=True)
class Match:
    """How a label of one data set follows from those of another.

    Attributes
    ----------
    target
        The label.
    sources
        It is present where any of these is; empty where it does not follow.
    degree
        same: numbers may be compared; caution: they may, if the reason is kept in mind; none: the
        other data set does not know it.
    reason
        Why, or why not.
    """

    target: str
    sources: tuple[str, ...]
    degree: Degree
    reason: str


def _same(target: str, reason: str, *sources: str) -> Match:
    return Match(target, sources or (target,), "same", reason)


def _caution(target: str, reason: str, *sources: str) -> Match:
    return Match(target, sources or (target,), "caution", reason)


def _none(target: str, reason: str) -> Match:
    return Match(target, (), "none", reason)


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
_ECHO = "a measurement by echocardiography, which no report of a radiograph states"

_NIH_TO_CHEXPERT = (
    _caution(NO_FINDING, _CLEAN),
    _none(
        "Enlarged Cardiomediastinum",
        "NIH looks for the heart alone, and a normal heart may lie in a wide mediastinum",
    ),
    _same("Cardiomegaly", _FINDING),
    _none("Lung Opacity", f"{_OPACITY}, so that its absence rules out none of the others"),
    _caution(
        "Lung Lesion",
        "a mass or a nodule; CheXpert's labeler also counts cavities, tumours and carcinoma",
        "Mass",
        "Nodule",
    ),
    _same("Edema", _FINDING),
    _same("Consolidation", _FINDING),
    _caution("Pneumonia", _PNEUMONIA),
    _same("Atelectasis", _FINDING),
    _same("Pneumothorax", _FINDING),
    _same("Pleural Effusion", "NIH's Effusion is that of the pleura", "Effusion"),
    _none("Pleural Other", _PLEURA),
    _none("Fracture", "NIH has no such label"),
    _none("Support Devices", "NIH has no such label"),
)
_CHEXPERT_TO_NIH = (
    _same("Atelectasis", _FINDING),
    _same("Cardiomegaly", _FINDING),
    _same("Effusion", "NIH's Effusion is that of the pleura", "Pleural Effusion"),
    _none("Infiltration", _OPACITY),
    _none("Mass", _LESION),
    _none("Nodule", _LESION),
    _caution("Pneumonia", _PNEUMONIA),
    _same("Pneumothorax", _FINDING),
    _same("Consolidation", _FINDING),
    _same("Edema", _FINDING),
    _none("Emphysema", "CheXpert has no such label; a mention only withholds No Finding"),
    _none("Fibrosis", _PLEURA),
    _none("Pleural_Thickening", _PLEURA),
    _none("Hernia", "CheXpert has no such label; a mention only withholds No Finding"),
    _caution(NO_FINDING, _CLEAN),
)
_LABELER = "the same labels by the same labeler, from reports of another hospital"
_CHEXPERT_TO_MIMIC = tuple(_same(match.target, _LABELER) for match in _NIH_TO_CHEXPERT)

MAPS: Mapping[tuple[str, str], tuple[Match, ...]] = {
    ("nih", "chexpert"): _NIH_TO_CHEXPERT,
    ("nih", "mimic_cxr"): _NIH_TO_CHEXPERT,
    ("chexpert", "nih"): _CHEXPERT_TO_NIH,
    ("mimic_cxr", "nih"): _CHEXPERT_TO_NIH,
    ("chexpert", "mimic_cxr"): _CHEXPERT_TO_MIMIC,
    ("mimic_cxr", "chexpert"): _CHEXPERT_TO_MIMIC,
}
"""From the labels of one data set to those of another: a match for every label of the latter."""

_ALIASES = {"phantom": "nih"}
_MEASURED = "ehr"


def match_labels(
    source: str, source_labels: LabelSpace, target: str, target_labels: LabelSpace
) -> tuple[Match, ...]:
    """Say for each of `target_labels` how it follows from `source_labels`.

    Parameters
    ----------
    source, target
        Names of the data sets (`data.name`).
    source_labels, target_labels
        The labels that are in use, which may be some of a set's own. Of two sets without a map
        (such as `table`, whose labels are the user's) those of one name are matched with caution.

    Returns
    -------
    tuple of Match
        In the order of `target_labels`.
    """
    source, target = _ALIASES.get(source, source), _ALIASES.get(target, target)
    mapped = {match.target: match for match in MAPS.get((source, target), ())}
    return tuple(
        _available(mapped.get(name) or _by_name(name, source, target, source_labels), source_labels)
        for name in target_labels.names
    )


def match_any(
    sources: Sequence[str],
    source_labels: LabelSpace,
    targets: Sequence[str],
    target_labels: LabelSpace,
) -> tuple[Match, ...]:
    """Do as :func:`match_labels` does, where either side mixes several data sets.

    A label then follows as it does between the two of them that fit best.
    """
    every = [
        match_labels(source, source_labels, target, target_labels)
        for source in sources
        for target in targets
    ]
    degrees: tuple[Degree, ...] = ("same", "caution", "none")
    return tuple(
        min(found, key=lambda match: degrees.index(match.degree))
        for found in zip(*every, strict=True)
    )


def _by_name(name: str, source: str, target: str, labels: LabelSpace) -> Match:
    if source == target:
        return _same(name, "the same data set")
    if _MEASURED in (source, target) and name not in labels:
        return _none(name, _ECHO if target == _MEASURED else "no report was read for it")
    if name in labels:
        return _caution(name, "the same name; whether it means the same, the data sets do not say")
    return _none(name, f"{source} has no such label")


def _available(match: Match, labels: LabelSpace) -> Match:
    missing = [name for name in match.sources if name not in labels]
    if not missing:
        return match
    return _none(match.target, f"{' and '.join(missing)} is not among the labels that are in use")


def translate_labels(
    table: pd.DataFrame, source_labels: LabelSpace, matches: Sequence[Match]
) -> pd.DataFrame:
    """Return the table with its labels in another set's terms.

    Parameters
    ----------
    table
        A study table with a column for each of `source_labels`: 1, 0, -1 (uncertain), NaN.
    matches
        Of :func:`match_labels`.

    Returns
    -------
    DataFrame
        A copy without the source's columns and with a float32 column for each match, in their
        order. One that follows from several is 1 where any is 1, else -1 where any is uncertain,
        else NaN where any is unknown, else 0. One that does not follow is NaN: unknown.
    """
    columns = {
        match.target: _any(table[list(match.sources)].to_numpy(np.float32), len(table))
        for match in matches
    }
    kept = table.drop(columns=list(source_labels.names))
    return kept.assign(**columns)


def _any(values: npt.NDArray[np.float32], rows: int) -> npt.NDArray[np.float32]:
    """Return the disjunction of columns (rows, sources) in the order 1, -1, NaN, 0."""
    if values.shape[1] == 0:
        return np.full(rows, np.nan, np.float32)
    states = ((values == 1), (values == -1), np.isnan(values))
    chosen = np.select([state.any(axis=1) for state in states], [1.0, -1.0, np.nan], 0.0)
    return chosen.astype(np.float32)


def describe_matches(matches: Sequence[Match]) -> str:
    """Return which labels are comparable, which with caution and which are not, as text."""
    parts = []
    for degree, heading in (
        ("same", "comparable"),
        ("caution", "comparable with caution"),
        ("none", "not comparable"),
    ):
        chosen = [match for match in matches if match.degree == degree]
        if chosen:
            lines = [f"{_named(match)}: {match.reason}" for match in chosen]
            parts.append(f"{heading}:\n{bullet_list(lines, limit=100)}")
    return "\n".join(parts)


def _named(match: Match) -> str:
    if match.sources in ((), (match.target,)):
        return match.target
    return f"{match.target} (from {' or '.join(match.sources)})"
