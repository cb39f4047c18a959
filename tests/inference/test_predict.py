"""`predict` as a user runs it: pixels, numbers, files, messages and exit codes."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit

from cxr_lightning.bundle import load_bundle
from cxr_lightning.data.cache import open_cache
from cxr_lightning.data.decode_stream import decode_stream
from cxr_lightning.data.images import read_resized
from cxr_lightning.inference.predictor import Predictor
from cxr_lightning.inference.runtimes import open_runtime

from .conftest import IMAGE, LABELS, same_rows

Verb = Callable[..., int]


def test_pixels_are_those_of_training(pictures: list[str], tmp_path: Path) -> None:
    for config in (IMAGE, IMAGE.model_copy(update={"size": 48, "fit": "crop"})):
        cache = open_cache(pictures, image=config, cache_dir=tmp_path, progress=False)
        seen = [one.pixels for one in decode_stream(pictures, config)]
        np.testing.assert_array_equal(np.stack(seen), cache.read(cache.rows))


def test_numbers(bundle: Path, pictures: list[str], verb: Verb) -> None:
    assert verb(f"bundle={bundle}", *pictures[:40], "output=p.csv", "batch_size=7") == 0
    table = pd.read_csv("p.csv", keep_default_na=False)
    assert list(table["path"]) == pictures[:40]
    pixels = torch.from_numpy(np.stack([read_resized(one, IMAGE) for one in pictures[:40]]))
    network = load_bundle(bundle).network
    with torch.inference_mode():
        logits = network(pixels[:, None]).double().numpy()
    calibrated = (2 * logits[:, 0] - 1, logits[:, 1] + 0.5, logits[:, 2])
    for index, (label, threshold) in enumerate(zip(LABELS, (0.5, 0.25, 0.75), strict=True)):
        raw = expit(logits[:, index])
        np.testing.assert_allclose(table[f"probability/{label}"], raw, atol=1e-6)
        np.testing.assert_allclose(
            table[f"calibrated/{label}"], expit(calibrated[index]), atol=1e-6
        )
        assert (table[f"threshold/{label}"] == threshold).all()
        expected = table[f"probability/{label}"] >= threshold
        assert (table[f"positive/{label}"] == expected).all()
    assert not Path("errors.csv").exists()
    assert not list(Path().glob("*.partial"))


def test_formats_hold_the_same(bundle: Path, pictures: list[str], verb: Verb) -> None:
    words = (f"bundle={bundle}", *pictures[:6], "batch_size=4")
    for name in ("p.csv", "p.parquet", "p.jsonl"):
        assert verb(*words, f"output={name}") == 0
    table = pd.read_parquet("p.parquet")
    same_rows(pd.read_csv("p.csv", keep_default_na=False), table, 1e-15)
    lines = [json.loads(line) for line in Path("p.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == list(table["path"])
    for line, (_, row) in zip(lines, table.iterrows(), strict=True):
        assert line["flags"] == [flag for flag in row["flags"].split("; ") if flag]
        for label in LABELS:
            assert line["labels"][label] == {
                kind: row[f"{kind}/{label}"]
                for kind in ("probability", "calibrated", "positive", "threshold")
            }


def test_inputs_of_every_kind(
    bundle: Path,
    pictures: list[str],
    verb: Verb,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = Path("deep/er")
    folder.mkdir(parents=True)
    for index in range(30):  # enough for processes to decode them
        shutil.copy(pictures[index], folder / f"{index:02d}.png")
    (folder / "notes.txt").write_text("no image")
    shutil.copy(pictures[30], folder / "1.2.840.113")  # as a DICOM archive names its files
    Path("list.txt").write_text(f"{pictures[31]}\n\n{pictures[32]}\n")
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{pictures[33]}\n"))
    assert (
        verb(f"bundle={bundle}", "input=deep", "@list.txt", "-", "deep/er/0?.png", "format=csv")
        == 0
    )
    captured = capsys.readouterr()
    paths = list(pd.read_csv(io.StringIO(captured.out))["path"])
    names = [f"deep/er/{name}" for name in sorted(os.listdir(folder)) if name != "notes.txt"]
    listed = [pictures[31], pictures[32], pictures[33]]
    assert paths == [*names, *listed, *[f"deep/er/0{digit}.png" for digit in range(10)]]
    assert "44 images predicted" in captured.err
    assert "synthetic" in captured.err


def test_unreadable_images_are_listed_and_the_rest_is_done(
    bundle: Path, pictures: list[str], verb: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in").mkdir()
    shutil.copy(pictures[0], "in/a.png")
    Path("in/b.png").write_bytes(Path(pictures[1]).read_bytes()[:400])
    Path("in/c,d.dcm").write_text("not an image")
    Path("list").write_text("in/a.png\nin/gone.png\n")
    assert verb(f"bundle={bundle}", "in", "@list", "output=p.parquet") == 3
    assert list(pd.read_parquet("p.parquet")["path"]) == ["in/a.png", "in/a.png"]
    errors = pd.read_csv("errors.csv")
    assert list(errors["path"]) == ["in/b.png", "in/c,d.dcm", "in/gone.png"]
    assert errors["reason"][0] == "truncated PNG"
    assert errors["reason"][2] == "missing"
    assert "3 images could not be read; see errors.csv" in capsys.readouterr().err
    # A later run without errors leaves no list that would seem to be its own.
    assert verb(f"bundle={bundle}", "in/a.png", "output=p.parquet") == 0
    assert not Path("errors.csv").exists()


def test_nothing_readable(bundle: Path, verb: Verb) -> None:
    Path("a.png").write_text("no")
    assert verb(f"bundle={bundle}", "a.png", "output=p.csv") == 3
    assert len(pd.read_csv("errors.csv")) == 1


def test_flags(bundle: Path, pictures: list[str], verb: Verb) -> None:
    upright = cv2.imread(pictures[120], cv2.IMREAD_GRAYSCALE)
    noise = np.random.default_rng(1).integers(0, 256, upright.shape, dtype=np.uint8)
    named = {"chest": upright, "negative": 255 - upright, "noise": noise, "flat": upright * 0 + 90}
    for name, picture in named.items():
        cv2.imwrite(f"{name}.png", picture)
    assert verb(f"bundle={bundle}", *(f"{name}.png" for name in named), "output=p.csv") == 0
    table = pd.read_csv("p.csv", keep_default_na=False).set_index("path")
    assert table["flags"]["chest.png"] == ""
    assert "inverted" in table["flags"]["negative.png"]
    assert "unfamiliar" in table["flags"]["noise.png"]
    assert "nearly constant" in table["flags"]["flat.png"]
    assert "inverted" not in table["flags"]["flat.png"]
    assert table["unfamiliarity"]["chest.png"] < 1 < table["unfamiliarity"]["noise.png"]


def test_few_held_out_images_are_flagged(bundle: Path, pictures: list[str]) -> None:
    predictor = Predictor(*open_runtime(bundle))
    pixels = np.stack([read_resized(one, IMAGE) for one in pictures])
    flags = predictor(pixels).flags
    assert sum(map(bool, flags)) <= 4
    assert all("inverted" in one for one in predictor(255 - pixels).flags)


def test_a_table_beside_the_images(
    tabular_bundle: Path, pictures: list[str], verb: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [Path(one).name for one in pictures[:4]]
    pd.DataFrame(
        {"sample_id": names[:3], "age_years": ["60", "", "41.5"], "sex": ["F", "M", "UNKNOWN"]}
    ).to_csv("t.csv", index=False)
    words = (f"bundle={tabular_bundle}", *pictures[:4])
    assert verb(*words, "table=t.csv", "output=with.csv") == 0
    assert "1 image without a row in t.csv" in capsys.readouterr().err
    assert verb(*words, "output=without.csv") == 0
    assert "takes age_years, sex beside the image" in capsys.readouterr().err
    pixels = torch.from_numpy(np.stack([read_resized(one, IMAGE) for one in pictures[:4]]))[:, None]
    # (age - 50) / 10, age missing, F, M, sex missing
    rows = [[1, 0, 1, 0, 0], [0, 1, 0, 1, 0], [-0.85, 0, 0, 0, 1], [0, 1, 0, 0, 1]]
    network = load_bundle(tabular_bundle).network
    for file, inputs in (("with.csv", rows), ("without.csv", [rows[3]] * 4)):
        with torch.inference_mode():
            logits = network(pixels, torch.tensor(inputs, dtype=torch.float32)).numpy()
        found = pd.read_csv(file)[[f"probability/{label}" for label in LABELS]]
        np.testing.assert_allclose(found, expit(logits), atol=1e-6)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"sample_id": ["a"], "sex": ["F"]}, "missing column(s) age_years"),
        ({"name": ["a"], "sex": ["F"], "age_years": ["1"]}, "no column names the image"),
        ({"path": ["a"], "sex": ["F"], "age_years": ["old"]}, "age_years: 'old' is not a number"),
        ({"path": ["a", "a"], "sex": ["F"] * 2, "age_years": ["1"] * 2}, "more than once"),
    ],
)
def test_wrong_tables(
    tabular_bundle: Path,
    pictures: list[str],
    verb: Verb,
    capsys: pytest.CaptureFixture[str],
    table: dict[str, list[str]],
    message: str,
) -> None:
    pd.DataFrame(table).to_csv("t.csv", index=False)
    assert verb(f"bundle={tabular_bundle}", pictures[0], "table=t.csv", "output=p.csv") == 2
    assert message in capsys.readouterr().err
    assert not Path("p.csv").exists()


def test_wrong_words_all_at_once(
    bundle: Path, verb: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verb(f"bundle={bundle.parent}", "input=gone", "@list", "output=no/p.xls") == 2
    message = capsys.readouterr().err
    assert "5 problems" in message
    assert f"Did you mean {bundle}?" in message.replace("\n", "")
    for part in ("input=gone: there is no such", "no list list", "no folder no", "must end in"):
        assert part in message
    Path("a.txt").touch()
    assert verb(f"bundle={bundle}", "input=a.txt", "overlays=a.txt/maps", "output=p.csv") == 2
    assert "a.txt is a file; name a folder" in capsys.readouterr().err
    assert not list(Path().glob("p.csv*"))
    assert verb(f"bundle={bundle}", "runtime=onix", "x") == 2
    assert "Did you mean 'onnx'?" in capsys.readouterr().err


def test_a_folder_without_images(
    bundle: Path, verb: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    assert verb(f"bundle={bundle}", "empty", "output=p.csv") == 2
    assert "no PNG, JPEG or DICOM" in capsys.readouterr().err


def test_a_file_that_is_no_list_of_errors_is_left_alone(
    bundle: Path, pictures: list[str], verb: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("errors.csv").write_text("my,thesis\n")
    assert verb(f"bundle={bundle}", pictures[0], "output=p.csv") == 2
    assert "is something else" in capsys.readouterr().err.replace("\n", " ")
    assert Path("errors.csv").read_text() == "my,thesis\n"


def test_heat_maps(bundle: Path, pictures: list[str], verb: Verb) -> None:
    words = (pictures[0], pictures[1], pictures[0], "overlays=maps", "output=p.parquet")
    assert verb(f"bundle={bundle}", *words) == 0
    table = pd.read_parquet("p.parquet")
    expected = set()
    for row, name in enumerate((Path(pictures[0]).stem, Path(pictures[1]).stem, "")):
        folder = name or f"{Path(pictures[0]).stem}_2"
        for label in LABELS:
            if table[f"positive/{label}"][row]:
                expected.add(f"maps/{folder}/{label.replace(' ', '_')}.png")
    assert expected
    assert {str(file) for file in Path("maps").rglob("*.png")} == expected
    assert cv2.imread(next(iter(expected))).shape == (512, 512, 3)


@pytest.mark.shared
def test_real_dicom_is_the_picture_it_was_made_from(
    bundle: Path, verb: Verb, shared_data: Path
) -> None:
    dicom = shared_data / "dicom"
    assert verb(f"bundle={bundle}", dicom, "output=p.csv") == 0
    table = pd.read_csv("p.csv", keep_default_na=False)
    rows = table.set_index(table["path"].map(lambda path: Path(path).stem)).drop(columns="path")
    assert len(rows) == 7
    for name in ("udacity_test4", "udacity_test5", "udacity_test6"):
        pd.testing.assert_series_equal(rows.loc[name], rows.loc["udacity_test1"], check_names=False)
