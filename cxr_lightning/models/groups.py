"""Parameters in groups of one learning rate and one weight decay each, for the optimiser."""

from __future__ import annotations

from typing import TypedDict

from torch import nn

from cxr_lightning.models.network import Network

__all__ = ["ParameterGroup", "parameter_groups"]


class ParameterGroup(TypedDict):
    """A parameter group of torch's optimisers; `name` and `parameters` are for people."""

    name: str
    parameters: list[str]
    params: list[nn.Parameter]
    lr: float
    weight_decay: float


def parameter_groups(
    network: Network,
    *,
    lr: float,
    backbone_lr_factor: float = 1.0,
    layer_decay: float = 1.0,
    weight_decay: float = 0.0,
) -> list[ParameterGroup]:
    """Group every parameter, frozen ones included (they may be released later), exactly once.

    Pooling and head learn at `lr`. Stage k of n, counted from the stem, learns at
    ``lr * backbone_lr_factor * layer_decay ** (n - k)`` with k from 0 to n - 1, so that the last
    stage is one step below the head (as in BEiT's fine-tuning). Biases, norm layers, learnt pooling
    exponents and what the model's authors exempt (position embeddings, class tokens) have no
    weight decay. Groups are ordered from stem to head, and named after stage (or `backbone`, where
    all stages learn alike), with `/no_decay` behind the name of those without weight decay.
    """
    stages = network.backbone.stages
    owner = {f"backbone.{p}": i for i, names in enumerate(stages.values()) for p in names}
    alike = layer_decay == 1.0
    names = list(stages)
    exempt = _without_decay(network)
    groups: dict[str, ParameterGroup] = {}
    for name, parameter in network.named_parameters():
        if name in owner:
            stage = owner[name]
            group = "backbone" if alike else names[stage]
            rate = lr * backbone_lr_factor * layer_decay ** (len(names) - stage)
        else:
            group, rate = "head", lr
        decay = 0.0 if name in exempt else weight_decay
        key = f"{group}/no_decay" if name in exempt else group
        found = groups.setdefault(
            key,
            {"name": key, "parameters": [], "params": [], "lr": rate, "weight_decay": decay},
        )
        found["parameters"].append(name)
        found["params"].append(parameter)
    order = {stage: i for i, stage in enumerate(("backbone", *names, "head"))}
    return sorted(groups.values(), key=lambda g: order[g["name"].removesuffix("/no_decay")])


def _without_decay(network: Network) -> set[str]:
    exempt = {f"backbone.{name}" for name in network.backbone.no_weight_decay}
    return {
        name
        for name, parameter in network.named_parameters()
        if parameter.ndim <= 1 or name.endswith("bias") or name in exempt
    }
