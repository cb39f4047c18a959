"""What an echocardiogram says of a heart, in words as people write them, and what an ECG says."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np

from cxr_lightning.phantom.cases import Case
from cxr_lightning.phantom.heart import ejection_fraction, heart_severities
from cxr_lightning.phantom.streams import stream

__all__ = ["echo_rows", "examination_rows"]

_COVERAGE = {"lvef": 0.97, "ms": 0.8, "as": 0.9, "mr": 0.95, "ar": 0.88, "tr": 0.75}
"""How often each is measured; the rest is missing, as in reports."""

_SPELLINGS = (
    (0.12, ("none", "None", "no", "absent")),
    (0.24, ("trace", "Trace", "trivial", "physiologic")),
    (0.44, ("mild", "Mild", "MILD", "1+")),
    (0.5, ("mild-moderate", "mild to moderate", "Mild/Moderate", "1-2+")),
    (0.68, ("moderate", "Moderate", "2+")),
    (0.8, ("moderate-severe", "moderate to severe", "Moderate-Severe", "3+")),
    (9.9, ("severe", "Severe", "SEVERE", "4+")),
)
_BLANKS = ("", "", "n/a", "not assessed")

Row = dict[str, object]
Visits = Sequence[tuple[int, date]]


def echo_rows(case: Case, visits: Visits) -> list[Row]:
    """Return the echocardiograms of a patient: near most radiographs, before or after them.

    Parameters
    ----------
    case
        Any of the patient's.
    visits
        Number and day of each radiograph.

    Some patients have none, some radiographs only one of years ago, and measurements are missing.
    """
    if stream(case.seed, case.patient, None, "echo").random() < 0.06:
        return []
    rows = []
    for visit, day in visits:
        generator = stream(case.seed, case.patient, visit, "echo")
        if generator.random() < 0.12:
            day -= timedelta(days=int(generator.integers(700, 1500)))
        else:
            day += timedelta(days=int(generator.integers(-60, 61)))
        severities = heart_severities(case.seed, case.patient, visit)
        if generator.random() < 0.15:
            rows.append(_echo(case, day - timedelta(days=400), severities, generator))
        rows.append(_echo(case, day, severities, generator))
    return rows


def examination_rows(case: Case, visits: Visits) -> list[Row]:
    """Return ECGs with blood values, some days before each radiograph and some days after it.

    The QRS complex is the wider, and BNP the higher, the weaker the ventricle is. After the
    radiograph both are without any spread, so that one who used them would be given the answer.
    """
    rows: list[Row] = []
    for visit, day in visits:
        generator = stream(case.seed, case.patient, visit, "examination")
        weak = heart_severities(case.seed, case.patient, visit)["low_ef"]
        before = day - timedelta(days=int(generator.integers(1, 20)))
        after = day + timedelta(days=int(generator.integers(1, 20)))
        qrs, bnp = 84 + 80 * weak, 3.6 + 4.4 * weak
        noisy = float(generator.normal(qrs, 8)), float(generator.normal(bnp, 0.35))
        if generator.random() < 0.92:
            rows.append(_examination(case, before, *noisy))
        rows.append(_examination(case, after, qrs, bnp))
    return rows


def _echo(
    case: Case, day: date, severities: dict[str, float], generator: np.random.Generator
) -> Row:
    fraction = ejection_fraction(severities["low_ef"]) + generator.normal(0, 1.5)
    row: Row = {"patient_id": f"{case.patient:06d}", "date": day.isoformat()}
    row["lvef"] = f"{fraction:.0f}" if generator.random() < _COVERAGE["lvef"] else ""
    for name in ("ms", "as", "mr", "ar", "tr"):
        measured = generator.random() < _COVERAGE[name]
        row[f"{name}_grade"] = _word(severities[name] if measured else None, generator)
    return row


def _word(severity: float | None, generator: np.random.Generator) -> str:
    if severity is None:
        return _BLANKS[int(generator.integers(len(_BLANKS)))]
    words = next(words for limit, words in _SPELLINGS if severity < limit)
    return words[int(generator.integers(len(words)))]


def _examination(case: Case, day: date, qrs: float, log_bnp: float) -> Row:
    return {
        "patient_id": f"{case.patient:06d}",
        "date": day.isoformat(),
        "qrs_ms": f"{qrs:.0f}",
        "bnp": f"{np.exp(log_bnp):.0f}",
    }
