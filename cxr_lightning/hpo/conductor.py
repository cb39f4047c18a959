"""The loop of a sweep: takes trials from the study, runs them in processes, records their end."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from cxr_lightning.config.schema import Config
from cxr_lightning.errors import ConfigError
from cxr_lightning.hpo.channel import Message
from cxr_lightning.hpo.check import Composer
from cxr_lightning.hpo.client import Job, ServerClient, ServerLost
from cxr_lightning.hpo.last_words import last_words
from cxr_lightning.hpo.parent import ParentRun
from cxr_lightning.hpo.patience import patiently
from cxr_lightning.hpo.places import drop_checkpoints, trial_place
from cxr_lightning.hpo.progress import Progress
from cxr_lightning.hpo.slots import Slot
from cxr_lightning.hpo.space import EPOCH_METRICS, LATENCY, suggest_overrides
from cxr_lightning.hpo.stopping import Stopping
from cxr_lightning.hpo.study import SweepStudy
from cxr_lightning.hpo.trials import RETRIES

__all__ = ["FAILURES_IN_A_ROW", "Conductor", "Ending"]

FAILURES_IN_A_ROW = 10
_CLAIM_AGAIN_SECONDS = 3.0
_SERVER_LOST = "the process that trials are started from was lost"


@dataclass(frozen=True)
class Ending:
    """How a sweep ended in this process.

    Attributes
    ----------
    interrupted
        By Ctrl-C or a termination signal; what ran is queued again.
    cause
        What ten trials in a row failed of; empty: they did not.
    """

    interrupted: bool = False
    cause: str = ""


@dataclass
class _Running:
    trial: optuna.Trial
    job: Job
    slot: Slot
    folder: Path
    log: Path
    started: float = field(default_factory=time.monotonic)
    run_id: str = ""


class Conductor:
    """Keeps every worker busy until the study holds what it should.

    Parameters
    ----------
    study, composer
        What is tried.
    client, slots
        Where it is tried.
    parent
        The sweep's own MLflow run.
    progress
        What is shown.
    folder
        Where the trials' runs are kept.
    """

    def __init__(
        self,
        study: SweepStudy,
        composer: Composer,
        client: ServerClient,
        slots: Sequence[Slot],
        parent: ParentRun,
        progress: Progress,
        folder: Path,
    ) -> None:
        self.study, self.composer, self.client = study, composer, client
        self.parent, self.progress, self.folder = parent, progress, folder
        self._free = list(slots)
        self._running: dict[int, _Running] = {}
        self._streak: list[str] = []
        self._end = Stopping(client)

    def run(self) -> Ending:
        """Run trials until the total is reached, anywhere; see :class:`Ending` for what else."""
        claim_at = 0.0
        with self._end.answered():
            self._close(self.study.recover())
            while True:
                now = time.monotonic()
                if self._stopping:
                    self._stop()
                    if not self._running:
                        break
                elif self._free and now >= claim_at and not self._begin():
                    claim_at = now + _CLAIM_AGAIN_SECONDS
                    if not self._running and not self.study.unfinished():
                        break
                self._listen()
                self.progress.show(self._elsewhere())
        cause = self._cause() if len(self._streak) >= FAILURES_IN_A_ROW else ""
        return Ending(interrupted=self._end.signals > 0, cause=cause)

    # -- beginning -----------------------------------------------------------------------------

    def _begin(self) -> bool:
        """Begin one more trial; False: none is left."""
        trial = self.study.claim()
        self._close(self.study.lost())
        if trial is None:
            return False
        words = patiently(lambda: suggest_overrides(trial, self.study.space))
        folder, log = trial_place(self.folder, trial.number)
        try:
            config = self._placed(self.composer.trial(words), folder, trial.number)
        except ConfigError as error:
            self._streak.append(str(error))
            self.study.fail(trial, str(error))
            self.progress.finished(trial, "failed", str(error))
            return True
        slot = self._free.pop(0)
        try:
            job = self.client.run(
                slot.job("trial", config, self.parent.run_id, log)
                | {"watch": self._watched(), "latency": LATENCY in self.study.space.metrics}
            )
        except ServerLost:
            self._free.append(slot)
            self._lost(trial)
            self._replace_server()
            return True
        self._running[job.number] = _Running(trial, job, slot, folder, log)
        self.study.note(trial, {"folder": str(folder), "overrides": words})
        self.progress.started(trial)
        return True

    def _close(self, lost: Iterable[FrozenTrial]) -> None:
        for one in lost:
            self.parent.trial_was_lost(one)
            drop_checkpoints(Path(one.user_attrs.get("folder", "nowhere")))

    def _watched(self) -> str | None:
        """Return the objective that a trial reports every epoch; None: there is no such one."""
        metric, *others = self.study.space.metrics
        return metric if metric in EPOCH_METRICS and not others else None

    def _placed(self, config: Config, folder: Path, number: int) -> Config:
        tags = config.run.tags | {"sweep": self.study.name, "trial": str(number)}
        run = config.run.model_copy(update={"dir": folder, "name": None, "tags": tags})
        return config.model_copy(update={"run": run, "resume": "never"})

    # -- the course of trials ------------------------------------------------------------------

    def _listen(self) -> None:
        try:
            events = self.client.events(0.5)
        except ServerLost:
            self._server_lost()
            return
        for job, message in events:
            one = self._running.get(job.number)
            if one is None:
                continue
            if "run" in message:
                one.run_id = str(message["run"])
                self.study.note(one.trial, {"mlflow_run_id": one.run_id})
                self.progress.epochs(one.trial, int(message["epochs"]))
            elif "epoch" in message:
                self._epoch(one, message)
            elif not message:
                self._finished(one)

    def _epoch(self, one: _Running, message: Message) -> None:
        if self._watched() is not None:  # else it is not the objective, and no answer is awaited
            prune = self.study.report(one.trial, float(message["value"]), int(message["epoch"]))
            one.job.channel.send({"prune": prune})
        shown = self.study.space.metrics[0] in EPOCH_METRICS
        best = float(message["best"]) if shown else math.nan
        self.progress.epoch(one.trial, int(message["epoch"]), best)

    def _finished(self, one: _Running) -> None:
        self._running.pop(one.job.number)
        self._free.append(one.slot)
        drop_checkpoints(one.folder)
        result = one.job.result or {}
        seconds = time.monotonic() - one.started
        if "done" in result:
            state, words = self._told(one, result["done"])
        elif "diverged" in result:
            state, words = "pruned", str(result["diverged"])
            self.study.prune(one.trial, words)
        elif "interrupted" in result or self._stopping:
            state, words = "stopped", "stopped by a signal; its values are queued again"
            self.study.give_back(one.trial, words)
        else:
            state, words = "failed", last_words(result, one.job.code, one.log)
            self.study.fail(one.trial, words)
        if state == "failed":
            self._streak.append(words)
        elif state != "stopped":
            self._streak.clear()
        self.parent.trial_ended(one.run_id, state, words, seconds)
        self.progress.finished(one.trial, state, words)
        self.parent.best_so_far(self.study.finished(), self.study.space)

    def _told(self, one: _Running, done: Mapping[str, Any]) -> tuple[str, str]:
        metrics = done["metrics"]
        kept = {name: value for name, value in metrics.items() if value is not None}
        self.study.note(one.trial, {"metrics": kept, "epochs": done["epochs"]})
        if done["pruned"]:
            pruner = self.study.space.pruner.name
            reason = f"stopped after {done['epochs']} epochs by the {pruner} pruner"
            self.study.prune(one.trial, reason)
            return "pruned", reason
        values = [kept.get(name, math.nan) for name in self.study.space.metrics]
        undefined = self.study.complete(one.trial, values)
        return ("failed", undefined) if undefined else ("complete", "")

    # -- what goes wrong -----------------------------------------------------------------------

    def _server_lost(self) -> None:
        for one in list(self._running.values()):
            self._free.append(one.slot)
            drop_checkpoints(one.folder)
            words = self._lost(one.trial)
            self.parent.trial_ended(one.run_id, "failed", words, time.monotonic() - one.started)
        self._running.clear()
        self._replace_server()

    def _lost(self, trial: optuna.Trial) -> str:
        """Queue a trial again that ended with the server, unless it did so too often."""
        if self.study.give_back(trial, _SERVER_LOST, limit=RETRIES):
            state, words = "stopped", f"{_SERVER_LOST}; queued again"
        else:
            state, words = "failed", f"{_SERVER_LOST}, {RETRIES + 1} times with this trial"
            self._streak.append(words)
        self.progress.finished(trial, state, words)
        return words

    def _replace_server(self) -> None:
        if not self._stopping:
            self.progress.say(f"{_SERVER_LOST}; starting it anew")
            self.client.restart()

    def _cause(self) -> str:
        """Return what most of the last failures have in common."""
        causes = Counter(words.splitlines()[0] for words in self._streak[-FAILURES_IN_A_ROW:])
        cause, count = causes.most_common(1)[0]
        return f"{count} of {FAILURES_IN_A_ROW} times: {cause}"

    # -- the end -------------------------------------------------------------------------------

    @property
    def _stopping(self) -> bool:
        return self._end.signals > 0 or len(self._streak) >= FAILURES_IN_A_ROW

    def _stop(self) -> None:
        if self._end.stop([one.job for one in self._running.values()]) and self._end.signals:
            self.progress.say(
                f"stopping {len(self._running)} running trial(s); their values are queued "
                "again. Ctrl-C once more: at once"
            )

    def _elsewhere(self) -> int:
        """Return how many trials other processes run, where this one has nothing left to do."""
        if self._running or self._stopping:
            return 0
        return len(self.study.unfinished())
