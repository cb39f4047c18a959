"""The configuration of verbs that take a bundle or predictions instead of training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from cxr_lightning.config.compose import (
    compose_groups,
    conf_folders,
    parse_overrides,
    set_value,
)
from cxr_lightning.config.messages import explain
from cxr_lightning.config.schema import DataConfig, Section
from cxr_lightning.config.sources import fill_sources
from cxr_lightning.config.validate import validate_section
from cxr_lightning.errors import ConfigError, bullet_list

__all__ = ["compose_data", "compose_options"]

# What a bundle says of the data it takes, and a command line therefore may not.
FROM_BUNDLE = ("data.image", "data.labels", "data.tabular")
Options = TypeVar("Options", bound=Section)


def compose_data(
    overrides: Sequence[str], options: type[Options], *, config_dir: Path | None = None
) -> tuple[Options, DataConfig]:
    """Return what a verb that takes a bundle needs: its own options, and the data to work on.

    `overrides` are ``data=choice``, ``data.key=value``, and ``key=value`` of the section `options`.
    Everything that is wrong with them is raised at once, as a ConfigError.
    """
    folders = conf_folders(config_dir)
    chosen, values = parse_overrides(overrides, folders)
    problems = [
        f"{group}={name}: decided in training, and part of the bundle; choose only data here"
        for group, name in chosen.items()
        if group != "data"
    ]
    own: dict[str, Any] = {}
    raw = compose_groups({"data": chosen["data"]}, config_dir) if "data" in chosen else {}
    if not raw:
        problems.append("data: required, e.g. data=nih data.root=/data/nih, or data=phantom")
    fill_sources(
        raw, values, folders, lambda one: compose_groups({"data": one}, config_dir)["data"]
    )
    for key, value in values.items():
        if any(f"{key}.".startswith(f"{one}.") for one in FROM_BUNDLE):
            problems.append(f"{key}={value}: the bundle says this; it cannot be set here")
        else:
            set_value(raw if key.startswith("data.") else own, key, value)
    own_options = _section(options, own, values, problems)
    config: Section | None = None
    if raw:
        config, found = validate_section("data", raw["data"], dict.fromkeys(values, "command line"))
        problems += found
    if problems or own_options is None or not isinstance(config, DataConfig):
        raise ConfigError(f"on the command line:\n{bullet_list(problems, limit=50)}")
    return own_options, config


def compose_options(overrides: Sequence[str], options: type[Options]) -> Options:
    """Return the options of a verb that needs no data.

    Raises
    ------
    ConfigError
        Everything that is wrong, at once.
    """
    chosen, values = parse_overrides(overrides, conf_folders(None))
    problems = [
        f"{group}={name}: there are no data to choose here" for group, name in chosen.items()
    ]
    own: dict[str, Any] = {}
    for key, value in values.items():
        set_value(own, key, value)
    found = _section(options, own, values, problems)
    if problems or found is None:
        raise ConfigError(f"on the command line:\n{bullet_list(problems, limit=50)}")
    return found


def _section(model: type[Options], raw: Any, values: Any, problems: list[str]) -> Options | None:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        problems += explain(error, model, (), dict.fromkeys(values, "command line"))
        return None
