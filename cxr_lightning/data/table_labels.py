"""Labels of a table of one's own: a column for each, or one column of findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_lightning.data.columns import MISSING, bad_cells, each_distinct
from cxr_lightning.data.reading import strata
from cxr_lightning.data.tables import read_text_table
from cxr_lightning.errors import DataError, bullet_list, nearest

__all__ = ["VOCABULARY", "column_labels", "finding_labels", "finding_strata", "labels_among"]

VOCABULARY: dict[str, float] = {
    **dict.fromkeys(("1", "1.0", "yes", "y", "true", "t", "positive", "pos", "present", "+"), 1.0),
    **dict.fromkeys(("0", "0.0", "no", "n", "false", "f", "negative", "neg", "absent", "-"), 0.0),
    **dict.fromkeys(("-1", "-1.0", "uncertain", "equivocal", "possible", "maybe", "?"), -1.0),
    **dict.fromkeys(MISSING, np.nan),
}
"""What the words of a label column mean: 1, 0, -1 (uncertain) or NaN (unknown)."""

_ALLOWED = "1, yes, true, positive; 0, no, false, negative; -1, uncertain; blank, na, unknown"
_MOST_FINDINGS = 60
_SEPARATORS = "|;,/+&"

Labels = dict[str, npt.NDArray[np.float32]]


def column_labels(
    raw: pd.DataFrame,
    names: Sequence[str],
    own: Mapping[str, int | None],
    blank: float,
    file: Path,
) -> tuple[Labels, list[str], list[str]]:
    """Read a column per label.

    Parameters
    ----------
    raw
        The table, all text.
    names
        Columns that are labels.
    own
        What further words mean: 1, 0, -1 or None (unknown).
    blank
        What an empty cell means: 0 or NaN.
    file
        Where it is from, for the messages.

    Returns
    -------
    dict, list, list
        Float32 arrays by label; how each was understood; what was not.
    """
    words = VOCABULARY | {"": blank}
    words |= {key.lower(): np.nan if value is None else value for key, value in own.items()}
    labels: Labels = {}
    notes, problems = [], []
    for name in names:
        values, wrong = each_distinct(raw[name], lambda word: words.get(word.lower()), np.float32)
        if wrong.any():
            problems.append(_not_a_label(raw, name, wrong, file))
            continue
        labels[name] = values
        notes.append(f"label {name}: {_counts(values)}")
    return labels, notes, problems


def finding_labels(
    text: pd.Series,
    separator: str,
    none_words: Sequence[str],
    chosen: Sequence[str] | None,
    blank: float,
) -> tuple[Labels, list[str], list[str]]:
    """Read one column that lists what was found in each image.

    Parameters
    ----------
    text
        The column.
    separator
        What stands between two findings of a cell.
    none_words
        Words that say that nothing was found: no labels, unless they are chosen.
    chosen
        The labels; None: everything found, in alphabetical order.
    blank
        What an empty cell means: 0 (nothing found) or NaN (nobody looked).

    Returns
    -------
    dict, list, list
        As of :func:`column_labels`.
    """
    # Few distinct combinations stand for all rows: each is taken apart once.
    codes, combinations = pd.factorize(text)
    words = {*none_words, *(chosen or ())}
    sets, unknown_cells = _findings(combinations, separator, words)
    known = sorted(set().union(*sets))
    hint = _other_separator(known, separator)
    names = [word for word in known if word not in none_words] if chosen is None else list(chosen)
    problems = []
    if unknown := [name for name in names if name not in known]:
        listed = bullet_list(f"{name!r}.{nearest(name, known)}" for name in unknown)
        found = ", ".join(known[:_MOST_FINDINGS]) or "nothing"
        more = f" and {len(known) - _MOST_FINDINGS:,} more" if len(known) > _MOST_FINDINGS else ""
        problems.append(
            f"data.labels: not in column {text.name}:\n{listed}\nIt has: {found}{more}.{hint}"
        )
    elif chosen is None and len(names) > _MOST_FINDINGS:
        problems.append(
            f"{text.name} holds {len(names):,} different findings, such as "
            f"{', '.join(map(repr, names[:3]))}: name those to learn with data.labels.{hint}"
        )
    elif not names:
        problems.append(f"{text.name} holds no finding.{hint}")
    problems += _spellings(text, names, known)
    if problems:
        return {}, [], problems
    labels, notes = {}, []
    for name in names:
        per_cell = np.array([float(name in found) if found else blank for found in sets])
        per_cell[unknown_cells] = np.nan
        labels[name] = per_cell.astype(np.float32)[codes]
        notes.append(f"label {name}: {_counts(labels[name])}")
    if hint:
        notes.append(f"findings of {text.name}:{hint}")
    return labels, notes, []


def finding_strata(text: pd.Series, separator: str, none_words: Sequence[str]) -> Labels:
    """Return the findings of a column, the commonest where they are many, chosen or not."""
    codes, combinations = pd.factorize(text)
    sets, _ = _findings(combinations, separator, none_words)
    images = np.bincount(codes, minlength=len(sets))
    counts: Counter[str] = Counter()
    for found, count in zip(sets, images.tolist(), strict=True):
        counts.update(dict.fromkeys(found.difference(none_words), count))
    commonest = sorted(counts, key=lambda name: (-counts[name], name))[:_MOST_FINDINGS]
    return strata({name: np.array([name in found for found in sets])[codes] for name in commonest})


def _findings(
    cells: pd.Index, separator: str, words: Collection[str]
) -> tuple[list[set[str]], npt.NDArray[np.bool_]]:
    """Take cells apart: their findings, and whether there is only a word for "not known".

    Such a word is one of `MISSING` that `words`, which mean something here, does not hold.
    """
    sets, unknown = [], []
    for cell in cells:
        found = {word.strip() for word in str(cell).split(separator)} - {""}
        missing = {word for word in found if word.lower() in MISSING and word not in words}
        sets.append(found - missing)
        unknown.append(bool(missing) and found == missing)
    return sets, np.array(unknown, dtype=bool)


def _spellings(text: pd.Series, names: Sequence[str], known: Sequence[str]) -> list[str]:
    """Point at labels that the column also writes in other letters: their images would be 0."""
    spelled: dict[str, list[str]] = {}
    for word in known:
        spelled.setdefault(word.casefold(), []).append(word)
    twice = {key: words for key, words in spelled.items() if len(words) > 1}
    found = [twice[key] for key in dict.fromkeys(name.casefold() for name in names) if key in twice]
    if not found:
        return []
    lines = bullet_list([" and ".join(map(repr, words)) for words in found])
    return [f"{text.name}: one finding in several spellings; make them one:\n{lines}"]


def labels_among(file: Path, delimiter: str, wanted: Sequence[str]) -> tuple[str, ...]:
    """Return which of the labels of a network are columns of a table.

    Raises
    ------
    DataError
        None of them is.
    """
    columns = read_text_table(file, required=(), delimiter=delimiter).columns
    found = tuple(name for name in wanted if name in columns)
    if not found:
        raise DataError(
            f"{file}: none of the labels {', '.join(wanted)} is a column of it. It has "
            f"{', '.join(columns)}. Rename those that mean the same, or name one that lists what "
            "was found with data.findings=COLUMN."
        )
    return found


def _not_a_label(raw: pd.DataFrame, name: str, wrong: npt.NDArray[np.bool_], file: Path) -> str:
    text = raw[name].str.strip()
    cells = bad_cells(file, text, wrong)
    numbers = pd.to_numeric(text[wrong], errors="coerce")
    if numbers.between(0, 1).all():
        what = "Probabilities are no labels: choose a threshold and write 0 and 1."
    elif numbers.notna().all():
        what = "Are these measurements? data=ehr makes labels of them by rules."
    elif wrong.mean() > 0.5 and text[wrong].nunique() > 2:
        what = f"If it lists findings, use data.findings={name} in place of data.labels."
    else:
        word = text[wrong].value_counts().index[0]
        what = f"Say what such a word means, e.g. 'data.values={{{word}: 1}}' (1, 0, -1 or null)."
    return f"label {name} has values that mean nothing here:\n{cells}\nAllowed: {_ALLOWED}. {what}"


def _counts(values: npt.NDArray[np.float32]) -> str:
    named = {"positive": values == 1, "negative": values == 0, "uncertain": values == -1}
    counted = [f"{int(are.sum()):,} {what}" for what, are in named.items()]
    return ", ".join([*counted, f"{int(np.isnan(values).sum()):,} unknown"])


def _other_separator(known: Sequence[str], separator: str) -> str:
    """Point at a character that stands in many findings although it does not separate them."""
    for other in _SEPARATORS:
        count = sum(other in word for word in known)
        if other != separator and count > 0.3 * len(known) and count > 1:
            return f" {count:,} findings hold {other!r}; does it separate? data.separator='{other}'"
    return ""
