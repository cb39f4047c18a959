"""From a data set's files to the cohort of a run: read, select, split, validate, count."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_lightning.config.schema import DataConfig
from cxr_lightning.data.previous import PREVIOUS, with_previous_labels
from cxr_lightning.data.reading import STRATUM, FlowStep, Reading, flow_step
from cxr_lightning.errors import ConfigError, DataError
from cxr_lightning.labels import LabelSpace
from cxr_lightning.studies import (
    SPLITS,
    audit_leakage,
    fingerprint,
    label_array,
    split_by_patient,
    validate_studies,
)

__all__ = ["Cohort", "build_cohort", "leave_out", "refuse_leaks", "split_counts"]

StudyReader = Callable[[DataConfig], Reading]


@dataclass(frozen=True)
class Cohort:
    """The images of a run.

    Attributes
    ----------
    table
        The study table, validated and split; rows are numbered from 0.
    labels
        The label columns, in the order of the network's outputs.
    flow
        How the table came about, step by step.
    all_images
        Every image path of the data set, also of rows left out: the cache is laid out over these,
        so that runs on different parts of a data set share it.
    fingerprint
        Hash of ids, labels and splits.
    notes
        How the files were understood, a sentence each.
    sources
        Of a mix, the configuration of each of its sources (see :class:`~.reading.Reading`).
    crossing
        Where the files put patients into more than one split (see there too).
    """

    table: pd.DataFrame
    labels: LabelSpace
    flow: tuple[FlowStep, ...]
    all_images: tuple[str, ...]
    fingerprint: str
    notes: tuple[str, ...] = ()
    sources: Mapping[str, DataConfig] = field(default_factory=dict)
    crossing: str = ""

    def rows(self, split: str) -> np.ndarray:
        """Return the row numbers of a split, int64, ascending."""
        return np.flatnonzero((self.table["split"] == split).to_numpy())

    def label_counts(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return how often each label is 1 and 0 in a split: two int64 arrays (labels,)."""
        values = label_array(self.table.iloc[self.rows(split)], self.labels)
        return (values == 1).sum(axis=0), (values == 0).sum(axis=0)


def build_cohort(config: DataConfig) -> Cohort:
    """Read a data set and bring it to the cohort that a configuration describes.

    Raises
    ------
    ConfigError, DataError
        Everything that is wrong with a table, a list or a choice.
    """
    reader: StudyReader = importlib.import_module(f"cxr_lightning.data.{config.name}").read_studies
    reading = reader(config)
    labels, studies = reading.labels, reading.table.reset_index(drop=True)
    all_images = tuple(studies["image_path"].tolist())
    if PREVIOUS in config.tabular:
        # Before anything is left out: a visit that is not used still came before.
        studies = with_previous_labels(studies, labels)
    flow = list(reading.flow) or [flow_step("in the data set", 0, studies)]
    for select in (_select_views, _select_patients):
        before = len(studies)
        reason, studies = select(studies, config)
        if reason:
            flow.append(flow_step(reason, before - len(studies), studies))
    if studies.empty:
        raise DataError("no image is left:\n" + "\n".join(_describe(step) for step in flow))
    # Of a mix, each source has told its own.
    unused = [] if reading.sources else _fractions_without_effect(config, studies["split"])
    studies = _split(studies, config, labels).reset_index(drop=True)
    validate_studies(studies, labels, source=f"data={config.name}")
    return Cohort(
        studies,
        labels,
        tuple(flow),
        all_images,
        fingerprint(studies, labels),
        (*reading.notes, *([reading.crossing] if reading.crossing else []), *unused),
        reading.sources,
        reading.crossing,
    )


def leave_out(cohort: Cohort, bad: np.ndarray, reason: str) -> Cohort:
    """Return the cohort without some rows, counted as a step of the flow.

    Parameters
    ----------
    bad : bool array of shape (rows,)
        The rows to leave out.
    """
    table = cohort.table.loc[~bad].reset_index(drop=True)
    validate_studies(table, cohort.labels, source=f"after leaving out {reason}")
    step = flow_step(reason, int(bad.sum()), table)
    return replace(
        cohort,
        table=table,
        flow=(*cohort.flow, step),
        fingerprint=fingerprint(table, cohort.labels),
    )


def refuse_leaks(
    cohort: Cohort, name: str, content_hash: npt.NDArray[np.uint64] | None = None
) -> None:
    """Raise DataError where patients, or identical pictures, are in more than one split.

    Parameters
    ----------
    cohort
        Of the data set `name`.
    content_hash : uint64 array of shape (rows,), optional
        Hash of each image's pixels; without it only patients are compared.
    """
    leaks = audit_leakage(cohort.table, content_hash)
    text = [f"data={name}: {leaks.describe()}"]
    if leaks.patients:
        text += [cohort.crossing] if cohort.crossing else []
        text += [
            "What is learnt of a person must not be tested on that person. Correct the lists or "
            "the column of splits, or use data.split=patient, which needs none."
        ]
    if leaks.duplicates:
        text += [
            "Leave copies out with data.on_duplicate=skip, or look at them first with "
            "python -m cxr_lightning.prepare."
        ]
    if not leaks.clean:
        raise DataError("\n".join(text))


def _describe(step: FlowStep) -> str:
    return f"  {step.reason}: {step.left_out:,} left out, {step.images:,} images remain"


def _select_views(studies: pd.DataFrame, config: DataConfig) -> tuple[str, pd.DataFrame]:
    if config.views is None:
        return "", studies
    return f"view is not {' or '.join(config.views)}", studies[studies["view"].isin(config.views)]


def _select_patients(studies: pd.DataFrame, config: DataConfig) -> tuple[str, pd.DataFrame]:
    if config.max_patients is None:
        return "", studies
    patients = np.sort(studies["patient_id"].unique())
    if len(patients) <= config.max_patients:
        return "", studies
    chosen = _draw(studies, patients, config.max_patients, config.split_seed)
    return f"beyond max_patients={config.max_patients}", studies[studies["patient_id"].isin(chosen)]


def _draw(studies: pd.DataFrame, patients: np.ndarray, count: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    lists = studies.groupby("patient_id", sort=True)["split"].first().to_numpy()
    names, sizes = np.unique(lists, return_counts=True)
    # Each published list keeps its share of patients, and at least one; what rounding leaves goes
    # to the largest remainders.
    exact = count * sizes / sizes.sum()
    shares = np.maximum(1, np.floor(exact).astype(int))
    for place in np.argsort(shares - exact, kind="stable")[: max(0, count - shares.sum())]:
        shares[place] += 1
    while shares.sum() > count:
        shares[shares.argmax()] -= 1
    drawn = [
        generator.permutation(patients[lists == name])[:share]
        for name, share in zip(names, shares, strict=True)
    ]
    return np.concatenate(drawn)


def _split(studies: pd.DataFrame, config: DataConfig, labels: LabelSpace) -> pd.DataFrame:
    """Cut what no list has decided: all three splits, or validation from "train_val".

    The columns that it is stratified over are dropped.
    """
    names = tuple(str(name) for name in studies if str(name).startswith(STRATUM))
    strata = studies[["patient_id", *(names or labels.names)]]
    labels = LabelSpace(names or labels.names)
    studies = studies.drop(columns=list(names))
    given = studies["split"]
    if given.isin(SPLITS).all():
        return studies
    if config.split == "patient" or (given == "").all():
        if config.split == "official":
            raise ConfigError(f"data={config.name} has no official split; use data.split=patient")
        fractions = {
            "train": 1 - config.val_fraction - config.test_fraction,
            "val": config.val_fraction,
            "test": config.test_fraction,
        }
        cut = split_by_patient(strata, fractions, labels=labels, seed=config.split_seed)
        return studies.assign(split=cut["split"])
    undecided = given == "train_val"
    if not undecided.any():
        return studies
    fractions = {"train": 1 - config.val_fraction, "val": config.val_fraction}
    cut = split_by_patient(strata[undecided], fractions, labels=labels, seed=config.split_seed)
    return studies.assign(split=given.where(~undecided, cut["split"]))


def _fractions_without_effect(config: DataConfig, given: pd.Series) -> list[str]:
    """Return a note on each chosen fraction that draws nothing, as lists tell those images."""
    if config.split == "patient":
        return []
    listed = ["test_fraction", *([] if (given == "train_val").any() else ["val_fraction"])]
    return [
        f"data.{name}={getattr(config, name)} has no effect: the data set's own lists say which "
        "images these are; data.split=patient draws them anew"
        for name in listed
        if getattr(config, name) != DataConfig.model_fields[name].default
    ]


def split_counts(cohort: Cohort) -> pd.DataFrame:
    """Return images, patients and positives per label of each split: a column per split."""
    table = cohort.table
    columns = {}
    for split in SPLITS:
        part = table[table["split"] == split]
        positives, _ = cohort.label_counts(split)
        columns[split] = {
            "images": len(part),
            "patients": part["patient_id"].nunique(),
            **dict(zip(cohort.labels.names, positives, strict=True)),
        }
    return pd.DataFrame(columns)
