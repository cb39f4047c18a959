"""`evaluate`: the same numbers as `fit` where it should, and honest elsewhere."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    matthews_corrcoef,
    recall_score,
    roc_auc_score,
)

from cxr_lightning.assessment.models import open_target, predict_target
from cxr_lightning.bundle import load_bundle, save_bundle
from cxr_lightning.cli import run_verb
from cxr_lightning.config.compose import compose
from cxr_lightning.data.cohort import build_cohort
from cxr_lightning.data.transforms import Augmentation, sample_keys
from cxr_lightning.evaluate import main
from cxr_lightning.training import run_fit

SMALL = ["evaluation.replicates=20", "pictures=false"]


@pytest.fixture(scope="module")
def runs(
    phantom_root: Path, store: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Two runs on the same patients with other seeds and labels, and one on a part of them."""
    from tests.integration.conftest import SMALL as TRAINING

    folder = tmp_path_factory.mktemp("evaluate")
    own = {
        "one": ["seed=0"],
        "two": ["seed=1", "data.labels=[Mass,Effusion]"],
        "part": ["data.max_patients=35", "data.labels=[Effusion]", "data.val_fraction=0.3"],
    }
    for name, more in own.items():
        words = [*nih(phantom_root), *TRAINING, *more, "evaluation.pictures=false"]
        words += [f"run.dir={folder / name}", f"run.tracking_uri={store}", "trainer.max_epochs=1"]
        run_fit(compose(words))
    return {name: folder / name for name in own}


def bundle(run: Path) -> str:
    return str(run / "bundle.safetensors")


def nih(root: Path) -> list[str]:
    return ["data=nih", f"data.root={root}", "data.split=patient", "data.val_fraction=0.2"]


def numbers(folder: Path, end: str = "") -> dict[str, float | None]:
    return json.loads((folder / f"metrics{end}.json").read_text())  # type: ignore[no-any-return]


def test_a_bundle_gives_the_numbers_of_its_run(
    runs: dict[str, Path], phantom_root: Path, tmp_path: Path
) -> None:
    words = [
        f"bundle={bundle(runs['one'])}",
        *nih(phantom_root),
        *SMALL,
        f"output={tmp_path / 'e'}",
    ]
    assert run_verb(main, words) == 0
    fitted, evaluated = numbers(runs["one"]), numbers(tmp_path / "e")
    points = [name for name in fitted if "_low" not in name and "_high" not in name]
    for name in points:
        expected, found = fitted[name], evaluated[name]
        assert (expected is None) == (found is None), name
        if expected is not None:
            assert found == pytest.approx(expected, abs=1e-5), name
    page = (tmp_path / "e" / "report.html").read_text()
    assert f"{fitted['test/auroc_macro']:.3f}" in page
    assert "Model card" in page
    assert "are the bundle&#39;s: fitted on the validation patients" in page
    assert "replicates: 20" in page


def test_saved_predictions_alone(runs: dict[str, Path], tmp_path: Path) -> None:
    one = runs["one"]
    words = [
        f"predictions={one / 'predictions_test.parquet'}",
        f"validation={one / 'predictions_val.parquet'}",
        *SMALL,
        f"output={tmp_path / 'e'}",
    ]
    assert run_verb(main, words) == 0
    fitted, evaluated = numbers(one), numbers(tmp_path / "e")
    assert evaluated["test/auroc_macro"] == pytest.approx(fitted["test/auroc_macro"])
    assert evaluated["test/f1_macro"] == pytest.approx(fitted["test/f1_macro"])


def test_saved_predictions_of_validation_are_no_test(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table's column split says what it is of."""
    table = runs["one"] / "predictions_val.parquet"
    words = [f"predictions={table}", f"validation={table}", *SMALL, f"output={tmp_path / 'e'}"]
    assert run_verb(main, [*words, "split=test"]) == 2
    assert "split cannot be chosen with predictions" in " ".join(capsys.readouterr().err.split())
    assert run_verb(main, words) == 0
    assert {name.split("/")[0] for name in numbers(tmp_path / "e")} == {"val"}
    page = (tmp_path / "e" / "report.html").read_text()
    assert "<strong>the validation part</strong> of <strong>predictions</strong>" in page
    images = len(pd.read_parquet(table))
    for said in (
        f"Of these {images} images 0 are of a training part and {images} of a validation part",
        f"were fitted on {images} of these {images} images: the numbers are optimistic",
    ):
        assert said in page


def test_any_column_and_no_validation(runs: dict[str, Path], tmp_path: Path) -> None:
    table = pd.read_parquet(runs["one"] / "predictions_test.parquet")
    table["scanner"] = np.where(np.arange(len(table)) % 2, "old", "new")
    table.to_parquet(tmp_path / "mine.parquet")
    words = [f"predictions={tmp_path / 'mine.parquet'}", *SMALL, f"output={tmp_path / 'e'}"]
    assert run_verb(main, [*words, "subgroups=scanner"]) == 0
    groups = pd.read_csv(tmp_path / "e" / "subgroups_scanner.csv")
    assert set(groups["group"]) == {"old", "new"}
    page = (tmp_path / "e" / "report.html").read_text()
    assert "No validation predictions were given: every threshold is 0.5" in page


def test_a_rule_that_is_asked_for_and_the_run_in_mlflow(
    runs: dict[str, Path], phantom_root: Path, store: str, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    run, folder = runs["one"], tmp_path / "sensitive"
    words = [f"bundle={bundle(run)}", *nih(phantom_root), *SMALL, f"output={folder}", f"run={run}"]
    rule = ["evaluation.threshold=sensitivity", "evaluation.threshold_target=0.8"]
    assert run_verb(main, [*words, *rule]) == 0
    validation = pd.read_parquet(run / "predictions_val.parquet")
    score = expit(validation["logit/Effusion"].to_numpy(np.float64))
    positive = score[validation["y_true/Effusion"] == 1]
    threshold = pd.read_csv(folder / "results.csv", index_col="label").at["Effusion", "threshold"]
    assert (positive >= threshold).mean() >= 0.8
    above = positive[positive > threshold]
    assert (above > above.min()).sum() / len(positive) < 0.8  # one fewer would be too few
    assert "fitted on the validation part of nih" in (folder / "report.html").read_text()
    state = json.loads((run / "run.json").read_text())
    client = MlflowClient(store)
    sent = client.get_run(state["mlflow_run_id"])
    expected = numbers(folder)["test/auroc/Effusion"]
    assert sent.data.metrics["evaluate/nih/test/auroc/Effusion"] == pytest.approx(expected)
    files = {item.path for item in client.list_artifacts(sent.info.run_id, "sensitive")}
    assert {"sensitive/report.html", "sensitive/results.csv", "sensitive/plots"} <= files


def test_images_that_are_no_test_set_are_said_to_be_none(
    runs: dict[str, Path], phantom_root: Path, tmp_path: Path
) -> None:
    words = [f"bundle={bundle(runs['one'])}", *nih(phantom_root), *SMALL, "split=val"]
    assert run_verb(main, [*words, f"output={tmp_path / 'e'}"]) == 0
    page = (tmp_path / "e" / "report.html").read_text()
    assert "were fitted on these images: the numbers are optimistic" in page


def test_two_models_their_comparison_and_their_mean(
    runs: dict[str, Path], phantom_root: Path, tmp_path: Path
) -> None:
    both = ",".join(bundle(runs[name]) for name in ("one", "two"))
    words = [f"bundle={both}", *nih(phantom_root), *SMALL, f"output={tmp_path / 'e'}"]
    assert run_verb(main, words) == 0
    tables = {
        name: pd.read_parquet(tmp_path / "e" / f"predictions_{name}.parquet")
        for name in ("one", "two", "ensemble")
    }
    probability = {
        name: 1 / (1 + np.exp(-table["logit/Effusion"].to_numpy(float)))
        for name, table in tables.items()
    }
    mean = (probability["one"] + probability["two"]) / 2
    np.testing.assert_allclose(probability["ensemble"], mean, atol=1e-6)
    # Of the labels of two networks, what both know is compared.
    assert "y_true/Mass" not in tables["ensemble"]
    comparison = pd.read_csv(tmp_path / "e" / "comparison_one_two.csv", index_col="label")
    assert list(comparison.index) == ["Effusion", "macro"]
    truth = tables["one"]["y_true/Effusion"]
    difference = roc_auc_score(truth, probability["two"]) - roc_auc_score(truth, probability["one"])
    assert comparison.at["Effusion", "auroc_difference"] == pytest.approx(difference, abs=1e-6)
    page = (tmp_path / "e" / "report.html").read_text()
    assert "two (second) against one (first)" in page
    # Single rows are of the same labels too, though each model's own results are not.
    found = [re.search(rf'"row">{name}</th><td>([^<]*)</td>', page) for name in tables]
    for name, row in zip(tables, found, strict=True):
        assert row is not None
        assert row[1].startswith(f"{roc_auc_score(truth, probability[name]):.3f}")
        assert row[1].endswith(", 1 labels")


def test_another_data_set_over_the_labels_both_know(
    runs: dict[str, Path], phantom_root: Path, tmp_path: Path
) -> None:
    chexpert = ["data=chexpert", "data.root=phantom", "data.phantom.images=200"]
    words = [
        f"bundle={bundle(runs['one'])}",
        *nih(phantom_root),
        *SMALL,
        f"output={tmp_path / 'e'}",
    ]
    assert run_verb(main, [*words, "+", *chexpert, "data.phantom.pixels=64"]) == 0
    matrix = pd.read_csv(tmp_path / "e" / "external_validation.csv", index_col="data")
    for data, count in (("nih", 3), ("chexpert", 2)):
        macro = numbers(tmp_path / "e" / data)
        row = matrix.loc[data]
        assert row[["model", "labels"]].tolist() == ["one", count]
        for column, end in (("auroc", ""), ("low", "_low"), ("high", "_high")):
            assert row[column] == pytest.approx(macro[f"test/auroc_macro{end}"]), column
    table = pd.read_parquet(tmp_path / "e" / "chexpert" / "predictions.parquet")
    # CheXpert has no Infiltration: it is left out, not scored as absent.
    assert "y_true/Infiltration" not in table
    assert {"y_true/Effusion", "y_true/Atelectasis"} <= set(table.columns)
    page = (tmp_path / "e" / "chexpert" / "report.html").read_text()
    assert "2 of 3 labels are compared" in page


def test_a_table_of_ones_own_with_some_of_the_labels(
    runs: dict[str, Path], phantom_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = sorted((phantom_root / "images").iterdir())[:24]
    own = pd.DataFrame(
        {
            "file": [str(image) for image in images],
            "who": range(24),
            "Effusion": [0, 1] * 12,
            "Oedema": 0,
        }
    )
    own.to_csv(tmp_path / "own.csv", index=False)
    words = [f"bundle={bundle(runs['two'])}", "data=table", f"data.csv={tmp_path / 'own.csv'}"]
    words += ["data.image=file", "data.patient=who", *SMALL, "split=all"]
    assert run_verb(main, [*words, f"output={tmp_path / 'e'}"]) == 0
    table = pd.read_parquet(tmp_path / "e" / "predictions.parquet")
    assert sorted(table["y_true/Effusion"]) == [0] * 12 + [1] * 12
    assert "y_true/Mass" not in table
    own.drop(columns="Effusion").to_csv(tmp_path / "own.csv", index=False)
    assert run_verb(main, [*words, f"output={tmp_path / 'f'}"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "none of the labels Mass, Effusion is a column of it. It has file, who, Oedema" in said


def test_another_split_of_the_training_data_is_warned_of(
    runs: dict[str, Path], phantom_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    official = ["data=nih", f"data.root={phantom_root}", "data.split=official"]
    words = [f"bundle={bundle(runs['one'])}", *official, *SMALL, f"output={tmp_path / 'e'}"]
    assert run_verb(main, words) == 0
    tested = pd.read_parquet(tmp_path / "e" / "predictions.parquet")["patient_id"].unique()
    table = build_cohort(compose(nih(phantom_root)).data).table
    trained = set(table.loc[table["split"] == "train", "patient_id"])
    count = len(trained.intersection(tested))
    assert 0 < count < len(tested)
    said = f"Of these {len(tested)} patients the network was trained on {count}, and"
    assert said in " ".join(capsys.readouterr().out.split())
    assert said in (tmp_path / "e" / "report.html").read_text()


def test_patients_that_no_split_of_the_training_held(
    runs: dict[str, Path], phantom_root: Path, tmp_path: Path
) -> None:
    """The numbers of the page are those that scikit-learn finds in the written predictions."""
    words = [f"bundle={bundle(runs['part'])}", *nih(phantom_root), *SMALL, "split=unseen"]
    assert run_verb(main, [*words, f"output={tmp_path / 'e'}"]) == 0
    table = pd.read_parquet(tmp_path / "e" / "predictions.parquet")
    limits = ["data.max_patients=35", "data.labels=[Effusion]", "data.val_fraction=0.3"]
    known = build_cohort(compose([*nih(phantom_root), *limits]).data).table
    whole = build_cohort(compose(nih(phantom_root)).data).table
    new = ~whole["patient_id"].isin(known["patient_id"])
    assert set(table["sample_id"]) == set(whole.loc[new, "sample_id"])
    assert set(table["split"]) == {"unseen"}
    assert len(table) > 30
    y_true, score = table["y_true/Effusion"], expit(table["logit/Effusion"].astype(np.float64))
    threshold = load_bundle(Path(bundle(runs["part"]))).info.thresholds.array[0]
    expected = {
        "auroc": roc_auc_score(y_true, score),
        "average_precision": average_precision_score(y_true, score),
        "f1": f1_score(y_true, score >= threshold),
        "sensitivity": recall_score(y_true, score >= threshold),
        "accuracy": accuracy_score(y_true, score >= threshold),
        "balanced_accuracy": balanced_accuracy_score(y_true, score >= threshold),
        "mcc": matthews_corrcoef(y_true, score >= threshold),
    }
    found = pd.read_csv(tmp_path / "e" / "results.csv", index_col="label").loc["Effusion"]
    metrics, page = numbers(tmp_path / "e"), (tmp_path / "e" / "report.html").read_text()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name
        assert metrics[f"unseen/{name}/Effusion"] == pytest.approx(value, abs=1e-12), name
        assert f"{value:.3f}" in page, name
    assert "patients of nih who took no part in the training" in page


def test_unseen_patients_that_are_not_there_or_not_known(
    runs: dict[str, Path], phantom_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, old = load_bundle(bundle(runs["one"])), tmp_path / "old" / "bundle.safetensors"
    old.parent.mkdir()
    save_bundle(old, whole.network, replace(whole.info, seen=None))
    for file, said in (
        (bundle(runs["one"]), "split=unseen: all patients of data=nih took part in the training"),
        (str(old), "split=unseen: old: bundles of format 1, and those trained on"),
    ):
        words = [f"bundle={file}", *nih(phantom_root), *SMALL, "split=unseen"]
        assert run_verb(main, [*words, f"output={tmp_path / 'e'}"]) == 2
        assert said in " ".join(capsys.readouterr().err.split())


def test_several_bundles_on_unseen_patients_of_a_data_set_without_validation(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = ",".join(bundle(runs[name]) for name in ("one", "part"))
    words = [f"bundle={both}", "data=chexpert", "data.root=phantom", "data.phantom.images=60"]
    words += ["data.phantom.pixels=64", *SMALL, "split=unseen"]
    assert run_verb(main, [*words, f"output={tmp_path / 'e'}"]) == 0
    ensemble = pd.read_csv(tmp_path / "e" / "results_ensemble.csv", index_col="label")
    assert not ensemble.at["Effusion", "threshold_fitted"]
    assert not np.isnan(ensemble.at["Effusion", "auroc"])
    for more in ("weights=validation", "study=max"):
        assert run_verb(main, [*words, more, f"output={tmp_path / 'f'}"]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert "no patient of data=chexpert was validation in all of these trainings" in said


def test_studies_and_test_time_augmentation(
    runs: dict[str, Path], phantom_root: Path, tmp_path: Path
) -> None:
    words = [f"bundle={bundle(runs['one'])}", *nih(phantom_root), *SMALL, "study=max", "tta=2"]
    for name in ("a", "b"):
        assert run_verb(main, [*words, f"output={tmp_path / name}"]) == 0
    one, two = (pd.read_parquet(tmp_path / name / "predictions.parquet") for name in ("a", "b"))
    pd.testing.assert_frame_equal(one, two)
    plain = pd.read_parquet(runs["one"] / "predictions_test.parquet")
    assert not np.allclose(one["logit/Effusion"], plain["logit/Effusion"], atol=1e-4)


def test_test_time_augmentation_is_the_mean_over_the_image_and_its_copies(
    runs: dict[str, Path], phantom_root: Path
) -> None:
    one = load_bundle(bundle(runs["one"]))
    target = open_target(one.info, compose(nih(phantom_root)).data)
    found = predict_target(one, target, "test", batch_size=7, tta=2, seed=5)
    rows = target.rows("test")
    images, keys = target.cache.read(target.cache.rows[rows]), sample_keys(found["sample_id"])
    varied = Augmentation(compose(["augment=light"]).augment, seed=5)
    epochs = [np.full(len(rows), copy) for copy in range(2)]
    copies = [images, *(varied.batch(images, epochs=epoch, keys=keys) for epoch in epochs)]
    with torch.inference_mode():
        logits = [one.network(torch.from_numpy(copy)[:, None]).numpy() for copy in copies]
    expected = np.mean(logits, axis=0)
    for index, label in enumerate(one.info.labels):
        np.testing.assert_allclose(found[f"logit/{label}"], expected[:, index], atol=1e-5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data=phantom"], "give bundle=FILE and data=..., or predictions=FILE"),
        (["bundle=nowhere.safetensors", "data=phantom"], "there is no such bundle"),
        (["bundle=x", "data=phantom", "optim.lr=1"], "optim"),
        (["predictions=x.parquet", "data=phantom"], "leave data out"),
        (["bundle=x", "data=phantom", "splt=test"], "splt"),
        (["bundle=x", "data=phantom", f"output={__file__}"], "exists and is not empty"),
        (["bundle=x", "data=phantom", f"output={__file__}/e"], "no folder can be made in it"),
    ],
)
def test_mistakes(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb(main, words) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_what_does_not_fit_together_leaves_nothing(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test, val = (runs["one"] / f"predictions_{split}.parquet" for split in ("test", "val"))
    out = f"output={tmp_path / 'e'}"
    for words, said in (
        ([f"predictions={test},{val}", "ensemble=none"], "not of one test set"),
        ([f"predictions={test}", "subgroups=[sexx]"], "has no column sexx"),
        ([f"predictions={test}", f"run={tmp_path}"], "holds no run"),
    ):
        assert run_verb(main, [*words, *SMALL, out]) == 2
        assert said in " ".join(capsys.readouterr().err.split())
        assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(
    runs: dict[str, Path], phantom_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").touch()
    words = [f"bundle={bundle(runs['one'])}", *nih(phantom_root), *SMALL, f"output={tmp_path}"]
    assert run_verb(main, words) == 2
    assert "exists and is not empty" in capsys.readouterr().err
