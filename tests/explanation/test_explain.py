"""The verb, from words to a folder, and what it refuses."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr_lightning.bundle import load_bundle
from cxr_lightning.cli import run_verb
from cxr_lightning.config.schema import ImageConfig
from cxr_lightning.data.cohort import build_cohort
from cxr_lightning.data.images import read_resized
from cxr_lightning.data.nih import Config, read_boxes
from cxr_lightning.evaluation.localisation import localise
from cxr_lightning.explain import main
from cxr_lightning.explanation.heat_maps import compute_heat_maps
from cxr_lightning.tracking import open_run

LABELS = ["Cardiomegaly", "Effusion", "Hernia"]


@pytest.fixture(scope="module")
def words(bundle_file: Path, phantom_root: Path) -> list[str]:
    return [f"bundle={bundle_file}", "data=nih", f"data.root={phantom_root}"]


@pytest.fixture(scope="module")
def tracked(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A finished MLflow run: its store and its id."""
    folder = tmp_path_factory.mktemp("tracked")
    store = f"sqlite:///{shutil.copy(empty_store, folder)}"
    with open_run(store, "explained", "a run", {}, folder) as run:
        assert run.run_id is not None
        return store, run.run_id


@pytest.fixture(scope="module")
def explained(
    words: list[str], tracked: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("explain") / "out"
    code = run_verb(
        main,
        [
            *words,
            f"output={folder}",
            f"labels=[{','.join(LABELS)}]",
            "split=all",
            "images=3",
            f"tracking_uri={tracked[0]}",
            f"run={tracked[1]}",
        ],
    )
    assert code == 0
    return folder


def test_what_is_written(explained: Path, phantom_root: Path) -> None:
    written = {str(path.relative_to(explained)) for path in explained.rglob("*") if path.is_file()}
    assert {
        "explain.json",
        "heat_maps.npz",
        "localisation.csv",
        "localisation.png",
        "examples/01_Cardiomegaly.png",
        "representation/features.npz",
        "representation/representation.csv",
        "representation/representation.html",
        "representation/agreement.csv",
        "representation/enrichment.csv",
        "representation/enrichment.png",
        "representation/explained_variance.png",
        "representation/pca_3d.png",
        "representation/pca_by_label.png",
        "representation/pca_clusters.png",
    } <= written
    overlays = [name for name in written if name.startswith("overlays/Effusion/")]
    assert len(overlays) == 3
    summary = json.loads((explained / "explain.json").read_text())
    assert summary["labels"] == LABELS
    assert summary["images"] == 160
    assert summary["trained_on"] == {"data": "phantom"}
    table = build_cohort(Config(name="nih", root=phantom_root)).table
    counts = table["split"].value_counts()
    seen = f"{counts['train']} of these 160 images are of patients that the network was trained on"
    assert seen in summary["warnings"][0]
    assert f"{counts['val']} of patients that its best epoch" in summary["warnings"][0]


def test_the_localisation_is_that_of_every_box(explained: Path, phantom_root: Path) -> None:
    """Recomputed from the written arrays: crop of a square picture is all of it."""
    boxes = read_boxes(phantom_root)
    with np.load(explained / "heat_maps.npz") as arrays:
        values, ids = arrays["values"], arrays["sample_id"].tolist()
        labels = arrays["labels"].tolist()
    table = pd.read_csv(explained / "localisation.csv").set_index(["label", "measure"]).sort_index()
    cells = values.shape[-1]
    at = np.clip((np.arange(1024) + 0.5) * cells / 1024 - 0.5, 0, cells - 1)
    for label in ("Cardiomegaly", "Effusion"):
        chosen = boxes[boxes["label"] == label]
        hits = 0
        for sample, drawn in chosen.groupby("sample_id"):
            heat = values[ids.index(sample), labels.index(label)]
            rows = np.stack([np.interp(at, np.arange(cells), row) for row in heat])
            whole = np.stack([np.interp(at, np.arange(cells), column) for column in rows.T]).T
            found = localise(whole, drawn[["x", "y", "width", "height"]])
            assert found.point is not None
            left, top, width, height = found.boxes.T
            x, y = found.point
            hits += bool(((left <= x) & (x < left + width) & (top <= y) & (y < top + height)).any())
        game = table.loc[[(label, "pointing")], ["hits", "n"]]
        assert game.to_numpy().tolist() == [[hits, chosen["sample_id"].nunique()]]
        assert (table.loc[(label, "IoU"), "n"] == len(chosen)).all()
    assert (table.loc["Hernia", "n"] == 0).all()  # nobody draws boxes of it


def test_the_arrays_are_those_of_the_bundle(
    explained: Path, bundle_file: Path, phantom_root: Path
) -> None:
    with np.load(explained / "heat_maps.npz") as arrays:
        sample, values = str(arrays["sample_id"][0]), arrays["values"][0]
    table = pd.read_csv(explained / "representation" / "representation.csv")
    assert sample in set(table["sample_id"])
    assert {"pc1", "pc2", "pc3", "cluster", *LABELS} <= set(table)
    square = read_resized(phantom_root / "images" / sample, ImageConfig(size=64, fit="crop"))
    maps = compute_heat_maps(load_bundle(bundle_file).network, square[None], LABELS)
    assert np.allclose(maps.values[0], values, atol=1e-4)


def test_the_run_in_mlflow_has_it_all(explained: Path, tracked: tuple[str, str]) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracked[0])
    run = client.get_run(tracked[1])
    assert run.info.status == "FINISHED"
    table = pd.read_csv(explained / "localisation.csv")
    game = table[(table["measure"] == "pointing") & (table["label"] == "Effusion")]["share"].item()
    assert run.data.metrics["localisation/pointing/Effusion"] == pytest.approx(game, abs=1e-6)
    assert "localisation/iou_0.1/all" in run.data.metrics
    assert not any("Hernia" in name for name in run.data.metrics)  # undefined
    names = {item.path for item in client.list_artifacts(tracked[1], explained.name)}
    assert {"out/localisation.csv", "out/heat_maps.npz", "out/overlays"} <= names


def test_two_images_are_explained_without_components(words: list[str], tmp_path: Path) -> None:
    few = [*words, "split=all", "limit=2", "labels=[Hernia]", f"output={tmp_path / 'o'}"]
    assert run_verb(main, few) == 0
    assert (tmp_path / "o" / "explain.json").is_file()
    assert not (tmp_path / "o" / "representation").exists()


@pytest.fixture
def refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    monkeypatch.chdir(tmp_path)

    def run(*given: str) -> str:
        code = run_verb(main, given)
        message = capsys.readouterr().err
        assert code == 2, message
        assert not list(tmp_path.iterdir())
        return " ".join(message.split())

    return run


def test_all_problems_of_the_words_at_once(refused: Callable[..., str]) -> None:
    message = refused("loss=focal", "method=gradcamm", "data.image.size=64", "spilt=val")
    for words in (
        "loss=focal: decided in training",
        "method=gradcamm (command line): must be one of",
        "Did you mean 'gradcam'?",
        "data.image.size=64: the bundle says this",
        "spilt",
        "Did you mean 'split'?",
        "bundle: required",
        "data: required",
    ):
        assert words in message


def test_what_the_bundle_and_the_data_do_not_have(
    refused: Callable[..., str], words: list[str], explained: Path
) -> None:
    there = refused(*words, f"output={explained}")
    assert "exists and is not empty: choose another output=FOLDER" in there
    assert "'Mas'. Did you mean 'Mass'?" in refused(*words, "labels=[Mas]", "output=o")
    assert "stage=block9" in refused(*words, "stage=block9", "output=o")
    assert "use method=gradcam" in refused(*words, "method=rollout", "output=o")
    assert "not sample ids of split=test" in refused(*words, "images=[x.png]", "output=o")
    assert "split=unseen: data=nih has no image" in refused(*words, "split=unseen", "output=o")
    assert "there is no such bundle" in refused("bundle=no", *words[1:], "output=o")
    assert "holds no run" in refused(*words, f"run={explained}", "output=o")


def test_umap_says_how_to_get_it(
    refused: Callable[..., str], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)  # as if it were not installed
    assert "pip install 'cxr-lightning[umap]'" in refused(*words, "umap=true", "output=o")


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb(main, ["--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for words in ("usage: python -m cxr_lightning.explain bundle=FILE", "gradcam++", "images"):
        assert words in text
