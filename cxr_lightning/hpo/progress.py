"""How far a sweep is: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import FrozenTrial
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cxr_lightning.hpo.ranking import best_trials, state_name
from cxr_lightning.hpo.space import Space

__all__ = ["Progress", "describe_values", "duration"]

_REFRESH_SECONDS = 1.0


@dataclass
class _Row:
    values: Mapping[str, Any]
    epochs: int = 0
    epoch: int = 0
    best: float = math.nan
    started: float = field(default_factory=time.monotonic)


class Progress:
    """Shows trials done, pruned, failed and running, the best so far, and the time left.

    Parameters
    ----------
    trials
        Returns the trials that count.
    space, total, workers
        Of the sweep.
    console
        Where to; none: the terminal.
    """

    def __init__(
        self,
        trials: Callable[[], Sequence[FrozenTrial]],
        space: Space,
        total: int,
        workers: int,
        console: Console | None = None,
    ) -> None:
        self.console = console or Console(highlight=False)
        self._trials, self._space, self._total, self._workers = trials, space, total, workers
        self._rows: dict[int, _Row] = {}
        self._live: Live | None = None
        self._shown = 0.0
        self._waiting = False

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(Text(text), soft_wrap=True)

    def started(self, trial: optuna.Trial) -> None:
        """A trial begins."""
        self._rows[trial.number] = _Row(dict(trial.params))
        if self._live is None:
            self.say(f"trial {trial.number} begins: {describe_values(trial.params)}")

    def epochs(self, trial: optuna.Trial, epochs: int) -> None:
        """A trial has so many epochs at most."""
        if row := self._rows.get(trial.number):
            row.epochs = epochs

    def epoch(self, trial: optuna.Trial, epoch: int, best: float) -> None:
        """A trial has trained an epoch."""
        if row := self._rows.get(trial.number):
            row.epoch, row.best = epoch, best

    def finished(self, trial: optuna.Trial, state: str, words: str) -> None:
        """A trial has ended."""
        row = self._rows.pop(trial.number, None)
        seconds = time.monotonic() - row.started if row else 0.0
        first = words.splitlines()[0] if words else ""
        if self._live is None:
            self.say(f"trial {trial.number} {state} in {duration(seconds)}{self._result(trial)}")
            if first:
                self.say(f"  {first}")
            self.say(f"  {self._line()}")
        elif state == "failed":
            self.say(f"trial {trial.number} failed: {first}")
        self._shown = 0.0

    def _result(self, trial: optuna.Trial) -> str:
        found = next((one for one in self._trials() if one.number == trial.number), None)
        if found is None or not found.values:
            return ""
        return f": {_values(self._space, found)}"

    def show(self, elsewhere: int) -> None:
        """Refresh the table; `elsewhere` trials are all that is left, and run elsewhere."""
        if elsewhere and not self._waiting:
            self._waiting = True
            self.say(f"waiting for {elsewhere} trial(s) that other processes run")
        now = time.monotonic()
        if self._live is not None and now - self._shown > _REFRESH_SECONDS:
            self._shown = now
            self._live.update(self._table(), refresh=True)

    def _line(self) -> str:
        trials = self._trials()
        text = _counts(trials, self._total)
        if best := best_trials(trials, self._space)[:1]:
            text += f"; best so far: trial {best[0].number}, {_values(self._space, best[0])}"
        left = self._time_left(trials)
        return text + (f"; about {duration(left)} left" if left > 0 else "")

    def _time_left(self, trials: Sequence[FrozenTrial]) -> float:
        ended = [t.duration.total_seconds() for t in trials if t.state.is_finished() and t.duration]
        missing = self._total - len(ended)
        if not ended or missing <= 0:
            return 0.0
        # What runs already is half done, on average.
        mean = sum(ended) / len(ended)
        return max(0.0, (missing - len(self._rows) / 2) * mean / self._workers)

    def _table(self) -> RenderableType:
        trials = self._trials()
        table = Table(title_justify="left", box=None, padding=(0, 2, 0, 0))
        for column in ("trial", "epoch", f"best {self._space.metrics[0]}", "time", "values"):
            table.add_column(column)
        for number, row in sorted(self._rows.items()):
            table.add_row(
                str(number),
                f"{row.epoch}/{row.epochs or '?'}",
                "–" if math.isnan(row.best) else f"{row.best:.4f}",
                duration(time.monotonic() - row.started),
                describe_values(row.values),
            )
        left = self._time_left(trials)
        lines: list[RenderableType] = [Text(_counts(trials, self._total), style="bold")]
        if best := best_trials(trials, self._space)[:1]:
            lines.append(
                Text(
                    f"best: trial {best[0].number}, {_values(self._space, best[0])} "
                    f"({describe_values(best[0].params)})",
                    style="green",
                )
            )
        if left > 0:
            lines.append(Text(f"about {duration(left)} left"))
        return Group(table, *lines)


def _counts(trials: Sequence[FrozenTrial], total: int) -> str:
    counts = Counter(state_name(trial) for trial in trials)
    ended = sum(trial.state.is_finished() for trial in trials)
    parts = [
        f"{counts[state]} {state}"
        for state in ("complete", "pruned", "failed", "running")
        if counts[state]
    ]
    return f"{ended}/{total} trials: {', '.join(parts) or 'none yet'}"


def _values(space: Space, trial: FrozenTrial) -> str:
    named = zip(space.metrics, trial.values, strict=False)
    return ", ".join(f"{name} {value:.4f}" for name, value in named)


def describe_values(values: Mapping[str, Any]) -> str:
    """Return parameters as one would write them, numbers to three digits."""
    return ", ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in values.items()
    )


def duration(seconds: float) -> str:
    """Return a time span as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
