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


def test_tabular_inputs_and_balance(overrides: Overrides, tmp_path: Path) -> None:
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
    sampling = json.loads(json.dumps(data.sampling()))
    assert sampling["images"] < len(data.cohort.rows("train"))


@pytest.mark.usefixtures("uncertain")
def test_three_classes(overrides: Overrides, tmp_path: Path) -> None:
    words = overrides("run", "data.uncertain=three_class", "loss=three_class")
    run_fit(compose([*words, "trainer.max_epochs=2"]))
    bundle = load_bundle(tmp_path / "run" / "bundle.safetensors")
    assert bundle.info.classes == 3
    image = torch.zeros(2, 1, 32, 32, dtype=torch.uint8)
    assert bundle.network.outputs(image).shape == (2, 3, 3)
    assert bundle.network(image).shape == (2, 3)


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
        "data.phantom.images=300",
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
        "trainer.max_epochs=6",
        f"run.tracking_uri={store}",
    ]

    def auroc(name: str, *more: str) -> float:
        config = compose([*words, f"run.dir={tmp_path / name}", *more])
        value = run_fit(config, splits=["val"])["val/auroc/low_ef"]
        assert value is not None
        return value

    image, both = auroc("image"), auroc("both", "data.tabular=[qrs_ms,bnp]")
    # 0.55 and 0.99 or more for the seeds 0, 1 and 2
    assert both > 0.9
    assert both > image + 0.2
