"""Look at every image and every row once, and keep what a methods section or a referee asks for."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_lightning.audit.findings import Audit, ImageFindings, Labels
from cxr_lightning.audit.people import table_one
from cxr_lightning.config.schema import DataConfig
from cxr_lightning.data.cache import ImageCache
from cxr_lightning.data.cohort import Cohort
from cxr_lightning.labels import NO_FINDING
from cxr_lightning.studies import SPLITS, LeakageReport, audit_leakage, label_array

__all__ = ["audit_cohort"]

CONSTANT = 4.0
"""Grey values (of 255): an image with a smaller standard deviation shows nothing."""

ELONGATED = 2.0
"""A side this many times as long as the other is not a frontal or lateral chest."""

_CHUNK = 512
_NO_CONTRADICTION = (NO_FINDING, "Support Devices")


def audit_cohort(
    cohort: Cohort,
    cache: ImageCache,
    config: DataConfig,
    *,
    advance: Callable[[int], None] = lambda images: None,
) -> Audit:
    """Audit a cohort whose images have been decoded as far as they can be.

    Parameters
    ----------
    cohort, cache
        Rows of one are rows of the other.
    config
        Says whether bad images may be skipped, and the size of the network's input.
    advance
        Called with the number of images looked at, for a progress bar.
    """
    leaks = audit_leakage(cohort.table, cache.content_hash)
    images = _images(cohort, cache, config, advance)
    labels, bad = _labels(cohort), _bad(cohort, images)
    return Audit(
        cohort=cohort,
        leaks=leaks,
        images=images,
        labels=labels,
        table_one=table_one(cohort.table, config.tabular),
        shapes=_shapes(cache),
        invalid=tuple(_invalid(leaks, bad, labels, config)),
        warnings=tuple(_warnings(leaks, bad, images, labels, config)),
    )


def _images(
    cohort: Cohort, cache: ImageCache, config: DataConfig, advance: Callable[[int], None]
) -> ImageFindings:
    ids = cohort.table["sample_id"].to_numpy(dtype=object)
    good = cache.rows >= 0
    reasons = {str(path): reason for path, reason in cache.bad}
    lost = cohort.table[~good]
    bad = tuple(
        (sample, reasons.get(os.path.abspath(path), "cannot be read"))  # as the cache tells them
        for sample, path in zip(lost["sample_id"], lost["image_path"], strict=True)
    )
    spread = np.full(len(ids), np.inf)
    rows = np.flatnonzero(good)
    for start in range(0, len(rows), _CHUNK):
        part = rows[start : start + _CHUNK]
        pixels = cache.read(cache.rows[part])
        spread[part] = pixels.reshape(len(part), -1).std(axis=1)
        advance(len(part))
    height, width = cache.source_shape.T
    shorter, longer = np.minimum(height, width), np.maximum(height, width)
    duplicates = _duplicates(cohort, cache)
    return ImageFindings(
        bad=bad,
        constant=tuple(ids[spread < CONSTANT]),
        small=tuple(ids[good & (shorter < config.image.size)]),
        elongated=tuple(ids[good & (longer >= ELONGATED * shorter)]),
        duplicates=tuple(tuple(ids[group]) for group in duplicates),
        contradictions=tuple(
            tuple(ids[group]) for group in duplicates if _labels_differ(cohort, group)
        ),
    )


def _duplicates(cohort: Cohort, cache: ImageCache) -> list[npt.NDArray[np.int64]]:
    keys = pd.DataFrame({"hash": cache.content_hash, "split": cohort.table["split"].to_numpy()})
    again = keys[(cache.rows >= 0) & keys.duplicated(keep=False).to_numpy()]
    return [
        np.asarray(group, dtype=np.int64)
        for group in again.groupby(["hash", "split"]).groups.values()
    ]


def _labels_differ(cohort: Cohort, rows: npt.NDArray[np.int64]) -> bool:
    values = label_array(cohort.table.iloc[rows], cohort.labels)
    known = ~np.isnan(values)
    low = np.where(known, values, np.inf).min(axis=0)
    high = np.where(known, values, -np.inf).max(axis=0)
    return bool((low < high).any())


def _labels(cohort: Cohort) -> Labels:
    values = label_array(cohort.table, cohort.labels)
    split = cohort.table["split"].to_numpy(dtype=object)
    rows = []
    for column, name in enumerate(cohort.labels.names):
        for part in SPLITS:
            chosen = values[split == part, column]
            positive, negative = int((chosen == 1).sum()), int((chosen == 0).sum())
            known = positive + negative
            rows.append(
                {
                    "label": name,
                    "split": part,
                    "positive": positive,
                    "negative": negative,
                    "uncertain": int((chosen == -1).sum()),
                    "unknown": int(np.isnan(chosen).sum()),
                    "prevalence": positive / known if known else np.nan,
                }
            )
    present = (values == 1).astype(np.int64)
    return Labels(pd.DataFrame(rows), present.T @ present)


def _shapes(cache: ImageCache) -> pd.DataFrame:
    good = cache.source_shape[cache.rows >= 0]
    counted = pd.DataFrame(good, columns=["height", "width"]).value_counts().reset_index()
    return counted.rename(columns={"count": "images"})


def _bad(cohort: Cohort, images: ImageFindings) -> list[str]:
    """Say how many images cannot be used: by the flow, those of which the header tells it."""
    found = [f"{len(images.bad):,} image(s) are missing or unreadable"] if images.bad else []
    return found + [
        f"{step.left_out:,} image(s) are refused by their headers ({step.reason})"
        for step in cohort.flow
        if step.bad and step.left_out
    ]


def _invalid(leaks: LeakageReport, bad: list[str], labels: Labels, config: DataConfig) -> list[str]:
    found = []
    if leaks.patients:
        found.append(f"{len(leaks.patients):,} patient(s) are in more than one split")
    if leaks.duplicates and config.on_duplicate == "refuse":
        found.append(_duplicated(leaks))
    if config.on_bad_image == "refuse":
        found += [f"{text}; data.on_bad_image=skip would leave them out" for text in bad]
    counts = labels.counts
    one_class = counts[(counts["positive"] == 0) | (counts["negative"] == 0)]
    names = one_class.loc[one_class["split"] == "train", "label"]
    if len(names):
        found.append(f"the train split holds one class only of {', '.join(names)}")
    return found


def _duplicated(leaks: LeakageReport) -> str:
    return f"{len(leaks.duplicates):,} picture(s) with identical pixels are in more than one split"


def _warnings(
    leaks: LeakageReport,
    bad: list[str],
    images: ImageFindings,
    labels: Labels,
    config: DataConfig,
) -> list[str]:
    found = []
    if config.on_bad_image == "skip":
        found += [f"{text} and are left out" for text in bad]
    if leaks.duplicates and config.on_duplicate == "skip":
        found.append(f"{_duplicated(leaks)}; fit keeps those of the last")
    if images.constant:
        found.append(f"{len(images.constant):,} image(s) have hardly any contrast")
    if images.small:
        found.append(
            f"{len(images.small):,} image(s) are smaller than data.image.size={config.image.size} "
            "and are enlarged"
        )
    if images.elongated:
        found.append(f"{len(images.elongated):,} image(s) are twice as long as wide, or more")
    if images.duplicates:
        found.append(
            f"{len(images.duplicates):,} group(s) of images of one split have identical pixels"
        )
    if images.contradictions:
        found.append(f"{len(images.contradictions):,} of those groups disagree in their labels")
    if beside := _beside_no_finding(labels):
        found.append(f"images are positive for {NO_FINDING} and for a finding: {beside}")
    counts = labels.counts
    for part in ("val", "test"):
        here = counts[counts["split"] == part]
        one_class = here.loc[(here["positive"] == 0) | (here["negative"] == 0), "label"]
        if len(one_class):
            found.append(
                f"the {part} split holds one class only of {', '.join(one_class)}, so that nothing "
                "can be measured of them there"
            )
    rare = counts[(counts["split"] != "train") & counts["positive"].between(1, 9)]
    for split, few in rare.groupby("split", sort=False):
        names = ", ".join(f"{row.label} ({row.positive})" for row in few.itertuples())
        found.append(f"fewer than 10 positives in {split}, so that intervals are wide: {names}")
    return found


def _beside_no_finding(labels: Labels) -> str:
    """Return which findings are positive on images that state that there is none, and how often.

    Devices are no finding: CheXpert's labeler allows them there.
    """
    names = list(labels.counts["label"].unique())
    if NO_FINDING not in names:
        return ""
    counts = dict(zip(names, labels.together[names.index(NO_FINDING)].tolist(), strict=True))
    contradicted = {name: n for name, n in counts.items() if n and name not in _NO_CONTRADICTION}
    return ", ".join(f"{name} ({n:,})" for name, n in contradicted.items())
