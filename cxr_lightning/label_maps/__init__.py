"""Which labels of different data sets say the same, which nearly, and which do not: with reasons.

What a label means is what its makers looked for: a phrase in a report (:mod:`.reports`), or a value
that was measured (:mod:`.echo`). The maps are data: for every label of one set, the labels of the
other from which it follows, and why or why not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_lightning.errors import bullet_list
from cxr_lightning.label_maps.echo import (
    ECHO_TO_CHEXPERT,
    ECHO_TO_NIH,
    FROM_REPORTS,
    MEASURED,
    UNREAD,
)
from cxr_lightning.label_maps.match import Degree, Match, caution, none, same
from cxr_lightning.label_maps.reports import (
    CHEXPERT_TO_MIMIC,
    CHEXPERT_TO_NIH,
    NIH_TO_CHEXPERT,
)
from cxr_lightning.labels import LabelSpace

__all__ = [
    "MAPS",
    "OF_ONES_OWN",
    "Match",
    "describe_matches",
    "match_any",
    "match_labels",
    "translate_labels",
]

_MEASURED = "ehr"
_REPORTS = frozenset({"nih", "chexpert", "mimic_cxr"})

OF_ONES_OWN = frozenset({"table", _MEASURED})
"""Data sets whose labels their users define: one of them is not another of the same kind."""

MAPS: Mapping[tuple[str, str], tuple[Match, ...]] = {
    ("nih", "chexpert"): NIH_TO_CHEXPERT,
    ("nih", "mimic_cxr"): NIH_TO_CHEXPERT,
    ("chexpert", "nih"): CHEXPERT_TO_NIH,
    ("mimic_cxr", "nih"): CHEXPERT_TO_NIH,
    ("chexpert", "mimic_cxr"): CHEXPERT_TO_MIMIC,
    ("mimic_cxr", "chexpert"): CHEXPERT_TO_MIMIC,
    **{(source, _MEASURED): FROM_REPORTS for source in sorted(_REPORTS)},
    (_MEASURED, "nih"): ECHO_TO_NIH,
    (_MEASURED, "chexpert"): ECHO_TO_CHEXPERT,
    (_MEASURED, "mimic_cxr"): ECHO_TO_CHEXPERT,
}
"""From the labels of one data set to those of another: a match for every label of the latter."""

_ALIASES = {"phantom": "nih"}


def match_labels(
    source: str, source_labels: LabelSpace, target: str, target_labels: LabelSpace
) -> tuple[Match, ...]:
    """Say for each of `target_labels` how it follows from `source_labels`.

    Parameters
    ----------
    source, target
        Names of the data sets (`data.name`).
    source_labels, target_labels
        The labels that are in use, which may be some of a set's own. Of two sets without a map,
        and of two of `OF_ONES_OWN`, those of one name are matched with caution.

    Returns
    -------
    tuple of Match
        In the order of `target_labels`.
    """
    source, target = _ALIASES.get(source, source), _ALIASES.get(target, target)
    mapped = {match.target: match for match in MAPS.get((source, target), ())}
    if source == _MEASURED:
        # What the rules of a hospital call by a finding's name may be that finding.
        mapped = {name: match for name, match in mapped.items() if name not in source_labels}
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
    if source == target and source not in OF_ONES_OWN:
        return same(name, "the same data set")
    if name not in labels and _MEASURED in (source, target) and _REPORTS & {source, target}:
        return none(name, MEASURED if target == _MEASURED else UNREAD)
    if name in labels and source == target:
        return caution(
            name, "labels of the same name; whether they mean the same is for the reader to judge"
        )
    if name in labels:
        return caution(name, "the same name; whether it means the same, the data sets do not say")
    return none(name, f"{source} has no such label")


def _available(match: Match, labels: LabelSpace) -> Match:
    missing = [name for name in match.sources if name not in labels]
    if not missing:
        return match
    return none(match.target, f"{' and '.join(missing)} is not among the labels that are in use")


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
