"""From `conf/sweep/NAME.yaml` and the command line to a :class:`Space`, or all that is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from cxr_lightning.config.compose import parse_overrides
from cxr_lightning.config.groups import GROUPS, find_choice, search_path
from cxr_lightning.config.messages import explain
from cxr_lightning.config.schema import Section
from cxr_lightning.errors import ConfigError, bullet_list, nearest
from cxr_lightning.hpo.samplers import grid_values
from cxr_lightning.hpo.space import (
    EPOCH_METRICS,
    LATENCY,
    Categorical,
    FloatRange,
    IntRange,
    Space,
    allowed,
    plain,
)

__all__ = ["Reading", "problems_message", "read_space"]

DEFAULT = "default"
_KINDS: dict[str, type[Section]] = {
    "float": FloatRange,
    "int": IntRange,
    "categorical": Categorical,
}
_VARIED_GROUPS = ("model", "loss", "optim", "augment")
_NOT_VARIED = {
    "run": "where a run is kept is no part of its configuration",
    "resume": "a trial starts anew",
    "evaluation": "it comes after training, and changes what is measured",
    "trainer.monitor": "the objective says it",
    **{
        f"data.{field}": "trials on other images cannot be compared"
        for field in (
            *("name", "root", "labels", "views", "split", "split_seed", "val_fraction"),
            *("test_fraction", "max_patients", "on_bad_image"),
        )
    },
    "data.cache_dir": "where images are kept changes no result",
    **{
        f"trainer.{field}": "what a trial runs on is the same for all"
        for field in ("accelerator", "devices", "num_nodes", "strategy", "threads")
    },
}


@dataclass(frozen=True)
class Reading:
    """A space, and where it came from.

    Attributes
    ----------
    name
        Of the file, without `.yaml`.
    space
        What it says, after the command line.
    words
        Of the command line, without those about the sweep: groups and fields of the configuration.
    """

    name: str
    space: Space
    words: tuple[str, ...]

    @property
    def source(self) -> str:
        """What the user chose it by."""
        return f"sweep={self.name}"


def read_space(words: Sequence[str], *, config_dir: Path | None = None) -> Reading:
    """Read the space that the words of a command line choose.

    ``sweep=NAME`` chooses the file, ``sweep.KEY=VALUE`` sets a field of it, and a value for a
    parameter of the space fixes it: it is not varied any more.

    Raises
    ------
    ConfigError
        Everything that is wrong with the space by itself, at once.
    """
    folders = search_path(config_dir)
    own, chosen = [], DEFAULT
    settings: dict[str, Any] = {}
    for one in words:
        key, _, text = one.partition("=")
        if key == "sweep":
            chosen = text
        elif key.startswith("sweep."):
            _, values = parse_overrides([one], folders)
            settings |= {name.removeprefix("sweep."): value for name, value in values.items()}
        else:
            own.append(one)
    file = find_choice("sweep", chosen, folders)
    raw = _raw(file)
    for key, value in settings.items():
        _set(raw, key.split("."), value)
    given = _given(own, folders)
    parameters = raw.get("parameters")
    if isinstance(parameters, dict):
        raw = raw | {"parameters": {k: v for k, v in parameters.items() if k not in given}}
    problems = _section_problems(raw)
    if parameters and not raw["parameters"]:
        problems = [
            f"parameters: the command line fixes {', '.join(parameters)}; nothing is left to vary"
        ]
    if not problems:
        space = Space.model_validate(raw | {"given": given})
        problems = [
            *_parameter_problems(space),
            *_condition_problems(space, list(parameters or ())),
            *_objective_problems(space),
        ]
        if not problems:
            return Reading(chosen, space, tuple(own))
    raise ConfigError(problems_message(f"sweep={chosen} ({file})", problems))


def problems_message(where: str, problems: Sequence[str]) -> str:
    """Return one message of several problems."""
    distinct = list(dict.fromkeys(problems))
    count = "1 problem" if len(distinct) == 1 else f"{len(distinct)} problems"
    return f"{count} in {where}\n{bullet_list(distinct, limit=50)}"


def _raw(file: Path) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not YAML: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{file}: expected a mapping, found {type(raw).__name__}")
    return raw


def _set(raw: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        inner = raw.get(key)
        raw[key] = dict(inner) if isinstance(inner, dict) else {}
        raw = raw[key]
    raw[keys[-1]] = value


def _given(words: Sequence[str], folders: Sequence[Path]) -> dict[str, Any]:
    """Return what the command line sets, by group and dotted field."""
    chosen, values = parse_overrides(words, folders)
    given: dict[str, Any] = dict(chosen) | values
    if chosen.get("model") == "timm" and "model.name" in values:
        given["model"] = values["model.name"]  # model=resnet34, without a file of its own
    return given


def _section_problems(raw: dict[str, Any]) -> list[str]:
    """Return what pydantic finds, each parameter in the words of its own kind."""
    problems = []
    raw = dict(raw)
    parameters = raw.get("parameters")
    if isinstance(parameters, dict):
        for name, spec in parameters.items():
            problems += _spec_problems(str(name), spec)
        raw["parameters"] = {"any": {"type": "float", "low": 0, "high": 1}}
    try:
        Space.model_validate(raw)
    except ValidationError as error:
        problems += explain(error, Space, (), {})
    return problems


def _spec_problems(name: str, spec: Any) -> list[str]:
    where = f"parameters.{name}"
    if not isinstance(spec, dict):
        return [f"{where}={spec}: must be a mapping, e.g. {{type: float, low: 0.1, high: 0.5}}"]
    kind = spec.get("type")
    if kind not in _KINDS:
        shown = "" if kind is None else f"={kind}"
        return [
            f"{where}.type{shown}: must be one of {', '.join(_KINDS)}.{nearest(str(kind), _KINDS)}"
        ]
    try:
        _KINDS[str(kind)].model_validate(spec)
    except ValidationError as error:
        return explain(error, _KINDS[str(kind)], ("parameters", name), {})
    return []


def _parameter_problems(space: Space) -> list[str]:
    problems = []
    for name, spec in space.parameters.items():
        where = f"parameters.{name}"
        if name in GROUPS and name not in _VARIED_GROUPS:
            problems.append(
                f"{where}: the group {name} cannot vary within a study; "
                f"{', '.join(_VARIED_GROUPS)} can"
            )
        if name in GROUPS and not isinstance(spec, Categorical):
            problems.append(f"{where}: a group is categorical: its choices are names")
        for key, reason in _NOT_VARIED.items():
            if f"{name}.".startswith(f"{key}."):
                problems.append(f"{where}: cannot vary: {reason}")
        if space.sampler.name == "grid" and grid_values(spec) is None:
            problems.append(
                f"{where}: a grid needs values that can be counted: give it a step, or make it "
                "categorical"
            )
        if space.sampler.name == "cmaes" and isinstance(spec, Categorical):
            problems.append(
                f"{where}: sampler.name=cmaes takes numbers only; use tpe, or fix it on the "
                "command line"
            )
        if clash := [key for key in ("fixed", "budget") if name in getattr(space, key)]:
            problems.append(f"{where}: set by {clash[0]} as well; choose one")
    return problems


def _condition_problems(space: Space, listed: list[str]) -> list[str]:
    """Return conditions that name nothing that varies, or values that never occur."""
    problems = []
    for name, spec in space.parameters.items():
        for key, wanted in spec.when.items():
            where = f"parameters.{name}.when.{key}"
            if key not in listed:
                problems.append(
                    f"{where}: not a parameter of this space.{nearest(key, listed)} A condition "
                    f"names one of: {', '.join(one for one in listed if one != name)}"
                )
                continue
            other = space.parameters.get(key)
            if other is None:
                continue  # fixed on the command line
            values = grid_values(other)
            if values is None:
                problems.append(f"{where}: {key} is a range; conditions need a list of values")
                continue
            known = [plain(value) for value in values]
            problems += [
                f"{where}={plain(one)}: never a value of {key}.{nearest(plain(one), known)} "
                f"It has: {', '.join(known)}"
                for one in allowed(wanted)
                if plain(one) not in known
            ]
    circle = _circle(space)
    if circle:
        problems.append(f"parameters: the conditions of {', '.join(circle)} wait for one another")
    return problems


def _circle(space: Space) -> list[str]:
    waiting = dict(space.parameters)
    while True:
        ready = [name for name, spec in waiting.items() if not set(spec.when) & set(waiting)]
        if not ready:
            return sorted(waiting)
        for name in ready:
            del waiting[name]


def _objective_problems(space: Space) -> list[str]:
    problems = []
    for metric in space.metrics:
        if metric.startswith("test/"):
            problems.append(
                f"objective.{metric}: a trial never reads the test set; use "
                f"val/{metric.removeprefix('test/')}"
            )
        elif not metric.startswith("val/") and metric != LATENCY:
            problems.append(
                f"objective.{metric}: must be a validation metric, val/..., or {LATENCY}."
                f"{nearest(metric, (*EPOCH_METRICS, LATENCY))}"
            )
    if space.pruned_by is not None:
        if len(space.metrics) > 1:
            problems.append(
                f"pruner.name={space.pruner.name}: trials with several objectives cannot be "
                "pruned; use pruner.name=none"
            )
        elif space.pruned_by not in EPOCH_METRICS:
            problems.append(
                f"pruner.name={space.pruner.name}: {space.pruned_by} is not measured every epoch, "
                f"as {', '.join(EPOCH_METRICS)} are.{nearest(space.pruned_by, EPOCH_METRICS)} Use "
                "pruner.name=none or another objective"
            )
    if space.sampler.name == "cmaes" and len(space.metrics) > 1:
        problems.append("sampler.name=cmaes: one objective only; use tpe")
    return problems
