"""From nested mappings to a validated :class:`Config`, or everything that is wrong with them."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cxr_lightning.config.groups import choices, shipped_conf
from cxr_lightning.config.messages import explain
from cxr_lightning.config.schema import Config, DataConfig, Section
from cxr_lightning.config.sources import MIX, source_problems, sources_of
from cxr_lightning.errors import ConfigError, bullet_list, nearest

__all__ = ["section_class", "validate_config", "validate_section"]

# Groups whose file names a module of the package that holds its `Config`.
_MODULES = {"data": "cxr_lightning.data", "loss": "cxr_lightning.losses"}


def section_class(group: str, name: str) -> type[Section]:
    """Return the `Config` class of a data set or loss, found by convention in its own module.

    Raises
    ------
    ConfigError
        No such module, naming those that exist.
    """
    known = _modules(group)
    if name not in known:
        raise ConfigError(
            f"{group}.name={name}: no such module.{nearest(name, known)} Allowed: "
            f"{', '.join(known)}"
        )
    config: type[Section] = importlib.import_module(f"{_MODULES[group]}.{name}").Config
    return config


def _modules(group: str) -> list[str]:
    folder = Path(__file__).resolve().parents[1] / _MODULES[group].split(".")[-1]
    return sorted(
        file.stem
        for file in folder.glob("*.py")
        if "\nclass Config(" in file.read_text(encoding="utf-8")
    )


def validate_config(raw: dict[str, Any], origin: Mapping[str, str]) -> Config:
    """Validate a nested mapping of all sections.

    Parameters
    ----------
    raw
        The sections, as read from files and the command line.
    origin
        Where sections and dotted keys were set, for the messages.

    Raises
    ------
    ConfigError
        Everything that is wrong, at once.
    """
    problems: list[str] = []
    for group in _MODULES:
        if group in raw:
            section, found = validate_section(group, raw[group], origin)
            problems += found
            raw = raw | {group: section}
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        problems += explain(error, Config, (), origin)
    else:
        problems += _unknown_trainer_options(config)
        if not problems:
            return config
    # A section that failed on its own is reported once, with its own words.
    problems = [text for text in dict.fromkeys(problems) if not text.startswith("(section)")]
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    raise ConfigError(f"{count} in the configuration\n{bullet_list(problems, limit=50)}")


def validate_section(
    group: str, raw: Any, origin: Mapping[str, str], path: tuple[str, ...] = ()
) -> tuple[Section | None, list[str]]:
    """Validate the section of a data set or loss by the class of its own module.

    Parameters
    ----------
    path
        Where the section sits, if not at the group: a source of data=mix is in ("data", NAME).

    Returns
    -------
    Section or None, list of str
        The section, and everything that is wrong.
    """
    path = path or (group,)
    name = raw.get("name") if isinstance(raw, dict) else None
    if not isinstance(name, str):
        return None, [
            f"{'.'.join(path)}.name: required; it names the module, e.g. {group}={_example(group)}"
        ]
    problems: list[str] = []
    try:
        model = section_class(group, name)
    except ConfigError as error:
        return None, [str(error)]
    if group == "data" and name == MIX and path == (group,):
        raw, problems = _with_sources(raw, model, origin)
    try:
        section = model.model_validate(raw)
    except ValidationError as error:
        told = explain(error, model, path, origin)
        strange = [key for key in raw if key not in model.model_fields]
        owners = {f"{'.'.join(path)}.{key}": _owner(group, key) for key in strange}
        return None, problems + [text + owners.get(re.split("[ :=]", text)[0], "") for text in told]
    return section, problems


def _owner(group: str, key: str) -> str:
    """Say which data sets or losses have a key; empty: none."""
    names = [
        f"{group}={name}"
        for name in _modules(group)
        if key in section_class(group, name).model_fields
    ]
    return f". It belongs to {' or '.join(names)}" if names else ""


def _with_sources(
    raw: dict[str, Any], model: type[Section], origin: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """Return a mix whose sources are validated, and what is wrong with them."""
    problems = source_problems(raw, model, origin)
    known = {key: raw[key] for key in raw if key in model.model_fields}
    for name in sources_of(raw):
        given = raw.get(name)
        section: Section | None = given if isinstance(given, DataConfig) else None
        if isinstance(given, dict):
            section, found = validate_section("data", given, origin, ("data", name))
            problems += found
        # Of one that is wrong, all has been said: an empty one stands in while the rest is checked.
        known[name] = section or DataConfig.model_construct(name=name)
    return known, problems


def _example(group: str) -> str:
    return next(iter(choices(group, [shipped_conf()])))


def _unknown_trainer_options(config: Config) -> list[str]:
    given = config.trainer.lightning_options
    if not given:
        return []
    import inspect

    from lightning.pytorch import Trainer

    ours = {
        "self",
        "logger",
        "callbacks",
        "default_root_dir",
        "use_distributed_sampler",
        "enable_checkpointing",  # a run keeps its best and last epoch
        "fast_dev_run",
        "limit_test_batches",  # a part of the test set is not the test set
        "limit_predict_batches",
        "plugins",
    }
    known = (set(inspect.signature(Trainer.__init__).parameters) - ours) | set(
        type(config.trainer).model_fields
    )
    if "max_steps" in given:
        return [
            f"trainer.max_steps={given['max_steps']!r}: runs are counted, scheduled and resumed in "
            "epochs: use trainer.max_epochs, with trainer.limit_train_batches for short ones"
        ]
    if given.get("limit_train_batches", 1) == 0:
        return ["trainer.limit_train_batches=0: nothing would be trained"]
    return [
        f"trainer.{key}={value!r}: neither a field of trainer nor an option of Lightning's Trainer."
        f"{nearest(key, known)}"
        for key, value in given.items()
        if key not in known
    ]
