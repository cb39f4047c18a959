"""Rows that go on to the next step, and the flow of those that do not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_lightning.data.reading import FlowStep, flow_step

__all__ = ["Sieve"]


class Sieve:
    """A table that loses rows step by step, each step named and counted.

    Attributes
    ----------
    frame : the rows that are left; it has a column `patient_id`.
    flow : the steps so far, beginning with "in the data set".
    gone : of each step, its reason and the index of the rows that it left out.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame
        self.flow: tuple[FlowStep, ...] = (flow_step("in the data set", 0, frame),)
        self.gone: tuple[tuple[str, pd.Index], ...] = ()

    def leave_out(
        self, reason: str, gone: npt.ArrayLike, *, rare: bool = False, bad: bool = False
    ) -> None:
        """Drop the rows that a bool array of shape (rows,) marks.

        A step that leaves nothing out is told all the same, since a reader wants to know that it
        was taken, unless it is for a `rare` defect. `bad` says that only data.on_bad_image=skip
        leaves these out.
        """
        marked = np.asarray(gone, dtype=bool)
        if rare and not marked.any():
            return
        self.gone = (*self.gone, (reason, self.frame.index[marked]))
        self.frame = self.frame[~marked]
        self.flow = (*self.flow, flow_step(reason, int(marked.sum()), self.frame, bad=bad))

    def describe(self) -> str:
        """Return the steps as text, one a line."""
        return "\n".join(
            f"  {step.reason}: {step.left_out:,} left out, {step.images:,} remain"
            for step in self.flow
        )
