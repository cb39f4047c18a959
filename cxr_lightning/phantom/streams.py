"""Random streams with an address: a draw depends on whom it is for and on nothing else."""

from __future__ import annotations

from zlib import crc32

import numpy as np

__all__ = ["stream"]

_PATIENT_LEVEL = 0


def stream(
    seed: int, patient: int, visit: int | None, purpose: str, key: int = 0
) -> np.random.Generator:
    """Return the generator of one purpose for one visit, or for a patient's whole life.

    Every purpose has a stream of its own, so that adding or removing one part of a picture leaves
    the random draws of all other parts as they were.

    Parameters
    ----------
    seed, patient
        Seed of the cohort and number of the patient, both non-negative.
    visit
        Number of the visit from 0, or None for what all visits of the patient share.
    purpose, key
        What is drawn, and which one of several (a lesion, for instance).
    """
    level = _PATIENT_LEVEL if visit is None else visit + 1
    address = (seed, patient, level, crc32(purpose.encode()), key)
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(address)))
