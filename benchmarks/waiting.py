"""How much of an epoch each shipped model spends waiting for its data."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from benchmarks.loading import module
from benchmarks.measure import Goal, Section, turns
from benchmarks.pictures import nih_folder
from cxr_lightning.config.compose import compose
from cxr_lightning.config.groups import choices, shipped_conf
from cxr_lightning.hardware import place
from cxr_lightning.history import History
from cxr_lightning.losses.base import build_loss
from cxr_lightning.models.network import build_network
from cxr_lightning.runs import RunFolder
from cxr_lightning.task import MultiLabelTask
from cxr_lightning.trainer import build_trainer, quiet_lightning

MODELS = sorted(set(choices("model", [shipped_conf()])) - {"timm"})


def measure(work: Path, repeats: int) -> Section:
    quiet_lightning()
    root, caches = nih_folder(work), work / "caches"
    module(root, caches).prepare()
    rows = turns({name: partial(percent, name, root, caches) for name in MODELS}, "%", repeats)
    goals = [
        Goal(f"data wait of {name}", row.median, 2.0, "%", at_most=True, why=WHY)
        for name, row in rows.items()
    ]
    return Section("Waiting for data", METHOD, list(rows.values()), goals)


METHOD = (
    "Share of an epoch of training (four batches of 32 at 224 pixels, `augment=standard`, after "
    "one more) between the end of a step and the start of the next, as a run's own `history.csv` "
    "says it."
)
WHY = "Batches are made in the training process, on the cores that the steps use."


def percent(name: str, root: Path, caches: Path) -> float:
    options = ["trainer.limit_train_batches=4", "trainer.limit_val_batches=0"]
    config = compose([f"model={name}", "data.image.size=224", "trainer.max_epochs=2", *options])
    data = module(root, caches)
    network = build_network(config.model, config.data.image, data.labels.names)
    task = MultiLabelTask(
        network,
        build_loss(config.loss, data.label_counts()),
        data.labels,
        model=config.model,
        optim=config.optim,
        trainer=config.trainer,
        seed=0,
    )
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder))
        history = History(run, lambda values, step: None, lambda line: None)
        build_trainer(config, place(config.trainer), run, [history]).fit(task, datamodule=data)
    return 100 * history.rows[-1]["throughput/data_wait_share"]
