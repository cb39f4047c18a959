"""Several data sets as one: the union of their labels, unknown where a source does not tell.

Each source is read, selected and split as it would be alone, by its own lists and policies, so that
a patient is in the same part with or without the others. Ids are prefixed with the source, and a
column `source` says whose image it is: subgroups, and draws as often from each, rest on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from cxr_lightning.config.schema import DataConfig, UncertaintyPolicy
from cxr_lightning.config.sources import SHARED
from cxr_lightning.data.cohort import Cohort, build_cohort
from cxr_lightning.data.mix_labels import Member, merge_labels
from cxr_lightning.data.phantom_root import PhantomSize
from cxr_lightning.data.previous import PREVIOUS
from cxr_lightning.data.reading import FlowStep, Reading
from cxr_lightning.errors import ConfigError, DataError, UserError
from cxr_lightning.label_maps import Match, translate_labels
from cxr_lightning.labels import LabelSpace

__all__ = ["Config", "read_studies"]


class Config(DataConfig):
    """Several data sets together."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    sources: tuple[str, ...] = Field(
        (),
        description="The data sets, by their names as choices of data: [nih,chexpert]. Each has a "
        "section of its own: data.nih.root=FOLDER, data.chexpert.uncertain=ones.",
    )
    root: Path | None = Field(
        None, description="phantom: every source is synthetic; else each source has its own root."
    )
    labels: tuple[str, ...] | None = Field(
        None,
        description="Labels to learn, in this order; none named: the union over the sources, in "
        "which labels of one meaning are one.",
    )
    split: Literal["official", "patient"] = Field(
        "official",
        description="official: each source by its own split; patient: every source is split anew.",
    )
    phantom: PhantomSize = Field(default_factory=PhantomSize)

    @property
    def parts(self) -> dict[str, DataConfig]:
        """The configuration of each source, as it was given."""
        return {name: (self.model_extra or {})[name] for name in self.sources}

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(part.name for part in self.parts.values())

    @property
    def synthetic(self) -> bool:
        return str(self.root) == "phantom" or any(part.synthetic for part in self.parts.values())

    @property
    def policies(self) -> frozenset[str]:
        return frozenset[str]().union(*(part.policies for part in self.parts.values()))

    @model_validator(mode="after")
    def _sources_are_data_sets(self) -> Config:
        names, extra = self.sources, self.model_extra or {}
        if len(names) == 1 or len(set(names)) < len(names):
            raise ValueError(
                f"sources=[{','.join(names)}]: two or more different data sets make a mix; use "
                "data=NAME for one"
            )
        if taken := set(names) & set(type(self).model_fields):
            raise ValueError(
                f"sources: {', '.join(sorted(taken))}: a field of the mix has this name. For "
                "synthetic images take any other source with root=phantom"
            )
        for name in {*names, *extra}:
            part = extra.get(name)
            if name not in names or not isinstance(part, DataConfig):
                raise ValueError(f"{name}: must be one of sources, and its section of data")
            if part.name == self.name:
                raise ValueError(f"sources: {name}: a mix of mixes; name their sources instead")
        return self

    @model_validator(mode="after")
    def _self_training_has_a_first_model(self) -> Config:
        # Each source has checked its own.
        if self.uncertain != "ignore" or self.first_model is not None:
            raise ValueError(
                "uncertain and first_model are set for each source, e.g. data.chexpert.uncertain="
                "ones; a first model's predictions are those of images and labels of the mix"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_shared(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        dumped: dict[str, Any] = serialize(self)
        for name in self.sources:
            if name in dumped:
                own = {key: one for key, one in dumped[name].items() if key not in SHARED}
                dumped[name] = own
        return dumped


def read_studies(config: Config) -> Reading:
    """Read every source, translate its labels to the union, and join the tables.

    Returns
    -------
    Reading
        A row per image, split already; `source` is the name of its source. A label that a source
        does not tell is NaN in its rows.

    Raises
    ------
    ConfigError, DataError
        What is wrong with the sources, all of them at once; labels of which a source knows none.
    """
    if not config.sources:
        raise ConfigError(
            "data.sources: required; the data sets to mix, e.g. data.sources=[nih,chexpert] "
            "data.nih.root=FOLDER data.chexpert.root=FOLDER"
        )
    if config.root is not None and str(config.root) != "phantom":
        raise ConfigError(
            f"data.root={config.root}: a mix has no folder of its own; set that of each source: "
            + " ".join(f"data.{name}.root=FOLDER" for name in config.sources)
        )
    cohorts = _read_all(config)
    members = {name: Member(_kind(name, config), cohort.labels) for name, cohort in cohorts.items()}
    union, matches = merge_labels(members)
    labels = union.choose(config.labels)
    chosen = {
        name: tuple(found[union.names.index(label)] for label in labels.names)
        for name, found in matches.items()
    }
    if idle := [name for name, found in chosen.items() if not any(one.sources for one in found)]:
        raise ConfigError(
            f"data.sources: {', '.join(idle)}: knows none of {', '.join(labels.names)}; leave it "
            "out, or choose other labels"
        )
    tables = [_table(name, cohort, chosen[name]) for name, cohort in cohorts.items()]
    return Reading(
        pd.concat(tables, ignore_index=True),
        labels,
        _flow(cohorts),
        (*_notes(chosen, labels), *_notes_of_sources(cohorts)),
        {
            name: _aims(name, config.parts[name], cohort.labels, chosen[name])
            for name, cohort in cohorts.items()
        },
    )


def _kind(name: str, config: Config) -> str:
    """Return whose labels a source has; those of a table of one's own are no other table's."""
    kind = config.parts[name].name
    return name if kind == "table" else kind


def _read_all(config: Config) -> dict[str, Cohort]:
    cohorts: dict[str, Cohort] = {}
    problems: list[UserError] = []
    for number, name in enumerate(config.sources):
        try:
            cohorts[name] = build_cohort(_as_if_alone(config, name, number))
        except (ConfigError, DataError) as error:
            own = (key for key in type(config.parts[name]).model_fields if key not in SHARED)
            keys = re.compile(rf"\bdata\.(?=(?:{'|'.join(own)})\b)")
            problems.append(type(error)(f"{name}: {keys.sub(f'data.{name}.', str(error))}"))
    if problems:
        kind = DataError if any(isinstance(one, DataError) for one in problems) else ConfigError
        raise kind("\n".join(str(one) for one in problems))
    return cohorts


def _as_if_alone(config: Config, name: str, number: int) -> DataConfig:
    """Return the whole configuration of a source."""
    part = config.parts[name]
    own: dict[str, Any] = {key: getattr(config, key) for key in SHARED if key != "phantom"}
    # The labels of the visit before are looked up in the whole table, by the mix's labels.
    own["tabular"] = tuple(column for column in part.tabular if column != PREVIOUS)
    if config.split == "patient":
        own["split"] = "patient"
    if "phantom" in (str(config.root), str(part.root)) and part.name != "phantom":
        # Other patients in each: the same ones twice would be duplicates.
        size = config.phantom.model_copy(update={"seed": config.phantom.seed + number})
        own |= {"root": Path("phantom"), "phantom": size}
    return part.model_copy(update=own)


def _table(name: str, cohort: Cohort, matches: Sequence[Match]) -> pd.DataFrame:
    table = translate_labels(cohort.table, cohort.labels, matches)
    ids = {key: f"{name}/" + table[key] for key in ("sample_id", "patient_id", "study_id")}
    return table.assign(**ids, source=name)


def _aims(name: str, part: DataConfig, labels: LabelSpace, matches: Sequence[Match]) -> DataConfig:
    """Return a source's configuration with its uncertainty policies by the mix's labels."""
    own = dict(zip(labels.names, labels.policies(part.uncertain), strict=True))
    policies: dict[str, UncertaintyPolicy] = {}
    for match in matches:
        found = sorted({own[label] for label in match.sources})
        if len(found) > 1:
            raise ConfigError(
                f"data.{name}.uncertain: {match.target} follows from "
                f"{' and '.join(match.sources)}, whose policies are {' and '.join(found)}; "
                "choose one for both"
            )
        if found:
            policies[match.target] = found[0]
    return part.model_copy(update={"uncertain": policies})


def _flow(cohorts: Mapping[str, Cohort]) -> tuple[FlowStep, ...]:
    """Join the flows: what all sources hold, then what each leaves out."""
    now = {name: cohort.flow[0] for name, cohort in cohorts.items()}

    def step(reason: str, left_out: int, bad: bool = False) -> FlowStep:
        images = sum(one.images for one in now.values())
        patients = sum(one.patients for one in now.values())
        return FlowStep(reason, left_out, images, patients, bad)

    steps = [step("in the data sets", 0)]
    for name, cohort in cohorts.items():
        for one in cohort.flow[1:]:
            now[name] = one
            steps.append(step(f"{name}: {one.reason}", one.left_out, one.bad))
    return tuple(steps)


def _notes(matches: Mapping[str, Sequence[Match]], labels: LabelSpace) -> tuple[str, ...]:
    """Say which labels the sources share, with what caution, and which they do not tell."""
    notes = []
    for place, label in enumerate(labels.names):
        found = {name: one[place] for name, one in matches.items()}
        known = {name: match for name, match in found.items() if match.sources}
        told = [
            name if match.sources == (label,) else f"{name} ({' or '.join(match.sources)})"
            for name, match in known.items()
        ]
        unknown = [f"{name}: {one.reason}" for name, one in found.items() if not one.sources]
        caution = {one.reason for one in known.values() if one.degree == "caution"}
        text = f"label {label}: of {' and '.join(told)}"
        text += "".join(f"; with caution: {reason}" for reason in sorted(caution))
        notes.append(text + "".join(f"; unknown in {reason}" for reason in unknown))
    return tuple(notes)


def _notes_of_sources(cohorts: Mapping[str, Cohort]) -> tuple[str, ...]:
    return tuple(f"{name}: {note}" for name, cohort in cohorts.items() for note in cohort.notes)
