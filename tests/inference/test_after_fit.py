"""A run's bundle and MLflow model give the run's own predictions."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from scipy.special import expit

from cxr_lightning.bundle import read_bundle_info
from cxr_lightning.config.compose import compose
from cxr_lightning.evaluation.calibrators import Calibration
from cxr_lightning.runs import RunFolder
from cxr_lightning.training import run_fit
from tests.integration.conftest import SMALL


@pytest.fixture(scope="module")
def run(
    phantom_root: Path, empty_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """Folder and store of a finished run that was asked to register its model."""
    folder = tmp_path_factory.mktemp("fit")
    store = f"sqlite:///{shutil.copy(empty_store, folder)}"
    words = ["data=nih", f"data.root={phantom_root}", *SMALL, f"run.dir={folder / 'run'}"]
    # What is familiar is learnt from validation: a dozen images would tell little.
    words += [f"run.tracking_uri={store}", "run.register_as=phantom", "data.val_fraction=0.3"]
    words += ["evaluation.calibration=isotonic"]
    run_fit(compose(words))
    return folder / "run", store


def test_predict_repeats_the_predictions_of_the_test_set(
    run: tuple[Path, str], phantom_root: Path, verb: Callable[..., int]
) -> None:
    folder, _ = run
    expected = pd.read_parquet(folder / "predictions_test.parquet")
    Path("list.txt").write_text(
        "\n".join(str(phantom_root / "images" / name) for name in expected["sample_id"])
    )
    words = (f"bundle={folder / 'bundle.safetensors'}", "@list.txt", "output=p.parquet")
    assert verb(*words, "batch_size=5") == 0
    found = pd.read_parquet("p.parquet")
    results = pd.read_csv(folder / "results.csv", index_col=0)
    info = read_bundle_info(folder / "bundle.safetensors")
    assert info.calibration["kind"] == "isotonic"
    logits = expected[[f"logit/{label}" for label in info.labels]].to_numpy(float)
    calibrated = Calibration.from_dict(info.calibration, info.labels).apply(logits)
    for index, label in enumerate(info.labels):
        np.testing.assert_allclose(found[f"calibrated/{label}"], calibrated[:, index], atol=1e-3)
        probability = expit(expected[f"logit/{label}"].to_numpy(float))
        np.testing.assert_allclose(found[f"probability/{label}"], probability, atol=1e-5)
        assert (found[f"threshold/{label}"] == results["threshold"][label]).all()
    assert (found["flags"] == "").mean() > 0.9


def test_the_bundle_describes_the_training_images(run: tuple[Path, str]) -> None:
    folder, _ = run
    familiarity = read_bundle_info(folder / "bundle.safetensors").familiarity
    assert familiarity is not None
    assert (
        familiarity.train
        + familiarity.validation
        + len(pd.read_parquet(folder / "predictions_test.parquet"))
        == 160
    )
    assert len(familiarity.mean) == 16


def test_the_model_is_logged_and_registered(run: tuple[Path, str]) -> None:
    folder, store = run
    client = MlflowClient(store, registry_uri=store)
    run_id = RunFolder(folder).state().mlflow_run_id
    (version,) = client.search_model_versions("name = 'phantom'")
    assert version.run_id == run_id
    assert len(client.get_run(run_id).outputs.model_outputs) == 1
