"""Frontals and laterals of CheXpert scored as studies: `evaluate study=...` against pandas."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit
from sklearn.metrics import average_precision_score, roc_auc_score

from cxr_lightning.bundle import BundleInfo, save_bundle
from cxr_lightning.cli import run_verb
from cxr_lightning.config.compose import compose
from cxr_lightning.config.schema import AugmentConfig
from cxr_lightning.data.base import ChestXrayDataModule
from cxr_lightning.data.tabular import TabularEncoder
from cxr_lightning.evaluate import main
from cxr_lightning.evaluation.calibrators import Calibration, Identity
from cxr_lightning.evaluation.thresholds import Thresholds
from cxr_lightning.models.network import build_network

LABELS = ("Cardiomegaly", "Pleural Effusion", "Support Devices")
CHEXPERT = [
    "data=chexpert",
    "data.root=phantom",
    "data.phantom.images=200",
    "data.phantom.pixels=64",
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network, whose scores differ enough between the views of a study."""
    config = compose(["data.image.size=32", "model.options={channels: [8, 16]}"])
    torch.manual_seed(0)
    network = build_network(config.model, config.data.image, LABELS).eval()
    info = BundleInfo(
        labels=LABELS,
        model=config.model,
        image=config.data.image,
        thresholds=Thresholds(LABELS, (0.5,) * 3, (True,) * 3, "f1"),
        tabular=TabularEncoder(),
        calibration=Calibration(LABELS, "none", (Identity(),) * 3, (False,) * 3).to_dict(),
        provenance={"data": "chexpert", "data_sets": ["chexpert"], "fingerprint": "0" * 16},
    )
    path = tmp_path_factory.mktemp("studies") / "bundle.safetensors"
    save_bundle(path, network, info)
    return path


@pytest.fixture(scope="module")
def images() -> pd.DataFrame:
    """The test images, their labels, and the probabilities of the same network."""
    words = [*CHEXPERT, f"data.labels=[{','.join(LABELS)}]", "data.image.size=32"]
    config = compose([*words, "model.options={channels: [8, 16]}"])
    data = ChestXrayDataModule(config.data, AugmentConfig(name="none"), seed=0)
    rows = data.prepare().rows("test")
    torch.manual_seed(0)
    network = build_network(config.model, config.data.image, LABELS).eval()
    with torch.no_grad():
        pixels = torch.from_numpy(data.cache.read(data.cache.rows[rows]))[:, None]
        score = expit(network(pixels).double().numpy())
    table = data.cohort.table.iloc[rows].reset_index(drop=True)
    return table.assign(**{f"score/{name}": score[:, i] for i, name in enumerate(LABELS)})


@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_scores_of_studies(
    bundle: Path, images: pd.DataFrame, tmp_path: Path, pooling: str
) -> None:
    out = tmp_path / "out"
    words = [f"bundle={bundle}", *CHEXPERT, f"study={pooling}", "evaluation.replicates=10"]
    assert run_verb(main, [*words, "pictures=false", f"output={out}"]) == 0
    table = pd.read_parquet(out / "predictions.parquet").set_index("study_id")
    metrics = json.loads((out / "metrics.json").read_text())
    studies = images.groupby("study_id", sort=False)
    # A row a study, more than one image in many of them, laterals among these.
    assert table.index.tolist() == list(studies.groups)
    assert table["images"].tolist() == studies.size().tolist()
    assert set(table["images"]) == {1, 2}
    assert (images["view"] == "LATERAL").sum() == (table["images"] == 2).sum() > 5
    for name in LABELS:
        expected = studies[f"score/{name}"].agg(pooling)
        score = expit(table[f"logit/{name}"].to_numpy(np.float64))
        np.testing.assert_allclose(score, expected, rtol=1e-4)
        truth = studies[name].first()
        np.testing.assert_array_equal(table[f"y_true/{name}"], truth)
        auroc = roc_auc_score(truth, expected)
        assert metrics[f"test/auroc/{name}"] == pytest.approx(auroc, abs=1e-6)
        precision = average_precision_score(truth, expected)
        assert metrics[f"test/average_precision/{name}"] == pytest.approx(precision, abs=1e-6)
        # Which is not what the images score, one by one.
        assert abs(auroc - roc_auc_score(images[name], images[f"score/{name}"])) > 1e-3
    assert f"studies ({pooling})" in (out / "report.html").read_text()
