"""Steps of training: against the usual recipe, and against a loop without a framework."""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision
from lightning.pytorch import Callback

from benchmarks.measure import Goal, Section, seconds, turns
from cxr_lightning.config.compose import compose
from cxr_lightning.hardware import place
from cxr_lightning.history import History
from cxr_lightning.labels import LabelSpace
from cxr_lightning.losses.base import build_loss
from cxr_lightning.losses.weights import LabelCounts
from cxr_lightning.models.network import build_network
from cxr_lightning.runs import RunFolder
from cxr_lightning.task import MultiLabelTask
from cxr_lightning.trainer import build_trainer, quiet_lightning
from cxr_lightning.training import run_fit

BATCH, SIZE, LABELS = 16, 224, tuple(f"label {index}" for index in range(14))
WANTED = {"densenet121": 3.0, "resnet18": 2.0}
USUAL = ["trainer.precision=32-true", "trainer.channels_last=false", "model.in_channels=3"]
STEPS = 300


def measure(work: Path, repeats: int) -> Section:
    quiet_lightning()
    calls: dict[str, Callable[[], float]] = {}
    for name in WANTED:
        for recipe, step in (("usual", usual_step(name)), ("ours", our_step(name))):
            step()  # what is set up once
            calls[f"{name}, {recipe}"] = partial(rate, step)
    rows = turns(calls, "images/s", repeats)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as small as this, a step on several threads is mostly their meeting
    loops = turns({"bare": bare_step_ms, "framework": framework_step_ms}, "ms a step", repeats)
    torch.set_num_threads(threads)

    data = [f"data.root={work / 'phantom'}", f"data.cache_dir={work / 'caches'}"]

    def auroc(words: list[str]) -> Callable[[], float]:
        seeds = iter(range(repeats))
        return lambda: trained_auroc([*data, *words, f"seed={next(seeds)}"])

    scores = turns(
        {"resnet18, usual: AUROC": auroc(USUAL), "resnet18, ours: AUROC": auroc([])}, "", repeats
    )
    goals = [
        Goal(
            f"training step of {name} beside fp32, NCHW, three channels",
            rows[f"{name}, ours"].median / rows[f"{name}, usual"].median,
            wanted,
            why="Depends on the processor's bf16 instructions.",
        )
        for name, wanted in WANTED.items()
    ]
    differences = [
        ours - usual
        for ours, usual in zip(*(scores[f"resnet18, {r}: AUROC"].values for r in ("ours", "usual")),
                               strict=True)
    ]  # fmt: skip
    goals += [
        Goal(
            "cost of Lightning and of our callbacks in a step",
            loops["framework"].median - loops["bare"].median,
            1.0,
            "ms",
            at_most=True,
            why="Lightning's loop alone takes most of it.",
        ),
        Goal(
            "AUROC after equal epochs, ours minus usual, mean over seeds",
            statistics.mean(differences),
            -0.01,
            "",
            why="Few images: seeds differ by more than this.",
        ),
    ]
    found = [*rows.values(), *loops.values(), *scores.values()]
    return Section("Training", METHOD, found, goals)


METHOD = (
    f"A step on batches of {BATCH} at {SIZE} pixels, with AdamW, all cores. Usual: torchvision's "
    "model and loop as its documentation shows them, fp32, NCHW, grey repeated to three channels. "
    "Ours: one channel, channels_last, bf16 where the processor has it, normalisation included. "
    "The framework's cost is that of a tiny model on 32 x 32 pixels in our Trainer with its "
    "callbacks, less a loop in plain PyTorch that does the same, in processor time of one thread. "
    "AUROC: on the test part of 800 synthetic radiographs at 64 pixels after three epochs, a seed "
    "a run."
)


def rate(step: Callable[[], Any]) -> float:
    return BATCH / seconds(step)


def usual_step(name: str) -> Callable[[], None]:
    model = getattr(torchvision.models, name)(num_classes=len(LABELS))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    loss_function = torch.nn.BCEWithLogitsLoss()
    images = torch.randn(BATCH, 1, SIZE, SIZE).repeat(1, 3, 1, 1)
    targets = torch.randint(0, 2, (BATCH, len(LABELS))).float()

    def step() -> None:
        optimizer.zero_grad()
        loss_function(model(images), targets).backward()
        optimizer.step()

    return step


def our_step(name: str) -> Callable[[], None]:
    config = compose([f"model={name}", f"data.image.size={SIZE}"])
    network = build_network(config.model, config.data.image, LABELS)
    network.to(memory_format=torch.channels_last)
    bf16 = place(config.trainer).precision == "bf16-mixed"
    return plain_step(network, our_batch(BATCH, SIZE), bf16)


def our_batch(count: int, size: int) -> dict[str, torch.Tensor]:
    return {
        "image": torch.randint(0, 256, (count, 1, size, size), dtype=torch.uint8),
        "target": torch.randint(0, 2, (count, len(LABELS))).float(),
        "row": torch.arange(count),
    }


def our_loss() -> Any:
    ones = torch.ones(len(LABELS))
    return build_loss(compose([]).loss, LabelCounts(ones, ones))


def plain_step(network: Any, batch: dict[str, torch.Tensor], bf16: bool) -> Callable[[], None]:
    """Return a step of a loop in plain PyTorch."""
    loss_function, optimizer = our_loss(), torch.optim.AdamW(network.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = loss_function(network.outputs(batch["image"]), batch["target"])
        loss.backward()
        optimizer.step()

    return step


def small() -> Any:
    return compose(
        [
            *("model=simple_cnn", "model.options={channels: [8, 16], convs_per_block: 1}"),
            *("data.image.size=32", "trainer.max_epochs=1", "trainer=cpu"),
        ]
    )


def bare_step_ms() -> float:
    config = small()
    network = build_network(config.model, config.data.image, LABELS)
    step = plain_step(network, our_batch(4, 32), place(config.trainer).precision == "bf16-mixed")
    for _ in range(20):
        step()
    start = time.process_time()
    for _ in range(STEPS):
        step()
    return (time.process_time() - start) / STEPS * 1e3


class Clock(Callback):
    """The processor time from the start of the 21st step to the end of the last."""

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 20:
            self.started = time.process_time()

    def on_train_batch_end(self, *arguments: Any) -> None:
        self.ended = time.process_time()


def framework_step_ms() -> float:
    config, clock = small(), Clock()
    network = build_network(config.model, config.data.image, LABELS)
    task = MultiLabelTask(
        network,
        our_loss(),
        LabelSpace(LABELS),
        model=config.model,
        optim=config.optim,
        trainer=config.trainer,
        seed=0,
    )
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder))
        history = History(run, lambda values, step: None, lambda line: None)
        trainer = build_trainer(config, place(config.trainer), run, [history, clock])
        batches = torch.utils.data.DataLoader([our_batch(4, 32)] * (STEPS + 20), batch_size=None)
        with warnings.catch_warnings(action="ignore"):  # of loops that have no data here
            trainer.fit(task, train_dataloaders=batches)
    return (clock.ended - clock.started) / STEPS * 1e3


def trained_auroc(words: list[str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        config = compose(
            [
                *("model=resnet18", "data.images=800", "data.image.size=64", "optim.lr=3e-4"),
                *("trainer.max_epochs=3", f"run.dir={folder}/run"),
                f"run.tracking_uri=sqlite:///{folder}/mlflow.db",
                *words,
            ]
        )
        return run_fit(config)["test/auroc_macro"] or float("nan")
