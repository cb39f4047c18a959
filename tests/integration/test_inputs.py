"""More than pixels and more than 1 and 0: tabular inputs, balance, uncertain labels, end to end."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from cxr_lightning.bundle import load_bundle
from cxr_lightning.config.compose import compose
from cxr_lightning.config.schema import DataConfig
from cxr_lightning.data import nih
from cxr_lightning.data.base import ChestXrayDataModule
from cxr_lightning.data.reading import Reading
from cxr_lightning.errors import ConfigError
from cxr_lightning.training import run_fit

Overrides = Callable[..., list[str]]


@pytest.fixture
def uncertain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a third of all labels of Effusion uncertain."""
    read = nih.read_studies

    def with_uncertain(config: DataConfig) -> Reading:
        reading = read(config)
        table = reading.table.copy()
        table.loc[np.random.default_rng(0).random(len(table)) < 1 / 3, "Effusion"] = -1
        return replace(reading, table=table)

    monkeypatch.setattr(nih, "read_studies", with_uncertain)


def test_tabular_inputs_and_balance(
    overrides: Overrides, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = overrides(
        "run",
        "data.tabular=[age_years,sex,view,previous_labels]",
        "data.sampling.draw=rare_labels",
        "data.sampling.no_finding=0.5",
        "model.head={kind: mlp, hidden: [8], fusion: gated, fusion_units: 8}",
        "trainer.max_epochs=2",
    )
    config = compose(words)
    run_fit(config)
    bundle = load_bundle(tmp_path / "run" / "bundle.safetensors")
    assert bundle.info.tabular.outputs == (
        "age_years", "age_years missing", "sex F", "sex M", "sex missing", "view AP", "view PA",
        "view missing", "previous Effusion", "previous Infiltration", "previous Atelectasis",
        "previous visit",
    )  # fmt: skip
    # The bundle alone, with the table's columns, gives the predictions that were written.
    data = ChestXrayDataModule(config.data, config.augment, seed=0)
    table = data.prepare().table
    rows = data.cohort.rows("test")
    images = torch.from_numpy(data.cache.read(data.cache.rows[rows]))[:, None]
    inputs = torch.from_numpy(bundle.info.tabular.encode(table.iloc[rows]))
    with torch.no_grad():
        logits = bundle.network(images, inputs).numpy()
    written = pd.read_parquet(tmp_path / "run" / "predictions_test.parquet")
    names = [f"logit/{name}" for name in bundle.info.labels]
    np.testing.assert_allclose(written[names], logits, atol=1e-5)
    # How an epoch is balanced is said, and is in MLflow with the choice.
    order, values = data.order(), table[list(data.labels.names)].to_numpy()
    drawn = np.mean([values[order(epoch)].sum(axis=0) for epoch in range(200)], axis=0)
    state = json.loads((tmp_path / "run" / "run.json").read_text())
    client = MlflowClient(store)
    logged = mlflow_json(client, state["mlflow_run_id"], "data/sampling.json")
    assert list(logged) == ["images", *data.labels.names]
    assert logged["images"] == len(order(0)) < len(data.cohort.rows("train"))
    np.testing.assert_allclose(list(logged.values())[1:], drawn, atol=1)
    counts = ", ".join(f"{name} {count:.0f}" for name, count in logged.items())
    assert f"an epoch of training draws {counts}" in " ".join(capsys.readouterr().out.split())
    params = client.get_run(state["mlflow_run_id"]).data.params
    assert params["data.sampling.draw"] == "rare_labels"
    assert params["data.sampling.no_finding"] == "0.5"


def mlflow_json(client: MlflowClient, run: str, file: str) -> dict[str, float]:
    return json.loads(Path(client.download_artifacts(run, file)).read_text())  # type: ignore[no-any-return]


@pytest.mark.usefixtures("uncertain")
def test_three_classes(overrides: Overrides, tmp_path: Path) -> None:
    words = overrides("run", "data.uncertain=three_class", "loss=three_class")
    config = compose([*words, "trainer.max_epochs=2"])
    metrics = run_fit(config)
    bundle = load_bundle(tmp_path / "run" / "bundle.safetensors")
    assert bundle.info.classes == 3
    image = torch.zeros(2, 1, 32, 32, dtype=torch.uint8)
    assert bundle.network.outputs(image).shape == (2, 3, 3)
    assert bundle.network(image).shape == (2, 3)
    # Scored is the softmax over present and absent, where the label is certain.
    data = ChestXrayDataModule(config.data, config.augment, seed=0)
    table = data.prepare().table.iloc[data.cohort.rows("test")]
    pixels = torch.from_numpy(data.cache.read(data.cache.rows[data.cohort.rows("test")]))[:, None]
    with torch.no_grad():
        classes = bundle.network.outputs(pixels).double().exp().numpy()
    present = classes[..., 1] / (classes[..., 0] + classes[..., 1])
    written = pd.read_parquet(tmp_path / "run" / "predictions_test.parquet")
    np.testing.assert_allclose(expit(written["logit/Effusion"]), present[:, 0], atol=1e-5)
    certain = (table["Effusion"] != -1).to_numpy()
    assert 0 < certain.sum() < len(table)
    assert written["y_true/Effusion"].notna().tolist() == certain.tolist()
    expected = roc_auc_score(table["Effusion"][certain], present[certain, 0])
    assert metrics["test/auroc/Effusion"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.usefixtures("uncertain")
def test_uncertain_labels_are_unknown_in_every_evaluation(
    overrides: Overrides, tmp_path: Path
) -> None:
    run_fit(compose([*overrides("run", "data.uncertain=ones_lsr"), "trainer.max_epochs=1"]))
    for split in ("val", "test"):
        table = pd.read_parquet(tmp_path / "run" / f"predictions_{split}.parquet")
        assert table["y_true/Effusion"].isna().any()
        assert set(table["y_true/Effusion"].dropna()) <= {0.0, 1.0}


@pytest.mark.parametrize("word", ["data.uncertain=three_class", "loss=three_class"])
def test_three_classes_need_both(word: str) -> None:
    with pytest.raises(ConfigError, match="go together; one of them is missing"):
        compose([word])


def test_columns_that_tell_the_label_beat_the_image_alone(store: str, tmp_path: Path) -> None:
    """The phantom's ECG and BNP of the days before follow its ejection fraction; noise does not."""
    words = [
        "data=ehr",
        "data.root=phantom",
        "data.phantom.images=500",
        "data.phantom.pixels=64",
        "data.image.size=32",
        "data.batch_size=16",
        "data.val_fraction=0.5",
        "data.test_fraction=0.1",
        "data.labels=[low_ef]",
        "data.tabular_columns=[qrs_ms,bnp]",
        "model.options={channels: [8, 16], convs_per_block: 1}",
        "model.head={kind: mlp, hidden: [8], fusion: gated, fusion_units: 8}",
        "optim.lr=0.01",
        "augment=none",
        "trainer=cpu",
        "trainer.threads=1",
        "trainer.max_epochs=8",
        f"run.tracking_uri={store}",
    ]

    def auroc(name: str, *more: str) -> float:
        config = compose([*words, f"run.dir={tmp_path / name}", *more])
        value = run_fit(config, splits=["val"])["val/auroc/low_ef"]
        assert value is not None
        return value

    image, both = auroc("image"), auroc("both", "data.tabular=[qrs_ms,bnp]")
    # 0.47 at most, and 0.99 or more, for the seeds 0, 1 and 2
    assert both > 0.9
    assert both > image + 0.2
