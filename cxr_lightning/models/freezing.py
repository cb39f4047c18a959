"""Which parameters are trained: freezing by stage, and letting go again."""

from __future__ import annotations

import re

from cxr_lightning.errors import ConfigError, bullet_list, nearest
from cxr_lightning.models.network import Network

__all__ = ["freeze_stages", "frozen_parameters", "unfreeze_all"]


def frozen_parameters(network: Network, freeze: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return the names, as in `network.named_parameters()`, of the parameters that `freeze` means.

    Parameters
    ----------
    freeze : `none`; `backbone`; `all_but_last_N` (the backbone but for its last N stages); or the
        name of a stage of the backbone, or several. Pooling and head are never frozen.

    Raises
    ------
    ConfigError
        An unknown stage or a number of stages that the backbone does not have, with its stages.
    """
    stages = network.backbone.stages
    frozen = _frozen_stages(tuple(stages), freeze)
    return tuple(f"backbone.{name}" for stage in frozen for name in stages[stage])


def freeze_stages(network: Network, freeze: str | tuple[str, ...]) -> tuple[str, ...]:
    """Train everything but what `freeze` means, and return the names of what is frozen.

    Frozen parameters no longer require a gradient, and batch-norm layers that hold them stay in
    evaluation mode (see :class:`Network`), so that their running statistics do not move either.
    """
    frozen = set(frozen_parameters(network, freeze))
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name not in frozen)
    network.train(network.training)
    return tuple(name for name, _ in network.named_parameters() if name in frozen)


def unfreeze_all(network: Network) -> None:
    """Train everything, batch-norm statistics included."""
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    network.train(network.training)


def _frozen_stages(stages: tuple[str, ...], freeze: str | tuple[str, ...]) -> tuple[str, ...]:
    names = (freeze,) if isinstance(freeze, str) else freeze
    if len(names) == 1:
        if names[0] == "none":
            return ()
        if names[0] == "backbone":
            return stages
        if number := re.fullmatch(r"all_but_last_(\d+)", names[0]):
            return _all_but_last(stages, int(number[1]))
    problems = []
    for name in names:
        if name in ("none", "backbone") or name.startswith("all_but_last_"):
            problems.append(f"{name!r} stands alone and takes no other stage beside it")
        elif name not in stages:
            problems.append(f"{name!r} is no stage of this backbone.{nearest(name, stages)}")
    if problems:
        raise ConfigError(f"model.freeze={freeze!r}:\n{bullet_list(problems)}\n{_allowed(stages)}")
    return tuple(stage for stage in stages if stage in names)


def _all_but_last(stages: tuple[str, ...], number: int) -> tuple[str, ...]:
    if not 1 <= number <= len(stages):
        raise ConfigError(
            f"model.freeze=all_but_last_{number}: this backbone has {len(stages)} stages, so N is "
            f"from 1 to {len(stages)}.\n{_allowed(stages)}"
        )
    return stages[: len(stages) - number]


def _allowed(stages: tuple[str, ...]) -> str:
    return (
        "Allowed are none, backbone, all_but_last_N, or any of these stages, from stem to last:\n"
        f"{bullet_list(stages, limit=100)}"
    )
