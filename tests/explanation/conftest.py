"""Small networks of each kind, and a bundle of one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cxr_lightning.bundle import BundleInfo, save_bundle
from cxr_lightning.config.schema import HeadConfig, ImageConfig, ModelConfig
from cxr_lightning.data.cohort import build_cohort
from cxr_lightning.data.nih import LABELS, Config
from cxr_lightning.data.seen import seen_patients
from cxr_lightning.evaluation.thresholds import Thresholds
from cxr_lightning.models.network import Network, build_network

SIZE = 64
VIT = {"embed_dim": 32, "depth": 2, "num_heads": 2, "patch_size": 16, "img_size": SIZE}
SMALL = {"channels": [8, 16], "convs_per_block": 1}


def network(
    name: str = "simple_cnn",
    *,
    labels: tuple[str, ...] = ("A", "B", "C"),
    tabular: int = 0,
    classes: int = 1,
    seed: int = 0,
    options: dict[str, object] | None = None,
) -> Network:
    chosen = VIT if name.startswith("vit") else SMALL if name == "simple_cnn" else {}
    torch.manual_seed(seed)
    config = ModelConfig(
        name=name, options=options or chosen, head=HeadConfig(fusion="gated", fusion_units=8)
    )
    built = build_network(config, ImageConfig(size=SIZE), labels, tabular=tabular, classes=classes)
    return built.eval()


@pytest.fixture(scope="session")
def make_network() -> Callable[..., Network]:
    return network


@pytest.fixture(scope="session")
def bundle_file(tmp_path_factory: pytest.TempPathFactory, phantom_root: Path) -> Path:
    """An untrained network with NIH's labels: what it says means nothing, how it is said does."""
    built = network(labels=LABELS.names)
    count = len(LABELS.names)
    data = Config(name="nih", root=phantom_root)
    info = BundleInfo(
        labels=LABELS.names,
        model=ModelConfig(name="simple_cnn", options=SMALL),
        image=ImageConfig(size=SIZE, fit="crop"),
        thresholds=Thresholds(LABELS.names, (0.5,) * count, (True,) * count, "f1"),
        provenance={"data": "phantom"},
        seen=seen_patients(build_cohort(data), data),
    )
    path = tmp_path_factory.mktemp("bundle") / "bundle.safetensors"
    save_bundle(path, built, info)
    return path
