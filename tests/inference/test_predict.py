"""`predict` as a user runs it: pixels, numbers, files, messages and exit codes."""

from __future__ import annotations

import dataclasses
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
import pyarrow.parquet as pq
import pytest
import torch
from scipy.special import expit

from cxr_lightning.bundle import load_bundle, read_bundle_info, save_bundle
from cxr_lightning.data.cache import open_cache
from cxr_lightning.data.decode_stream import decode_stream
from cxr_lightning.data.images import read_resized
from cxr_lightning.data.tabular import TabularEncoder
from cxr_lightning.errors import DataError
from cxr_lightning.evaluation.thresholds import Thresholds
from cxr_lightning.inference.beside import BesideTable, encode_columns
from cxr_lightning.inference.predictor import Predictor
from cxr_lightning.inference.runtimes import open_runtime

from .conftest import IMAGE, LABELS, TABULAR, same_rows

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


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_nothing_readable(bundle: Path, pictures: list[str], verb: Verb, kind: str) -> None:
    Path("a.png").write_text("no")
    Path("empty.txt").touch()
    words = (f"bundle={bundle}", f"output=p.{kind}")
    assert verb(*words, "a.png") == 3
    assert len(pd.read_csv("errors.csv")) == 1
    found = Path(f"p.{kind}").read_bytes()
    assert verb(*words, "@empty.txt") == 0
    assert Path(f"p.{kind}").read_bytes() == found
    assert verb(f"bundle={bundle}", f"output=q.{kind}", pictures[0]) == 0
    if kind == "csv":
        assert found == Path("q.csv").read_bytes().splitlines(keepends=True)[0]
    elif kind == "parquet":
        assert pq.read_metadata("p.parquet").num_rows == 0
        assert pq.read_schema("p.parquet").equals(pq.read_schema("q.parquet"))
    else:
        assert found == b""


def test_flags(
    bundle: Path, pictures: list[str], verb: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    upright = cv2.imread(pictures[120], cv2.IMREAD_GRAYSCALE)
    noise = np.random.default_rng(1).integers(0, 256, upright.shape, dtype=np.uint8)
    page = np.full((256, 256), 255, np.uint8)
    for y in range(20, 250, 16):
        cv2.putText(page, "Findings: none. Impression: normal", (8, y), 0, 0.4, 0)
    rows, columns = np.indices(page.shape)
    disc = np.where(np.hypot(rows - 128, columns - 128) < 60, 200, 0).astype(np.uint8)
    named = {"chest": upright, "negative": 255 - upright, "noise": noise, "flat": upright * 0 + 90}
    named |= {"page": page, "gradient": columns.astype(np.uint8), "disc": disc}
    for name, picture in named.items():
        cv2.imwrite(f"{name}.png", picture)
    assert verb(f"bundle={bundle}", *(f"{name}.png" for name in named), "output=p.csv") == 0
    assert "learnt from 50 validation images, which are few" in capsys.readouterr().err
    table = pd.read_csv("p.csv", keep_default_na=False).set_index("path")
    assert table["flags"]["chest.png"] == ""
    assert "inverted" in table["flags"]["negative.png"]
    for name in ("noise", "page", "gradient", "disc"):
        assert "unfamiliar" in table["flags"][f"{name}.png"], name
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


def test_what_could_not_be_fitted_is_told(
    bundle: Path, pictures: list[str], verb: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verb(f"bundle={bundle}", pictures[0], "output=p.csv") == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "one class only of No Finding: no threshold was fitted" in said


def test_a_name_that_is_no_utf_8(bundle: Path, pictures: list[str], verb: Verb) -> None:
    for name, content in ((b"M\xfcller.png", Path(pictures[0]).read_bytes()), (b"\xe4.png", b"")):
        Path("in").mkdir(exist_ok=True)
        Path("in", os.fsdecode(name)).write_bytes(content)
    for kind in ("csv", "parquet", "jsonl"):
        assert verb(f"bundle={bundle}", "in", f"output=p.{kind}") == 3
    assert list(pd.read_csv("p.csv")["path"]) == [r"in/M\xfcller.png"]
    assert list(pd.read_parquet("p.parquet")["path"]) == [r"in/M\xfcller.png"]
    assert list(pd.read_csv("errors.csv")["path"]) == [r"in/\xe4.png"]


class TestRowsByImage:
    @pytest.fixture
    def rows(self, tmp_path: Path) -> Callable[..., list[int]]:
        def call(names: list[str], paths: list[str]) -> list[int]:
            table = pd.DataFrame({"image_path": names, "age_years": "60", "sex": "F"})
            table.to_csv(tmp_path / "t.csv", index=False)
            return BesideTable(TABULAR, tmp_path / "t.csv").rows(paths)

        return call

    def test_one_is_the_end_of_the_other(self, rows: Callable[..., list[int]]) -> None:
        names = ["p1/a.dcm", "b.dcm", "/export/p3/c.dcm", "./d.dcm"]
        paths = ["/in/p1/a.dcm", "in/b.dcm", "p3/c.dcm", "d.dcm", "e.dcm"]
        assert rows(names, paths) == [0, 1, 2, 3, -1]

    def test_another_folder_is_another_image(self, rows: Callable[..., list[int]]) -> None:
        assert rows(["p1/a.dcm"], ["in/p1/a.dcm", "in/p2/a.dcm"]) == [0, -1]
        assert rows(["p1/a.dcm", "p2/a.dcm"], ["a.dcm"]) == [-1]

    def test_a_row_of_two_images(self, rows: Callable[..., list[int]]) -> None:
        with pytest.raises(DataError, match=r"(?s)with their folders .*p1/a.dcm and p2/a.dcm"):
            rows(["a.dcm"], ["p1/a.dcm", "p2/a.dcm"])
        assert rows(["a.dcm"], ["p1/a.dcm", "p1/a.dcm"]) == [0, 0]

    def test_predict_refuses_before_it_writes(
        self, tabular_bundle: Path, pictures: list[str], verb: Verb
    ) -> None:
        for folder in ("p1", "p2"):
            Path(folder).mkdir()
            shutil.copy(pictures[0], f"{folder}/a.png")
        Path("t.csv").write_text("path,age_years,sex\na.png,60,F\n")
        words = (f"bundle={tabular_bundle}", "p1", "p2", "table=t.csv", "output=p.csv")
        assert verb(*words) == 2
        assert not list(Path().glob("p.csv*"))


def test_words_are_read_as_in_training() -> None:
    table = pd.DataFrame({"age_years": ["060Y", "18M", "n/a"], "sex": ["female", "m", "unknown"]})
    expected = [[1, 0, 1, 0, 0], [-4.85, 0, 0, 1, 0], [0, 1, 0, 0, 1]]
    np.testing.assert_allclose(encode_columns(TABULAR, table), expected, atol=1e-6)  # type: ignore[arg-type]
    views = TabularEncoder.from_dict(
        [{"kind": "categorical", "name": "view", "categories": ["AP", "PA"]}]
    )
    table = pd.DataFrame({"view": ["pa", "AP SUPINE", "oblique", ""]})
    encoded = encode_columns(views, table)
    assert encoded is not None
    assert encoded.argmax(axis=1).tolist() == [1, 0, 2, 2]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"sample_id": ["a"], "sex": ["F"]}, "missing column(s) age_years"),
        ({"path": ["a"], "sex": ["x"], "age_years": ["1"]}, "sex: 'x' is not a sex: M, F and"),
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
    Path("maps").mkdir()
    Path("maps/old.png").touch()
    assert verb(f"bundle={bundle}", "input=a.txt", "overlays=maps", "output=errors.csv") == 2
    message = capsys.readouterr().err
    assert "overlays=maps: this folder is not empty" in message
    assert "output=errors.csv: errors.csv lists the images" in message
    assert not Path("errors.csv").exists()
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
    # Names that would share a folder, UIDs among them, which have dots but no suffix.
    names = ("x/a.png", "y/a.png", "z/a_2.png", "z/A.png", "1.2.840.1", "1.2.840.2")
    for name, picture in zip(names, pictures, strict=False):
        Path(name).parent.mkdir(exist_ok=True)
        shutil.copy(picture, name)
    Path("maps").mkdir()  # an empty folder will do
    words = (*names, names[0], "overlays=maps", "output=p.parquet", "batch_size=4")
    assert verb(f"bundle={bundle}", *words) == 0
    table = pd.read_parquet("p.parquet")
    assert list(table["path"]) == [*names, names[0]]
    folders = ["a", "a_2", "a_2_2", "A_3", "1.2.840.1", "1.2.840.2", "a_4"]
    assert list(table["overlays"]) == [f"maps/{name}" for name in folders]
    written = {}
    for _, row in table.iterrows():
        files = {file.name: file.read_bytes() for file in Path(row["overlays"]).iterdir()}
        positive = {label for label in LABELS if row[f"positive/{label}"]}
        assert set(files) == {f"{label.replace(' ', '_')}.png" for label in positive}
        written[row["overlays"]] = files
    assert written["maps/a"] == written["maps/a_4"]
    assert len({next(iter(files.values())) for files in written.values()}) == len(names)
    assert cv2.imread(str(next(Path("maps/a").iterdir()))).shape == (512, 512, 3)
    # An image without a positive label has none, and takes no name.
    info = dataclasses.replace(
        read_bundle_info(bundle),
        thresholds=Thresholds(LABELS, (1.0,) * 3, (True,) * 3, "f1"),
    )
    save_bundle(Path("never.safetensors"), load_bundle(bundle).network, info)
    words = (names[0], "overlays=none", "output=p.csv")
    assert verb("bundle=never.safetensors", *words) == 0
    assert list(pd.read_csv("p.csv", keep_default_na=False)["overlays"]) == [""]
    assert not Path("none").exists()


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
