"""The loop of a sweep, where the process that trials are started from does not last."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import optuna
from rich.console import Console

from cxr_lightning.hpo.channel import Channel, Message
from cxr_lightning.hpo.check import Composer
from cxr_lightning.hpo.client import Job, ServerLost
from cxr_lightning.hpo.conductor import FAILURES_IN_A_ROW, Conductor
from cxr_lightning.hpo.progress import Progress
from cxr_lightning.hpo.reading import read_space
from cxr_lightning.hpo.slots import Slot
from cxr_lightning.hpo.storage import open_storage
from cxr_lightning.hpo.study import SweepStudy
from cxr_lightning.hpo.trials import RETRIES


class Dying:
    """Stands for a server that the system kills as it takes a job, or just after, in turns."""

    def __init__(self) -> None:
        self.begun = self.restarts = 0
        self.job: Job | None = None

    def run(self, message: Message) -> Job:
        self.begun += 1
        if self.begun % 2:
            raise ServerLost
        own, other = Channel.pair()
        other.close()
        self.job = Job(self.begun, own)
        return self.job

    def events(self, seconds: float) -> list[tuple[Job, Message]]:
        if self.job is not None:
            raise ServerLost
        return []

    def restart(self) -> None:
        self.restarts += 1
        if self.job is not None:
            self.job.channel.close()
        self.job = None


def test_a_server_that_keeps_dying_stops_the_sweep(tmp_path: Path) -> None:
    """A trial is begun again three times, then failed; ten of those are enough."""
    storage = open_storage(f"sqlite:///{tmp_path / 'optuna.db'}")
    optuna.create_study(storage=storage.rdb, study_name="study", direction="maximize")
    reading = read_space(["sweep=default"])
    study = SweepStudy(storage, "study", reading.space, 50, 5)
    told: list[str] = []
    parent = SimpleNamespace(run_id="", trial_ended=lambda run, state, *_: told.append(state))
    config = Composer(reading).trial([])
    composer = SimpleNamespace(trial=lambda words: config)  # composing 40 takes seconds
    client, console = Dying(), Console(file=io.StringIO(), width=200)
    with Progress(study.trials, reading.space, 50, 1, console) as progress:
        ending = Conductor(
            study, composer, client, [Slot(0, 1)], parent, progress, tmp_path  # type: ignore[arg-type]
        ).run()  # fmt: skip
    assert ending.cause == (
        "10 of 10 times: the process that trials are started from was lost, 4 times with this trial"
    )
    assert not ending.interrupted
    assert client.begun == FAILURES_IN_A_ROW * (RETRIES + 1)
    assert [trial.state.name for trial in study.trials()] == ["FAIL"] * FAILURES_IN_A_ROW
    assert set(told) == {"failed"}
    assert client.job is not None
    client.job.channel.close()
    study.close()
    storage.close()
