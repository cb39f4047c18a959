"""What a label means: 1 present, 0 absent, NaN unknown; -1 uncertain until a policy resolves it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from cxr_lightning.errors import ConfigError, bullet_list, nearest

__all__ = ["LabelSpace", "UncertaintyPolicy"]

UncertaintyPolicy = Literal["ignore", "zeros", "ones", "zeros_lsr", "ones_lsr"]

# Ranges of label-smoothing regularisation: Pham et al., "Interpreting chest X-rays via CNNs that
# exploit hierarchical disease dependencies and uncertainty labels", Neurocomputing 2021, section
# 3.3.
_ZEROS_LSR = (0.0, 0.3)
_ONES_LSR = (0.55, 0.85)


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

    def resolve(
        self,
        raw: npt.ArrayLike,
        policy: UncertaintyPolicy,
        *,
        generator: np.random.Generator,
    ) -> npt.NDArray[np.float32]:
        """Replace uncertain labels (-1) by what `policy` says.

        Parameters
        ----------
        raw : array-like of shape (n, labels)
            1, 0, NaN (unknown) or -1 (uncertain).
        policy
            ``ignore`` makes them unknown, ``zeros`` and ``ones`` certain; ``zeros_lsr`` and
            ``ones_lsr`` draw soft targets from U(0, 0.3) and U(0.55, 0.85) (Pham et al. 2021).
        generator
            Source of the draws; unused by the other policies.

        Returns
        -------
        float32 array of shape (n, labels)
            Values in [0, 1], or NaN where unknown. The input is not changed.
        """
        values = np.array(raw, dtype=np.float32)
        if values.ndim != 2 or values.shape[1] != len(self):
            raise ValueError(f"expected shape (n, {len(self)}), got {values.shape}")
        uncertain = values == -1
        match policy:
            case "ignore":
                values[uncertain] = np.nan
            case "zeros":
                values[uncertain] = 0
            case "ones":
                values[uncertain] = 1
            case "zeros_lsr" | "ones_lsr":
                low, high = _ZEROS_LSR if policy == "zeros_lsr" else _ONES_LSR
                # One draw per cell, used or not: a label's draw does not depend on the others.
                draws = generator.uniform(low, high, size=values.shape)
                values[uncertain] = draws[uncertain]
            case _:
                allowed = ", ".join(get_args(UncertaintyPolicy))
                raise ConfigError(f"uncertainty policy {policy!r}: must be one of {allowed}")
        return values
