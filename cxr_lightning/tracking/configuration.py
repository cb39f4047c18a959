"""Configurations that are kept: whole for whoever ran them, without passwords for others."""

from __future__ import annotations

from pathlib import Path

from ..config.compose import config_to_yaml
from ..config.schema import Config
from ..whole_file import whole_file
from .address import Address
from .run import TrackedRun

__all__ = ["keep_config", "without_password"]


def keep_config(run: TrackedRun, config: Config, file: Path) -> None:
    """Write a configuration for `--config`, and log it as others may see it."""
    with whole_file(file) as partial:
        partial.write_text(config_to_yaml(config), encoding="utf-8")
    run.log_text(config_to_yaml(without_password(config)), file.name)


def without_password(config: Config) -> Config:
    """Return a configuration as others may see it: the address of its runs has no password."""
    shown = Address(config.run.tracking_uri, "server", Path()).shown
    return config.model_copy(update={"run": config.run.model_copy(update={"tracking_uri": shown})})
