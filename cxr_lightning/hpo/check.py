"""A space held against the configuration's schema, before the first trial.

Every bound and every choice is composed at least once, as a trial would compose it, so that what a
trial could be refused for is known, and said, before anything is trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cxr_lightning.config.compose import compose
from cxr_lightning.config.groups import GROUPS, find_choice, search_path
from cxr_lightning.config.schema import Config
from cxr_lightning.errors import ConfigError
from cxr_lightning.hpo.reading import Reading, problems_message
from cxr_lightning.hpo.samplers import grid_values
from cxr_lightning.hpo.space import (
    EPOCH_METRICS,
    Categorical,
    FloatRange,
    IntRange,
    Parameter,
    Space,
    allowed,
    in_order,
    is_active,
    plain,
    word,
)

__all__ = ["Composer", "checked_configurations", "coverage"]


class Composer:
    """Makes the configurations of a sweep.

    Parameters
    ----------
    reading
        The space and the command line.
    config_file, config_dir
        As for `fit`.
    """

    def __init__(
        self, reading: Reading, *, config_file: Path | None = None, config_dir: Path | None = None
    ) -> None:
        self.reading = reading
        self._file, self._dir = config_file, config_dir
        self.folders = search_path(config_dir)

    def trial(self, suggested: list[str], origin: Mapping[str, str] | None = None) -> Config:
        """Return the configuration of a trial; `suggested` are its words."""
        space = self.reading.space
        return self._compose({**self._monitor(), **space.fixed, **space.budget}, suggested, origin)

    def full(self, suggested: list[str]) -> Config:
        """Return that of a run of the whole length: the study's, without the trials' budget."""
        return self._compose({**self._monitor(), **self.reading.space.fixed}, suggested, None)

    def _monitor(self) -> dict[str, Any]:
        # The epoch that is kept is the best by what is sought.
        found = [one for one in self.reading.space.metrics if one in EPOCH_METRICS]
        return {"trainer.monitor": found[0]} if found else {}

    def _compose(
        self, values: Mapping[str, Any], suggested: list[str], origin: Mapping[str, str] | None
    ) -> Config:
        # What the command line sets, it sets.
        own = {key: one for key, one in values.items() if key not in self.reading.space.given}
        words = [word(key, value) for key, value in own.items()]
        return compose(
            [*words, *self.reading.words, *suggested],
            config_file=self._file,
            config_dir=self._dir,
            origin={**dict.fromkeys(own, self.reading.source), **(origin or {})},
        )


def checked_configurations(composer: Composer) -> list[Config]:
    """Return configurations in which every bound and choice of the space occurs.

    Raises
    ------
    ConfigError
        Everything that is wrong, at once, saying which bound or choice it comes from.
    """
    reading = composer.reading
    problems: list[str] = []
    configurations: list[Config] = []
    space = _without_unknown_choices(reading.space, composer.folders, problems)
    for assignment in coverage(space):
        origin = {
            name: f"{_kind(reading.space.parameters[name], value)} in {reading.source}"
            for name, value in assignment.items()
        }
        words = [word(name, value) for name, value in assignment.items()]
        try:
            configurations.append(composer.trial(words, origin))
            composer.full(words)
        except ConfigError as error:
            head, _, rest = str(error).partition("\n")
            lines = [line.removeprefix("  - ") for line in rest.splitlines()]
            problems += lines if lines and " in the configuration" in head else [str(error)]
    if problems:
        where = f"the configurations of {reading.source}"
        raise ConfigError(problems_message(where, problems))
    return configurations


def _without_unknown_choices(space: Space, folders: Sequence[Path], problems: list[str]) -> Space:
    """Note choices of groups that do not exist; the rest can still be checked."""
    parameters = dict(space.parameters)
    for name, spec in space.parameters.items():
        # Any timm name is a model; the name itself is checked where networks are built.
        if name not in GROUPS or name == "model" or not isinstance(spec, Categorical):
            continue
        known = []
        for choice in spec.choices:
            try:
                find_choice(name, plain(choice), folders)
                known.append(choice)
            except ConfigError as error:
                problems.append(str(error).replace("\n", " ").replace("  - ", ""))
        if len(known) < len(spec.choices):
            parameters[name] = spec.model_copy(update={"choices": tuple(known)})
    return space.model_copy(update={"parameters": parameters})


def _kind(spec: Parameter, value: Any) -> str:
    if isinstance(spec, FloatRange | IntRange):
        return "low" if value == spec.low else "high"
    return "a choice"


def coverage(space: Space) -> Iterator[dict[str, Any]]:
    """Yield assignments in which each bound and choice occurs, in few of them."""
    extremes = {name: _extremes(spec) for name, spec in in_order(space)}
    missing = {name: list(values) for name, values in extremes.items()}
    while any(missing.values()):
        target = next(name for name, values in missing.items() if values)
        wanted = _needed(space, target) | {target: missing[target][0]}
        assignment: dict[str, Any] = {}
        for name, spec in in_order(space):
            if not is_active(spec, assignment, space.given):
                continue
            left = missing[name]
            value = wanted[name] if name in wanted else (left or extremes[name])[0]
            assignment[name] = value
            missing[name] = [one for one in left if plain(one) != plain(value)]
        if target not in assignment:
            # Its condition never holds: what the command line fixed says otherwise.
            missing[target] = []
            continue
        yield assignment


def _extremes(spec: Parameter) -> list[Any]:
    if isinstance(spec, FloatRange | IntRange):
        return [spec.low] if spec.low == spec.high else [spec.low, spec.high]
    return grid_values(spec) or []


def _needed(space: Space, name: str) -> dict[str, Any]:
    """Return values of other parameters that make one active."""
    needed: dict[str, Any] = {}
    for key, wanted in space.parameters[name].when.items():
        if key in space.parameters:
            needed |= _needed(space, key) | {key: allowed(wanted)[0]}
    return needed
