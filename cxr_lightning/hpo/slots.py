"""Which device and how many threads each worker has."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from cxr_lightning.config.compose import config_to_yaml
from cxr_lightning.config.schema import Config, TrainerConfig
from cxr_lightning.errors import ConfigError
from cxr_lightning.hpo.channel import Message

__all__ = ["Slot", "make_slots"]


@dataclass(frozen=True)
class Slot:
    """A place for one trial at a time.

    Attributes
    ----------
    number
        From 0.
    threads
        CPU threads of its trial.
    environment
        What its process sets before it touches a device.
    """

    number: int
    threads: int
    environment: dict[str, str] = field(default_factory=dict)

    def job(self, kind: str, config: Config, parent: str | None, log: Path) -> Message:
        """Return what the server is told to run something here: a `trial`, or a whole `fit`."""
        return {
            "kind": kind,
            "config": config_to_yaml(config),
            "parent": parent,
            "threads": self.threads,
            "environment": self.environment,
            "log": str(log),
        }


def make_slots(workers: int, trainer: TrainerConfig, *, gpus: int, cpus: int) -> list[Slot]:
    """Divide this machine among workers.

    Each has a GPU of its own, or as many as a trial trains on; where there are more workers than
    that gives, they share. CPU threads are divided.

    Raises
    ------
    ConfigError
        A trial wants more GPUs than there are.
    """
    threads = max(1, cpus // workers)
    if trainer.accelerator == "cpu" or not gpus:
        return [Slot(number, threads) for number in range(workers)]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    names = [name.strip() for name in visible if name.strip()] or list(map(str, range(gpus)))
    each = len(names) if trainer.devices == "auto" else trainer.devices
    if each > len(names):
        raise ConfigError(f"trainer.devices={each}: this machine has {len(names)} GPU(s)")
    groups = [names[start : start + each] for start in range(0, len(names) - each + 1, each)]
    return [
        Slot(
            number,
            threads,
            {"CUDA_VISIBLE_DEVICES": ",".join(groups[number % len(groups)])},
        )
        for number in range(workers)
    ]
