"""What an audit finds, as the page, the figures and audit.json take it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_lightning.data.cohort import Cohort
from cxr_lightning.studies import LeakageReport

__all__ = ["Audit", "ImageFindings", "Labels"]


@dataclass(frozen=True)
class ImageFindings:
    """What is odd about images; sample ids unless said otherwise.

    Attributes
    ----------
    bad : (sample id, reason) of missing and unreadable files
    constant : hardly any contrast
    small : shorter side below the size that is trained with, so that they are enlarged
    elongated : one side at least twice as long as the other
    duplicates : groups with identical pixels inside one split
    contradictions : those of them whose labels differ
    """

    bad: tuple[tuple[str, str], ...]
    constant: tuple[str, ...]
    small: tuple[str, ...]
    elongated: tuple[str, ...]
    duplicates: tuple[tuple[str, ...], ...]
    contradictions: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Labels:
    """Counts of each label's values.

    Attributes
    ----------
    counts : columns `label`, `split`, `positive`, `negative`, `uncertain`, `unknown`,
        `prevalence` (positives among the known)
    together : int64 of shape (labels, labels): images on which both are positive
    """

    counts: pd.DataFrame
    together: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Audit:
    """All that :func:`.collect.audit_cohort` found.

    Attributes
    ----------
    cohort
        As it would be used, images that cannot be read included.
    leaks
        Patients and identical pixels in more than one split.
    images
        Oddities of single images.
    labels
        What is labelled.
    table_one
        Patients, age, sex, view and missing inputs per split, as text: a column per split.
    shapes : columns `height`, `width`, `images`, the most frequent first
    invalid
        What would invalidate a study, in words; empty: nothing.
    warnings
        What deserves a look.
    """

    cohort: Cohort
    leaks: LeakageReport
    images: ImageFindings
    labels: Labels
    table_one: pd.DataFrame
    shapes: pd.DataFrame
    invalid: tuple[str, ...]
    warnings: tuple[str, ...]
