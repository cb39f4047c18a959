"""A GPU fed by the real loader, beside one whose batch is there already."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from benchmarks.fitting import build_task, data_module, epochs
from benchmarks.measure import Goal, Row, Section, turns
from benchmarks.pictures import whole_folder
from cxr_lightning.config.compose import compose
from cxr_lightning.config.schema import Config
from cxr_lightning.data.base import ChestXrayDataModule
from cxr_lightning.trainer import quiet_lightning

PATIENTS, EPOCHS = 2500, 4  # about 6,000 images to train on
WORDS = ("model=densenet121", "data.image.size=224", "data.batch_size=64")
METHOD = (
    f"DenseNet-121 in bf16 at 224 pixels, batches of 64, about 6,000 images an epoch, "
    "`augment=standard`, `data.residency=auto`, in the run's own Trainer; images/s of the "
    f"{EPOCHS - 1} epochs after the first, as its `history.csv` says them. Beside it the same with "
    "one batch that lies on the device, step after step."
)


def measure(work: Path, repeats: int) -> Section:
    if not torch.cuda.is_available():
        none = "DenseNet-121 on a GPU fed by the loader: no GPU on this machine."
        return Section("GPU", METHOD, [], [], unmeasured=[none])
    return fed(work, repeats, WORDS, "cuda", PATIENTS)


def fed(work: Path, repeats: int, words: Sequence[str], device: str, patients: int) -> Section:
    """Measure on any device that Lightning's Trainer knows."""
    quiet_lightning()
    accelerator = {"cuda": "gpu"}.get(device, device)
    config = compose(
        [
            *("data=nih", f"data.root={whole_folder(work)}", f"data.max_patients={patients}"),
            *(f"data.cache_dir={work / 'caches-scale'}", "trainer.precision=bf16-mixed"),
            *(f"trainer.accelerator={accelerator}", f"trainer.max_epochs={EPOCHS}"),
            *("trainer.limit_val_batches=0", *words),
        ]
    )
    data = data_module(config)
    loader = data.train_dataloader()
    batch = {name: value.to(device) for name, value in next(iter(loader)).items()}
    batches: Any = [batch] * len(loader)
    held: DataLoader = DataLoader(batches, batch_size=None)
    waits: list[float] = []

    def from_loader() -> float:
        rate, wait = trained(config, data)
        waits.append(wait)
        return rate

    calls = {
        "fed by the loader": from_loader,
        "with its batch on the device": lambda: trained(config, data, held)[0],
    }
    rows = turns(calls, "images/s", repeats)
    real, fixed = (row.median for row in rows.values())
    goals = [
        Goal(
            "rate when fed by the loader, of that with its batch there", 100 * real / fixed, 97, "%"
        ),
        Goal("its wait for data", statistics.median(waits), 2, "%", at_most=True),
    ]
    return Section("GPU", METHOD, [*rows.values(), Row("wait for data", "%", waits)], goals)


def trained(
    config: Config, data: ChestXrayDataModule, held: DataLoader | None = None
) -> tuple[float, float]:
    """Return images/s and the share of waiting for data, in percent: medians of later epochs."""
    task = build_task(config, data.labels, data.label_counts())
    given = {"datamodule": data} if held is None else {"train_dataloaders": held}
    later = epochs(config, task, **given)[1:]
    rate, wait = (
        statistics.median(row[f"throughput/{name}"] for row in later)
        for name in ("images_per_second", "data_wait_share")
    )
    return rate, 100 * wait
