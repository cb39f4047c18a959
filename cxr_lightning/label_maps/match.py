"""How a label of one data set follows from those of another, with the reason: an entry of a map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Degree", "Match", "caution", "none", "same"]

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


def same(target: str, reason: str, *sources: str) -> Match:
    """Return a match that says the same; without `sources`, by name."""
    return Match(target, sources or (target,), "same", reason)


def caution(target: str, reason: str, *sources: str) -> Match:
    """Return a match of which the reason is to be kept in mind; without `sources`, by name."""
    return Match(target, sources or (target,), "caution", reason)


def none(target: str, reason: str) -> Match:
    """Return that a label does not follow."""
    return Match(target, (), "none", reason)
