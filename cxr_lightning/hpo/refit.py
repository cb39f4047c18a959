"""The best configurations trained again: whole budget, other seeds, and at last the test set."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.text import Text

from cxr_lightning.config.schema import Config
from cxr_lightning.errors import UserError
from cxr_lightning.hpo.check import Composer
from cxr_lightning.hpo.client import Job, ServerClient
from cxr_lightning.hpo.identity import IDENTITY
from cxr_lightning.hpo.last_words import last_words
from cxr_lightning.hpo.parent import ParentRun
from cxr_lightning.hpo.places import refit_place
from cxr_lightning.hpo.ranking import best_trials
from cxr_lightning.hpo.slots import Slot
from cxr_lightning.hpo.stopping import Stopping
from cxr_lightning.hpo.study import SweepStudy
from cxr_lightning.hpo.summary import full_config
from cxr_lightning.runs import RunFolder, configuration_hash

__all__ = ["refit_best"]

BUNDLE = "bundle.safetensors"
_METRICS = ("test/auroc_macro", "test/average_precision_macro")


@dataclass(frozen=True)
class _Refit:
    trial: int
    seed: int
    config: Config
    folder: Path

    @property
    def name(self) -> str:
        return f"trial {self.trial}, seed {self.seed}"

    def metrics(self) -> dict[str, float | None] | None:
        """Return the metrics of a refit that is finished."""
        file = self.folder / "metrics.json"
        if not file.is_file() or RunFolder(self.folder).state().status != "finished":
            return None
        found: dict[str, float | None] = json.loads(file.read_text(encoding="utf-8"))
        return found


def refit_best(
    study: SweepStudy,
    composer: Composer,
    client: ServerClient,
    slots: Sequence[Slot],
    parent: ParentRun,
    folder: Path,
    *,
    count: int,
    seeds: int,
    console: Console,
) -> list[str]:
    """Train the best trials again, and return lines of Markdown that say what came of it.

    A refit that is finished is not repeated, one that was interrupted is resumed. `refits.csv` has
    a row each; `ensemble.txt` the bundles, one a line, the best configuration first.

    Raises
    ------
    UserError
        A refit failed; those beside it have been finished.
    KeyboardInterrupt
        After those that were running have ended.
    """
    best = best_trials(study.finished(), study.space)[:count]
    if not best:
        words = "No trial is complete: there is nothing to train again."
        console.print(Text(words))
        return [words, ""]
    fingerprint = study.study.user_attrs.get(IDENTITY, {}).get("data fingerprint", "")
    refits = [
        _make(full_config(composer, trial), trial.number, seed, study.name, folder, fingerprint)
        for trial in best
        for seed in range(1, seeds + 1)
    ]
    _train([one for one in refits if one.metrics() is None], client, slots, parent, folder, console)
    rows: list[dict[str, Any]] = []
    for one in refits:
        metrics: Mapping[str, float | None] = one.metrics() or {}
        rows.append(
            {"trial": one.trial, "seed": one.config.seed}
            | {name: metrics.get(name) for name in _METRICS}
            | {"bundle": str(one.folder / BUNDLE)}
        )
    table = pd.DataFrame(rows)
    table.to_csv(folder / "refits.csv", index=False)
    (folder / "ensemble.txt").write_text("\n".join(table["bundle"]) + "\n", encoding="utf-8")
    for name in ("refits.csv", "ensemble.txt"):
        parent.run.log_artifact(folder / name)
    return _told(table, seeds, refits[0].config.data.name, console, folder)


def _make(
    config: Config, trial: int, seed: int, study: str, folder: Path, fingerprint: str
) -> _Refit:
    config = config.model_copy(update={"seed": (config.seed + seed) % 2**32, "resume": "auto"})
    name = f"refit-{trial:04d}-seed{seed}"
    place = refit_place(folder, name, configuration_hash(config), fingerprint)
    tags = config.run.tags | {"sweep": study, "refit_of_trial": str(trial)}
    run = config.run.model_copy(update={"dir": place, "tags": tags})
    return _Refit(trial, seed, config.model_copy(update={"run": run}), place)


def _train(
    refits: Sequence[_Refit],
    client: ServerClient,
    slots: Sequence[Slot],
    parent: ParentRun,
    folder: Path,
    console: Console,
) -> None:
    waiting, free = list(refits), list(slots)
    running: dict[int, tuple[Job, _Refit, Slot, Path]] = {}
    failed: list[str] = []
    end = Stopping(client)
    with end.answered():
        while running or (waiting and not failed and not end.signals):
            while waiting and free and not failed and not end.signals:
                one, slot = waiting.pop(0), free.pop(0)
                log = folder / "logs" / f"{one.folder.name}.log"
                job = client.run(slot.job("fit", one.config, parent.run_id, log))
                running[job.number] = job, one, slot, log
                console.print(Text(f"refit of {one.name} begins"))
            if end.signals and end.stop([job for job, *_ in running.values()]):
                console.print(Text(f"stopping {len(running)} refit(s). Ctrl-C once more: at once"))
            for job, message in client.events(1.0):
                if message or job.number not in running:
                    continue
                _, one, slot, log = running.pop(job.number)
                free.append(slot)
                words = _ended(one, job, log, console)
                if words and not end.signals:
                    failed.append(words)
    if end.signals:
        raise KeyboardInterrupt
    if failed:
        raise UserError("\n".join(failed))


def _ended(one: _Refit, job: Job, log: Path, console: Console) -> str:
    """Say what came of a refit; returns why it failed, and nothing where it did not."""
    if "done" not in (job.result or {}):
        return f"the refit of {one.name} failed: {last_words(job.result or {}, job.code, log)}"
    metrics = (job.result or {})["done"]["metrics"]
    value = metrics.get(_METRICS[0])
    shown = "undefined" if value is None else f"{value:.4f}"
    console.print(Text(f"refit of {one.name}: {_METRICS[0]} {shown}"))
    return ""


def _told(table: pd.DataFrame, seeds: int, data: str, console: Console, folder: Path) -> list[str]:
    lines = [
        f"Trained again with the whole budget and {seeds} other seed(s), on the **test set** "
        "(mean ± standard deviation over seeds):",
        "",
        "| trial | " + " | ".join(_METRICS) + " |",
        "| --- | " + " | ".join("---" for _ in _METRICS) + " |",
    ]
    for trial, rows in table.groupby("trial", sort=False):
        cells = [_spread(rows[name].to_numpy(np.float64)) for name in _METRICS]
        lines.append(f"| {trial} | " + " | ".join(cells) + " |")
        console.print(Text(f"trial {trial}: {_METRICS[0]} {cells[0]} over {len(rows)} seed(s)"))
    console.print(
        Text(
            f"their bundles, for an ensemble: {folder / 'ensemble.txt'}\n"
            f"  python -m cxr_lightning.evaluate bundle=$(paste -sd, {folder / 'ensemble.txt'}) "
            f"data={data}"
        ),
        soft_wrap=True,
    )
    return [*lines, ""]


def _spread(values: np.ndarray) -> str:
    known = values[~np.isnan(values)]
    if not known.size:
        return "undefined"
    if known.size == 1:
        return f"{known[0]:.4f}"
    return f"{known.mean():.4f} ± {known.std(ddof=1):.4f}"
