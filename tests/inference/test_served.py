"""What the MLflow model answers, without MLflow: bytes, paths and arrays are the same picture."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr_lightning.data.images import read_image
from cxr_lightning.errors import DataError
from cxr_lightning.inference.predictor import Predictor, prediction_table
from cxr_lightning.inference.runtimes import open_runtime
from cxr_lightning.inference.served import ServedModel, output_columns

from .conftest import IMAGE, same_rows


@pytest.fixture(scope="module")
def model(bundle: Path) -> ServedModel:
    return ServedModel(bundle)


def test_bytes_paths_and_arrays(model: ServedModel, bundle: Path, pictures: list[str]) -> None:
    from cxr_lightning.data.images import read_resized

    chosen = pictures[:35]  # more than a batch
    content = [Path(path).read_bytes() for path in chosen]
    arrays = [read_image(path) for path in chosen]
    given = [
        pd.DataFrame({"image": chosen}),
        pd.DataFrame({"image": content}),
        pd.DataFrame({"image": [base64.b64encode(one) for one in content]}),
        pd.DataFrame({"image": pd.Series(arrays, dtype="object")}),
        pd.DataFrame({"image": [[Path(path) for path in chosen]]}),  # as MLflow hands on a list
        {"image": chosen},
        chosen,
        arrays,
    ]
    predictor = Predictor(*open_runtime(bundle))
    pixels = np.stack([read_resized(path, IMAGE) for path in chosen])
    expected = prediction_table(predictor(pixels), predictor.info).assign(error="")
    for one in given:
        found = model.predict(one)
        assert list(found) == list(output_columns(predictor.info))
        same_rows(found, expected, 1e-6)
    same_rows(model.predict(arrays[0]), expected.head(1), 1e-6)
    same_rows(model.predict(content[0]), expected.head(1), 1e-6)


def test_what_cannot_be_read_has_its_reason(model: ServedModel, pictures: list[str]) -> None:
    content = Path(pictures[0]).read_bytes()
    images = [content, content[:300], b"", "/nowhere.png", np.zeros((4, 4, 7)), 3.5, content]
    found = model.predict(images)
    assert list(found["error"].map(bool)) == [False, True, True, True, True, True, False]
    assert found["error"][1] == "truncated PNG"
    assert found["error"][3] == "missing"
    assert "uint8 or uint16" in found["error"][4]
    assert "float" in found["error"][5]
    numbers = found.drop(columns="error")
    assert numbers.iloc[1:6].isna().all(axis=None)
    assert not numbers.iloc[[0, 6]].isna().any(axis=None)
    text = json.dumps(found.to_dict("records"), allow_nan=False)
    assert json.loads(text)[1]["probability/Effusion"] is None
    assert list(model.predict([b"x"])) == list(found)


def test_inputs_beside_the_image(tabular_bundle: Path, pictures: list[str]) -> None:
    model = ServedModel(tabular_bundle)
    named = pd.DataFrame({"image": pictures[:2], "age_years": [60.0, None], "sex": ["F", None]})
    with_both = model.predict(named)
    without = model.predict(named[["image"]])
    assert with_both["probability/Mass"][0] != without["probability/Mass"][0]
    assert with_both["probability/Mass"][1] == pytest.approx(without["probability/Mass"][1])
    with pytest.raises(DataError, match="'old' is not a number"):
        model.predict(named.assign(age_years="old"))


def test_a_server_reads_no_files(
    model: ServedModel, pictures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("__pyfunc_model_path__", "/models/m")
    found = model.predict([pictures[0], Path(pictures[0]).read_bytes()])
    assert found["error"][0] == "a server reads no files; send the file's bytes in base64"
    assert found["error"][1] == ""


def test_a_request_without_images(model: ServedModel) -> None:
    with pytest.raises(DataError, match="needs a column 'image'; it has picture"):
        model.predict(pd.DataFrame({"picture": ["a.png"]}))
