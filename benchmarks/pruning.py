"""What pruning costs and saves: the default sweep, beside the same one without pruning."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pandas as pd

from benchmarks.measure import Goal, Row, Section
from cxr_lightning.hpo.reading import read_space

SPACE = read_space(["sweep=default"]).space
OBJECTIVE = "val/auroc_macro"
KINDS = {"unpruned": ("sweep.pruner.name=none",), "pruned": ()}
METHOD = (
    f"`sweep=default` as it is: {SPACE.trials} trials of {SPACE.budget['trainer.max_epochs']} "
    f"epochs at most, pruner {SPACE.pruner.name}. Only the data and the network are small: 1,600 "
    "synthetic radiographs of 64 pixels, read at 32, 480 to train and 780 to validate; with fewer, "
    "chance would choose the best trial. One worker, so that a seed of the sampler decides "
    "everything. Each seed runs twice, with the pruner and with none. AUROC is that of the best "
    "trial, on validation."
)


def measure(work: Path, repeats: int) -> Section:
    found: dict[str, list[pd.DataFrame]] = {kind: [] for kind in KINDS}
    for seed in range(repeats):
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:
            tables = pool.map(partial(sweep, work, Path(folder), seed), KINDS)
            for kind, table in zip(KINDS, tables, strict=True):
                found[kind].append(table)
                print(f"  seed {seed}, {kind}: {best(table):.4f}, {epochs(table):.0f} epochs")
    rows = [
        *(Row(f"best AUROC, {kind}", "", [*map(best, found[kind])]) for kind in KINDS),
        *(Row(f"epochs trained, {kind}", "epochs", [*map(epochs, found[kind])]) for kind in KINDS),
    ]
    auroc, trained = (ratios(found, of) for of in (best, epochs))
    rows += [Row("AUROC, pruned to unpruned", "x", auroc), Row("epochs", "x", trained)]
    goals = [
        Goal("best AUROC of a pruned sweep, beside an unpruned one", rows[4].median, 0.99),
        Goal("its epochs, beside those of the unpruned one", rows[5].median, 0.4, at_most=True),
    ]
    return Section("Pruning", METHOD, rows, goals)


def sweep(work: Path, folder: Path, seed: int, kind: str) -> pd.DataFrame:
    """Run a sweep in a process of its own, and return its leaderboard."""
    place = folder / kind
    place.mkdir()
    words = [
        *(f"data.root={work / 'phantom-1600'}", f"data.cache_dir={work / 'caches'}"),
        *("data.images=1600", "data.pixels=64", "data.image.size=32", "data.val_fraction=0.6"),
        "data.labels=[Effusion,Infiltration,Atelectasis]",
        "model.options={channels: [16, 32, 64], convs_per_block: 1}",
        *("trainer=cpu", "trainer.threads=1", "evaluation.replicates=20"),
        f"sweep.sampler.seed={seed}",
    ]
    command = [sys.executable, "-m", "cxr_lightning.sweep"]
    done = subprocess.run(
        [*command, "--study", "study", *KINDS[kind], *words],
        cwd=place, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return pd.read_csv(place / "runs" / "study" / "leaderboard.csv")


def best(table: pd.DataFrame) -> float:
    """Return the best of the complete trials, which come first."""
    return float(table[OBJECTIVE].iloc[0])


def epochs(table: pd.DataFrame) -> float:
    return float(table["epochs"].sum())


def ratios(found: dict[str, list[pd.DataFrame]], of: object) -> list[float]:
    pairs = zip(found["pruned"], found["unpruned"], strict=True)
    return [of(one) / of(other) for one, other in pairs]  # type: ignore[operator]
