"""A model of two data sets at once, its results by source, and on one of them alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cxr_lightning.assessment.models import open_target, predict_target
from cxr_lightning.bundle import load_bundle
from cxr_lightning.config.compose import compose
from cxr_lightning.training import run_fit
from tests.integration.conftest import SMALL

PHANTOM = ["data.phantom.images=120", "data.phantom.pixels=64"]


def test_fit_and_evaluate(phantom_root: Path, store: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [
        *SMALL,
        "data=mix",
        "data.sources=[nih,chexpert]",
        f"data.nih.root={phantom_root}",
        "data.chexpert.root=phantom",
        *PHANTOM,
        "data.labels=[Effusion,Atelectasis,Lung Opacity]",
        "data.chexpert.uncertain=ones_lsr",
        "trainer.max_epochs=1",
        "evaluation.replicates=10",
        "evaluation.pictures=false",
        f"run.dir={run}",
        f"run.tracking_uri={store}",
    ]
    metrics = run_fit(compose(words))
    assert metrics["test/auroc/Effusion"] is not None
    table = pd.read_parquet(run / "predictions_test.parquet")
    assert set(table["source"]) == {"nih", "chexpert"}
    known = table.groupby("source")["y_true/Lung Opacity"].count()
    assert known["nih"] == 0
    assert known["chexpert"] > 0
    groups = pd.read_csv(run / "subgroups_source.csv")
    assert {"nih", "chexpert"} <= set(groups["group"])
    bundle = load_bundle(run / "bundle.safetensors")
    assert bundle.info.provenance["data_sets"] == ["nih", "chexpert"]
    # On one of the two alone, the same images give the same logits for the labels both know.
    words = ["data=chexpert", "data.root=phantom", *PHANTOM, "data.phantom.seed=1"]
    target = open_target(bundle.info, compose(words).data)
    assert target.cohort.labels.names == bundle.info.labels
    assert "Trained on mix, evaluated on chexpert: 3 of 3 labels" in target.notes[0]
    alone = predict_target(bundle, target, "test", batch_size=32)
    own = table[table["source"] == "chexpert"]
    assert ("chexpert/" + alone["sample_id"]).tolist() == own["sample_id"].tolist()
    for label in bundle.info.labels:
        np.testing.assert_allclose(alone[f"logit/{label}"], own[f"logit/{label}"], atol=1e-4)
        np.testing.assert_array_equal(alone[f"y_true/{label}"], own[f"y_true/{label}"])
