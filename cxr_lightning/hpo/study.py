"""A study that several processes on several machines fill to a total, and no further."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from cxr_lightning.hpo.heartbeat import Heartbeat
from cxr_lightning.hpo.patience import patiently
from cxr_lightning.hpo.samplers import build_pruner, build_sampler, grid_points, point_key
from cxr_lightning.hpo.space import Space
from cxr_lightning.hpo.storage import Storage
from cxr_lightning.hpo.trials import (
    BASELINE,
    LAST_WORDS,
    OWNER,
    REASON,
    counted,
    is_alive,
    owner,
    requeue,
    retry_lost,
)

__all__ = ["SweepStudy"]


class SweepStudy:
    """A study, seen by one process that takes trials from it.

    Parameters
    ----------
    storage, name
        Where it is kept and what it is called; it exists.
    space
        What varies.
    total
        Trials that the study should hold in the end.
    epochs
        Of a trial at most, for pruners that plan.
    """

    def __init__(self, storage: Storage, name: str, space: Space, total: int, epochs: int) -> None:
        self.storage, self.name, self.space, self.total = storage, name, space, total
        self.study = optuna.load_study(
            study_name=name, storage=storage.rdb, pruner=build_pruner(space.pruner, epochs)
        )
        self.heartbeat = Heartbeat(storage)
        self._id = storage.rdb.get_study_id_from_name(name)
        self._mine: dict[int, optuna.Trial] = {}
        self._lost: list[FrozenTrial] = []

    # -- what there is -------------------------------------------------------------------------

    def trials(self) -> list[FrozenTrial]:
        """Return the trials that count, by number."""
        every = patiently(lambda: self.study.get_trials(deepcopy=False))
        return counted(every)

    def finished(self) -> list[FrozenTrial]:
        """Return those of them that have ended."""
        return [trial for trial in self.trials() if trial.state.is_finished()]

    def unfinished(self) -> list[FrozenTrial]:
        """Return those that run anywhere, or wait and will be run."""
        every = self.trials()
        begun = [one for one in every if one.state != TrialState.WAITING]
        wanted = len(begun) < self.total
        return [
            one
            for one in every
            if one.state == TrialState.RUNNING or (one.state == TrialState.WAITING and wanted)
        ]

    # -- taking a trial ------------------------------------------------------------------------

    def claim(self) -> optuna.Trial | None:
        """Begin the next trial, unless all that the study should hold have begun.

        Counting and beginning are one step for all processes on all machines.
        """
        return patiently(self._claim)

    def _claim(self) -> optuna.Trial | None:
        with self.storage.locked(self.name):
            self._lost += self._recover()
            every = self.study.get_trials(deepcopy=False)
            begun = [one for one in counted(every) if one.state != TrialState.WAITING]
            if len(begun) >= self.total:
                return None
            waiting = any(one.state == TrialState.WAITING for one in every)
            if self.space.sampler.name == "grid" and not waiting:
                point = self._next_point(counted(every))
                if point is None:
                    return None
                self.study.enqueue_trial(point)
            self.study.sampler = build_sampler(self.space.sampler, len(every))
            trial = self.study.ask()  # its values are drawn later, outside the lock
            # In this order: a trial without an owner is one whose process was lost right here.
            number = self._storage_id(trial.number)
            self.storage.rdb.record_heartbeat(number)
            self.storage.rdb.set_trial_system_attr(number, OWNER, owner())
        self._mine[trial.number] = trial
        self.heartbeat.add(number)
        return trial

    def begin_with(self, point: dict[str, Any] | None) -> None:
        """Let the first trial be a point of the space, unless there are trials already."""
        with self.storage.locked(self.name):
            if point and not self.study.get_trials(deepcopy=False):
                self.study.enqueue_trial(point, user_attrs={BASELINE: True})

    def discard_if_empty(self) -> None:
        """Delete the study where no trial has ever begun or been queued."""
        with self.storage.locked(self.name):
            if not self.study.get_trials(deepcopy=False):
                self.storage.rdb.delete_study(self._id)

    def _next_point(self, trials: Sequence[FrozenTrial]) -> dict[str, Any] | None:
        # A trial that has begun may hold a part of its values only, as they are drawn one by one.
        done = {point_key(one.system_attrs.get("fixed_params") or one.params) for one in trials}
        return next((one for one in grid_points(self.space) if point_key(one) not in done), None)

    def _storage_id(self, number: int) -> int:
        return self.storage.rdb.get_trial_id_from_study_id_trial_number(self._id, number)

    # -- trials that lost their process --------------------------------------------------------

    def recover(self) -> list[FrozenTrial]:
        """Fail the trials whose process was lost, queue their values again, and return them."""

        def locked() -> list[FrozenTrial]:
            with self.storage.locked(self.name):
                return self._recover()

        return patiently(locked)

    def lost(self) -> list[FrozenTrial]:
        """Return the trials for which :meth:`claim` did the same since the last call."""
        found, self._lost = self._lost, []
        return found

    def _recover(self) -> list[FrozenTrial]:
        running = [
            trial
            for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            if trial.number not in self._mine
        ]
        lost = [trial for trial in running if not self._may_live(trial)]
        for trial in lost:
            if self._end(trial.number, TrialState.FAIL, words="the process of this trial was lost"):
                retry_lost(self.study, self._frozen(trial.number))
        # On other machines: those without a sign of life. Optuna calls `retry_lost` for each. One's
        # own come first: this process, or the storage, may have been stopped for a while.
        self.heartbeat.beat()
        optuna.storages.fail_stale_trials(self.study)
        now = {trial.number: trial for trial in self.study.get_trials(deepcopy=False)}
        return [now[trial.number] for trial in running if now[trial.number].state.is_finished()]

    @staticmethod
    def _may_live(trial: FrozenTrial) -> bool:
        known = trial.system_attrs.get(OWNER)
        if known == owner():
            return False  # begun here, and the storage went away before that was known
        return isinstance(known, dict) and is_alive(known) is not False

    def _frozen(self, number: int) -> FrozenTrial:
        return self.storage.rdb.get_trial(self._storage_id(number))

    # -- the course of a trial -----------------------------------------------------------------

    def report(self, trial: optuna.Trial, value: float, epoch: int) -> bool:
        """Keep an epoch's objective, counted from 1, and return whether the trial should stop.

        A value that is not finite is kept as it is, and never the reason to prune by itself: what
        was good before it still counts.
        """
        try:
            trial.report(value, epoch)
            if self.space.pruned_by is None or not math.isfinite(value):
                return False
            return bool(trial.should_prune())
        except UpdateFinishedTrialError:
            return True  # it was taken for lost, and runs elsewhere by now
        except StorageInternalError:
            return False  # a point of the curve is missing; no reason to end a trial

    def note(self, trial: optuna.Trial, values: Mapping[str, Any]) -> None:
        """Keep facts of a trial, such as its run."""
        for key, value in values.items():
            with _gone_is_fine():
                patiently(lambda key=key, value=value: trial.set_user_attr(key, value))  # type: ignore[misc]

    def complete(self, trial: optuna.Trial, values: Sequence[float]) -> str:
        """Record the objectives; one that is undefined makes the trial a failed one.

        Returns
        -------
        str
            Why it failed; empty: it is complete.
        """
        named = zip(self.space.metrics, values, strict=True)
        if undefined := [name for name, value in named if math.isnan(value)]:
            words = f"{', '.join(undefined)}: undefined (NaN)"
            self.fail(trial, words)
            return words
        self._tell(trial, values=list(values))
        return ""

    def prune(self, trial: optuna.Trial, reason: str) -> None:
        """Record that the trial was stopped early; its curve is kept."""
        self.note(trial, {REASON: reason})
        self._tell(trial, state=TrialState.PRUNED)

    def fail(self, trial: optuna.Trial, words: str) -> None:
        """Record a failure with its last words."""
        self.note(trial, {LAST_WORDS: words[-4000:]})
        self._tell(trial, state=TrialState.FAIL)

    def give_back(self, trial: optuna.Trial, reason: str, *, limit: int | None = None) -> bool:
        """End a trial that could not finish, and put its values back into the queue.

        Returns
        -------
        bool
            Whether that was done, here or elsewhere: not more often than `limit` says.
        """
        self.note(trial, {LAST_WORDS: reason})
        self.heartbeat.remove(self._storage_id(trial.number))

        def locked() -> bool:
            with self.storage.locked(self.name):
                if not self._end(trial.number, TrialState.FAIL):
                    return True  # by whoever took it for lost
                return requeue(self.study, self._frozen(trial.number), limit=limit)

        queued = patiently(locked)
        self._mine.pop(trial.number, None)
        return queued

    def _tell(self, trial: optuna.Trial, **outcome: Any) -> None:
        def tell() -> None:
            with _gone_is_fine():
                self.study.tell(trial, **outcome, skip_if_finished=True)

        patiently(tell)
        self.heartbeat.remove(self._storage_id(trial.number))
        self._mine.pop(trial.number, None)

    def _end(self, number: int, state: TrialState, *, words: str = "") -> bool:
        try:
            if words:
                self.storage.rdb.set_trial_user_attr(self._storage_id(number), LAST_WORDS, words)
            return self.storage.rdb.set_trial_state_values(self._storage_id(number), state)
        except UpdateFinishedTrialError:
            return False

    def close(self) -> None:
        """Stop the signs of life."""
        self.heartbeat.close()


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    """A trial that was taken for lost is another process's by now: nothing is left to record."""
    try:
        yield
    except UpdateFinishedTrialError:
        return
