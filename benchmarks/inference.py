"""`predict` from files to a table, against a loop in plain PyTorch."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.measure import Goal, Section, turns
from benchmarks.pictures import nih_folder
from cxr_lightning.bundle import BundleInfo, save_bundle
from cxr_lightning.config.compose import compose
from cxr_lightning.data.nih import LABELS
from cxr_lightning.evaluation.familiarity import Familiarity, fit_familiarity
from cxr_lightning.evaluation.thresholds import Thresholds
from cxr_lightning.inference.checks import missing_package
from cxr_lightning.inference.export import export
from cxr_lightning.inference.options import ExportOptions, PredictOptions
from cxr_lightning.inference.run import predict
from cxr_lightning.models.network import Network, build_network

IMAGES, BATCH, SIZE = 200, 32, "data.image.size=224"


def measure(work: Path, repeats: int) -> Section:
    paths = [str(path) for path in sorted((nih_folder(work) / "images").iterdir())][:IMAGES]
    bundle = densenet(work)
    runtimes = [name for name in ("torch", "onnx", "openvino") if not missing_package(name)]
    if len(runtimes) > 1:  # anew, as the bundle: older ones are of other code
        bundle.with_suffix(".onnx").unlink(missing_ok=True)
        export(ExportOptions(bundle=bundle))
    calls: dict[str, Callable[[], float]] = {
        "eager fp32, Pillow": partial(plain, paths),
        **{
            f"predict, runtime={name}, precision={precision}": partial(
                ours, work, bundle, paths, runtime=name, precision=precision
            )
            for name in runtimes
            for precision in ("full", "bf16")
            if (name, precision) != ("onnx", "bf16")
        },
    }
    rows = turns(calls, "images/s", repeats)
    eager = rows.pop("eager fp32, Pillow")
    best = max(rows.values(), key=lambda row: row.median)
    default = next(iter(rows.values()))
    goals = [
        Goal(f"{best.name}, beside eager fp32", best.median / eager.median, 3.0, why=WHY),
        Goal(f"{default.name} (default), beside it", default.median / eager.median, 3.0, why=FULL),
    ]
    return Section("Inference", METHOD, [eager, *rows.values()], goals)


METHOD = (
    f"DenseNet-121 on {IMAGES} PNG files of 1024 x 1024 pixels, decoding, flags and the table "
    "included, opening the bundle as well, on the CPU. Eager fp32: Pillow and torch in one loop, "
    f"batches of {BATCH}, three channels, NCHW."
)
WHY = "Depends on the processor's bf16 instructions."
FULL = (
    "The default computes in full precision, so that decisions are those of the bundle; the fast "
    "way is asked for by `precision=bf16`."
)


def densenet(work: Path) -> Path:
    config = compose(["model=densenet121", SIZE])
    torch.manual_seed(0)
    network = build_network(config.model, config.data.image, LABELS.names).eval()
    path = work / "densenet121.safetensors"
    count = len(LABELS.names)
    thresholds = Thresholds(LABELS.names, (0.5,) * count, (True,) * count, "f1")
    info = BundleInfo(
        LABELS.names,
        config.model,
        config.data.image,
        thresholds,
        familiarity=familiar(network, config.data.image.size),
    )
    save_bundle(path, network, info)
    return path


def familiar(network: Network, size: int) -> Familiarity | None:
    """Tell what is familiar by noise: `predict` then computes every flag, whatever it says."""
    generator = np.random.default_rng(0)
    features = network.features(torch.zeros(1, 1, size, size, dtype=torch.uint8)).shape[1]
    train, validation = (generator.normal(size=(n, features)) for n in (500, 100))
    return fit_familiarity(train, validation, generator.uniform(0, 255, (500, 64)))


def plain(paths: list[str]) -> float:
    config = compose(["model=densenet121", "model.in_channels=3", SIZE])
    network = build_network(config.model, config.data.image, LABELS.names).eval()
    start = time.perf_counter()
    size = (config.data.image.size,) * 2
    with torch.inference_mode():
        for first in range(0, len(paths), BATCH):
            pictures = []
            for path in paths[first : first + BATCH]:
                with Image.open(path) as image:
                    pictures.append(np.asarray(image.convert("L").resize(size)))
            torch.sigmoid(network(torch.from_numpy(np.stack(pictures))[:, None]))
    return len(paths) / (time.perf_counter() - start)


def ours(work: Path, bundle: Path, paths: list[str], **options: str) -> float:
    words = {"bundle": bundle, "input": tuple(paths), "output": work / "predictions.csv"}
    words |= {"batch_size": BATCH, "device": "cpu"} | options
    chosen = PredictOptions.model_validate(words)
    start = time.perf_counter()
    with contextlib.redirect_stderr(io.StringIO()):
        predict(chosen)
    return len(paths) / (time.perf_counter() - start)
