"""The configuration that a sweep starts from, as a point of its space: the first trial."""

from __future__ import annotations

from typing import Any

from cxr_lightning.config.compose import config_to_dict
from cxr_lightning.config.groups import GROUPS
from cxr_lightning.errors import ConfigError
from cxr_lightning.hpo.check import Composer
from cxr_lightning.hpo.samplers import grid_values
from cxr_lightning.hpo.space import Categorical, Parameter, in_order, is_active, plain, word

__all__ = ["baseline"]


def baseline(composer: Composer) -> dict[str, Any] | None:
    """Return the values that the configuration has without the search; None: outside the space."""
    space = composer.reading.space
    base = config_to_dict(composer.trial([]))
    point: dict[str, Any] = {}
    for name, spec in in_order(space):
        if not is_active(spec, point, space.given):
            continue
        found, value = _group(composer, name, spec, base) if name in GROUPS else _field(
            name, spec, base
        )  # fmt: skip
        if not found:
            return None
        point[name] = value
    return point


def _group(
    composer: Composer, name: str, spec: Parameter, base: dict[str, Any]
) -> tuple[bool, Any]:
    for choice in grid_values(spec) or []:
        try:
            section = config_to_dict(composer.trial([word(name, choice)]))[name]
        except ConfigError:
            continue
        if section == base[name]:
            return True, choice
    return False, None


def _field(name: str, spec: Parameter, base: dict[str, Any]) -> tuple[bool, Any]:
    value: Any = base
    for key in name.split("."):
        if not isinstance(value, dict) or key not in value:
            return False, None
        value = value[key]
    if isinstance(spec, Categorical):
        known = grid_values(spec) or []
        found = next((one for one in known if plain(one) == plain(value)), _Absent)
        return found is not _Absent, found
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not spec.low <= value <= spec.high:
        return False, None
    if spec.step is not None and abs((value - spec.low) / spec.step % 1) > 1e-9:
        return False, None
    return True, value


class _Absent:
    """No value, where None is one."""
