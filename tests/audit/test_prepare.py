"""`prepare` finds what was planted, says so, and its exit code tells."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from cxr_lightning.audit.people import table_one
from cxr_lightning.cli import run_verb
from cxr_lightning.config.schema import ImageConfig
from cxr_lightning.data import nih
from cxr_lightning.data.cohort import build_cohort
from cxr_lightning.prepare import main


@pytest.fixture
def root(phantom_root: Path, tmp_path: Path) -> Path:
    """A copy of the phantom, to be spoilt."""
    return Path(shutil.copytree(phantom_root, tmp_path / "data"))


def prepare(root: Path, out: Path, *words: str) -> int:
    return run_verb(
        main, ["data=nih", f"data.root={root}", "data.image.size=64", "--output", str(out), *words]
    )


def found(out: Path) -> dict:  # type: ignore[type-arg]
    return json.loads((out / "audit.json").read_text())  # type: ignore[no-any-return]


def of_split(root: Path, split: str) -> list[Path]:
    config = nih.Config(name="nih", root=root, image=ImageConfig(size=64))
    table = build_cohort(config).table
    return [Path(path) for path in table.loc[table["split"] == split, "image_path"]]


LABELS = "data.labels=[Effusion,Infiltration]"


def test_a_good_data_set(phantom_root: Path, tmp_path: Path) -> None:
    assert prepare(phantom_root, tmp_path / "out", LABELS) == 0
    audit = found(tmp_path / "out")
    assert audit["invalid"] == []
    assert audit["sizes"] == [{"height": 64, "width": 64, "images": 160}]
    assert sum(audit["labels"]["Effusion"]["train"][key] for key in ("positive", "negative")) > 80
    page = (tmp_path / "out" / "audit.html").read_text()
    assert "No patient and no identical picture" in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("https://www.w3.org", "")
    assert str(phantom_root) not in page + (tmp_path / "out" / "audit.json").read_text()


def test_a_place_that_cannot_be_written_is_refused_at_once(
    phantom_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(phantom_root, Path("/proc/self"), LABELS) == 2
    said = capsys.readouterr().err
    assert "error: --output /proc/self: cannot be written to: " in said
    assert "would" not in said


def test_what_would_invalidate_a_study(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, test = of_split(root, "train"), of_split(root, "test")
    shutil.copy(train[0], test[0])  # the same picture on both sides
    test[1].unlink()
    test[2].write_bytes(test[2].read_bytes()[:200])
    assert prepare(root, tmp_path / "out", LABELS) == 1
    audit = found(tmp_path / "out")
    assert audit["invalid"] == [
        "1 picture(s) with identical pixels are in more than one split",
        "2 image(s) are missing or unreadable; data.on_bad_image=skip would leave them out",
    ]
    reasons = {entry["sample_id"]: entry["reason"] for entry in audit["images"]["bad"]}
    assert reasons[test[1].name] == "missing"
    assert "truncated" in reasons[test[2].name] or "damaged" in reasons[test[2].name]
    said = " ".join(capsys.readouterr().out.split())
    assert "would invalidate a study: 1 picture(s) with identical pixels" in said
    page = (tmp_path / "out" / "audit.html").read_text()
    assert "This would invalidate a study" in page
    assert test[0].name in page


def test_what_is_worth_a_look(root: Path, tmp_path: Path) -> None:
    train = of_split(root, "train")
    cv2.imwrite(str(train[0]), np.full((64, 64), 90, np.uint8))
    cv2.imwrite(str(train[1]), np.random.default_rng(0).integers(0, 255, (200, 64), np.uint8))
    cv2.imwrite(str(train[2]), np.random.default_rng(1).integers(0, 255, (40, 40), np.uint8))
    shutil.copy(train[3], train[4])
    assert prepare(root, tmp_path / "out", LABELS) == 0
    images = found(tmp_path / "out")["images"]
    assert images["constant"] == [train[0].name]
    assert images["elongated"] == [train[1].name]
    assert images["small"] == [train[2].name]
    assert images["duplicates"] == [sorted([train[3].name, train[4].name])]
    assert any("hardly any contrast" in text for text in found(tmp_path / "out")["warnings"])


def test_skipping_bad_images_is_a_warning(root: Path, tmp_path: Path) -> None:
    of_split(root, "train")[0].unlink()
    assert prepare(root, tmp_path / "out", LABELS, "data.on_bad_image=skip") == 0
    warnings = found(tmp_path / "out")["warnings"]
    assert "1 image(s) are missing or unreadable and are left out" in warnings


def test_skipping_duplicates_is_a_warning(root: Path, tmp_path: Path) -> None:
    shutil.copy(of_split(root, "train")[0], of_split(root, "test")[0])
    assert prepare(root, tmp_path / "out", LABELS, "data.on_duplicate=skip") == 0
    text = "1 picture(s) with identical pixels are in more than one split"
    assert f"{text}; fit keeps those of the last" in found(tmp_path / "out")["warnings"]


def test_a_label_with_one_class(root: Path, tmp_path: Path) -> None:
    table = root / "Data_Entry_2017.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], *(line.replace("Hernia", "Mass") for line in lines[1:])]))
    assert prepare(root, tmp_path / "out", "data.labels=[Effusion,Hernia]") == 1
    assert "one class only of Hernia" in " ".join(found(tmp_path / "out")["invalid"])


def test_a_wrong_command_is_exit_code_two(tmp_path: Path) -> None:
    assert prepare(tmp_path / "nowhere", tmp_path / "out") == 2
    assert not (tmp_path / "out" / "audit.json").exists()


def test_table_one_counts_patients_once(phantom_root: Path) -> None:
    table = build_cohort(nih.Config(name="nih", root=phantom_root)).table
    one = table_one(table)
    assert one.at["patients", "all"] == f"{table['patient_id'].nunique()}"
    first = table.drop_duplicates("patient_id")
    share = (first["sex"] == "F").mean()
    assert one.at["female", "all"] == f"{(first['sex'] == 'F').sum()} ({share:.1%})"


def test_reasons_are_told_of_a_relative_root_too(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root.parent)
    lost = next((root / "images").glob("*.png"))
    lost.unlink()
    assert prepare(Path(root.name), tmp_path / "out", LABELS) == 1
    assert "missing" in json.dumps(found(tmp_path / "out")["images"]["bad"])
