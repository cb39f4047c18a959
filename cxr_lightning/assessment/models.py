"""A bundle on a data set: its images as the bundle wants them, in the labels both know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from cxr_lightning.bundle import Bundle, BundleInfo
from cxr_lightning.config.schema import AugmentConfig, DataConfig
from cxr_lightning.data.base import ChestXrayDataModule
from cxr_lightning.data.cache import ImageCache
from cxr_lightning.data.cohort import Cohort
from cxr_lightning.data.previous import previous_column
from cxr_lightning.data.rules import rules_of
from cxr_lightning.data.seen import why_untold
from cxr_lightning.data.table import Config as Table
from cxr_lightning.data.table_labels import labels_among
from cxr_lightning.data.targets import scored_targets
from cxr_lightning.data.transforms import Augmentation, sample_keys
from cxr_lightning.errors import ConfigError, DataError, bullet_list
from cxr_lightning.evaluation.predictions import TEXT_COLUMNS, make_predictions
from cxr_lightning.label_maps import OF_ONES_OWN, describe_matches, match_any, translate_labels
from cxr_lightning.labels import LabelSpace

__all__ = ["Target", "open_target", "predict_target"]

_FAMILY = {"phantom": "nih"}


@dataclass(frozen=True)
class Target:
    """A data set as one bundle sees it.

    Attributes
    ----------
    cohort
        Its labels are those of the bundle that the data set can tell.
    cache
        Rows of the cohort's table.
    notes
        What a reader must know: labels that are not comparable, another split.
    trained_on
        Whether the bundle was trained on this very data set, with the same splits.
    seen
        In which split the training had the patient of each row ("unseen": in none), object of
        shape (rows,); None where that cannot be told.
    untold
        Why it cannot.
    """

    config: DataConfig
    cohort: Cohort
    cache: ImageCache
    notes: tuple[str, ...]
    trained_on: bool = False
    seen: npt.NDArray[np.object_] | None = None
    untold: str = ""

    def rows(self, split: str) -> np.ndarray:
        """Return the rows of a split; "all": every row.

        Raises
        ------
        DataError
            There is none.
        """
        rows = np.arange(len(self.cohort.table)) if split == "all" else self.cohort.rows(split)
        if not len(rows):
            raise DataError(f"split={split}: data={self.config.name} has no image in it")
        return rows


def open_target(info: BundleInfo, config: DataConfig) -> Target:
    """Read a data set for a bundle, and decode what the cache lacks.

    Where the data set is that of the training, its labels are used as they are; else those that
    follow from its own by the maps of :mod:`cxr_lightning.label_maps`.

    Raises
    ------
    ConfigError, DataError
        What is wrong with the data; or no label of the bundle can be told from them.
    """
    trained_on = str(info.provenance.get("data", ""))
    kinds = tuple(info.provenance.get("data_sets", (trained_on,)))
    own = _families(config.kinds) == _families(kinds)
    inputs = tuple(column.name for column in info.tabular.columns)
    module = ChestXrayDataModule(
        config.model_copy(
            update={
                "image": info.image,
                "labels": info.labels if own else _labels_among(config, info.labels),
                "tabular": inputs,
            }
        ),
        AugmentConfig(name="none"),
        seed=0,
    )
    cohort = module.prepare(progress=True)
    notes = []
    same = own and cohort.fingerprint == info.provenance.get("fingerprint")
    untold = why_untold(info.seen, config)
    seen = info.seen.split_of(cohort.table, config) if info.seen and not untold else None
    # Where the bundle tells its patients, but not these, the two have a data set in common.
    if untold and not same and (info.seen or (own and config.name == trained_on)):
        notes.append(
            f"The bundle was trained on {trained_on}, with other images, labels or splits than "
            "these (the fingerprints differ): some of these patients may have been trained on; "
            f"{untold}. Give the data.* words of its training here too."
        )
    if own and not same and OF_ONES_OWN & set(kinds):
        notes.append(_for_the_reader(info, config))
    if not own:
        matches = match_any(config.kinds, cohort.labels, kinds, LabelSpace(tuple(info.labels)))
        known = tuple(match.target for match in matches if match.degree != "none")
        if not known:
            raise DataError(
                f"data={config.name} tells none of the bundle's labels:\n"
                f"{describe_matches(matches)}"
            )
        table = translate_labels(cohort.table, cohort.labels, matches)
        if previous_column("visit") in table:
            told = {previous_column(name): name for name in cohort.labels.names}
            before = table[list(told)].rename(columns=told)
            before = translate_labels(before, cohort.labels, matches)
            table = table.drop(columns=list(told)).join(before.rename(columns=previous_column))
        cohort = replace(cohort, table=table, labels=LabelSpace(known))
        notes.append(
            f"Trained on {trained_on or 'other data'}, evaluated on {config.name}: "
            f"{len(known)} of {len(info.labels)} labels are compared.\n{describe_matches(matches)}"
        )
    return Target(config, cohort, module.cache, tuple(notes), same, seen, untold)


def _for_the_reader(info: BundleInfo, config: DataConfig) -> str:
    """Say that labels which users define may differ, and whose rules do."""
    text = (
        f"Labels of data={config.name} are defined by who uses it. Those of the same names are "
        "compared; whether they mean the same is for the reader to judge."
    )
    before, here = info.provenance.get("rules", {}), rules_of(config)
    other = [
        f"{name}: {before[name]} in training, {here[name]} here"
        for name in info.labels
        if name in before and name in here and before[name] != here[name]
    ]
    return f"{text} Other rules:\n{bullet_list(other)}" if other else text


def _labels_among(config: DataConfig, wanted: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return what to read as labels of another data set; None: all that it tells."""
    if not isinstance(config, Table) or config.csv is None or config.labels or config.findings:
        return config.labels
    return labels_among(config.csv, config.delimiter, wanted)


def _families(kinds: Sequence[str]) -> list[str]:
    return sorted(_FAMILY.get(kind, kind) for kind in kinds)


def predict_target(
    bundle: Bundle,
    target: Target,
    split: str,
    *,
    batch_size: int,
    tta: int = 0,
    seed: int = 0,
    columns: Sequence[str] = (),
    advance: Callable[[int], None] = lambda images: None,
) -> pd.DataFrame:
    """Return the predictions table of a split, in the labels of the target's cohort.

    With `tta`, logits are the mean over the image itself and so many copies, varied as the policy
    `light` varies them; which copies, depends on (seed, copy, sample) alone. `columns` of the study
    table are kept beside the usual ones, where it has them.
    """
    rows = target.rows(split)
    table, labels = target.cohort.table.iloc[rows], target.cohort.labels
    device = next(bundle.network.parameters()).device
    keys = sample_keys(table["sample_id"])
    tabular = bundle.info.tabular.encode(table)
    variation = Augmentation(_light(), seed=seed) if tta else None
    parts = []
    for start in range(0, len(rows), batch_size):
        part = slice(start, start + batch_size)
        images = target.cache.read(target.cache.rows[rows[part]])
        inputs = torch.from_numpy(tabular[part]).to(device) if tabular.shape[1] else None
        copies = [images]
        if variation is not None:
            for copy in range(tta):
                epochs = np.full(len(images), copy)
                copies.append(variation.batch(images, epochs=epochs, keys=keys[part]))
        with torch.inference_mode():
            logits = [
                bundle.network(torch.from_numpy(one)[:, None].to(device), inputs).float().cpu()
                for one in copies
            ]
        parts.append(torch.stack(logits).mean(dim=0).numpy())
        advance(len(images))
    outputs = [bundle.info.labels.index(name) for name in labels.names]
    wanted = dict.fromkeys(("view", "sex", "age_years", "source", *columns))
    extra = [name for name in wanted if name in table and name not in TEXT_COLUMNS]
    return make_predictions(
        sample_id=list(table["sample_id"]),
        patient_id=list(table["patient_id"]),
        study_id=list(table["study_id"]),
        split=list(table["split"]),
        labels=labels.names,
        y_true=scored_targets(table, labels).values,
        logits=np.concatenate(parts)[:, outputs],
        extra={name: list(table[name]) for name in extra},
    )


def _light() -> AugmentConfig:
    from cxr_lightning.config.compose import compose

    try:
        return compose(["augment=light"]).augment
    except ConfigError as error:  # the shipped configuration composes
        raise RuntimeError(str(error)) from error
