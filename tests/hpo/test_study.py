"""A study that several processes fill: exact totals, lost processes, undefined numbers."""

from __future__ import annotations

import math
import multiprocessing
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import OperationalError

from cxr_lightning.errors import ConfigError
from cxr_lightning.hpo.identity import differences
from cxr_lightning.hpo.patience import patiently
from cxr_lightning.hpo.samplers import build_sampler
from cxr_lightning.hpo.space import PrunerConfig, SamplerConfig, Space
from cxr_lightning.hpo.storage import Storage, open_storage
from cxr_lightning.hpo.study import SweepStudy
from cxr_lightning.hpo.trials import BASELINE, LAST_WORDS, OWNER, RETRIES, counted, is_alive, owner

PARAMETERS = {"x": {"type": "float", "low": 0.0, "high": 1.0}}


def make_space(**changes: object) -> Space:
    return Space.model_validate({"parameters": PARAMETERS} | changes)


def open_study(url: str, total: int, **changes: object) -> SweepStudy:
    storage = open_storage(url)
    space = make_space(**changes)
    optuna.create_study(
        storage=storage.rdb,
        study_name="study",
        directions=list(space.objective.values()),
        load_if_exists=True,
    )
    return SweepStudy(storage, "study", space, total, 10)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'optuna.db'}"


def states(study: SweepStudy) -> Counter[str]:
    return Counter(trial.state.name for trial in study.trials())


def work(url: str, total: int, seed: int, gate: Event | None = None) -> None:
    """Take trials until there are none, as a sweep does, without training anything.

    The second half of them wait for the gate, where there is one.
    """
    study = open_study(url, total)
    while (trial := study.claim()) is not None:
        value = patiently(partial(trial.suggest_float, "x", 0.0, 1.0))
        assert gate is None or trial.number < total // 2 or gate.wait(60)
        for epoch in range(1, 4):
            study.report(trial, value / epoch, epoch)
        study.note(trial, {"metrics": {"value": value}})
        match (trial.number + seed) % 3:
            case 0:
                study.prune(trial, "worse")
            case 1:
                study.fail(trial, "words")
            case _:
                study.complete(trial, [value])
    study.close()


def test_four_processes_reach_the_total_and_no_further(url: str) -> None:
    """They also create the file at the same time; each metric and curve is there in the end."""
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=work, args=(url, 24, seed)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    study = open_study(url, 24)
    trials = study.study.trials
    assert [trial.number for trial in trials] == list(range(24))
    assert all(trial.state.is_finished() for trial in trials)
    for trial in trials:
        value = trial.params["x"]
        assert trial.intermediate_values == {epoch: value / epoch for epoch in (1, 2, 3)}
        assert trial.user_attrs["metrics"] == {"value": value}
    assert study.claim() is None
    study.close()


def test_a_claim_that_breaks_off_at_its_end_leaves_no_trial_behind(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the database restarts just then: the trial is there, and nobody knows of it."""
    study = open_study(url, 2)
    whole, breaks = Storage.locked, iter([True])

    @contextmanager
    def locked(storage: Storage, name: str) -> Iterator[None]:
        with whole(storage, name):
            yield
        if next(breaks, False):
            raise OperationalError("COMMIT", None, OSError("gone"))

    monkeypatch.setattr(Storage, "locked", locked)
    assert [study.claim() is not None for _ in range(3)] == [True, True, False]
    assert states(study) == Counter(RUNNING=2)
    assert len(study.study.trials) == 3
    study.close()


def test_total_is_over_restarts_and_can_be_raised(url: str) -> None:
    work(url, 3, 0)
    work(url, 3, 0)
    study = open_study(url, 5)
    assert len(study.finished()) == 3
    assert [study.claim() is not None for _ in range(3)] == [True, True, False]
    study.close()
    # Of a lower total nothing is begun, and nothing is waited for.
    lower = open_study(url, 2)
    assert lower.claim() is None
    lower.close()


def test_a_second_start_does_not_draw_the_values_of_the_first_again(url: str) -> None:
    values = []
    for total in (2, 4):
        study = open_study(url, total, sampler={"name": "random", "seed": 5})
        while (trial := study.claim()) is not None:
            values.append(trial.suggest_float("x", 0.0, 1.0))
            study.complete(trial, [values[-1]])
        study.close()
    assert len(set(values)) == 4


LOSE = """
import os, sys
from tests.hpo.test_study import open_study
study = open_study(sys.argv[1], 10)
for _ in range(2):
    study.claim().suggest_float("x", 0.0, 1.0)
os._exit(9)
"""


def lose(url: str) -> None:
    """Let a process begin two trials and end without a word."""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", LOSE, url], cwd=root, check=False)
    assert done.returncode == 9


def test_trials_of_a_process_that_is_gone_are_begun_again(url: str) -> None:
    lose(url)
    study = open_study(url, 3)
    old = [trial.params["x"] for trial in study.study.trials]
    assert states(study) == {"RUNNING": 2}
    lost = study.recover()
    assert [trial.state for trial in lost] == [TrialState.FAIL] * 2
    assert lost[0].user_attrs[LAST_WORDS] == "the process of this trial was lost"
    assert states(study) == {"WAITING": 2}
    values = []
    while (trial := study.claim()) is not None:
        values.append(trial.suggest_float("x", 0.0, 1.0))
        assert LAST_WORDS not in trial.user_attrs
        study.complete(trial, [values[-1]])
    assert values[:2] == old
    assert states(study) == {"COMPLETE": 3}
    assert len(study.study.trials) == 5
    study.close()


def test_what_a_claim_found_lost_is_told_once(url: str) -> None:
    study = open_study(url, 3)
    lose(url)
    assert study.claim() is not None
    lost = study.lost()
    assert [trial.state for trial in lost] == [TrialState.FAIL] * 2
    assert study.lost() == []
    study.close()


def test_a_point_of_a_grid_whose_values_are_being_drawn_is_taken(url: str) -> None:
    choices = {"type": "categorical", "choices": ["a", "b"]}
    grid = {"parameters": {"x": choices, "y": choices}, "sampler": {"name": "grid"}}
    elsewhere, study = (open_study(url, 4, **grid) for _ in range(2))
    first = elsewhere.claim()
    assert first is not None
    first.suggest_categorical("x", ["a", "b"])  # y not yet
    other = {"machine": "other", "pid": 1, "started": "1"}
    study.storage.rdb.set_trial_system_attr(study._storage_id(first.number), OWNER, other)
    second = study.claim()
    assert second is not None
    points = [one.system_attrs["fixed_params"] for one in study.study.trials]
    assert len(points) == 2
    assert points[0] != points[1]
    elsewhere.close()
    study.close()


def test_another_machine_that_gives_no_sign_of_life(url: str, tmp_path: Path) -> None:
    lose(url)
    study = open_study(url, 2)
    rdb = study.storage.rdb
    for trial in study.study.trials:
        number = rdb.get_trial_id_from_study_id_trial_number(study._id, trial.number)
        rdb.set_trial_system_attr(number, OWNER, {"machine": "other", "pid": 1, "started": "1"})
    assert study.recover() == []  # a moment ago it lived
    with sqlite3.connect(tmp_path / "optuna.db") as database:
        database.execute("UPDATE trial_heartbeats SET heartbeat = datetime('now', '-1 hour')")
    assert len(study.recover()) == 2
    assert states(study) == {"WAITING": 2}
    study.close()


def test_trials_of_ones_own_survive_a_pause(url: str, tmp_path: Path) -> None:
    """After Ctrl-Z and fg, or a storage that was away: the process still runs them."""
    study = open_study(url, 2)
    assert study.claim() is not None
    with sqlite3.connect(tmp_path / "optuna.db") as database:
        database.execute("UPDATE trial_heartbeats SET heartbeat = datetime('now', '-1 hour')")
    assert study.claim() is not None
    assert states(study) == {"RUNNING": 2}
    assert study.recover() == []
    study.close()


def test_what_kills_its_process_is_not_begun_for_ever(url: str) -> None:
    study = open_study(url, 1)
    for _ in range(RETRIES + 1):
        trial = study.claim()
        assert trial is not None
        study._mine.clear()  # as if by a process that is gone
        number = study._storage_id(trial.number)
        study.storage.rdb.set_trial_system_attr(number, OWNER, owner() | {"started": "0"})
        study.recover()
    assert study.claim() is None
    assert states(study) == {"FAIL": 1}
    assert len(study.study.trials) == RETRIES + 1
    study.close()


def test_a_trial_that_was_taken_for_lost_ends_quietly(url: str) -> None:
    study = open_study(url, 5)
    trial = study.claim()
    assert trial is not None
    number = study._storage_id(trial.number)
    study.storage.rdb.set_trial_state_values(number, TrialState.FAIL)
    assert study.report(trial, 0.5, 1) is True  # stop: it runs elsewhere by now
    study.complete(trial, [0.5])
    assert study.study.trials[0].state == TrialState.FAIL
    study.close()


def test_what_was_stopped_waits_in_its_place(url: str) -> None:
    study = open_study(url, 1)
    study.begin_with({"x": 0.25})
    trial = study.claim()
    assert trial is not None
    value = trial.suggest_float("x", 0.0, 1.0)
    study.give_back(trial, "stopped")
    assert states(study) == {"WAITING": 1}
    again = study.claim()
    assert again is not None
    assert again.suggest_float("x", 0.0, 1.0) == value == 0.25
    study.complete(again, [1.0])
    assert study.claim() is None
    assert [one.user_attrs.get(BASELINE) for one in study.trials()] == [True]
    study.close()


def test_only_an_empty_study_is_discarded(url: str) -> None:
    study = open_study(url, 1)
    study.begin_with({"x": 0.25})
    study.discard_if_empty()
    assert states(study) == {"WAITING": 1}
    study.close()
    storage = open_storage(url)
    optuna.create_study(storage=storage.rdb, study_name="empty")
    empty = SweepStudy(storage, "empty", make_space(), 1, 10)
    empty.discard_if_empty()
    empty.close()
    assert [one.study_name for one in storage.rdb.get_all_studies()] == ["study"]
    storage.close()


class TestUndefined:
    def test_an_undefined_objective_is_a_failure_that_says_so(self, url: str) -> None:
        study = open_study(url, 1)
        trial = study.claim()
        assert trial is not None
        study.complete(trial, [math.nan])
        (only,) = study.trials()
        assert only.state == TrialState.FAIL
        assert only.user_attrs[LAST_WORDS] == "val/auroc_macro: undefined (NaN)"
        study.close()

    @pytest.mark.parametrize("name", ["median", "hyperband", "successive_halving", "patient"])
    def test_an_undefined_epoch_does_not_prune_by_itself(self, url: str, name: str) -> None:
        patience = {"patience": 1} if name == "patient" else {}
        pruner = {"name": name, "startup_trials": 1, "warmup_epochs": 0} | patience
        study = open_study(url, 20, pruner=pruner)
        for value in (0.8, 0.7, 0.9):
            trial = study.claim()
            assert trial is not None
            for epoch in range(1, 11):
                study.report(trial, value, epoch)
            study.complete(trial, [value])
        trial = study.claim()
        assert trial is not None
        assert not any(study.report(trial, math.nan, epoch) for epoch in (1, 2, 3))
        study.complete(trial, [0.95])
        assert study.study.best_value == 0.95
        study.close()

    def test_a_bad_trial_is_pruned_and_keeps_its_curve(self, url: str) -> None:
        study = open_study(url, 9, pruner={"name": "median", "startup_trials": 2})
        for _ in range(3):
            trial = study.claim()
            assert trial is not None
            assert not any(study.report(trial, 0.8, epoch) for epoch in (1, 2, 3))
            study.complete(trial, [0.8])
        trial = study.claim()
        assert trial is not None
        # The first epoch is left alone.
        assert [study.report(trial, 0.1, epoch) for epoch in (1, 2)] == [False, True]
        study.prune(trial, "worse")
        last = study.trials()[-1]
        assert last.state == TrialState.PRUNED
        assert last.intermediate_values == {1: 0.1, 2: 0.1}
        study.close()


@pytest.mark.parametrize("name", ["tpe", "gp", "cmaes", "random", "qmc"])
def test_every_sampler_proposes(url: str, name: str) -> None:
    sampler = {"name": name, "startup_trials": 2}
    study = open_study(url, 6, sampler=sampler, parameters=PARAMETERS | {"y": PARAMETERS["x"]})
    points = set()
    while (trial := study.claim()) is not None:
        x, y = (trial.suggest_float(key, 0.0, 1.0) for key in ("x", "y"))
        points.add((x, y))
        study.complete(trial, [-((x - 0.5) ** 2) - y])
    assert len(points) == 6
    study.close()


def test_samplers_depend_on_seed_and_number_alone() -> None:
    def draw(config: SamplerConfig, number: int) -> float:
        study = optuna.create_study(sampler=build_sampler(config, number))
        return study.ask().suggest_float("x", 0.0, 1.0)

    config = SamplerConfig(name="random", seed=1)
    assert draw(config, 3) == draw(config, 3) != draw(config, 4)
    assert draw(config, 3) != draw(SamplerConfig(name="random", seed=2), 3)


def test_patience_needs_a_number() -> None:
    with pytest.raises(ValueError, match="name=patient needs patience"):
        PrunerConfig(name="patient")


def test_differences_name_each_place() -> None:
    before = {"a": {"b": 1, "c": [1]}, "d": 2}
    now = {"a": {"b": 2, "c": [1]}, "e": "x"}
    assert list(differences(before, now)) == [
        "a.b: 1 before, 2 now",
        "d: 2 before, not set now",
        "e: not set before, x now",
    ]


def test_owners() -> None:
    me = owner()
    assert is_alive(me) is True
    assert is_alive(me | {"started": "1"}) is False  # another process has my number now
    assert is_alive(me | {"machine": "other"}) is None
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert is_alive(owner(child.pid) | {"pid": child.pid}) is False
    assert str(os.getpid()) in str(me["pid"])


def test_trials_in_whose_place_another_one_is_do_not_count() -> None:
    def trial(number: int, history: list[int]) -> FrozenTrial:
        one = optuna.create_trial(
            state=TrialState.FAIL, system_attrs={"retry_history": history} if history else {}
        )
        one.number = number
        return one

    trials = [trial(0, []), trial(1, [0]), trial(2, []), trial(3, [0, 1])]
    assert [one.number for one in counted(trials)] == [2, 3]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("optuna.db", "a file needs its kind in front: sqlite:///optuna.db"),
        ("sqllite:///optuna.db", "is not a kind of storage. Did you mean 'sqlite'?"),
        ("postgres://host/db", "write postgresql://"),
        ("postgresql://host", "the name of the database is missing"),
        ("sqlite:///no/such/folder/x.db", "there is no"),
        ("postgresql://me:secret@127.0.0.1:9/db", "nothing answers at 127.0.0.1, port 9"),
        ("nonsense", "this is no address."),
    ],
)
def test_addresses(url: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_storage(url)
    assert said in str(caught.value)
    assert "--storage" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "optuna.db.sweep.lock").mkdir()  # also root cannot open it
    with pytest.raises(ConfigError, match=r"--storage is .*Is a directory"):
        open_storage(f"sqlite:///{tmp_path / 'optuna.db'}")


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    file = tmp_path / "notes.db"
    file.write_text("these are not the tables you are looking for, " * 40)
    with pytest.raises(ConfigError, match=r"--storage is .*file is not a database"):
        open_storage(f"sqlite:///{file}")
