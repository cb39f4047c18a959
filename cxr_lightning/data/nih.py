"""NIH ChestX-ray14: 112,120 frontal radiographs of 30,805 patients with 14 findings from reports.

Wang et al., "ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks", CVPR 2017. Provider:
NIH Clinical Center, https://nihcc.app.box.com/v/ChestXray-NIHCC. Every release is read: the 2017
and 2020 tables, the Kaggle sample's `sample_labels.csv`, gzipped tables, flat and nested image
folders.
"""

from __future__ import annotations

import gzip
import operator
import os
import zlib
from itertools import repeat
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
import pandas as pd
import pyarrow.compute
from numpy.typing import NDArray
from pydantic import Field

from cxr_lightning.config.schema import DataConfig
from cxr_lightning.data.columns import parse_ages, plausible_ages
from cxr_lightning.data.phantom_root import PhantomSize, phantom_folder, phantom_name
from cxr_lightning.data.reading import Reading, strata
from cxr_lightning.data.tables import line_of, read_text_table
from cxr_lightning.errors import ConfigError, DataError, bullet_list
from cxr_lightning.labels import NO_FINDING, LabelSpace

__all__ = ["BOX_SPACE", "LABELS", "Config", "boxes_folder", "read_boxes", "read_studies"]

LABELS = LabelSpace(
    (
        "Atelectasis",
        "Cardiomegaly",
        "Effusion",
        "Infiltration",
        "Mass",
        "Nodule",
        "Pneumonia",
        "Pneumothorax",
        "Consolidation",
        "Edema",
        "Emphysema",
        "Fibrosis",
        "Pleural_Thickening",
        "Hernia",
    )
)
BOX_SPACE = (1024, 1024)
"""Height and width of the space in which boxes are given, whatever the size of the files."""

_TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv", "sample_labels.csv")
_WANTED = ("Image Index", "Finding Labels", "Patient ID", "Patient Age")
_LISTS = {"train_val": "train_val_list.txt", "test": "test_list.txt"}


class Config(DataConfig):
    """NIH ChestX-ray14."""

    root: Path | None = Field(
        None,
        description="Folder with Data_Entry_2017.csv (or sample_labels.csv) and the images; "
        "phantom: synthetic radiographs, made on first use.",
    )
    split: Literal["official", "patient"] = Field(
        "official",
        description="official: test_list.txt is the test set and validation is cut from "
        "train_val_list.txt by patient; patient: all three are cut anew.",
    )
    phantom: PhantomSize = Field(default_factory=PhantomSize)


def read_studies(config: Config) -> Reading:
    """Read the table, the image paths and, for ``split=official``, the lists.

    Returns
    -------
    Reading
        Every image of the table; `split` is "train_val", "test" or "" (no list used). By default
        the labels are the 14 findings; `No Finding` may be one of them.

    Raises
    ------
    DataError
        Missing files and columns, unknown findings, duplicate images, lists that contradict the
        table or each other: everything of a file at once.
    """
    if config.root is None:
        raise ConfigError(
            "data.root: required; the folder with Data_Entry_2017.csv and the images, or phantom"
        )
    root = config.root
    if str(root) == "phantom":
        # The drawing code imports OpenCV; `--help` reads this file for its fields only.
        from cxr_lightning.phantom import write_phantom

        root = phantom_folder(config, config.phantom, write_phantom)
    if not root.is_dir():
        raise ConfigError(f"data.root={root}: there is no such folder")
    labels = LABELS.choose(config.labels, also=(NO_FINDING,))
    file = _find_table(root)
    raw = read_text_table(
        file, required=_WANTED, filled=("Image Index", "Patient ID"), unique="Image Index"
    )
    # The 2017 table holds ages up to 414: unknown, not clipped. What is no age is unknown as well.
    ages, notes = plausible_ages(parse_ages(raw["Patient Age"]).values, oldest=100)
    images = raw["Image Index"].tolist()  # once: strings keep their hashes
    studies = pd.DataFrame(
        {
            "sample_id": raw["Image Index"],
            "image_path": _image_paths(root, images),
            "patient_id": raw["Patient ID"].astype(str),
            "study_id": _stems(raw["Image Index"]),
            "view": _views(raw),
            "split": "",
            "age_years": ages,
            "sex": _sexes(raw),
        }
    )
    if "Follow-up #" in raw:
        visits, words = pd.factorize(raw["Follow-up #"])  # few differ, and they are parsed slowly
        numbers = pd.to_numeric(pd.Series(words), errors="coerce")
        studies["visit"] = numbers.to_numpy(np.float64)[visits]
    findings = _findings(raw["Finding Labels"], file)
    studies = studies.assign(
        **{name: findings[name] for name in labels.names},
        **strata({name: findings[name] for name in LABELS.names}),
    )
    crossing = ""
    if config.split == "official":
        studies["split"] = _official_split(raw["Image Index"], root)
        crossing = _crossing(studies)
    return Reading(studies, labels, notes=notes, crossing=crossing)


def _find_table(root: Path) -> Path:
    for name in _TABLES:
        for file in (root / name, root / f"{name}.gz"):
            if file.is_file():
                return file
    raise DataError(f"{root}: no table of findings; looked for {', '.join(_TABLES)} (also .gz)")


def _image_paths(root: Path, names: list[str]) -> list[str]:
    """Find the images: flat in `root`, in `images`, or in `images_001/images` and so on.

    One that is nowhere gets a path in `images`, where it is reported as missing with all others.
    """
    folders = [root, root / "images"]
    for nested in sorted(root.glob("images*")):
        folders += [nested, nested / "images"]
    folders = [folder for folder in dict.fromkeys(folders) if folder.is_dir()]
    absent = root / "images"
    if folders[-1] == absent:
        folders.pop()  # what is nowhere else has its path here without a look
    above: dict[str, str] = {}
    for folder in reversed(folders):  # the first that holds an image counts
        try:
            found = os.listdir(folder)
        except OSError as error:
            raise DataError(f"{folder}: cannot be read: {error.strerror}") from None
        above |= dict.fromkeys(found, os.path.join(folder, ""))
    prefixes = map(above.get, names, repeat(os.path.join(absent, "")))
    return [*map(operator.add, prefixes, names)]


def _stems(names: pd.Series) -> pd.Series:
    """Return file names without what follows their last dot."""
    stems = names.str.removesuffix(".png")
    others = stems == names  # a pattern takes twenty times as long
    if others.any():
        stems = stems.mask(others, names[others].str.replace(r"^(.+)\.[^.]*$", r"\1", regex=True))
    return stems


def _views(raw: pd.DataFrame) -> pd.Series:
    if "View Position" not in raw:
        return pd.Series("UNKNOWN", index=raw.index)
    view = raw["View Position"].str.strip().str.upper()
    return view.where(view.isin(("PA", "AP")), "UNKNOWN")


def _sexes(raw: pd.DataFrame) -> pd.Series:
    for column in ("Patient Gender", "Patient Sex"):
        if column in raw:
            sex = raw[column].str.strip().str.upper()
            return sex.where(sex.isin(("M", "F")), "UNKNOWN")
    return pd.Series("UNKNOWN", index=raw.index)


def _findings(text: pd.Series, file: Path) -> dict[str, np.ndarray]:
    """Return every label, `No Finding` too: float32 arrays of shape (rows,)."""
    known = (*LABELS.names, NO_FINDING)
    # Few hundred distinct combinations stand for all rows: parse each one once.
    codes, combinations = pd.factorize(text)
    sets = [{word.strip() for word in combination.split("|")} for combination in combinations]
    if unknown := set().union(*sets).difference(known):
        rows = np.flatnonzero(np.isin(codes, [i for i, s in enumerate(sets) if s & unknown]))
        lines = [f"line {line_of(row)}: {text.iat[row]!r}" for row in rows.tolist()]
        raise DataError(
            f"{file}: unknown finding(s) {', '.join(map(repr, sorted(unknown)))}:\n"
            f"{bullet_list(lines)}\nKnown: {', '.join(sorted(known))}"
        )
    return {
        name: np.array([name in found for found in sets], dtype=np.float32)[codes] for name in known
    }


def _official_split(images: pd.Series, root: Path) -> NDArray[np.object_]:
    lists = {split: _read_list(root, name) for split, name in _LISTS.items()}
    # Compared by pyarrow: a dict of 100,000 strings takes twice the time.
    found = pyarrow.compute.index_in(
        pyarrow.array(images), value_set=pyarrow.concat_arrays(lists.values())
    )
    ends = np.cumsum([len(listed) for listed in lists.values()])
    if found.null_count or ends[-1] != len(images):  # images differ, and so do those of a list
        _refuse_lists(
            images.tolist(), {name: {*listed.to_pylist()} for name, listed in lists.items()}, root
        )
    return np.array([*lists], dtype=object)[np.searchsorted(ends, found, side="right")]


def _refuse_lists(images: list[str], lists: dict[str, set[str]], root: Path) -> NoReturn:
    problems = []
    if both := sorted(lists["train_val"] & lists["test"]):
        problems.append(f"{len(both)} image(s) on both lists:\n{bullet_list(both)}")
    for name, listed in lists.items():
        if absent := sorted(listed.difference(images)):
            problems.append(
                f"{_LISTS[name]} names {len(absent)} image(s) that the table lacks:\n"
                f"{bullet_list(absent)}"
            )
    listed = set().union(*lists.values())
    if unlisted := [image for image in images if image not in listed]:
        problems.append(
            f"{len(unlisted)} image(s) of the table are on neither list:\n{bullet_list(unlisted)}"
        )
    problems.append("Correct the lists, or use data.split=patient, which does not need them.")
    raise DataError(f"{root}: the official lists do not fit the table\n" + "\n".join(problems))


def _crossing(studies: pd.DataFrame) -> str:
    both = studies[["patient_id", "split"]].drop_duplicates()["patient_id"].duplicated().sum()
    return f"{both:,} patient(s) are on both {' and '.join(_LISTS.values())}." if both else ""


def _read_list(root: Path, name: str) -> Any:
    """Return a pyarrow array of the different names in a list."""
    for file in (root / name, root / f"{name}.gz"):
        if file.is_file():
            lines = pyarrow.array(_text(file).splitlines(), pyarrow.large_string())
            names = pyarrow.compute.utf8_trim_whitespace(lines)
            return pyarrow.compute.unique(names.filter(pyarrow.compute.not_equal(names, "")))
    raise DataError(
        f"{root / name}: missing; data.split=official needs {' and '.join(_LISTS.values())}. "
        "Use data.split=patient for a split of your own."
    )


def _text(file: Path) -> str:
    try:
        data = file.read_bytes()
        return (gzip.decompress(data) if file.suffix == ".gz" else data).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{file}: not a readable list of images: {error}") from None


def boxes_folder(config: Config) -> Path | None:
    """Return the folder that may hold :func:`read_boxes`'s file."""
    if str(config.root) == "phantom":
        return phantom_name(config, config.phantom)
    return config.root


def read_boxes(root: Path) -> pd.DataFrame:
    """Read `BBox_List_2017.csv`: boxes drawn by radiologists, in 1024-pixel space.

    Returns
    -------
    DataFrame
        `sample_id`, `label` (`Infiltrate` is renamed to `Infiltration`), and `x`, `y`, `width`,
        `height` in pixels of the 1024 x 1024 image, origin at the top left.
    """
    for file in (root / "BBox_List_2017.csv", root / "BBox_List_2017.csv.gz"):
        if file.is_file():
            break
    else:
        raise DataError(f"{root}: no BBox_List_2017.csv (also .gz)")
    try:
        raw = pd.read_csv(file, header=0, usecols=range(6))
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: not a readable list of boxes: {error}") from None
    raw.columns = pd.Index(["sample_id", "label", "x", "y", "width", "height"])
    return raw.assign(label=raw["label"].replace({"Infiltrate": "Infiltration"}))
