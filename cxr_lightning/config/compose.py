"""From command line and configuration files to one validated :class:`Config`.

Hydra's compose API resolves the groups and their defaults lists; values given on the command line
are then laid over the result and the whole is validated by pydantic, so that a key which exists in
the schema can be set whether or not a file mentions it. This is the only module that imports hydra.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml

from cxr_lightning.config.groups import GROUPS, choices, find_choice, search_path, shipped_conf
from cxr_lightning.config.schema import Config
from cxr_lightning.config.sources import fill_sources
from cxr_lightning.config.validate import validate_config
from cxr_lightning.errors import ConfigError

__all__ = [
    "add_config_arguments",
    "compose",
    "compose_groups",
    "conf_folders",
    "config_from_dict",
    "config_from_file",
    "config_to_yaml",
    "parse_overrides",
    "set_value",
]

# One of {a: b, c: d} after a shell has taken the braces away.
_PAIR = re.compile(r"\w+:\w+")


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what every verb that takes a configuration understands."""
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="GROUP=CHOICE or KEY=VALUE",
        help="e.g. data=nih data.root=/data/nih loss=focal optim.lr=3e-4",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="start from a resolved config.yaml of a run"
    )
    parser.add_argument(
        "--config-dir",
        type=Path,
        metavar="DIR",
        help="a folder with your own groups, looked at first",
    )


def compose(
    overrides: Sequence[str] = (),
    *,
    config_file: Path | None = None,
    config_dir: Path | None = None,
    origin: Mapping[str, str] | None = None,
) -> Config:
    """Return the configuration that `overrides` describe.

    Parameters
    ----------
    overrides
        ``group=choice`` and ``key=value`` in Hydra's grammar, e.g. ``["loss=focal",
        "optim.lr=1e-4"]``.
    config_file
        A resolved ``config.yaml`` to start from instead of the defaults.
    config_dir
        Folder with groups of the user's own, which come before the shipped ones.
    origin
        Where keys among `overrides` come from, for the messages; the command line, if not said.

    Raises
    ------
    ConfigError
        Everything that is wrong, at once.
    """
    folders = conf_folders(config_dir)
    chosen, values = parse_overrides(overrides, folders)
    if config_file is None:
        raw = compose_groups(chosen, config_dir)
        files = {group: f"conf/{group}/{name}.yaml" for group, name in chosen.items()}
    else:
        raw = _read_yaml(config_file)
        files = {group: str(config_file) for group in raw}
        if "experiment" in chosen:
            raise ConfigError("experiment=... starts from the defaults: it cannot follow --config")
        fresh = compose_groups(chosen, config_dir) if chosen else {}
        raw |= {group: fresh[group] for group in chosen}
    fill_sources(
        raw, values, folders, lambda one: compose_groups({"data": one}, config_dir)["data"]
    )
    for key, value in values.items():
        set_value(raw, key, value)
    given = dict.fromkeys(values, "command line")
    return validate_config(raw, {**files, **given, **(origin or {})})


def conf_folders(config_dir: Path | None) -> list[Path]:
    """Return the folders of groups, the user's own first; ConfigError where there is none."""
    if config_dir is not None and not config_dir.is_dir():
        raise ConfigError(f"--config-dir {config_dir}: there is no such folder")
    return search_path(config_dir)


def config_from_file(file: Path) -> Config:
    """Return the configuration that a run wrote."""
    return config_from_dict(_read_yaml(file), origin=str(file))


def config_from_dict(raw: Mapping[str, Any], *, origin: str = "the given configuration") -> Config:
    """Validate a nested mapping; errors name `origin`."""
    return validate_config(dict(raw), dict.fromkeys(raw, origin))


def config_to_yaml(config: Config) -> str:
    """Return the resolved configuration as YAML that `--config` reads back to an equal one."""
    text: str = yaml.safe_dump(config_to_dict(config), sort_keys=False, allow_unicode=True)
    return text


def config_to_dict(config: Config) -> dict[str, Any]:
    """Return the resolved configuration as plain lists, dicts and scalars."""
    return config.model_dump(mode="json", serialize_as_any=True)


def parse_overrides(
    overrides: Sequence[str], folders: Sequence[Path]
) -> tuple[dict[str, str], dict[str, Any]]:
    """Split the words of a command line into chosen groups and set values.

    Returns
    -------
    dict, dict
        Group to choice, and dotted key to value.

    Raises
    ------
    ConfigError
        Every word that is not understood, at once.
    """
    chosen: dict[str, str] = {}
    values: dict[str, Any] = {}
    problems: list[str] = []
    for word in overrides:
        try:
            key, value = _parse_word(word)
            if key not in GROUPS:
                # data=table: the section data.image is about pixels, and can be set beside it
                short = key == "data.image" and isinstance(value, str)
                name = "data.image_column" if short else key
                if all(_PAIR.fullmatch(str(one)) for one in (values.get(name), value)):
                    whole = f"{name}={{{values[name]},{value}}}"
                    raise ConfigError(
                        f"{whole} was made several words by the shell: put it in quotes"
                    )
                values[name] = value
            elif not isinstance(value, str):
                raise ConfigError(f"{word}: {key} is a group; name one of its choices")
            elif key == "model" and value not in choices("model", folders):
                # Any timm or torchvision network works without a file of its own; the name
                # itself is checked where the network is built.
                chosen["model"] = "timm"
                values["model.name"] = value
            else:
                find_choice(key, value, folders)
                chosen[key] = value
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    return chosen, values


def _parse_word(word: str) -> tuple[str, Any]:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, equals, text = word.partition("=")
    if not equals or not key.replace(".", "").replace("_", "").isalnum():
        raise ConfigError(
            f"{word!r} is not understood: write GROUP=CHOICE or KEY=VALUE, e.g. loss=focal or "
            "optim.lr=1e-4"
        )
    try:
        override = OverridesParser.create().parse_override(word)
    except HydraException:
        # A path or address with characters outside Hydra's grammar is still plainly a word.
        if text[:1] in ("[", "{"):
            raise ConfigError(f"{word!r}: brackets or quotes do not match") from None
        return key, text
    if override.is_sweep_override():
        raise ConfigError(f"{word!r}: one value is expected; a list is written {key}=[{text}]")
    return key, override.value()


def compose_groups(chosen: Mapping[str, str], config_dir: Path | None) -> dict[str, Any]:
    """Return all sections of the chosen groups, and of the defaults of the others."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    _register_search_path()
    _UserFolder.folder = config_dir.resolve() if config_dir else None
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(shipped_conf()), version_base="1.3"):
            composed = hydra_compose(
                "config", [f"{group}={name}" for group, name in chosen.items()]
            )
        raw = OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise ConfigError(f"the configuration files do not compose: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigError("conf/config.yaml must be a mapping")
    return {str(key): value for key, value in raw.items() if key != "experiment"}


class _UserFolder:
    """Puts the folder given by --config-dir before the shipped one."""

    folder: ClassVar[Path | None] = None

    def manipulate_search_path(self, search_path: Any) -> None:
        if self.folder is not None:
            search_path.prepend("user", f"file://{self.folder}")


def _register_search_path() -> None:
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    plugins = Plugins.instance()
    if not any(issubclass(plugin, _UserFolder) for plugin in plugins.discover(SearchPathPlugin)):
        plugins.register(type("UserFolder", (_UserFolder, SearchPathPlugin), {}))


def _read_yaml(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ConfigError(f"{file}: there is no such configuration file")
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not YAML: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{file}: expected a mapping of sections, found {type(raw).__name__}")
    return raw


def set_value(raw: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key in nested sections, copying what is changed."""
    *parents, last = key.split(".")
    section = raw
    for depth, parent in enumerate(parents):
        inner = section.get(parent)
        if inner is None:
            inner = {}
        elif not isinstance(inner, dict):
            raise ConfigError(f"{key}: {'.'.join(parents[: depth + 1])} is a value, not a section")
        section[parent] = dict(inner)
        section = section[parent]
    section[last] = value
