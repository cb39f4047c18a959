"""DICOM files that a table names: whether their headers are those of chest radiographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_lightning.data.columns import parse_views
from cxr_lightning.data.dicom_headers import PROBLEM, read_headers
from cxr_lightning.data.ehr_selection import Tags, leave_out_by_tags
from cxr_lightning.data.reading import FlowStep
from cxr_lightning.data.sieve import Sieve
from cxr_lightning.errors import bullet_list

__all__ = ["Headers", "check_headers"]

_PICTURES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Headers:
    """What the headers of a table's DICOM files say.

    Attributes
    ----------
    views : PA, AP, LATERAL or UNKNOWN, an object array of shape (rows,); UNKNOWN for other files.
    notes : what was left out for which words, what headers do not tell.
    gone : by reason, the rows (int64) that are no single radiographs of a chest.
    problem : all of those, each with its reason; or "".
    """

    views: npt.NDArray[np.object_]
    notes: tuple[str, ...]
    gone: tuple[tuple[str, npt.NDArray[np.int64]], ...]
    problem: str

    def leave_out(self, studies: pd.DataFrame) -> tuple[pd.DataFrame, tuple[FlowStep, ...]]:
        """Return a study table, with a row for each of the table's, without `gone`, and its flow.

        Where there are no DICOM files the flow is empty.
        """
        if not self.gone:
            return studies, ()
        sieve = Sieve(studies)
        for reason, rows in self.gone:
            sieve.leave_out(reason, np.isin(sieve.frame.index, rows), bad=True)
        return sieve.frame.reset_index(drop=True), sieve.flow


def check_headers(paths: Sequence[str], missing: Sequence[int], tags: Tags) -> Headers:
    """Read the headers of the DICOM files among `paths`, and check them.

    A file is none by its suffix, or where it has no readable header and begins as a PNG or JPEG.

    Parameters
    ----------
    paths
        A file for each row of the table.
    missing
        Rows whose file is not there, which are passed over.
    tags
        What a header must say.
    """
    dicom = ~np.array([path.lower().endswith(_PICTURES) for path in paths], dtype=bool)
    dicom[list(missing)] = False
    rows = np.flatnonzero(dicom)
    views = np.full(len(paths), "UNKNOWN", dtype=object)
    headers = read_headers([paths[row] for row in rows.tolist()])
    bad = (headers[PROBLEM] != "").tolist()
    other = [no and _is_picture(paths[row]) for row, no in zip(rows.tolist(), bad, strict=True)]
    picture = np.array(other, dtype=bool)
    rows, headers = rows[~picture], headers[~picture].reset_index(drop=True)
    if not len(rows):
        return Headers(views, (), (), "")
    sieve = Sieve(headers.assign(dicom=True, patient_id="").set_index(rows))
    notes = leave_out_by_tags(sieve, tags)
    views[rows], wrong = parse_views(headers["ViewPosition"])
    readable = headers[PROBLEM] == ""
    untold = int((readable & (headers["ViewPosition"] == "")).sum())
    if untold:
        notes.append(f"view not given in DICOM, so unknown: {untold:,}")
    if wrong.any():
        counted = headers["ViewPosition"][wrong].value_counts().head(10)
        listed = ", ".join(f"{word!r} {count:,}" for word, count in counted.items())
        notes.append(f"view not understood in DICOM, so unknown: {listed}")
    gone = tuple((reason, left.to_numpy(np.int64)) for reason, left in sieve.gone)
    return Headers(views, tuple(notes), gone, _describe(paths, headers.set_index(rows), gone))


def _is_picture(path: str) -> bool:
    # imported here: it imports OpenCV, and `--help` reads this package for its fields only
    from cxr_lightning.data.images import is_picture

    try:
        with open(path, "rb") as file:
            return is_picture(file.read(8))
    except OSError:  # the header's problem says so
        return False


def _describe(
    paths: Sequence[str],
    headers: pd.DataFrame,
    gone: Sequence[tuple[str, npt.NDArray[np.int64]]],
) -> str:
    lines = []
    for reason, rows in gone:
        for row in rows.tolist():
            one = headers.loc[row]
            said = one[PROBLEM] or f"{one['Modality'] or '-'}, {one['BodyPartExamined'] or '-'}"
            lines.append(f"{paths[row]}: {reason} ({said})")
    if not lines:
        return ""
    return (
        f"{len(lines):,} of {len(headers):,} DICOM files are no single radiographs of a chest:\n"
        f"{bullet_list(lines, limit=20)}\n"
        "Leave them out with data.on_bad_image=skip, or say with data.select.modalities and "
        "data.select.body_parts what else is meant."
    )
