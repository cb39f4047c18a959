"""An audit as a page for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from cxr_lightning import __version__
from cxr_lightning.audit import figures
from cxr_lightning.audit.findings import Audit
from cxr_lightning.config.schema import DataConfig
from cxr_lightning.data.cache import ImageCache
from cxr_lightning.html import figure_svg, picture_png, render_page, table_html
from cxr_lightning.studies import SPLITS

__all__ = ["audit_json", "audit_page"]

_SHOWN = 12
_PICTURE = 150  # CSS pixels


def audit_json(audit: Audit, config: DataConfig) -> str:
    """Return everything that was found: one JSON object, ids and counts, no paths."""
    cohort, images = audit.cohort, audit.images
    counts = audit.labels.counts
    content: dict[str, Any] = {
        "cxr_lightning": __version__,
        "data": config.name,
        "fingerprint": cohort.fingerprint,
        "invalid": list(audit.invalid),
        "warnings": list(audit.warnings),
        "flow": [asdict(step) for step in cohort.flow],
        "notes": list(cohort.notes),
        "table_one": {str(split): column.to_dict() for split, column in audit.table_one.items()},
        "labels": {
            name: {
                str(row["split"]): {
                    key: None if pd.isna(row[key]) else row[key]
                    for key in ("positive", "negative", "uncertain", "unknown", "prevalence")
                }
                for row in part.to_dict("records")
            }
            for name, part in counts.groupby("label", sort=False)
        },
        "positive_together": {
            name: dict(zip(cohort.labels.names, row.tolist(), strict=True))
            for name, row in zip(cohort.labels.names, audit.labels.together, strict=True)
        },
        "sizes": audit.shapes.to_dict("records"),
        "images": {
            **{key: value for key, value in asdict(images).items() if key != "bad"},
            "bad": [{"sample_id": sample, "reason": reason} for sample, reason in images.bad],
        },
        "leaks": asdict(audit.leaks),
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def audit_page(audit: Audit, cache: ImageCache, config: DataConfig) -> str:
    """Return the audit as one self-contained HTML page."""
    cohort = audit.cohort
    names = cohort.labels.names
    flagged = {
        "hardly any contrast": audit.images.constant,
        "elongated": audit.images.elongated,
        "smaller than the network's input": audit.images.small,
    }
    groups = {
        "identical pixels in one split": audit.images.duplicates,
        "identical pixels in one split, but other labels": audit.images.contradictions,
        "identical pixels in more than one split": [
            tuple(text.split(" (")[0] for text in group) for group in audit.leaks.duplicates
        ],
    }
    sizes = audit.shapes.head(10)
    return render_page(
        "audit.html.j2",
        title=f"Audit of data={config.name}",
        data=config.name,
        synthetic=config.synthetic,
        fingerprint=cohort.fingerprint,
        version=__version__,
        invalid=audit.invalid,
        warnings=audit.warnings,
        flow=cohort.flow,
        notes=cohort.notes,
        splits=[
            (
                split,
                int((cohort.table["split"] == split).sum()),
                cohort.table.loc[cohort.table["split"] == split, "patient_id"].nunique(),
            )
            for split in SPLITS
        ],
        table_one=table_html(audit.table_one),
        labels=table_html(_label_table(audit), index="label"),
        prevalence=figure_svg(figures.prevalence(audit.labels), alt="Prevalence by split"),
        values=(
            figure_svg(figures.label_values(audit.labels), alt="Values of each label")
            if audit.labels.counts[["uncertain", "unknown"]].to_numpy().any()
            else None
        ),
        together=(
            figure_svg(figures.together(audit.labels, names), alt="Labels that come together")
            if len(names) > 1
            else None
        ),
        people=figure_svg(figures.people(cohort.table), alt="Age, sex and views"),
        sizes=table_html(
            pd.DataFrame(
                {"images": [f"{count:,}" for count in sizes["images"]]},
                index=[f"{w} x {h}" for h, w in sizes[["height", "width"]].to_numpy()],
            ),
            index="width x height, pixels",
        ),
        more_sizes=max(0, len(audit.shapes) - len(sizes)),
        examples=_gallery(audit, cache, _examples(audit, cache)),
        flagged={
            title: (len(ids), _gallery(audit, cache, ids[:_SHOWN]))
            for title, ids in flagged.items()
            if ids
        },
        groups={
            title: (len(found), [_gallery(audit, cache, group[:6]) for group in found[:_SHOWN]])
            for title, found in groups.items()
            if found
        },
        bad=[(sample, reason) for sample, reason in audit.images.bad[:50]],
        bad_count=len(audit.images.bad),
    )


def _label_table(audit: Audit) -> pd.DataFrame:
    """Return positives and their share of the known per split, and what is not known."""
    counts = audit.labels.counts
    rows: dict[str, dict[str, str]] = {}
    for record in counts.to_dict("records"):
        cells = rows.setdefault(str(record["label"]), {})
        share = record["prevalence"]
        cells[str(record["split"])] = f"{record['positive']:,}" + (
            "" if pd.isna(share) else f" ({share:.1%})"
        )
    table = pd.DataFrame.from_dict(rows, orient="index")
    sums = counts.groupby("label", sort=False)[["uncertain", "unknown"]].sum()
    for column in ("uncertain", "unknown"):
        if sums[column].any():
            table[column] = [f"{value:,}" for value in sums[column]]
    return table


def _examples(audit: Audit, cache: ImageCache) -> list[str]:
    """Return some images drawn at random, the same for the same data."""
    table = audit.cohort.table
    good = np.flatnonzero(cache.rows >= 0)
    drawn = np.random.default_rng(0).permutation(good)[: 2 * _SHOWN]
    return [str(sample) for sample in table["sample_id"].iloc[drawn]]


def _gallery(audit: Audit, cache: ImageCache, samples: Sequence[str]) -> Markup:
    table = audit.cohort.table
    position = pd.Series(np.arange(len(table)), index=table["sample_id"])
    cells = []
    for sample in samples:
        row = int(position[sample])
        if cache.rows[row] < 0:
            continue
        positive = [name for name in audit.cohort.labels.names if table[name].iat[row] == 1]
        words = ", ".join(positive) or "none of the labels"
        picture = picture_png(cache.read([int(cache.rows[row])])[0], alt=sample, width=_PICTURE)
        cells.append(
            Markup(
                '<div style="width:{}px">{}{}<br><span class="soft">{} · {}</span></div>'
            ).format(_PICTURE, picture, sample, table["view"].iat[row], words)
        )
    return Markup('<div class="gallery">{}</div>').format(Markup("").join(cells))
