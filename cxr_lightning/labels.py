"""What a label means: 1 present, 0 absent, NaN unknown; -1 uncertain until a policy resolves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cxr_lightning.config.schema import UncertaintyPolicy
from cxr_lightning.errors import ConfigError, bullet_list, nearest

__all__ = ["NO_FINDING", "LabelSpace", "smoothing_range"]

NO_FINDING = "No Finding"
"""The label that says that there is none of the others."""


@dataclass(frozen=True)
class LabelSpace:
    """The labels of a task, in the order of the network's outputs."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.names:
            raise ConfigError("data.labels: at least one label is needed")
        if twice := sorted({name for name in self.names if self.names.count(name) > 1}):
            raise ConfigError(f"data.labels: named twice: {', '.join(twice)}")

    def __len__(self) -> int:
        return len(self.names)

    def choose(self, names: Sequence[str] | None, *, also: Sequence[str] = ()) -> LabelSpace:
        """Return the space of `names`, which must be of this one or of `also`; None: this one.

        Raises
        ------
        ConfigError
            Naming every unknown label, its nearest match, and what is allowed.
        """
        if names is None:
            return self
        allowed = (*self.names, *also)
        unknown = [f"{name!r}.{nearest(name, allowed)}" for name in names if name not in allowed]
        if unknown:
            raise ConfigError(
                f"data.labels: not a label of this data set:\n{bullet_list(unknown)}\n"
                f"Allowed: {', '.join(allowed)}"
            )
        return LabelSpace(tuple(names))

    def policies(
        self, choice: UncertaintyPolicy | Mapping[str, UncertaintyPolicy]
    ) -> tuple[UncertaintyPolicy, ...]:
        """Return the policy of each label; one that a mapping leaves out is ignored.

        Raises
        ------
        ConfigError
            Naming every label that is not of this space.
        """
        if isinstance(choice, str):
            return (choice,) * len(self)
        unknown = [f"{name!r}.{nearest(name, self.names)}" for name in choice if name not in self]
        if unknown:
            raise ConfigError(
                f"data.uncertain: not one of the chosen labels:\n{bullet_list(unknown)}\n"
                f"Allowed: {', '.join(self.names)}"
            )
        return tuple(choice.get(name, "ignore") for name in self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def resolve(
        self,
        raw: npt.ArrayLike,
        policies: Sequence[UncertaintyPolicy],
        *,
        first_model: npt.ArrayLike | None = None,
    ) -> npt.NDArray[np.float32]:
        """Replace uncertain labels (-1) by what does not change from epoch to epoch.

        Parameters
        ----------
        raw : array-like of shape (n, labels)
            1, 0, NaN (unknown) or -1 (uncertain).
        policies
            One per label: ``ignore`` makes them unknown, ``zeros`` and ``ones`` certain (U-Ignore,
            U-Zeros and U-Ones of Irvin et al., "CheXpert", AAAI 2019), ``self_trained`` puts the
            probability of a first model in their place (U-SelfTrained, same source). Of the others
            -1 stays: ``zeros_lsr`` and ``ones_lsr`` draw (see :func:`smoothing_range`), and
            ``three_class`` learns it as a class.
        first_model : array-like of shape (n, labels), optional
            Probabilities for ``self_trained``; NaN where the first model has none, which leaves the
            label unknown.

        Returns
        -------
        float32 array of shape (n, labels)
            Values in [0, 1], -1, or NaN where unknown. The input is not changed.
        """
        values = np.array(raw, dtype=np.float32)
        if values.ndim != 2 or values.shape[1] != len(self):
            raise ValueError(f"expected shape (n, {len(self)}), got {values.shape}")
        for column, policy in enumerate(policies):
            uncertain = values[:, column] == -1
            match policy:
                case "ignore":
                    values[uncertain, column] = np.nan
                case "zeros":
                    values[uncertain, column] = 0
                case "ones":
                    values[uncertain, column] = 1
                case "self_trained":
                    if first_model is None:
                        raise ValueError("self_trained needs the first model's probabilities")
                    values[uncertain, column] = np.asarray(first_model)[uncertain, column]
        return values


def smoothing_range(policy: UncertaintyPolicy) -> tuple[float, float] | None:
    """Return the range from which an uncertain label's soft target is drawn; None: it is not.

    Label-smoothing regularisation of Pham et al., "Interpreting chest X-rays via CNNs that exploit
    hierarchical disease dependencies and uncertainty labels", Neurocomputing 2021, section 3.3.
    """
    return {"zeros_lsr": (0.0, 0.3), "ones_lsr": (0.55, 0.85)}.get(policy)
