"""A sweep from its command line to its results."""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from rich.console import Console
from rich.text import Text

from cxr_lightning.config.compose import config_to_yaml
from cxr_lightning.config.schema import Config
from cxr_lightning.errors import ConfigError
from cxr_lightning.hpo.baseline import baseline
from cxr_lightning.hpo.check import Composer, checked_configurations
from cxr_lightning.hpo.client import ServerClient
from cxr_lightning.hpo.conductor import Conductor
from cxr_lightning.hpo.identity import identity, open_study
from cxr_lightning.hpo.options import SweepOptions
from cxr_lightning.hpo.parent import ParentRun, open_parent
from cxr_lightning.hpo.progress import Progress
from cxr_lightning.hpo.ranking import best_trials
from cxr_lightning.hpo.reading import Reading, read_space
from cxr_lightning.hpo.refit import refit_best
from cxr_lightning.hpo.samplers import grid_points
from cxr_lightning.hpo.slots import Slot, make_slots
from cxr_lightning.hpo.storage import Storage, open_storage
from cxr_lightning.hpo.study import SweepStudy
from cxr_lightning.hpo.summary import write_space, write_summary
from cxr_lightning.launch import started_externally
from cxr_lightning.tracking.address import parse_address
from cxr_lightning.tracking.outbox import UNSENT

__all__ = ["run_sweep"]

DEFAULT_TRIALS = 50


@dataclass(frozen=True)
class _Sweep:
    """What all parts of a sweep need."""

    options: SweepOptions
    composer: Composer
    base: Config
    name: str
    total: int
    folder: Path
    facts: dict[str, Any]

    @property
    def reading(self) -> Reading:
        return self.composer.reading


def run_sweep(options: SweepOptions, client: ServerClient) -> int:
    """Run a sweep to its total; returns the exit code.

    Parameters
    ----------
    options
        What the command line says.
    client
        The server that trials are started from; it may still be starting.

    Raises
    ------
    ConfigError, DataError
        Before the first trial.
    KeyboardInterrupt
        After what was running has been recorded.
    """
    console = Console(highlight=False)
    if started_externally():
        raise ConfigError(
            "a sweep is one process that starts its trials itself: run it without torchrun or "
            "srun; on several machines, run the same command with one --storage postgresql://..."
        )
    reading = read_space(options.words, config_dir=options.config_dir)
    composer = Composer(reading, config_file=options.config_file, config_dir=options.config_dir)
    base = composer.full([])
    with ExitStack() as stack:
        configs = [composer.trial([]), *checked_configurations(composer)]
        name = _study_name(options, reading, base)
        parse_address(base.run.tracking_uri)
        storage = open_storage(options.storage)
        stack.callback(storage.close)
        slots, facts = _prepare(client, configs, reading, options)
        sweep = _Sweep(
            options,
            composer,
            base,
            name,
            _total(options, reading, console),
            _folder(base, name),
            facts,
        )
        return _run(sweep, storage, client, slots, console)


def _prepare(
    client: ServerClient, configs: list[Config], reading: Reading, options: SweepOptions
) -> tuple[list[Slot], dict[str, Any]]:
    client.wait()
    hardware = {key: int(client.facts[key]) for key in ("gpus", "cpus")}
    slots = make_slots(options.workers, configs[0].trainer, **hardware)
    texts = list(dict.fromkeys(config_to_yaml(config) for config in configs))
    facts = client.call(
        {"kind": "prepare", "configs": texts, "metrics": list(reading.space.metrics)}
    )
    for text in facts["data"]:
        client.adopt(text)
    return slots, facts


def _run(
    sweep: _Sweep, storage: Storage, client: ServerClient, slots: list[Slot], console: Console
) -> int:
    space, options = sweep.reading.space, sweep.options
    kept = identity(sweep.reading, sweep.base, sweep.facts["fingerprint"])
    continued = open_study(storage, sweep.name, sweep.reading, kept)
    epochs = sweep.composer.trial([]).trainer.max_epochs
    study = SweepStudy(storage, sweep.name, space, sweep.total, epochs)
    tags = {
        "sweep": sweep.name,
        "space": sweep.reading.name,
        "data": sweep.base.data.name,
        "fingerprint": sweep.facts["fingerprint"],
    }
    with ExitStack() as stack:
        stack.callback(study.close)
        try:
            run = open_parent(storage, sweep.name, sweep.base.run, sweep.folder, tags)
        except ConfigError:
            study.discard_if_empty()
            raise
        parent = stack.enter_context(run)
        if space.sampler.name != "grid":
            study.begin_with(baseline(sweep.composer))
        write_space(parent, space, sweep.base, sweep.folder)
        done = len(study.finished())
        again = f"continues with {done} trial(s) done" if continued else "begins"
        _say(
            console, f"study {sweep.name} in {storage.address.shown} {again}; to hold {sweep.total}"
        )
        with Progress(study.trials, space, sweep.total, len(slots), console) as progress:
            ending = Conductor(
                study, sweep.composer, client, slots, parent, progress, sweep.folder
            ).run()
        complete = not ending.interrupted and not ending.cause
        write_summary(
            study, sweep.composer, parent, sweep.folder, facts=sweep.facts, figures=complete
        )
        if ending.interrupted:
            raise KeyboardInterrupt
        if ending.cause:
            _say(
                console,
                f"stopped: ten trials in a row failed, {ending.cause}\n"
                f"leaderboard.csv in {sweep.folder} lists them; what each said is in "
                f"{sweep.folder / 'logs'}. Mend it, then run the same command; failed trials "
                "count, so raise --trials by as many.",
            )
            return 1
        if options.refit_best:
            # Another sweep of the study in this folder waits, and then finds them finished.
            with FileLock(sweep.folder / ".refits.lock"):
                lines = refit_best(
                    study, sweep.composer, client, slots, parent, sweep.folder,
                    count=options.refit_best, seeds=options.refit_seeds, console=console,
                )  # fmt: skip
            write_summary(
                study, sweep.composer, parent, sweep.folder,
                facts=sweep.facts, figures=False, extra=lines,
            )  # fmt: skip
        _farewell(sweep, study, parent, console)
    return 0


def _study_name(options: SweepOptions, reading: Reading, base: Config) -> str:
    name = options.study or f"{reading.name}-{base.data.name}"
    if not re.fullmatch(r"[\w.-]+", name):
        raise ConfigError(
            f"--study {name!r}: letters, digits, '.', '_' and '-' only; it names a folder"
        )
    return name


def _total(options: SweepOptions, reading: Reading, console: Console) -> int:
    space = reading.space
    wanted = options.trials or space.trials
    if space.sampler.name != "grid":
        return wanted or DEFAULT_TRIALS
    size = sum(1 for _ in grid_points(space))
    if wanted and wanted > size:
        _say(
            console, f"{reading.source} is a grid of {size} points: that many trials, not {wanted}"
        )
    return min(wanted or size, size)


def _folder(base: Config, name: str) -> Path:
    return base.run.dir or Path("runs") / (base.run.name or name)


def _say(console: Console, text: str) -> None:
    console.print(Text(text), soft_wrap=True)


def _farewell(sweep: _Sweep, study: SweepStudy, parent: ParentRun, console: Console) -> None:
    best = best_trials(study.trials(), study.space)
    if not best:
        _say(console, "no trial was complete; leaderboard.csv says why")
    else:
        named = zip(study.space.metrics, best[0].values, strict=True)
        values = ", ".join(f"{name} {value:.4f}" for name, value in named)
        _say(console, f"best: trial {best[0].number}, {values}")
        _say(console, f"  python -m cxr_lightning.fit --config {sweep.folder / 'best.yaml'}")
    names = ("leaderboard.csv", "best.yaml", "figures")
    there = ", ".join(name for name in names if (sweep.folder / name).exists())
    _say(console, f"everything is in {sweep.folder}: {there}")
    for unsent in sorted(sweep.folder.glob(f"*/{UNSENT}")):
        _say(
            console,
            f"MLflow did not take everything of {unsent.parent.name}; send it later:\n"
            f"  python -m cxr_lightning.tracking {unsent.parent}",
        )
    if parent.run.page:
        _say(console, f"to look at it: mlflow ui, then open\n  {parent.run.page}")
