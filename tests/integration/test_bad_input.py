"""Bad input ends with exit code 2 and one readable message, before anything is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

from cxr_lightning.cli import run_verb
from cxr_lightning.fit import main
from cxr_lightning.prepare import main as prepare

Overrides = Callable[..., list[str]]


@pytest.fixture
def copy(phantom_root: Path, tmp_path: Path) -> Path:
    """A phantom that a test may damage."""
    return Path(shutil.copytree(phantom_root, tmp_path / "data"))


@pytest.fixture
def refused(
    tmp_path: Path,
    overrides: Overrides,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., str]:
    """Return a function that runs `fit`, checks that it refuses cleanly, returns its message."""
    monkeypatch.chdir(tmp_path)

    def run(*more: str) -> str:
        before = {path for path in tmp_path.rglob("*") if "data" not in path.parts}
        code = run_verb(main, overrides("run", *more))
        message = capsys.readouterr().err
        assert code == 2, message
        assert "Traceback" not in message
        written = {path for path in tmp_path.rglob("*") if "data" not in path.parts} - before
        assert not written
        return message.replace(str(tmp_path), "TMP")

    return run


def test_wrong_path(refused: Callable[..., str]) -> None:
    assert "error: data.root=/nowhere: there is no such folder" in refused("data.root=/nowhere")


def test_wrong_label(refused: Callable[..., str]) -> None:
    assert "'Efusion'. Did you mean 'Effusion'?" in refused("data.labels=[Efusion]")


def test_wrong_choice_key_and_value(refused: Callable[..., str]) -> None:
    assert "loss=fokal: there is no such choice. Did you mean 'focal'?" in refused("loss=fokal")
    message = refused("optim.lrr=1", "optim.lr=-1")
    assert "2 problems in the configuration" in message


def test_wrong_model(refused: Callable[..., str]) -> None:
    message = refused("model=densnet121", "model.options={}")
    assert "densnet121" in message
    assert "densenet121" in message


def test_wrong_stage(refused: Callable[..., str]) -> None:
    assert "layer9" in refused("model=resnet18", "model.options={}", "model.freeze=layer9")


def test_wrong_transform(refused: Callable[..., str]) -> None:
    message = refused("augment.transforms=[{name: Rotat}]")
    assert "'Rotat' is not a transform of albumentations. Did you mean 'Rotate'?" in message


def test_missing_and_broken_images_are_all_listed(copy: Path, refused: Callable[..., str]) -> None:
    images = sorted((copy / "images").iterdir())
    images[3].unlink()
    images[7].write_bytes(images[7].read_bytes()[:500])
    images[9].write_text("not a picture")
    message = refused(f"data.root={copy}")
    assert "3 of 160 images cannot be used:" in message
    for image in (images[3], images[7], images[9]):
        assert image.name in message
    assert "missing" in message
    assert "data.on_bad_image=skip" in message


def test_a_duplicate_row(copy: Path, refused: Callable[..., str]) -> None:
    table = copy / "Data_Entry_2017.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines, lines[5]]) + "\n")
    message = refused(f"data.root={copy}")
    assert "images listed more than once" in message
    assert "line 6:" in message


def test_a_patient_on_both_lists(copy: Path, refused: Callable[..., str]) -> None:
    train, test = copy / "train_val_list.txt", copy / "test_list.txt"
    names = train.read_text().split()
    patients = [name.split("_")[0] for name in names]
    moved = next(
        name for name, patient in zip(names, patients, strict=True) if patients.count(patient) > 1
    )
    train.write_text("\n".join(name for name in names if name != moved))
    test.write_text(test.read_text() + f"\n{moved}\n")
    message = refused(f"data.root={copy}")
    assert "1 patient(s) in more than one split" in message
    assert "1 patient(s) are on both train_val_list.txt and test_list.txt" in message
    assert "data.split=patient" in message
    words = ["data=nih", f"data.root={copy}", "data.image.size=32", "data.labels=[Effusion]"]
    assert run_verb(prepare, [*words, "--output", str(copy / "audit")]) == 1
    audit = json.loads((copy / "audit" / "audit.json").read_text())
    assert audit["leaks"]["patients"] == [str(int(moved.split("_")[0]))]
    assert "1 patient(s) are in more than one split" in audit["invalid"]
    assert "1 patient(s) are on both train_val_list.txt and test_list.txt." in audit["notes"]
    assert (copy / "audit" / "audit.html").is_file()


def test_a_list_of_images_that_are_not_there(copy: Path, refused: Callable[..., str]) -> None:
    listed = copy / "test_list.txt"
    listed.write_text(listed.read_text() + "\n99999999_000.png\n")
    message = refused(f"data.root={copy}")
    assert "test_list.txt names 1 image(s) that the table lacks:\n  - 99999999_000.png" in message


def test_a_missing_column(copy: Path, refused: Callable[..., str]) -> None:
    table = copy / "Data_Entry_2017.csv"
    table.write_text(table.read_text().replace("Finding Labels", "Findings", 1))
    assert "missing column(s) Finding Labels; it has: Image Index, Findings" in refused(
        f"data.root={copy}"
    )


def test_text_in_the_labels(copy: Path, refused: Callable[..., str]) -> None:
    table = copy / "Data_Entry_2017.csv"
    table.write_text(table.read_text().replace("No Finding", "see report", 1))
    assert "unknown finding(s) 'see report'" in refused(f"data.root={copy}")


def test_identical_pictures_across_splits(copy: Path, refused: Callable[..., str]) -> None:
    test = (copy / "test_list.txt").read_text().split()[0]
    train = (copy / "train_val_list.txt").read_text().split()[0]
    shutil.copy(copy / "images" / test, copy / "images" / train)
    message = refused(f"data.root={copy}")
    assert "1 picture(s) with identical pixels in more than one split" in message
    assert test in message
    assert train in message


def test_an_empty_selection(refused: Callable[..., str]) -> None:
    message = refused("data.views=[LATERAL]")
    assert "no image is left" in message
    assert "160 left out" in message


def test_a_label_without_positives(refused: Callable[..., str]) -> None:
    message = refused("data.labels=[Effusion,Hernia]", "data.max_patients=12")
    assert "one class only of: " in message
    assert "Hernia" in message


def test_labels_that_results_could_not_tell_apart(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    names = [f"{number}.png" for number in range(12)]
    labels = {label: [0, 1] * 6 for label in ("Mass", "mass", "macro")}
    table = pd.DataFrame({"image": names, "pid": names, **labels})
    table.to_csv(tmp_path / "t.csv", index=False)
    for name in names:
        Image.new("L", (32, 32)).save(tmp_path / name)
    words = ["data=table", f"data.csv={tmp_path / 't.csv'}", "data.image=image", "data.patient=pid"]
    unset = ["data.root=null", "data.split=patient"]
    said = refused(*words, *unset, "data.labels=[Mass,mass]")
    assert "Labels that MLflow could not tell apart:" in said
    assert "may not be called macro" in refused(*words, *unset, "data.labels=[Mass,macro]")


def test_a_folder_that_is_taken(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    message = refused()
    assert "TMP/run exists and is not empty: choose another run.dir" in message
    assert (tmp_path / "run" / "thesis.txt").read_text() == "mine"


def test_a_store_that_mlflow_refuses(refused: Callable[..., str]) -> None:
    assert "sqlite" in refused("run.tracking_uri=file:./mlruns")


def test_a_server_that_does_not_answer(refused: Callable[..., str]) -> None:
    assert "http://127.0.0.1:9" in refused("run.tracking_uri=http://127.0.0.1:9")


def test_a_gpu_that_is_not_there(refused: Callable[..., str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert "torch sees no GPU" in refused("trainer=gpu")


def test_a_batch_that_devices_cannot_share(refused: Callable[..., str]) -> None:
    message = refused("trainer=ddp_cpu", "data.batch_size=7")
    assert "cannot be shared evenly by 2 devices; use a multiple of 2" in message


def test_more_devices_than_images(refused: Callable[..., str]) -> None:
    words = ("trainer=ddp_cpu", "trainer.devices=4096", "data.batch_size=4096")
    assert "images, which 4096 devices cannot share: each needs one" in refused(*words)


def test_weights_of_something_else(refused: Callable[..., str], tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(exist_ok=True)
    torch.save({"something.weight": torch.zeros(3)}, folder / "w.pth")
    assert "w.pth" in refused(f"model.weights={folder / 'w.pth'}")
    assert "none.pth" in refused("model.weights=/nowhere/none.pth")


def test_bad_images_can_be_skipped_and_are_counted(
    copy: Path, overrides: Overrides, capsys: pytest.CaptureFixture[str]
) -> None:
    images = sorted((copy / "images").iterdir())
    images[3].unlink()
    words = overrides("run", f"data.root={copy}", "data.on_bad_image=skip", "trainer.max_epochs=1")
    assert run_verb(main, words) == 0
    assert "missing or unreadable image: 1 left out, 159 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("trainer.limit_val_batches=abc", "Lightning refuses trainer.limit_val_batches=abc"),
        ("trainer.profiler=foo", "Lightning refuses trainer.profiler=foo"),
        ("trainer.max_time=abc", "Lightning refuses trainer.max_time=abc"),
        ("trainer.limit_train_batches=0", "nothing would be trained"),
        ("trainer.max_steps=100", "use trainer.max_epochs"),
        ("trainer.limit_test_batches=1", "neither a field of trainer nor an option"),
        ("trainer.val_check_interval=500", "an epoch has 7 batches"),
        ("model.unfreeze_epoch=3 model.freeze=backbone", "never comes"),
        ("run.dir=/proc/nowhere", "the run's folder cannot be made"),
        ("model.weights=/nowhere.pth", "there is no such file"),
    ],
)
def test_values_that_cannot_be_used(refused: Callable[..., str], word: str, said: str) -> None:
    assert said in " ".join(refused(*word.split()).split())


def test_a_mistake_is_told_before_any_image_is_decoded(
    refused: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    for word in ("model=resnet1000", "model.freeze=nothing_like_it", "data.batch_size=33"):
        extra = ["trainer=ddp_cpu"] if "batch" in word else []
        refused(word, *extra)
        assert "fingerprint" not in capsys.readouterr().out


def test_identical_pictures_are_refused_and_can_be_skipped(
    copy: Path, refused: Callable[..., str], overrides: Overrides
) -> None:
    from cxr_lightning.config.compose import compose
    from cxr_lightning.data.base import ChestXrayDataModule

    listed = (copy / "test_list.txt").read_text().split()
    others = (copy / "train_val_list.txt").read_text().split()
    for name in others[:8]:
        shutil.copy(copy / "images" / listed[0], copy / "images" / name)
    message = refused(f"data.root={copy}")
    assert "identical pixels in more than one split" in message
    assert "data.on_duplicate=skip" in message
    config = compose([*overrides("run"), f"data.root={copy}", "data.on_duplicate=skip"])
    cohort = ChestXrayDataModule(config.data, config.augment, seed=0).prepare()
    assert listed[0] in set(cohort.table["sample_id"])
    assert not set(others[:8]) & set(cohort.table["sample_id"])
    assert cohort.flow[-1].reason == "identical pixels in a later split"
    assert cohort.flow[-1].left_out == 8
