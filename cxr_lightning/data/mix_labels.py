"""Labels of several data sets as one space: what means the same is one label, the rest is unknown.

Which labels mean the same is said by the maps between label sets (:mod:`cxr_lightning.label_maps`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cxr_lightning.label_maps import Match, match_labels
from cxr_lightning.label_maps.match import same
from cxr_lightning.labels import LabelSpace

__all__ = ["Member", "merge_labels"]


@dataclass(frozen=True)
class Member:
    """A source's labels.

    Attributes
    ----------
    kind
        Whose labels they are, as the maps name it.
    labels
        Those that are in use.
    """

    kind: str
    labels: LabelSpace


_Union = Mapping[str, Sequence[tuple[Member, str]]]


def merge_labels(
    members: Mapping[str, Member],
) -> tuple[LabelSpace, dict[str, tuple[Match, ...]]]:
    """Return the union of the labels, and how each source's labels become those of the union.

    A label is that of an earlier source where it alone follows from it or it from that one alone
    (Pleural Effusion is Effusion), and keeps the earlier name; else it is a label of its own. A
    label that follows from several (Lung Lesion from Mass or Nodule) merges with none of them, but
    a source that knows all of these knows it too.

    Parameters
    ----------
    members
        The sources by name, in the order in which they name labels.

    Returns
    -------
    LabelSpace, dict
        The union, and by source a match for each of its labels.
    """
    union: dict[str, list[tuple[Member, str]]] = {}  # of a label: who has it, its name there
    for member in members.values():
        for name in member.labels.names:
            known = _same_label(member.kind, name, union)
            union.setdefault(known or name, []).append((member, name))
    labels = LabelSpace(tuple(union))
    return labels, {
        source: tuple(_follows(member, name, found) for name, found in union.items())
        for source, member in members.items()
    }


def _same_label(kind: str, name: str, union: _Union) -> str | None:
    alone = LabelSpace((name,))
    for label, found in union.items():
        for other, there in found:
            (match,) = match_labels(kind, alone, other.kind, LabelSpace((there,)))
            if match.sources:
                return label
    return None


def _follows(member: Member, name: str, found: Sequence[tuple[Member, str]]) -> Match:
    """Return how a label of the union follows from a source's: its meaning is the earliest's."""
    matches = [
        same(there, "its own")
        if other is member
        else match_labels(member.kind, member.labels, other.kind, LabelSpace((there,)))[0]
        for other, there in found
    ]
    told = next((match for match in matches if match.sources), matches[0])
    return replace(told, target=name)
