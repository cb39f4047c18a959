"""Real radiographs as a table of one's own, from the files to a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cxr_lightning.bundle import load_bundle
from cxr_lightning.cli import run_verb
from cxr_lightning.fit import main
from cxr_lightning.labels import NO_FINDING

SMALL = [
    "data=table", "data.image.size=32", "data.batch_size=4", "model=simple_cnn",
    "model.options={channels: [8, 16], convs_per_block: 1}", "trainer=cpu", "trainer.threads=1",
    "trainer.max_epochs=1", "trainer.monitor=val/loss", "evaluation.replicates=20",
    "evaluation.pictures=false",
]  # fmt: skip


def fit(tmp_path: Path, store: str, *words: str) -> dict[str, float | None]:
    places = [f"run.dir={tmp_path / 'run'}", f"run.tracking_uri={store}"]
    assert run_verb(main, [*SMALL, *words, *places]) == 0
    bundle = load_bundle(tmp_path / "run" / "bundle.safetensors")
    with torch.inference_mode():
        logits = bundle.network(torch.zeros(1, 1, 32, 32, dtype=torch.uint8))
    assert torch.isfinite(logits).all()
    return json.loads((tmp_path / "run" / "metrics.json").read_text())  # type: ignore[no-any-return]


def predictions(tmp_path: Path, split: str) -> pd.DataFrame:
    return pd.read_parquet(tmp_path / "run" / f"predictions_{split}.parquet")


def test_nih_as_a_table(shared_data: Path, store: str, tmp_path: Path) -> None:
    root = shared_data / "nih_dev"
    table = pd.read_csv(root / "Data_Entry_2017.csv").drop_duplicates("Patient ID").head(60)
    table.to_csv(tmp_path / "nih.csv", index=False)
    metrics = fit(
        tmp_path, store, f"data.csv={tmp_path / 'nih.csv'}", f"data.root={root / 'images'}",
        "data.image='Image Index'", "data.patient='Patient ID'", "data.view='View Position'",
        "data.findings='Finding Labels'", "data.labels=[Infiltration,Pneumonia]",
        "data.ids=plain",
    )  # fmt: skip
    assert NO_FINDING in set(table["Finding Labels"])
    findings = table.set_index("Image Index")["Finding Labels"].str.split("|")
    for split, images in (("val", 6), ("test", 12)):
        found = predictions(tmp_path, split).set_index("sample_id")
        assert len(found) == images
        for label in ("Infiltration", "Pneumonia"):
            expected = [float(label in findings[name]) for name in found.index]
            assert found[f"y_true/{label}"].tolist() == expected
    assert 0 <= float(metrics["test/auroc_macro"] or np.nan) <= 1


def test_dicom_files_as_a_table(
    shared_data: Path, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seven files of three pictures: five of one to train with, the others to validate and test."""
    names = sorted(file.name for file in (shared_data / "dicom").glob("*.dcm"))
    part = {"udacity_test2.dcm": "val", "udacity_test3.dcm": "test"}
    table = pd.DataFrame({"file": names, "person": names, "mass": np.arange(len(names)) % 2})
    table.assign(part=[part.get(name, "train") for name in names]).to_csv(
        tmp_path / "dicom.csv", index=False
    )
    words = [
        f"data.csv={tmp_path / 'dicom.csv'}", f"data.root={shared_data / 'dicom'}",
        "data.image=file", "data.patient=person", "data.labels=[mass]", "data.split_column=part",
    ]  # fmt: skip
    assert run_verb(main, [*SMALL, *words]) == 2
    assert "2 of 7 DICOM files are no single radiographs of a chest" in capsys.readouterr().err
    chosen = ["data.select.modalities=[DX,CT]", "data.select.body_parts=[CHEST,RIBCAGE]"]
    metrics = fit(tmp_path, store, *words, *chosen)
    assert (metrics["test/auroc_macro"], len(predictions(tmp_path, "test"))) == (None, 1)
    cohort = " ".join(capsys.readouterr().out.split())
    assert "view not given in DICOM, so unknown: 7" in cohort
