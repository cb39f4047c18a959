"""A phantom as a newcomer has it: pictures in a folder, and one table with columns of its own."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from cxr_lightning.phantom.cases import Case
from cxr_lightning.phantom.draw import Drawn, Shot
from cxr_lightning.phantom.layouts.base import Layout, write_layout
from cxr_lightning.phantom.streams import stream

__all__ = ["COLUMNS", "TABLE", "write_table_phantom"]

TABLE = "radiographs.csv"

COLUMNS = {
    "large_heart": "Cardiomegaly",
    "fluid": "Effusion",
    "collapsed_lung": "Pneumothorax",
    "overinflated": "Emphysema",
    "opacity": "Infiltration",
}
"""The table's label columns, and the finding that each is about."""

_README = f"""\
The layout is that of a table of one's own:

  pictures/       8-bit grey PNG
  {TABLE}
    file          picture, without folder and suffix
    person, gender, years, projection, visit_date
    {", ".join(COLUMNS)}
                  yes, no, maybe, or blank where nobody looked
    diagnoses     all findings, separated by semicolons
  phantom.json    the parameters that give exactly these files again
"""


def write_table_phantom(
    root: Path,
    *,
    images: int,
    seed: int,
    size: int = 256,
    processes: int | None = None,
    progress: bool = True,
) -> None:
    """Write `images` synthetic radiographs and a plain table of them.

    The parameters and errors are those of
    :func:`~cxr_lightning.phantom.layouts.base.write_layout`.
    """
    write_layout(
        _TABLE, root, images=images, seed=seed, size=size, processes=processes, progress=progress
    )


def _shots(cases: Sequence[Case]) -> list[Shot]:
    return [Shot(f"pictures/p{case.patient}-v{case.visit + 1}.png", case) for case in cases]


def _write_tables(folder: Path, shots: Sequence[Shot], drawn: Sequence[Drawn]) -> None:
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        described = ("file", "person", "gender", "years", "projection", "visit_date")
        writer.writerow([*described, *COLUMNS, "diagnoses"])
        writer.writerows(_row(shot) for shot in shots)


def _row(shot: Shot) -> list[object]:
    case = shot.case
    generator = stream(case.seed, case.patient, case.visit, "table")
    year = 2015 + int(case.age - int(case.age) + 0.6 * case.visit)
    answers = []
    for finding in COLUMNS.values():
        chance = generator.random()
        word = "yes" if finding in case.labels else "no"
        answers.append("" if chance < 0.06 else "maybe" if chance < 0.09 else word)
    return [
        Path(shot.path).stem,
        f"person {case.patient}",
        "female" if case.sex == "F" else "male",
        int(case.age),
        case.view,
        f"{year}-{1 + case.visit:02d}-15",
        *answers,
        ";".join(case.labels) or "normal",
    ]


_TABLE = Layout(
    name="table",
    version=1,
    shots=_shots,
    images="pictures/*.png",
    tables=(TABLE,),
    write_tables=_write_tables,
    readme=_README,
)
