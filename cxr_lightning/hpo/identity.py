"""What makes a study the same study: its space, base configuration and data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError

from cxr_lightning.config.compose import config_to_dict
from cxr_lightning.config.schema import Config
from cxr_lightning.errors import ConfigError, bullet_list
from cxr_lightning.hpo.reading import Reading
from cxr_lightning.hpo.storage import Storage

__all__ = ["IDENTITY", "differences", "identity", "open_study"]

IDENTITY = "identity"
# Where and on what a sweep runs, and how the next trial is chosen, may differ between its parts.
_FREE = {
    "run": None,
    "resume": None,
    "data": ("root", "cache_dir", "workers", "residency"),
    "trainer": ("accelerator", "threads", "precision"),
}
_SPACE = ("objective", "fixed", "budget", "parameters")


def identity(reading: Reading, base: Config, fingerprint: str) -> dict[str, Any]:
    """Return what has to stay the same as long as a study lasts, as JSON values."""
    configuration = config_to_dict(base)
    for section, fields in _FREE.items():
        if fields is None:
            configuration.pop(section, None)
        else:
            for field in fields:
                configuration[section].pop(field, None)
    space = reading.space.model_dump(mode="json", include=set(_SPACE))
    return {"data fingerprint": fingerprint, "space": space, "configuration": configuration}


def open_study(storage: Storage, name: str, reading: Reading, kept: Mapping[str, Any]) -> bool:
    """Create a study, or continue one of the same identity; returns whether it was there before.

    Raises
    ------
    ConfigError
        A study of that name has another space, configuration or data, saying what differs.
    """
    directions = list(reading.space.objective.values())
    with storage.locked(name):
        try:
            optuna.create_study(storage=storage.rdb, study_name=name, directions=directions)
            new = True
        except DuplicatedStudyError:
            new = False
        number = storage.rdb.get_study_id_from_name(name)
        attributes = storage.rdb.get_study_user_attrs(number)
        if new or (IDENTITY not in attributes and not storage.rdb.get_all_trials(number)):
            storage.rdb.set_study_user_attr(number, IDENTITY, dict(kept))
            storage.rdb.set_study_user_attr(number, "metrics", list(reading.space.metrics))
            # The names that Optuna's own tools show.
            storage.rdb.set_study_system_attr(
                number, "study:metric_names", list(reading.space.metrics)
            )
            return False
    if IDENTITY not in attributes:
        raise ConfigError(
            f"--study {name}: {storage.address.shown} holds a study of that name that no sweep "
            "made. Choose another name."
        )
    if found := list(differences(attributes[IDENTITY], dict(kept))):
        raise ConfigError(
            f"--study {name}: it is another study than this one. Its trials could not be compared "
            f"with new ones:\n{bullet_list(found, limit=30)}\n"
            "Give what it had before, or begin another one with --study NAME."
        )
    return True


def differences(before: Any, now: Any, place: str = "") -> Iterator[str]:
    """Yield a line for each value that differs between two nested mappings."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *(key for key in now if key not in before)]:
            inner = f"{place}.{key}" if place else str(key)
            yield from differences(before.get(key), now.get(key), inner)
    elif before != now:
        yield f"{place}: {_shown(before)} before, {_shown(now)} now"


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
