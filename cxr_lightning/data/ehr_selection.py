"""Which files of a hospital's folder are usable radiographs of a chest: named, counted rules."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from cxr_lightning.config.schema import Section
from cxr_lightning.data.rules import Rule, Ruler
from cxr_lightning.data.sieve import Sieve
from cxr_lightning.errors import ConfigError, DataError, bullet_list, nearest

__all__ = ["Selection", "Tags", "leave_out_by_tags", "select_radiographs"]


class Tags(Section):
    """What a file must be by its DICOM header."""

    modalities: tuple[str, ...] = Field(
        ("CR", "DX", "DR", "RG"), description="DICOM Modality of a radiograph."
    )
    body_parts: tuple[str, ...] = Field(
        ("CHEST", "THORAX", "LUNG"), description="Words for the chest in DICOM Body Part Examined."
    )
    require_tags: bool = Field(
        False,
        description="Leave out files without Modality or Body Part too; else they are counted.",
    )


class Selection(Tags):
    """What a file must be, by its DICOM header or the table of images."""

    exclude: dict[str, Rule] = Field(
        default_factory=dict,
        description="Named rules over columns of the image table or DICOM keywords; what they "
        "hold of is left out.",
    )


def select_radiographs(
    found: pd.DataFrame, selection: Selection, ruler: Ruler, *, refuse_bad: bool, source: Path
) -> tuple[Sieve, tuple[str, ...]]:
    """Leave out what is no usable radiograph of a chest.

    Parameters
    ----------
    found
        See :func:`cxr_lightning.data.ehr_images.find_radiographs`.
    selection
        The rules.
    ruler
        Reads the columns of the rules of `exclude`.
    refuse_bad
        Whether unreadable headers end the run instead of being left out.
    source
        File or folder, for the messages.

    Raises
    ------
    ConfigError, DataError
        Rules over columns that are not there or cannot be read; unreadable headers.
    """
    _check_rules(found, selection, ruler, source)
    bad = found["problem"] != ""
    if refuse_bad and bad.any():
        pairs = zip(found.loc[bad, "image_path"], found.loc[bad, "problem"], strict=True)
        raise DataError(
            f"{int(bad.sum()):,} of {len(found):,} files cannot be used:\n"
            f"{bullet_list(f'{path}: {reason}' for path, reason in pairs)}\n"
            "Restore them, or leave them out with data.on_bad_image=skip."
        )
    sieve, notes = Sieve(found), []
    if found["dicom"].any():
        notes = leave_out_by_tags(sieve, selection)
    for name, rule in selection.exclude.items():
        holds = ruler.apply(rule, sieve.frame[rule.column])
        sieve.leave_out(f"{name} ({rule})", holds == 1)
    sieve.leave_out("copy of a file above", sieve.frame["name"].duplicated(), rare=True)
    return sieve, tuple(notes)


def leave_out_by_tags(sieve: Sieve, selection: Tags) -> list[str]:
    """Leave out files whose headers cannot be read or are not those of a chest radiograph.

    Parameters
    ----------
    sieve
        Its frame has `dicom` (bool), `problem` (why a header is none, or "") and the columns
        `NumberOfFrames`, `Modality` and `BodyPartExamined` as text; rows that are no `dicom` stay.
    selection
        The rules.

    Returns
    -------
    list of str
        What was left out for which words, and what headers do not tell.
    """
    notes = []
    unreadable = sieve.frame["problem"] != ""
    sieve.leave_out("unreadable DICOM header", unreadable, rare=True, bad=True)
    frames = pd.to_numeric(sieve.frame["NumberOfFrames"], errors="coerce")
    sieve.leave_out("several frames in one file", frames > 1, rare=True)
    for tag, what, allowed, fits in (
        ("Modality", "modality", selection.modalities, _is_one_of),
        ("BodyPartExamined", "body part", selection.body_parts, _names_one_of),
    ):
        values, dicom = sieve.frame[tag].str.upper(), sieve.frame["dicom"].to_numpy()
        absent = dicom & (values == "").to_numpy()
        wrong = dicom & ~absent & ~fits(values, allowed)
        if wrong.any():
            counted = values[wrong].value_counts()
            listed = ", ".join(f"{word} {count:,}" for word, count in counted.items())
            notes.append(f"{what} left out: {listed}")
        reason = f"{what} is not {', '.join(allowed)}"
        if selection.require_tags:
            sieve.leave_out(f"{reason}, or not given", wrong | absent)
            continue
        sieve.leave_out(reason, wrong)
        if absent.any():
            notes.append(f"{what} not given, kept: {int(absent.sum()):,}")
    return notes


def _is_one_of(values: pd.Series, words: Sequence[str]) -> npt.NDArray[np.bool_]:
    return values.isin([word.upper() for word in words]).to_numpy()


def _names_one_of(values: pd.Series, words: Sequence[str]) -> npt.NDArray[np.bool_]:
    pattern = "|".join(rf"\b{re.escape(word.upper())}\b" for word in words)
    return values.str.replace("_", " ").str.contains(pattern, regex=True).to_numpy()


def _check_rules(found: pd.DataFrame, selection: Selection, ruler: Ruler, source: Path) -> None:
    internal = ("name", "day", "dicom", "problem")
    columns = [str(name) for name in found if name not in internal]
    unknown = [
        f"{name}: column {rule.column!r}.{nearest(rule.column, columns)}"
        for name, rule in selection.exclude.items()
        if rule.column not in columns
    ]
    if unknown:
        raise ConfigError(
            f"data.select.exclude: neither a column of the image table nor a DICOM keyword that is "
            f"read:\n{bullet_list(unknown)}\nAllowed: {', '.join(columns)}"
        )
    problems = [
        text
        for rule in selection.exclude.values()
        if (text := ruler.problem(rule, found[rule.column], source))
    ]
    if problems:
        raise DataError(f"{source}: what is not understood\n" + "\n".join(problems))
