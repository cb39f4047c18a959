"""The search space of a sweep: which fields vary, how they are sampled, what is sought.

A space is a file `conf/sweep/NAME.yaml`. It is read here and checked as far as it can be by itself;
`check` holds it against the configuration's schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol, TypeAlias

from pydantic import Field, model_validator

from cxr_lightning.config.schema import Section

__all__ = [
    "EPOCH_METRICS",
    "LATENCY",
    "Categorical",
    "FloatRange",
    "IntRange",
    "Parameter",
    "PrunerConfig",
    "SamplerConfig",
    "Scalar",
    "Space",
    "SuggestingTrial",
    "allowed",
    "in_order",
    "is_active",
    "plain",
    "suggest_overrides",
    "word",
]

EPOCH_METRICS = ("val/auroc_macro", "val/average_precision_macro", "val/loss")
"""What every epoch measures, and a trial can therefore be pruned by."""

LATENCY = "latency_ms"
"""Objective: median time of one image through the trained network, in milliseconds."""

Scalar: TypeAlias = bool | int | float | str | None
Condition: TypeAlias = dict[str, Scalar | tuple[Scalar, ...]]
_WHEN = "Varied only where other parameters have these values, e.g. {loss: focal}; a list: any."


class FloatRange(Section):
    """A real number between two bounds, both included."""

    type: Literal["float"] = Field(description="float, int or categorical.")
    low: float = Field(allow_inf_nan=False, description="Smallest value.")
    high: float = Field(allow_inf_nan=False, description="Largest value.")
    log: bool = Field(False, description="Sample on a logarithmic scale.")
    step: float | None = Field(None, gt=0, description="Distance of neighbouring values.")
    when: Condition = Field(default_factory=dict, description=_WHEN)

    @model_validator(mode="after")
    def _bounds(self) -> FloatRange:
        _check_bounds(self)
        return self


class IntRange(Section):
    """A whole number between two bounds, both included."""

    type: Literal["int"] = Field(description="float, int or categorical.")
    low: int = Field(description="Smallest value.")
    high: int = Field(description="Largest value.")
    log: bool = Field(False, description="Sample on a logarithmic scale.")
    step: int | None = Field(None, ge=1, description="Distance of neighbouring values.")
    when: Condition = Field(default_factory=dict, description=_WHEN)

    @model_validator(mode="after")
    def _bounds(self) -> IntRange:
        _check_bounds(self)
        return self


class Categorical(Section):
    """One of several values; of a group: one of its choices."""

    type: Literal["categorical"] = Field(description="float, int or categorical.")
    choices: tuple[Scalar | tuple[Scalar, ...], ...] = Field(
        min_length=1, description="The values."
    )
    when: Condition = Field(default_factory=dict, description=_WHEN)

    @model_validator(mode="after")
    def _distinct(self) -> Categorical:
        texts = [plain(choice) for choice in self.choices]
        if twice := sorted({text for text in texts if texts.count(text) > 1}):
            raise ValueError(f"choices has {', '.join(twice)} more than once")
        return self


Parameter: TypeAlias = Annotated[FloatRange | IntRange | Categorical, Field(discriminator="type")]


def _check_bounds(spec: FloatRange | IntRange) -> None:
    if spec.low > spec.high:
        raise ValueError(f"low ({spec.low:g}) is above high ({spec.high:g})")
    if spec.log and spec.low <= 0:
        raise ValueError(f"log needs bounds above 0; low is {spec.low:g}")
    if spec.log and spec.step is not None:
        raise ValueError("log and step exclude each other")


class SamplerConfig(Section):
    """How the values of the next trial are chosen."""

    name: Literal["tpe", "gp", "cmaes", "random", "qmc", "grid"] = Field(
        "tpe",
        description="tpe (multivariate), gp (Gaussian process), cmaes (numbers only), random, qmc "
        "(Sobol points), grid (every combination, in order).",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Seed; each trial draws by it and its number.")
    startup_trials: int = Field(
        10, ge=0, description="Trials sampled at random before tpe, gp and cmaes begin."
    )


class PrunerConfig(Section):
    """Which trials are stopped early."""

    name: Literal["median", "hyperband", "successive_halving", "patient", "none"] = Field(
        "median",
        description="median (worse than half of the others at that epoch), hyperband, "
        "successive_halving, patient (no improvement for `patience` epochs), none.",
    )
    startup_trials: int = Field(
        5, ge=0, description="Trials that must be complete before median prunes."
    )
    warmup_epochs: int = Field(
        1, ge=0, description="Epochs of each trial that median and successive_halving leave alone."
    )
    reduction_factor: int = Field(
        3, ge=2, description="hyperband and successive_halving keep one trial in so many."
    )
    patience: int | None = Field(
        None, ge=0, description="Leave a trial alone that improved in so many epochs."
    )

    @model_validator(mode="after")
    def _patient_needs_patience(self) -> PrunerConfig:
        if self.name == "patient" and self.patience is None:
            raise ValueError("name=patient needs patience, e.g. patience: 3")
        return self


def _auroc() -> dict[str, Literal["maximize", "minimize"]]:
    return {"val/auroc_macro": "maximize"}


class Space(Section):
    """Everything that a file of `conf/sweep` says."""

    objective: dict[str, Literal["maximize", "minimize"]] = Field(
        default_factory=_auroc,
        min_length=1,
        max_length=3,
        description="Metric to direction; several: a Pareto front.",
    )
    trials: int | None = Field(
        None, ge=1, description="Trials where --trials does not say; none: a grid's size, or 50."
    )
    sampler: SamplerConfig = Field(default_factory=SamplerConfig)
    pruner: PrunerConfig = Field(default_factory=PrunerConfig)
    fixed: dict[str, Any] = Field(
        default_factory=dict,
        description="Groups and fields that the whole study sets, e.g. {model: densenet121}.",
    )
    budget: dict[str, Any] = Field(
        default_factory=dict,
        description="What only trials have, not the refits of the best, e.g. fewer epochs.",
    )
    parameters: dict[str, Parameter] = Field(
        min_length=1, description="What varies: a field by its dotted name, or a group."
    )
    given: dict[str, Any] = Field(
        default_factory=dict, description="Groups and fields that the command line has set."
    )

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the objectives."""
        return tuple(self.objective)

    @property
    def pruned_by(self) -> str | None:
        """The metric that trials are pruned by; None: they are not."""
        return None if self.pruner.name == "none" else self.metrics[0]


class SuggestingTrial(Protocol):
    """The part of an Optuna trial that a space needs."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = ..., log: bool = ...
    ) -> float: ...

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = ..., log: bool = ...
    ) -> int: ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


def suggest_overrides(trial: SuggestingTrial, space: Space) -> list[str]:
    """Ask a trial for the active parameters of a space.

    Returns
    -------
    list of str
        ``group=choice`` and ``key=value``, as on the command line.
    """
    chosen: dict[str, Any] = {}
    for name, spec in in_order(space):
        if is_active(spec, chosen, space.given):
            chosen[name] = _suggest(trial, name, spec)
    return [word(name, value) for name, value in chosen.items()]


def _suggest(trial: SuggestingTrial, name: str, spec: Parameter) -> Any:
    match spec:
        case FloatRange():
            return trial.suggest_float(name, spec.low, spec.high, step=spec.step, log=spec.log)
        case IntRange():
            return trial.suggest_int(name, spec.low, spec.high, step=spec.step or 1, log=spec.log)
        case Categorical():
            # Optuna stores scalars; a list is kept as the text that the command line takes.
            choices = [plain(one) if isinstance(one, tuple) else one for one in spec.choices]
            return trial.suggest_categorical(name, choices)


def in_order(space: Space) -> Iterator[tuple[str, Parameter]]:
    """Yield the parameters, each after those that its condition names."""
    done: set[str] = set()
    waiting = dict(space.parameters)
    while waiting:
        ready = [
            name
            for name, spec in waiting.items()
            if all(key in done or key not in space.parameters for key in spec.when)
        ]
        if not ready:  # a circle, which `check` refuses
            ready = list(waiting)
        for name in ready:
            yield name, waiting.pop(name)
            done.add(name)


def is_active(spec: Parameter, chosen: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """Return whether a parameter's condition holds for the values chosen so far."""
    values = {**given, **chosen}
    return all(
        key in values and any(_same(values[key], one) for one in allowed(wanted))
        for key, wanted in spec.when.items()
    )


def allowed(wanted: Scalar | tuple[Scalar, ...]) -> tuple[Scalar, ...]:
    """Return a condition's value as a tuple."""
    return wanted if isinstance(wanted, tuple) else (wanted,)


def _same(one: Any, other: Any) -> bool:
    return plain(one) == plain(other)


def word(key: str, value: Any) -> str:
    """Return ``key=value`` as the command line takes it."""
    return f"{key}={plain(value)}"


def plain(value: Any) -> str:
    """Return a value in the command line's grammar."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        return value  # a list that was kept as text
    return _written(value)


def _written(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case list() | tuple():
            return f"[{','.join(_written(one) for one in value)}]"
        case dict():
            return "{" + ",".join(f"{key}: {_written(one)}" for key, one in value.items()) + "}"
        case str() if not value or value != value.strip() or set(value) & set(",:{}[]()'\"=\\"):
            # A backslash has a meaning only before a quote, and at the end.
            escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
            escaped = re.sub(r"(\\+)$", r"\1\1", escaped)
            return f"'{escaped}'"
        case _:
            return str(value)
