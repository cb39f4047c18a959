"""The live table and the plain lines."""

from __future__ import annotations

import io
from datetime import datetime, timedelta

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from cxr_lightning.hpo.progress import Progress, describe_values, duration
from cxr_lightning.hpo.space import Space

SPACE = Space.model_validate(
    {"parameters": {"optim.lr": {"type": "float", "low": 1e-4, "high": 1.0}}}
)
START = datetime(2024, 1, 1)


def ended(number: int, value: float | None, seconds: float) -> FrozenTrial:
    trial = optuna.create_trial(
        state=TrialState.PRUNED if value is None else TrialState.COMPLETE,
        value=value,
        params={"optim.lr": 0.01},
        distributions={"optim.lr": FloatDistribution(1e-4, 1.0)},
    )
    trial.number = number
    trial.datetime_start, trial.datetime_complete = START, START + timedelta(seconds=seconds)
    return trial


def running(number: int) -> optuna.Trial:
    """Return a trial that runs, of a study in memory."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    trial = [study.ask({"optim.lr": FloatDistribution(1e-4, 1.0)}) for _ in range(number + 1)][-1]
    assert trial.number == number
    return trial


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=120, highlight=False)


def written(where: Console) -> str:
    assert isinstance(where.file, io.StringIO)
    return where.file.getvalue()


def test_plain_lines_say_what_begins_ends_and_is_left() -> None:
    trials: list[FrozenTrial] = []
    where = console(terminal=False)
    with Progress(lambda: trials, SPACE, 4, 1, where) as progress:
        trial = running(0)
        progress.started(trial)
        progress.epochs(trial, 6)
        progress.epoch(trial, 1, 0.6)
        progress.show(0)
        trials += [ended(0, 0.75, 60), ended(1, None, 30)]
        progress.finished(trial, "complete", "")
    text = written(where)
    assert text.splitlines()[0].startswith("trial 0 begins: optim.lr=")
    assert "trial 0 complete in 0 s: val/auroc_macro 0.7500" in text
    assert "2/4 trials: 1 complete, 1 pruned; best so far: trial 0, val/auroc_macro 0.7500" in text
    assert "about 90 s left" not in text  # 90 s are said in minutes
    assert "about 2 min left" in text  # two trials more, of 45 s on average, one at a time
    assert "\x1b" not in text


def test_the_time_left_is_divided_by_workers() -> None:
    trials = [ended(0, 0.5, 100), ended(1, 0.5, 100)]
    lines = []
    for workers in (1, 4):
        where = console(terminal=False)
        Progress(lambda: trials, SPACE, 10, workers, where).finished(running(1), "complete", "")
        lines.append(written(where))
    assert "about 13 min left" in lines[0]  # 8 x 100 s
    assert "about 3 min left" in lines[1]


def test_a_failure_says_the_first_of_its_last_words() -> None:
    for terminal in (False, True):
        where = console(terminal=terminal)
        with Progress(list, SPACE, 4, 1, where) as progress:
            trial = running(0)
            progress.started(trial)
            progress.finished(trial, "failed", "killed by SIGKILL\nmuch more")
        assert "killed by SIGKILL" in written(where)
        assert "much more" not in written(where)


def test_the_table_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    trials = [ended(0, 0.8123, 40)]
    where = console(terminal=True)
    with Progress(lambda: trials, SPACE, 3, 2, where) as progress:
        trial = running(1)
        progress.started(trial)
        progress.epochs(trial, 6)
        progress.epoch(trial, 2, 0.7)
        progress.show(0)
    text = written(where)
    for said in ("2/6", "0.7000", "1/3 trials: 1 complete", "best: trial 0", "0.8123", "left"):
        assert said in text
    assert "begins" not in text  # lines are for where there is no terminal


def test_an_epoch_without_a_best_is_a_dash_and_no_number() -> None:
    where = console(terminal=True)
    with Progress(list, SPACE, 3, 1, where) as progress:
        trial = running(0)
        progress.started(trial)
        progress.epoch(trial, 1, float("nan"))
        progress.show(0)
    assert "–" in written(where)
    assert "nan" not in written(where)


def test_waiting_for_others_is_said_once() -> None:
    where = console(terminal=False)
    with Progress(list, SPACE, 3, 1, where) as progress:
        for _ in range(3):
            progress.show(2)
    assert written(where) == "waiting for 2 trial(s) that other processes run\n"


def test_words_in_brackets_are_no_markup() -> None:
    """Labels and lists are in brackets, which rich would take for styles."""
    where = console(terminal=False)
    Progress(list, SPACE, 3, 1, where).say("model.head.hidden=[bold]")
    assert "[bold]" in written(where)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h")],
)
def test_duration(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_values() -> None:
    found = describe_values({"optim.lr": 0.00123456, "loss": "focal", "data.batch_size": 32})
    assert found == "optim.lr=0.00123, loss=focal, data.batch_size=32"
