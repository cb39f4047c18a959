"""How much of an epoch each shipped model spends waiting for its data."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benchmarks.fitting import build_task, data_module, epochs
from benchmarks.measure import Goal, Section, turns
from benchmarks.pictures import nih_folder, nih_words
from cxr_lightning.config.compose import compose
from cxr_lightning.config.groups import choices, shipped_conf
from cxr_lightning.trainer import quiet_lightning

MODELS = sorted(set(choices("model", [shipped_conf()])) - {"timm"})


def measure(work: Path, repeats: int) -> Section:
    quiet_lightning()
    root, caches = nih_folder(work), work / "caches"
    data_module(compose(nih_words(root, caches))).prepare()
    rows = turns({name: partial(percent, name, root, caches) for name in MODELS}, "%", repeats)
    goals = [
        Goal(f"data wait of {name}", row.median, 2.0, "%", at_most=True, why=WHY)
        for name, row in rows.items()
    ]
    return Section("Waiting for data", METHOD, list(rows.values()), goals)


METHOD = (
    "Share of the second epoch of training on the CPU (of four batches of 32 at 224 pixels, "
    "`augment=standard`, from a filled cache) between the end of a step and the start of the "
    "next, as a run's own `history.csv` says it."
)
WHY = "Batches are made in the training process, on the cores that the steps use."


def percent(name: str, root: Path, caches: Path) -> float:
    options = ["trainer=cpu", "trainer.limit_train_batches=4", "trainer.limit_val_batches=0"]
    config = compose([f"model={name}", "data.image.size=224", "trainer.max_epochs=2", *options])
    data = data_module(compose(nih_words(root, caches)))
    task = build_task(config, data.labels, data.label_counts())
    return 100 * epochs(config, task, datamodule=data)[-1]["throughput/data_wait_share"]
