"""From nested mappings to a validated :class:`Config`, or everything that is wrong with them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cxr_lightning.config.groups import choices, shipped_conf
from cxr_lightning.config.messages import explain
from cxr_lightning.config.schema import Config, Section
from cxr_lightning.errors import ConfigError, bullet_list, nearest

__all__ = ["section_class", "validate_config"]

# Groups whose file names a module of the package that holds its `Config`.
_MODULES = {"data": "cxr_lightning.data", "loss": "cxr_lightning.losses"}


def section_class(group: str, name: str) -> type[Section]:
    """Return the `Config` class of a data set or loss, found by convention in its own module.

    Raises
    ------
    ConfigError
        No such module, naming those that exist.
    """
    package = _MODULES[group]
    folder = Path(__file__).resolve().parents[1] / package.split(".")[-1]
    known = sorted(
        file.stem
        for file in folder.glob("*.py")
        if "\nclass Config(" in file.read_text(encoding="utf-8")
    )
    if name not in known:
        raise ConfigError(
            f"{group}.name={name}: no such module.{nearest(name, known)} Allowed: "
            f"{', '.join(known)}"
        )
    config: type[Section] = importlib.import_module(f"{package}.{name}").Config
    return config


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
        if group not in raw:
            continue
        section = raw[group]
        name = section.get("name") if isinstance(section, dict) else None
        if not isinstance(name, str):
            problems.append(
                f"{group}.name: required; it names the module, e.g. {group}={_example(group)}"
            )
            raw = raw | {group: None}
            continue
        try:
            raw = raw | {group: section_class(group, name).model_validate(section)}
        except ConfigError as error:
            problems.append(str(error))
        except ValidationError as error:
            problems += explain(error, section_class(group, name), (group,), origin)
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
    if given.get("limit_train_batches", 1) == 0:
        return ["trainer.limit_train_batches=0: nothing would be trained"]
    return [
        f"trainer.{key}={value!r}: neither a field of trainer nor an option of Lightning's Trainer."
        f"{nearest(key, known)}"
        for key, value in given.items()
        if key not in known
    ]
