"""Steps of training: against the usual recipe, and against a loop without a framework."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import torch
import torchvision
from lightning.pytorch import Callback

from benchmarks.fitting import build_task, data_module, run_words
from benchmarks.measure import Goal, Row, Section, calm, seconds, turns
from cxr_lightning.config.compose import compose
from cxr_lightning.config.schema import Config
from cxr_lightning.hardware import place
from cxr_lightning.losses.base import build_loss
from cxr_lightning.losses.weights import LabelCounts
from cxr_lightning.models.network import build_network
from cxr_lightning.trainer import quiet_lightning
from cxr_lightning.training import run_fit

BATCH, STEPS, SIZE, LABELS = 32, 2, 224, tuple(f"label {index}" for index in range(14))
WANTED = {"densenet121": 3.0, "resnet18": 2.0}
USUAL = ["trainer.precision=32-true", "trainer.channels_last=false", "model.in_channels=3"]
SMALL = (
    *("model=simple_cnn", "model.options={channels: [8, 16], convs_per_block: 1}", "trainer=cpu"),
    *("data.images=1000", "data.pixels=64", "data.image.size=32", "data.batch_size=2"),
    *("augment=none", "trainer.max_epochs=2", "evaluation.replicates=20"),
)
FIRST = 20  # steps of each epoch that are not timed: what is set up once
LEARNT = (  # what a network of this size learns soon: few labels, many images to test on
    *("data.images=2200", "data.pixels=64", "data.image.size=32", "data.batch_size=64"),
    *("data.split=patient", "data.val_fraction=0.1", "data.test_fraction=0.4"),
    *("data.labels=[Effusion,Infiltration,Atelectasis]", "evaluation.report=false"),
    *("trainer.max_epochs=4", "trainer=cpu"),
)


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
    pairs = [calm(partial(beside_ms, work)) for _ in range(3 * repeats)]
    print("  plain loop, `fit`: " + ", ".join(f"{a:.3g} {b:.3g}" for a, b in pairs) + " ms a step")
    torch.set_num_threads(threads)
    goals = [
        Goal(
            f"training step of {name} beside fp32, NCHW, three channels",
            rows[f"{name}, ours"].median / rows[f"{name}, usual"].median,
            wanted,
            why=WHY,
        )
        for name, wanted in WANTED.items()
    ]
    goals.append(
        Goal(
            "cost of Lightning and of our callbacks in a step, median over turns",
            statistics.median(fit - plain for plain, fit in pairs),
            1.0,
            "ms",
            at_most=True,
            why="By profile: Lightning's calls of its hooks.",
        )
    )
    found = [*rows.values()]
    for name, values in zip(("plain loop", "`fit`"), zip(*pairs, strict=True), strict=True):
        found.append(Row(name, "ms a step", list(values)))
    for name in WANTED:
        scores = aurocs(work, name, 2 * repeats)
        usual, ours = (row.values for row in scores)
        gains = [a - b for a, b in zip(ours, usual, strict=True)]
        error = statistics.stdev(gains) / len(gains) ** 0.5
        found += [*scores, Row(f"{name}, standard error of the mean gain in AUROC", "", [error])]
        goals.append(
            Goal(
                f"AUROC of {name} after equal epochs, ours minus usual, mean over seeds",
                statistics.mean(gains),
                -0.01,
                "",
                why=f"Its standard error is {error:.2g}.",
            )
        )
    return Section("Training", METHOD, found, goals)


METHOD = (
    f"{STEPS} steps on a batch of {BATCH} at {SIZE} pixels, with AdamW, all cores. Usual: "
    "torchvision's model and loop as its documentation shows them, fp32, NCHW, grey repeated to "
    "three channels. Ours: one channel, channels_last, bf16 where the processor has it, "
    "normalisation included. The framework's cost: `fit` of a tiny network on batches of two at "
    "32 pixels, without augmentation, with its Trainer, callbacks, history and MLflow, less a "
    "loop in plain PyTorch over the same loader, with the same loss and AdamW; the two take "
    "turns step by step, in one process, torch on one thread. Processor time of the process, the "
    f"median over the steps from the {FIRST + 1}st of an epoch. History, MLflow and checkpoints "
    "are written, and the line of progress is printed, at the end of an epoch: that is not in "
    "it. AUROC: of `fit` as it is, and of `fit` in fp32, NCHW, three channels, on the test "
    "images (two fifths) of 2,200 synthetic radiographs, three labels, at 32 pixels and the "
    "default learning rate, by the best of four epochs in validation, a seed a run."
)
WHY = (
    "Convolutions gain by the processor's bf16 instructions, and are a part of a step; batch "
    "norm, ReLU and concatenation wait for memory, of which bf16 moves half."
)


def rate(step: Callable[[], Any]) -> float:
    return STEPS * BATCH / seconds(lambda: [step() for _ in range(STEPS)])


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
    config = compose([f"model={name}", f"data.image.size={SIZE}", "trainer=cpu"])
    network = build_network(config.model, config.data.image, LABELS)
    network.to(memory_format=torch.channels_last)
    batch = {
        "image": torch.randint(0, 256, (BATCH, 1, SIZE, SIZE), dtype=torch.uint8),
        "target": torch.randint(0, 2, (BATCH, len(LABELS))).float(),
    }
    step, ones = plain_step(network, config), torch.ones(len(LABELS))
    return partial(step, batch, build_loss(config.loss, LabelCounts(ones, ones)))


def plain_step(network: Any, config: Config) -> Callable[[Any, Any], None]:
    """Return a step of a loop in plain PyTorch, which takes a batch and the loss."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    bf16 = place(config.trainer).precision == "bf16-mixed"

    def step(batch: Any, loss_function: Any) -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = loss_function(network.outputs(batch["image"]), batch["target"])
        loss.backward()
        optimizer.step()

    return step


@contextmanager
def small(work: Path) -> Iterator[Config]:
    """A tiny network, whose step is soon over, and a folder for what `fit` writes."""
    with tempfile.TemporaryDirectory() as folder:
        yield compose([*SMALL, *places(work, folder)])


def places(work: Path, folder: str) -> list[str]:
    """Return where a `fit` reads and writes."""
    return [f"data.cache_dir={work / 'caches'}", *run_words(folder)]


def beside_ms(work: Path) -> tuple[float, float]:
    """Return milliseconds of a step of a plain loop and of `fit`, medians over the steps."""
    with small(work) as config, redirect_stdout(StringIO()):
        clock = Beside(plain_loop(config))
        run_fit(config, [clock], splits=["val"])
    return statistics.median(clock.plain) * 1e3, statistics.median(clock.fit) * 1e3


def plain_loop(config: Config) -> Iterator[None]:
    """Do a step whenever asked for the next."""
    data = data_module(config)
    task = build_task(config, data.labels, data.label_counts())
    loader, step = data.train_dataloader(), plain_step(task.network, config)
    while True:
        for batch in loader:
            step(batch, task.loss)
            yield


class Beside(Callback):
    """After each step of `fit` one of a plain loop, and the processor time of both.

    A millisecond is less than what a host's speed changes from one second to the next.
    """

    def __init__(self, plain_loop: Iterator[None]) -> None:
        self.loop = plain_loop
        self.ended = 0.0
        self.plain: list[float] = []
        self.fit: list[float] = []

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        reached = time.process_time()
        next(self.loop)
        ended = time.process_time()
        if batch_idx >= FIRST:
            self.fit.append(reached - self.ended)
            self.plain.append(ended - reached)
        self.ended = ended


def aurocs(work: Path, name: str, seeds: int) -> list[Row]:
    """Return what the usual recipe and ours reach with the same seeds."""
    rows = [Row(f"{name}, {recipe}: AUROC", "", []) for recipe in ("usual", "ours")]
    for seed in range(seeds):
        for row, words in zip(rows, (USUAL, []), strict=True):
            auroc = trained_auroc(work, [f"model={name}", *LEARNT, *words, f"seed={seed}"])
            row.values.append(auroc)
            print(f"  {row.name}: {auroc:.4g}", flush=True)
    return rows


def trained_auroc(work: Path, words: list[str]) -> float:
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        config = compose([*places(work, folder), *words])
        return run_fit(config)["test/auroc_macro"] or float("nan")
