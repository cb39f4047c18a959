"""Headers of many DICOM files: who, when, what of, from which side; pixels are not read.

Reading one takes a fraction of a millisecond, all of it Python's own, so that only processes help:
plain children that run this module and answer with one JSON list, for the reasons given in
:mod:`cxr_lightning.data.decode_pool`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PROBLEM", "TAGS", "read_headers"]

MODULE = "cxr_lightning.data.dicom_headers"
INLINE = 1000  # so many headers are read sooner than a child has started

TAGS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "StudyDate",
    "AcquisitionDate",
    "SeriesDate",
    "ContentDate",
    "PatientID",
    "PatientBirthDate",
    "PatientAge",
    "PatientSex",
    "Modality",
    "BodyPartExamined",
    "ViewPosition",
    "NumberOfFrames",
    "QualityControlImage",
    "PresentationIntentType",
    "Rows",
    "Columns",
    "BitsStored",
)
PROBLEM = "problem"
_VIEW_CODE = "ViewCodeSequence"
_NUMERIC = frozenset({0x00280010, 0x00280011, 0x00280101})  # Rows, Columns, BitsStored: binary


def read_headers(paths: Sequence[str], *, processes: int | None = None) -> pd.DataFrame:
    """Read the headers of DICOM files, several at a time.

    Parameters
    ----------
    paths
        The files.
    processes
        Reading processes; None: one for each available CPU.

    Returns
    -------
    DataFrame
        A row per path, in their order, all text: a column for each of `TAGS`, "" where a file lacks
        it, and `problem`: why a file is none, or "". Where View Position is empty, the meaning of
        the View Code Sequence (PS3.3 C.8.11.7) stands in its place.
    """
    # imported here, not by the children
    import pandas as pd

    from cxr_lightning.data.decode_pool import available_cpus

    count = min(processes or available_cpus(), 1 + len(paths) // INLINE)
    if count == 1:
        rows = [_read(path) for path in paths]
    else:
        shares = [list(paths[start::count]) for start in range(count)]
        rows = [[]] * len(paths)
        with ThreadPoolExecutor(count) as pool:
            for start, share in enumerate(pool.map(_in_a_child, shares)):
                rows[start::count] = share
    return pd.DataFrame(rows, columns=[*TAGS, PROBLEM], dtype="str")


def _in_a_child(paths: list[str]) -> list[list[str]]:
    search = os.pathsep.join(path or os.getcwd() for path in sys.path)
    done = subprocess.run(
        [sys.executable, "-P", "-m", MODULE],
        input=json.dumps(paths),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": search},
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise RuntimeError(
            f"a process that reads DICOM headers ended with code {done.returncode}: "
            f"{said[-1] if said else 'no message'}"
        )
    rows: list[list[str]] = json.loads(done.stdout)
    return rows


def _read(path: str) -> list[str]:
    # imported here: pydicom takes longer to import than everything else in this module
    from pydicom import dcmread

    empty = [""] * len(TAGS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about values that break the standard's rules
            header = dcmread(path, stop_before_pixels=True, force=True, specific_tags=_numbers())
            values = [_text(header, tag) for tag in _numbers()[:-1]]
            view = TAGS.index("ViewPosition")
            if not values[view] and (codes := header.get(_VIEW_CODE)):
                values[view] = str(codes[0].get("CodeMeaning", "")).strip()
    except OSError as error:
        return [*empty, f"cannot be read ({error.strerror or error})"]
    except Exception as error:  # noqa: BLE001  # pydicom documents no common base of its errors
        return [*empty, f"damaged DICOM: {type(error).__name__}"]
    if not values[TAGS.index("SOPClassUID")] and not values[TAGS.index("Rows")]:
        return [*empty, "not an image: no DICOM elements of one in it"]
    return [*values, ""]


@cache
def _numbers() -> list[int]:
    from pydicom.datadict import tag_for_keyword

    return [number for name in (*TAGS, _VIEW_CODE) if (number := tag_for_keyword(name))]


def _text(header: Any, tag: int) -> str:
    element = header.get_item(tag)
    if element is None or element.value is None:
        return ""
    # Plain text is decoded here: pydicom's own conversion takes as long as reading the file.
    raw = element.value
    if element.is_raw and isinstance(raw, bytes) and tag not in _NUMERIC and raw.isascii():
        return raw.decode("ascii").strip(" \0")
    return str(header[tag].value).strip(" \0")


if __name__ == "__main__":
    json.dump([_read(path) for path in json.load(sys.stdin)], sys.stdout)
