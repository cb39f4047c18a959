"""What a run says on the terminal."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cxr_lightning.data.cohort import Cohort, split_counts
from cxr_lightning.evaluation.tables import FEW_NOTE, few_of_a_class, format_table

__all__ = ["SYNTHETIC", "Reporter"]

SYNTHETIC = (
    "These radiographs are synthetic. They serve to try the software; no number obtained on them "
    "says anything about patients."
)


class Reporter:
    """Prints on rank 0 and stays silent elsewhere."""

    def __init__(self, *, silent: bool = False) -> None:
        # Tables are as wide as they need to be where no terminal limits them.
        console = Console(highlight=False, quiet=silent)
        self.console = (
            console if console.is_terminal else Console(highlight=False, quiet=silent, width=160)
        )

    def say(self, text: str, style: str | None = None) -> None:
        """Print a line."""
        self.console.print(Text(text, style=style or ""), soft_wrap=True)

    def cohort(self, cohort: Cohort, name: str) -> None:
        """Print how the cohort came about, and what each split holds."""
        for step in cohort.flow:
            left_out = f"{step.left_out:,} left out, " if step.left_out else ""
            self.say(
                f"{step.reason}: {left_out}{step.images:,} images of {step.patients:,} patients"
            )
        for note in cohort.notes:
            self.say(note)
        self.say(f"fingerprint of the data: {cohort.fingerprint}")
        counts = split_counts(cohort)
        table = Table(title=f"data={name}", title_justify="left")
        table.add_column("")
        for split in counts:
            table.add_column(str(split), justify="right")
        for row, values in counts.iterrows():
            table.add_row(str(row), *(f"{value:,}" for value in values))
            if row == "patients":
                table.add_section()
        self.console.print(table)

    def sampling(self, expected: Mapping[str, float]) -> None:
        """Print what an epoch of training uses, on average."""
        counts = ", ".join(f"{name} {count:,.0f}" for name, count in expected.items())
        self.say(f"an epoch of training draws {counts}")

    def results(self, table: pd.DataFrame, title: str) -> None:
        """Print a table of results; the title says of which images."""
        shown = Table(title=title, title_justify="left")
        text = format_table(table)
        shown.add_column("label")
        for column in text:
            shown.add_column(str(column), justify="right")
        for label, values in text.iterrows():
            if label == "macro":
                shown.add_section()
            shown.add_row(str(label), *map(str, values))
        self.console.print(shown)
        unfitted = [name for name in table.index if not table["threshold_fitted"][name]]
        if labels := [name for name in unfitted if not np.isnan(table["threshold"][name])]:
            self.say(
                f"*: validation holds one class only of {', '.join(labels)}; the threshold 0.5 "
                "stands in."
            )
        if few_of_a_class(table):
            self.say(f"{FEW_NOTE}.")
        undefined = int(table["labels_undefined"]["macro"])
        if undefined:
            self.say(
                f"–: undefined, because these images hold one class only ({undefined} label(s)); "
                "the macro average is over the others."
            )
