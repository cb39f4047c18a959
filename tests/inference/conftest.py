"""Bundles as `fit` writes them, of small untrained networks, on the phantom's pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cxr_lightning.bundle import BundleInfo, save_bundle
from cxr_lightning.config.schema import ImageConfig, ModelConfig
from cxr_lightning.data.images import read_resized
from cxr_lightning.data.tabular import TabularEncoder
from cxr_lightning.evaluation.calibrators import Calibration, Identity, Platt
from cxr_lightning.evaluation.familiarity import fit_familiarity, thumbnails
from cxr_lightning.evaluation.thresholds import Thresholds
from cxr_lightning.models.network import build_network

LABELS = ("Effusion", "Mass", "No Finding")
IMAGE = ImageConfig(size=32)
TABULAR = TabularEncoder.from_dict(
    [
        {"kind": "numeric", "name": "age_years", "mean": 50.0, "std": 10.0},
        {"kind": "categorical", "name": "sex", "categories": ["F", "M"]},
    ]
)


@pytest.fixture(scope="session")
def pictures(phantom_root: Path) -> list[str]:
    """Paths of 160 phantom radiographs."""
    return [str(path) for path in sorted((phantom_root / "images").iterdir())]


def write_bundle(path: Path, pictures: list[str], tabular: TabularEncoder) -> Path:
    torch.manual_seed(3)
    model = ModelConfig(name="simple_cnn", options={"channels": [8, 16], "convs_per_block": 1})
    network = build_network(model, IMAGE, LABELS, tabular=len(tabular.outputs)).eval()
    pixels = np.stack([read_resized(one, IMAGE) for one in pictures])
    with torch.inference_mode():
        features = network.features(torch.from_numpy(pixels)[:, None]).numpy()
    info = BundleInfo(
        labels=LABELS,
        model=model,
        image=IMAGE,
        thresholds=Thresholds(LABELS, (0.5, 0.25, 0.75), (True, True, False), "f1"),
        tabular=tabular,
        calibration=Calibration(
            LABELS, "platt", (Platt(2.0, -1.0), Platt(1.0, 0.5), Identity()), (True, True, False)
        ).to_dict(),
        provenance={"data": "phantom", "fingerprint": "0123456789abcdef"},
        familiarity=fit_familiarity(features[:110], features[110:], thumbnails(pixels[:110])),
    )
    save_bundle(path, network, info)
    return path


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, pictures: list[str]) -> Path:
    """The file of a bundle with three labels and a calibration."""
    return write_bundle(
        tmp_path_factory.mktemp("plain") / "bundle.safetensors", pictures, TabularEncoder()
    )


@pytest.fixture(scope="session")
def tabular_bundle(tmp_path_factory: pytest.TempPathFactory, pictures: list[str]) -> Path:
    """The same with age and sex as further inputs."""
    return write_bundle(
        tmp_path_factory.mktemp("tabular") / "bundle.safetensors", pictures, TABULAR
    )


@pytest.fixture
def verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Return a function that runs `predict` in an empty folder and returns its exit code."""
    from cxr_lightning.cli import run_verb
    from cxr_lightning.predict import main

    monkeypatch.chdir(tmp_path)
    return lambda *words: run_verb(main, [str(word) for word in words])


def same_rows(one: pd.DataFrame, other: pd.DataFrame, tolerance: float = 0.0) -> None:
    """Hold that two tables of predictions are equal."""
    pd.testing.assert_frame_equal(one, other, rtol=0, atol=tolerance, check_dtype=False)
