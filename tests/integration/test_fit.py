"""`fit` from files to outputs: everything is there, true, and tracked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from mlflow import MlflowClient
from sklearn.metrics import average_precision_score, roc_auc_score

from cxr_lightning import throughput
from cxr_lightning.bundle import load_bundle
from cxr_lightning.config.compose import compose, config_from_file
from cxr_lightning.history import read_history
from cxr_lightning.runs import RunFolder
from cxr_lightning.training import run_fit

Overrides = Callable[..., list[str]]


@pytest.fixture(scope="module")
def finished(
    phantom_root: Path, store: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, float | None]]:
    """One finished run, for all tests that only look."""
    from tests.integration.conftest import SMALL

    folder = tmp_path_factory.mktemp("runs") / "one"
    config = compose(
        [
            "data=nih",
            f"data.root={phantom_root}",
            *SMALL,
            f"run.dir={folder}",
            f"run.tracking_uri={store}",
            "run.tags={purpose: test}",
        ]
    )
    return folder, run_fit(config)


def test_the_folder_is_complete(finished: tuple[Path, dict[str, float | None]]) -> None:
    folder, _ = finished
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names >= {
        "config.yaml", "metrics.json", "results.csv", "history.csv", "run.json",
        "predictions_val.parquet", "predictions_test.parquet", "bundle.safetensors",
        "checkpoints/best.ckpt", "checkpoints/last.ckpt",
        "plots/augmentation.png", "plots/curves.png", "plots/roc.png", "plots/precision_recall.png",
        "plots/confusion.png",
    }  # fmt: skip
    assert not [name for name in names if name.endswith(".partial")]
    assert RunFolder(folder).state().status == "finished"


def test_metrics_are_those_of_the_predictions(
    finished: tuple[Path, dict[str, float | None]],
) -> None:
    folder, returned = finished
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics == returned
    table = pd.read_parquet(folder / "predictions_test.parquet")
    labels = ("Effusion", "Infiltration", "Atelectasis")
    aurocs = []
    for label in labels:
        truth, logit = table[f"y_true/{label}"], table[f"logit/{label}"]
        if truth.nunique() < 2:
            assert metrics[f"test/auroc/{label}"] is None
            continue
        aurocs.append(roc_auc_score(truth, logit))
        assert metrics[f"test/auroc/{label}"] == pytest.approx(aurocs[-1], abs=1e-12)
        assert metrics[f"test/average_precision/{label}"] == pytest.approx(
            average_precision_score(truth, logit), abs=1e-12
        )
    assert metrics["test/auroc_macro"] == pytest.approx(np.mean(aurocs), abs=1e-12)


def test_predictions_hold_every_image_of_their_split_once(
    finished: tuple[Path, dict[str, float | None]], phantom_root: Path
) -> None:
    folder, _ = finished
    test = pd.read_parquet(folder / "predictions_test.parquet")
    val = pd.read_parquet(folder / "predictions_val.parquet")
    assert sorted(test["sample_id"]) == sorted((phantom_root / "test_list.txt").read_text().split())
    assert val["sample_id"].is_unique
    assert not set(val["patient_id"]) & set(test["patient_id"])


def test_the_bundle_repeats_the_predictions_from_files(
    finished: tuple[Path, dict[str, float | None]], phantom_root: Path
) -> None:
    folder, _ = finished
    table = pd.read_parquet(folder / "predictions_test.parquet").head(8)
    bundle = load_bundle(folder / "bundle.safetensors")
    pixels = [
        cv2.resize(
            cv2.imread(str(phantom_root / "images" / name), cv2.IMREAD_GRAYSCALE),
            (32, 32),
            interpolation=cv2.INTER_AREA,
        )
        for name in table["sample_id"]
    ]
    with torch.no_grad():
        logits = bundle.network(torch.from_numpy(np.stack(pixels))[:, None])
    expected = table[[f"logit/{label}" for label in bundle.info.labels]].to_numpy()
    np.testing.assert_allclose(logits.numpy(), expected, atol=1e-5)


def test_thresholds_of_the_bundle_are_those_of_the_results(
    finished: tuple[Path, dict[str, float | None]],
) -> None:
    folder, metrics = finished
    info = load_bundle(folder / "bundle.safetensors").info
    for label, value in zip(info.labels, info.thresholds.values, strict=True):
        assert metrics[f"test/threshold/{label}"] == value
    assert info.provenance["split"] == "official"
    assert info.model.weights is None


def test_mlflow_holds_the_run(finished: tuple[Path, dict[str, float | None]], store: str) -> None:
    folder, metrics = finished
    client = MlflowClient(store)
    run = client.get_run(RunFolder(folder).state().mlflow_run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["optim.lr"] == "0.001"
    assert run.data.tags["purpose"] == "test"
    assert len(run.data.tags["fingerprint"]) == 16
    for name, value in metrics.items():
        if value is not None:
            assert run.data.metrics[name] == pytest.approx(value)
    curve = client.get_metric_history(run.info.run_id, "val/auroc_macro")
    assert [point.step for point in curve] == [0, 1, 2]
    artifacts = {entry.path for entry in client.list_artifacts(run.info.run_id)}
    assert artifacts >= {
        "config.yaml",
        "metrics.json",
        "operating_points.csv",
        "subgroups_sex.csv",
        "gaps_sex.csv",
        "bundle.safetensors",
        "plots",
        "predictions",
    }


def test_weights_of_the_loss_are_recorded(
    finished: tuple[Path, dict[str, float | None]], store: str, tmp_path: Path
) -> None:
    folder, _ = finished
    run_id = RunFolder(folder).state().mlflow_run_id
    file = MlflowClient(store).download_artifacts(run_id, "data/loss_weights.json", str(tmp_path))
    weights = json.loads(Path(file).read_text())
    splits = MlflowClient(store).download_artifacts(run_id, "data/splits.json", str(tmp_path))
    train = json.loads(Path(splits).read_text())["train"]
    for label, weight in weights["positive"].items():
        assert weight == pytest.approx(2 * (1 - train[label] / train["images"]))
        assert weight + weights["negative"][label] == pytest.approx(2)


def test_no_path_of_the_machine_is_in_the_bundle(
    finished: tuple[Path, dict[str, float | None]], phantom_root: Path
) -> None:
    folder, _ = finished
    head = (folder / "bundle.safetensors").read_bytes()[:20_000]
    assert str(phantom_root).encode() not in head


def test_the_written_configuration_repeats_the_run_with_any_loader_processes(
    finished: tuple[Path, dict[str, float | None]], tmp_path: Path
) -> None:
    folder, metrics = finished
    config = config_from_file(folder / "config.yaml")
    assert config.data.workers == 0
    changes = {
        "run": config.run.model_copy(update={"dir": tmp_path / "again"}),
        "data": config.data.model_copy(update={"workers": 2}),
    }
    assert run_fit(config.model_copy(update=changes)) == metrics
    one, two = (
        torch.load(path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for path in (folder, tmp_path / "again")
    )
    for name, tensor in one.items():
        assert torch.equal(tensor, two[name]), name


def test_another_seed_is_another_run(
    finished: tuple[Path, dict[str, float | None]], overrides: Overrides, tmp_path: Path
) -> None:
    folder, _ = finished
    wanted = pd.read_parquet(folder / "predictions_val.parquet")
    for seed, same in ((0, True), (1, False)):
        config = compose(overrides(f"seed {seed}", f"seed={seed}"))
        run_fit(config, splits=("val",))
        found = pd.read_parquet(tmp_path / f"seed {seed}" / "predictions_val.parquet")
        assert found["sample_id"].equals(wanted["sample_id"])
        assert found["logit/Effusion"].equals(wanted["logit/Effusion"]) is same


def test_everything_else_that_a_run_can_use(
    overrides: Overrides, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throughput, "WAIT_SHARE", 0)
    monkeypatch.setattr(throughput, "LONG_ENOUGH", 0)
    config = compose(
        overrides(
            "options",
            "loss=focal",
            "optim=sgd",
            "optim.ema_decay=0.9",
            "model.head.kind=per_label",
            "model.pooling=gem",
            "model.freeze=all_but_last_1",
            "model.unfreeze_epoch=1",
            "trainer.patience=1",
            "trainer.gradient_clip_val=1.0",
            "trainer.accumulate_grad_batches=2",
            "trainer.precision=32-true",
            "data.split=patient",
            "augment=strong",
            "trainer.limit_train_batches=3",
            "trainer.num_sanity_val_steps=1",
            "trainer.check_val_every_n_epoch=2",
        )
    )
    metrics = run_fit(config)
    assert metrics["test/auroc_macro"] is not None
    run = MlflowClient(store).get_run(RunFolder(tmp_path / "options").state().mlflow_run_id)
    waited = run.data.tags["data_wait"]
    assert waited.startswith("epoch 2 spent ")
    assert "% waiting for data: augment=strong leaves GaussNoise, and what" in waited


def test_an_average_of_weights_leaves_the_weights_as_they_are(overrides: Overrides) -> None:
    """Validation borrows the network; what it gives back is what training goes on with."""
    seen: list[torch.Tensor] = []

    class Watch(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            (average,) = (one for one in trainer.callbacks if isinstance(one, WeightAveraging))
            assert average._average_model is not None
            parameter = next(average._average_model.parameters())
            assert parameter.device == trainer.strategy.root_device
            assert parameter.dtype == torch.float64

        def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            seen.append(torch.cat([one.detach().flatten() for one in pl_module.parameters()]))

        def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            seen.append(torch.cat([one.detach().flatten() for one in pl_module.parameters()]))

    words = ["optim.ema_decay=0.9", "trainer.precision=64-true", "trainer.max_epochs=1"]
    run_fit(compose(overrides("average", *words)), [Watch()])
    before, after = seen[:2]
    assert before.dtype == torch.float64
    assert torch.equal(before, after)


def test_each_epoch_is_profiled(finished: tuple[Path, dict[str, float | None]]) -> None:
    folder, _ = finished
    history = read_history(RunFolder(folder))
    assert history
    for row in history:
        assert 0 <= row["throughput/data_wait_share"] < 1
        # what a step takes and what it waits for it make up the epoch
        images_per_step = row["throughput/images_per_second"] * (
            row["throughput/step_milliseconds"] / 1e3 / (1 - row["throughput/data_wait_share"])
        )
        assert images_per_step == pytest.approx(round(images_per_step), rel=1e-6)
        assert 50 < row["memory/peak_mib"] < 100_000
