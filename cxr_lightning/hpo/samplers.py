"""From the names in a space to Optuna's samplers and pruners."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from cxr_lightning.hpo.space import (
    Categorical,
    FloatRange,
    IntRange,
    Parameter,
    PrunerConfig,
    SamplerConfig,
    Space,
    in_order,
    is_active,
    plain,
)

__all__ = ["build_pruner", "build_sampler", "grid_points", "grid_values", "point_key"]


def build_sampler(config: SamplerConfig, number: int) -> BaseSampler:
    """Return the sampler of one trial.

    It is seeded by the space's seed and the trial's number, and made anew for each: with one seed
    for a process, a second start would draw the values of the first again.
    """
    seed = int(np.random.SeedSequence((config.seed, number)).generate_state(1)[0])
    match config.name:
        case "tpe":
            return optuna.samplers.TPESampler(
                n_startup_trials=config.startup_trials,
                multivariate=True,
                group=True,  # conditions: each group of parameters that occur together
                constant_liar=True,  # several workers: not the same place twice
                seed=seed,
            )
        case "gp":
            return optuna.samplers.GPSampler(
                n_startup_trials=config.startup_trials,
                seed=seed,
                warn_independent_sampling=False,
            )
        case "cmaes":
            return optuna.samplers.CmaEsSampler(
                n_startup_trials=max(1, config.startup_trials),
                seed=seed,
                warn_independent_sampling=False,
            )
        case "qmc":
            return optuna.samplers.QMCSampler(
                # One sequence for all trials, which the storage counts.
                seed=config.seed,
                independent_sampler=optuna.samplers.RandomSampler(seed),
                warn_asynchronous_seeding=False,
                warn_independent_sampling=False,
            )
        case "random" | "grid":  # a grid's values are given to the trial
            return optuna.samplers.RandomSampler(seed)


def build_pruner(config: PrunerConfig, epochs: int) -> BasePruner:
    """Return the pruner of trials of at most `epochs` epochs, counted from 1."""
    pruner = _plain_pruner(config, epochs)
    if config.patience is not None:
        pruner = optuna.pruners.PatientPruner(pruner, config.patience)
    return pruner or optuna.pruners.NopPruner()


def _plain_pruner(config: PrunerConfig, epochs: int) -> BasePruner | None:
    match config.name:
        case "median":
            return optuna.pruners.MedianPruner(
                n_startup_trials=config.startup_trials,
                n_warmup_steps=config.warmup_epochs + 1,
            )
        case "hyperband":
            return optuna.pruners.HyperbandPruner(
                max_resource=max(1, epochs), reduction_factor=config.reduction_factor
            )
        case "successive_halving":
            return optuna.pruners.SuccessiveHalvingPruner(
                min_resource=config.warmup_epochs + 1, reduction_factor=config.reduction_factor
            )
        case _:
            return None


def grid_values(spec: Parameter) -> list[Any] | None:
    """Return every value of a parameter, in order; None: they cannot be counted."""
    match spec:
        case Categorical():
            return [plain(one) if isinstance(one, tuple) else one for one in spec.choices]
        case IntRange(log=True):
            return None
        case IntRange():
            return list(range(spec.low, spec.high + 1, spec.step or 1))
        case FloatRange(step=None):
            return [spec.low] if spec.low == spec.high else None
        case FloatRange():
            steps = int(np.floor((spec.high - spec.low) / (spec.step or 1) + 1e-9))
            return [float(spec.low + index * (spec.step or 1)) for index in range(steps + 1)]


def grid_points(space: Space) -> Iterator[dict[str, Any]]:
    """Yield every combination of the values that are active together; the last varies fastest."""
    parameters = list(in_order(space))
    seen: set[tuple[tuple[str, str], ...]] = set()
    lists = [grid_values(spec) or [] for _, spec in parameters]
    for values in itertools.product(*lists):
        point: dict[str, Any] = {}
        for (name, spec), value in zip(parameters, values, strict=True):
            if is_active(spec, point, space.given):
                point[name] = value
        key = point_key(point)
        if key not in seen:
            seen.add(key)
            yield point


def point_key(point: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return what tells a point from others, whatever the order and type of its values."""
    return tuple(sorted((name, plain(value)) for name, value in point.items()))
