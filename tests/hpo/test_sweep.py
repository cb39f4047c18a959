"""Whole sweeps: exact totals, whatever is killed, and what they leave behind."""

from __future__ import annotations

import contextlib
import csv
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.trial import FrozenTrial, TrialState

from cxr_lightning.cli import run_verb
from cxr_lightning.config.compose import config_from_file
from cxr_lightning.errors import ConfigError
from cxr_lightning.hpo.client import ServerClient
from cxr_lightning.hpo.options import SweepOptions
from cxr_lightning.hpo.run import run_sweep
from cxr_lightning.hpo.trials import LAST_WORDS, counted
from cxr_lightning.sweep import main
from tests.hpo.conftest import children, meanwhile, trials_of, wait_for

Options = Callable[..., SweepOptions]
DATABASE = "sqlite:///optuna.db"  # in the folder of the test
LONG = "sweep.budget={trainer.max_epochs: 400}"


def runs_of(store: str, study: str) -> tuple[Run, list[Run]]:
    """Return the parent run of a study, the only one, and its children."""
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("cxr_lightning")
    assert experiment is not None
    found = client.search_runs(
        [experiment.experiment_id], f"tags.sweep = '{study}'", max_results=99
    )
    parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 1
    children = [run for run in found if run not in parents]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parents[0].info.run_id}
    return parents[0], children


def test_a_sweep_and_what_it_leaves(
    client: ServerClient,
    options: Options,
    sweep_store: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Four workers on two SQLite files, and the best trained again; then once more."""
    budget = "sweep.budget={trainer.max_epochs: 6}"
    small = options(budget, study="first", trials=8, workers=4, refit_best=1, refit_seeds=1)
    assert run_sweep(small, client) == 0
    said = capsys.readouterr().out
    assert "study first in sqlite:////" in said
    assert "8/8 trials: 8 complete" in said
    table = pd.read_csv("runs/first/leaderboard.csv")
    assert list(table["rank"]) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert table["val/auroc_macro"].is_monotonic_decreasing
    trials = trials_of(DATABASE, "first")
    assert [one.state for one in trials] == [TrialState.COMPLETE] * 8
    assert most_at_once(trials) == 4
    for trial in trials:
        nothing_is_lost(trial, sweep_store)
    for log in Path("runs/first/logs").iterdir():
        assert "locked" not in log.read_text()
    parent, runs = runs_of(sweep_store, "first")
    refit, *runs = sorted(runs, key=lambda run: "trial" in run.data.tags)
    assert refit.data.tags["refit_of_trial"] == str(table["trial"][0])
    assert "test/auroc_macro" in refit.data.metrics
    assert len(runs) == 8
    for run in runs:
        assert run.info.status == "FINISHED"
        assert run.data.tags["trial.state"] == "complete"
        assert float(run.data.tags["trial.seconds"]) > 0
        assert "optim.lr" in run.data.params
        assert "val/auroc_macro" in run.data.metrics
        assert not any(name.startswith("test/") for name in run.data.metrics)
    # The same line again: only the second seed is missing.
    assert run_sweep(replace(small, refit_seeds=2), client) == 0
    said = capsys.readouterr().out
    assert "continues with 8 trial(s) done; to hold 8" in said
    assert "seed 1 begins" not in said
    assert "seed 2 begins" in said
    assert len(trials_of(DATABASE, "first")) == 8
    again, _ = runs_of(sweep_store, "first")
    assert again.info.run_id == parent.info.run_id
    assert again.info.status == "FINISHED"
    note = again.data.tags["mlflow.note.content"]
    assert "Best: val/auroc_macro **" in note
    assert "The configuration it started from: val/auroc_macro" in note
    assert "8 of 8 trials: 8 complete" in note
    assert "other seed(s), on the **test set**" in note
    assert "These radiographs are synthetic" not in note  # data=nih, whatever is in the folder
    artifacts = MlflowClient(sweep_store).list_artifacts
    names = {one.path for one in artifacts(parent.info.run_id)}
    assert {"leaderboard.csv", "best.yaml", "space.yaml", "refits.csv", "ensemble.txt"} <= names
    figures = {Path(one.path).name for one in artifacts(parent.info.run_id, "figures")}
    wanted = ("optimization_history", "parallel_coordinate", "slice", "edf", "intermediate_values")
    assert {"sweep.html", *(f"{name}.png" for name in wanted)} <= figures
    # best.yaml runs as it is, with the whole budget.
    best = config_from_file(Path("runs/first/best.yaml"))
    assert best.trainer.max_epochs == 2
    assert best.optim.lr == pytest.approx(pd.read_csv("runs/first/leaderboard.csv")["optim.lr"][0])
    refits = pd.read_csv("runs/first/refits.csv")
    assert sorted(refits["seed"]) == [1, 2]
    assert refits["test/auroc_macro"].notna().all()
    bundles = Path("runs/first/ensemble.txt").read_text().split()
    assert len(bundles) == 2
    assert all(Path(one).is_file() for one in bundles)
    # Another space, configuration or data: another study.
    changed = "sweep.parameters={optim.lr: {type: float, low: 1.0e-4, high: 0.1}}"
    other = options(budget, changed, "model.pooling=max", study="first", trials=9)
    with pytest.raises(ConfigError) as caught:
        run_sweep(other, client)
    text = str(caught.value)
    assert "--study first: it is another study than this one" in text
    assert "space.parameters.optim.lr.high: 0.01 before, 0.1 now" in text
    assert "configuration.model.pooling: gem before, max now" in text
    with pytest.raises(ConfigError, match=r"data fingerprint: \w+ before, \w+ now"):
        run_sweep(options(budget, "data.val_fraction=0.3", study="first", trials=9), client)


def nothing_is_lost(trial: FrozenTrial, store: str) -> None:
    """Hold both databases against the file that the trial itself wrote."""
    folder = Path(trial.user_attrs["folder"])
    with (folder / "history.csv").open() as stream:
        epochs = list(csv.DictReader(stream))
    assert len(epochs) == 6
    reported = list(trial.intermediate_values.values())
    assert reported == pytest.approx([float(row["val/auroc_macro"]) for row in epochs])
    for name in epochs[0].keys() - {"epoch"}:
        points = MlflowClient(store).get_metric_history(trial.user_attrs["mlflow_run_id"], name)
        logged = [point.value for point in sorted(points, key=lambda point: point.step)]
        assert logged == pytest.approx([float(row[name]) for row in epochs]), name
    assert not list(folder.glob("*outbox*"))


def most_at_once(trials: Sequence[FrozenTrial]) -> int:
    begun = [(trial.datetime_start, 1) for trial in trials if trial.datetime_start]
    ended = [(trial.datetime_complete, -1) for trial in trials if trial.datetime_complete]
    return max(itertools.accumulate(change for _, change in sorted(begun + ended)))


def test_a_killed_trial_fails_and_a_killed_server_costs_nothing(
    client: ServerClient, options: Options, sweep_store: str, tmp_path: Path
) -> None:
    """SIGKILL to the first trial, then to the process that the next one was forked from."""
    folder = tmp_path / "runs" / "kills"

    forked: list[int] = []

    def kill() -> None:
        wait_for((folder / "trial-0000" / "history.csv").is_file)
        (trial,) = children(client.pid)
        os.kill(trial, signal.SIGKILL)
        wait_for((folder / "trial-0001" / "history.csv").is_file)
        forked.extend(children(client.pid))
        os.kill(client.pid, signal.SIGKILL)

    with meanwhile(kill):
        assert (
            run_sweep(
                options("sweep.budget={trainer.max_epochs: 12}", study="kills", trials=3), client
            )
            == 0
        )
    assert len(forked) == 1
    assert state_of(forked[0]) == "Z"  # a trial ends with the process it was forked from
    every = trials_of(DATABASE, "kills")
    assert [one.state.name for one in every] == ["FAIL", "FAIL", "COMPLETE", "COMPLETE"]
    assert [one.number for one in counted(every)] == [0, 2, 3]
    assert every[2].params == every[1].params  # begun again
    assert every[0].user_attrs[LAST_WORDS].startswith("killed by SIGKILL")
    assert "epoch   1/12" in every[0].user_attrs[LAST_WORDS]
    assert "was lost" in every[1].user_attrs[LAST_WORDS]
    parent, runs = runs_of(sweep_store, "kills")
    ends = {run.info.run_name: run for run in runs}
    assert ends["trial-0000"].info.status == "FAILED"
    assert ends["trial-0000"].data.tags["trial.last_words"].startswith("killed by SIGKILL")
    assert ends["trial-0001"].info.status == "FAILED"
    assert parent.info.status == "FINISHED"
    assert "Failed: 1 × killed by SIGKILL" in parent.data.tags["mlflow.note.content"]


def test_ctrl_c_then_the_same_command(
    client: ServerClient, options: Options, sweep_store: str, tmp_path: Path
) -> None:
    folder = tmp_path / "runs" / "stops"

    def interrupt() -> None:
        wait_for((folder / "trial-0000" / "history.csv").is_file)
        wait_for((folder / "trial-0001" / "history.csv").is_file)
        os.kill(os.getpid(), signal.SIGINT)

    with meanwhile(interrupt), pytest.raises(KeyboardInterrupt):
        run_sweep(options(LONG, study="stops", trials=3, workers=2), client)
    every = trials_of(DATABASE, "stops")
    assert [one.state.name for one in every] == ["FAIL", "FAIL", "WAITING", "WAITING"]
    parent, runs = runs_of(sweep_store, "stops")
    assert parent.info.status == "KILLED"
    assert {run.info.status for run in runs} == {"KILLED"}
    assert children(client.pid) == []


def test_the_whole_is_killed_and_continued_to_the_total(
    client: ServerClient, options: Options, sweep_store: str, tmp_path: Path
) -> None:
    small = options("sweep.budget={trainer.max_epochs: 15}", study="whole", trials=3)
    command = [sys.executable, "-m", "cxr_lightning.sweep", "--trials", "3", "--study", "whole"]

    def tracked() -> int:
        text = "SELECT COUNT(*) FROM trial_user_attributes WHERE key = 'mlflow_run_id'"
        with contextlib.closing(sqlite3.connect(tmp_path / "optuna.db")) as database:
            try:
                return int(database.execute(text).fetchone()[0])
            except sqlite3.OperationalError:  # no tables yet
                return 0

    process = subprocess.Popen(
        [*command, "--config-dir", str(small.config_dir), *small.words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    try:
        wait_for(lambda: tracked() == 2 or process.poll())
        assert process.poll() is None, process.communicate()[0]
        # Its trial ends no epoch without an answer: it is still there when the kill comes.
        process.send_signal(signal.SIGSTOP)
        (server,) = children(process.pid)
        (trial,) = children(server)
    finally:
        process.kill()
        process.communicate()
    for one in (server, trial):
        wait_for(lambda one=one: not Path(f"/proc/{one}").exists() or "Z" in state_of(one))  # type: ignore[misc]
    assert [one.state.name for one in trials_of(DATABASE, "whole")] == ["COMPLETE", "RUNNING"]
    # Words about where it ran may differ; the study is the same.
    assert run_sweep(small, client) == 0
    every = trials_of(DATABASE, "whole")
    assert [one.state.name for one in every] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert len(counted(every)) == 3
    parent, runs = runs_of(sweep_store, "whole")
    assert parent.info.status == "FINISHED"
    assert {run.info.run_name: run.info.status for run in runs}["trial-0001"] == "FAILED"


def state_of(process: int) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_ten_failures_in_a_row_stop_with_their_cause(
    client: ServerClient, options: Options, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where every trial wants more memory than there is."""
    logs = tmp_path / "runs" / "broken" / "logs"

    def begun() -> int:
        return len(list(logs.glob("*.log")))

    def kill() -> None:
        for number in range(1, 11):
            # Not before the trial has taken its place: until then it is the server's own copy.
            wait_for(lambda number=number: begun() == number)  # type: ignore[misc]
            for one in children(client.pid):
                os.kill(one, signal.SIGKILL)

    with meanwhile(kill):
        assert run_sweep(options(LONG, study="broken", trials=20), client) == 1
    assert len(trials_of(DATABASE, "broken")) == 10
    said = capsys.readouterr().out
    assert "ten trials in a row failed, 10 of 10 times: killed by SIGKILL" in said


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["sweep=defualt"], "Did you mean 'default'?"),
        (["--trials", "0"], "'0': must be a whole number, 1 or more"),
        (["--storage", "optuna.db"], "sqlite:///optuna.db"),
        (["--study", "a/b"], "it names a folder"),
        (["loss.gama=1"], "Did you mean 'gamma'?"),
    ],
)
def test_a_wrong_command_line_ends_with_code_2(
    words: list[str], wanted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb(main, ["loss=focal", *words]) == 2
    assert wanted in capsys.readouterr().err


def test_help_takes_a_second_and_names_the_spaces() -> None:
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "cxr_lightning.sweep", "--help"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert time.monotonic() - started < 20
    for word in ("--refit-best", "sweep.pruner.name", "backbones", "focal_vs_bce"):
        assert word in done.stdout
    for heavy in ("torch", "optuna", "mlflow", "pandas"):
        assert f" {heavy}\n" not in done.stderr
