"""What is told to MLflow, as plain records that can be queued, written to a file and sent later.

A record is a dictionary of JSON values with a `kind`: metrics, params, tags, dataset, text,
artifact, model or status. Names and values are brought inside MLflow's limits here, once, so that a
server has no reason to refuse them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any

__all__ = [
    "LONGEST_PARAM",
    "Record",
    "batches",
    "clean_name",
    "is_file",
    "params_of",
    "split_finite",
    "tag_records",
]

Record = dict[str, Any]

LONGEST_NAME = 250
LONGEST_PARAM = 6000
LONGEST_TAG = 8000
PARAMS_PER_CALL = 100
METRICS_PER_CALL = 1000


@lru_cache(maxsize=4096)
def clean_name(name: str) -> str:
    """Return `name` with what MLflow refuses replaced by ``_``.

    Allowed are letters, digits, ``_ - . :``, spaces, and slashes between non-empty parts that are
    not ``.`` or ``..``; 250 characters at most.
    """
    parts = re.sub(r"[^\w\-. :/]", "_", name).split("/")
    kept = "/".join(part for part in parts if part not in ("", ".", ".."))[:LONGEST_NAME]
    return kept.rstrip("/") or "_"


def split_finite(metrics: Mapping[str, Any]) -> tuple[list[tuple[str, float]], dict[str, str]]:
    """Separate numbers that a chart can show from those it cannot.

    Parameters
    ----------
    metrics : mapping of str to number
        Anything that ``float()`` takes.

    Returns
    -------
    finite : list of (cleaned name, value)
    other : dict
        Cleaned name -> ``nan``, ``inf``, ``-inf`` or ``no number``.
    """
    finite: list[tuple[str, float]] = []
    other: dict[str, str] = {}
    for name, value in metrics.items():
        try:
            number = float(value)
        except (TypeError, ValueError):
            other[clean_name(str(name))] = "no number"
            continue
        if math.isfinite(number):
            finite.append((clean_name(str(name)), number))
        else:
            other[clean_name(str(name))] = str(number)
    return finite, other


def params_of(params: Mapping[str, Any]) -> tuple[dict[str, str], list[Record]]:
    """Turn values into MLflow's text; what is too long is cut and kept whole in a text file.

    Returns
    -------
    values : dict
        Cleaned name -> text of at most 6,000 characters.
    texts : list of Record
        One file ``params/NAME.txt`` for each value that was cut.
    """
    values: dict[str, str] = {}
    texts: list[Record] = []
    for name, value in params.items():
        key, text = clean_name(str(name)), str(value)
        if len(text) > LONGEST_PARAM:
            file = f"params/{key.replace('/', '.')}.txt"
            texts.append({"kind": "text", "text": text, "file": file})
            note = f" ... (whole in {file})"
            text = text[: LONGEST_PARAM - len(note)] + note
        values[key] = text
    return values, texts


def tag_records(tags: Mapping[str, Any]) -> list[Record]:
    """Tags as records of at most 100; values are cut at MLflow's 8,000 characters."""
    clean = {
        clean_name(str(key)): text if len(text := str(value)) <= LONGEST_TAG
        else text[: LONGEST_TAG - 4] + " ..."
        for key, value in tags.items()
    }  # fmt: skip
    return [{"kind": "tags", "values": dict(part)} for part in chunks(clean.items())]


def chunks(items: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Cut into lists of as many as one call may hold."""
    rest = iter(items)
    while part := list(islice(rest, PARAMS_PER_CALL)):
        yield part


def is_file(record: Record) -> bool:
    """Whether a record goes to the artifact store, which can fail on its own."""
    return record["kind"] in ("artifact", "model", "text")


def batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Group records that one call can carry: neighbouring metrics together, all else alone."""
    batch: list[Record] = []
    size = 0
    for record in records:
        count = len(record["values"]) if record["kind"] == "metrics" else METRICS_PER_CALL
        if batch and size + count > METRICS_PER_CALL:
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += count
    if batch:
        yield batch


def dumps(value: Any) -> str:
    """One line of JSON; text for what JSON does not know."""
    return json.dumps(value, default=str, ensure_ascii=False)
