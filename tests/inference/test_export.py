"""The exported network: the same numbers, any batch, and all that belongs to it in the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cxr_lightning.bundle import load_bundle, read_bundle_info
from cxr_lightning.cli import run_verb
from cxr_lightning.data.images import read_resized
from cxr_lightning.evaluation.calibrators import Calibration
from cxr_lightning.evaluation.thresholds import Thresholds
from cxr_lightning.export import main
from cxr_lightning.inference.runtimes import bundle_hash, open_runtime

from .conftest import IMAGE, LABELS, same_rows

onnx = pytest.importorskip("onnx", reason="the extra `export` is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
pytest.importorskip("onnxscript", reason="the extra `export` is not installed")


@pytest.fixture(scope="module")
def exported(bundle: Path) -> Path:
    assert run_verb(main, [f"bundle={bundle}"]) == 0
    return bundle.with_suffix(".onnx")


@pytest.fixture(scope="module")
def exported_tabular(tabular_bundle: Path) -> Path:
    assert run_verb(main, [f"bundle={tabular_bundle}"]) == 0
    return tabular_bundle.with_suffix(".onnx")


def pixels_of(pictures: list[str]) -> np.ndarray:
    return np.stack([read_resized(one, IMAGE) for one in pictures])


@pytest.mark.parametrize("batch", [1, 2, 33])
def test_any_batch_agrees_with_torch(
    exported: Path, bundle: Path, pictures: list[str], batch: int
) -> None:
    images = pixels_of(pictures[:batch])[:, None]
    session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    logits, probability, features = session.run(
        ["logits", "probability", "features"], {"image": images}
    )
    network = load_bundle(bundle).network
    with torch.inference_mode():
        expected = network(torch.from_numpy(images))
        pooled = network.features(torch.from_numpy(images))
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(probability, expected.sigmoid().numpy(), atol=1e-5)
    np.testing.assert_allclose(features, pooled.numpy(), atol=1e-5)


def test_the_file_describes_itself(exported: Path, bundle: Path) -> None:
    model = onnx.load(exported)
    onnx.checker.check_model(model, full_check=True)
    assert {one.domain: one.version for one in model.opset_import} == {"": 18}
    (image,) = model.graph.input
    sides = [side.dim_param or side.dim_value for side in image.type.tensor_type.shape.dim]
    assert (image.name, sides) == ("image", ["batch", 1, 32, 32])
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    found = {one.key: one.value for one in model.metadata_props}
    info = read_bundle_info(bundle)
    assert json.loads(found["labels"]) == list(LABELS)
    assert Thresholds.from_dict(json.loads(found["thresholds"])) == info.thresholds
    kept = Calibration.from_dict(json.loads(found["calibration"]))
    assert kept == Calibration.from_dict(info.calibration)
    preprocessing = json.loads(found["preprocessing"])
    assert [preprocessing[name] for name in ("size", "fit", "voi")] == [32, "pad", "lut"]
    assert found["bundle_sha256"] == bundle_hash(bundle)


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_predict_by_other_runtimes(
    exported: Path,
    bundle: Path,
    pictures: list[str],
    verb: Callable[..., int],
    runtime: str,
) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino", reason="the extra `openvino` is not installed")
    assert exported == bundle.with_suffix(".onnx")
    words = (f"bundle={bundle}", *pictures[:20], "batch_size=8")
    assert verb(*words, "output=torch.csv") == 0
    assert verb(*words, "output=other.csv", f"runtime={runtime}") == 0
    same_rows(pd.read_csv("torch.csv"), pd.read_csv("other.csv"), 1e-4)


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_inputs_beside_the_image(
    exported_tabular: Path, tabular_bundle: Path, pictures: list[str], runtime: str
) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino", reason="the extra `openvino` is not installed")
    images = pixels_of(pictures[:5])
    beside = np.random.default_rng(0).normal(size=(5, 5)).astype(np.float32)
    _, compute = open_runtime(tabular_bundle, runtime=runtime, device="cpu")
    _, reference = open_runtime(tabular_bundle, device="cpu")
    for mine, other in zip(compute(images, beside), reference(images, beside), strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5)
    shifted = compute(images, beside + 1).logits
    assert np.abs(shifted - reference(images, beside).logits).max() > 1e-3


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_half_precision_stays_close(
    exported: Path,
    bundle: Path,
    pictures: list[str],
    verb: Callable[..., int],
    runtime: str,
) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino", reason="the extra `openvino` is not installed")
    words = (f"bundle={bundle}", *pictures[:20], "batch_size=8", f"runtime={runtime}")
    assert verb(*words, "output=full.csv") == 0
    assert verb(*words, "output=half.csv", "precision=bf16") == 0
    full, half = (
        pd.read_csv(name).filter(like="probability/").to_numpy()
        for name in ("full.csv", "half.csv")
    )
    np.testing.assert_allclose(half, full, atol=0.01)
    if runtime == "torch":  # OpenVINO keeps float32 where the processor has no bfloat16
        assert (half != full).any()


def test_onnx_runtime_has_no_half_precision(
    exported: Path,
    bundle: Path,
    pictures: list[str],
    verb: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert verb(f"bundle={bundle}", pictures[0], "runtime=onnx", "precision=bf16") == 2
    assert "precision=bf16: ONNX Runtime computes in full precision" in capsys.readouterr().err


def test_an_export_of_another_bundle_is_refused(
    exported: Path,
    tabular_bundle: Path,
    pictures: list[str],
    verb: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = (f"bundle={tabular_bundle}", pictures[0], "runtime=onnx", f"network={exported}")
    assert verb(*words) == 2
    assert "was not exported from" in capsys.readouterr().err


def test_predict_says_how_to_export(
    bundle: Path, pictures: list[str], verb: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(bundle, "b.safetensors")
    assert verb("bundle=b.safetensors", pictures[0], "runtime=onnx") == 2
    message = capsys.readouterr().err
    assert "write it with python -m cxr_lightning.export bundle=b.safetensors" in message


def test_the_users_images_are_compared_too(
    bundle: Path, pictures: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "network.onnx"
    words = [f"bundle={bundle}", f"output={output}", f"input={Path(pictures[0]).parent}"]
    assert run_verb(main, [*words, "opset=20"]) == 0
    message = capsys.readouterr().err
    assert "12 synthetic and 160 given images" in message
    assert onnx.load(output).opset_import[0].version == 20
    (tmp_path / "bad.png").write_text("no")
    output.unlink()
    assert run_verb(main, [*words[:2], f"input={tmp_path / 'bad.png'}"]) == 2
    assert "not an image" in capsys.readouterr().err
    assert not output.exists()
    (tmp_path / "empty.txt").touch()
    assert run_verb(main, [*words[:2], f"input=@{tmp_path / 'empty.txt'}"]) == 2
    assert "names no image" in capsys.readouterr().err
    assert not output.exists()


def test_wrong_words(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"bundle={tmp_path / 'gone'}", f"output={tmp_path / 'x.pt'}", "input=gone"]
    assert run_verb(main, words) == 2
    assert "3 problems" in capsys.readouterr().err
    assert run_verb(main, [f"bundle={bundle}", "format=tflite"]) == 2
    assert "must be one of 'onnx'" in capsys.readouterr().err


@pytest.mark.shared
def test_agreement_on_real_radiographs(bundle: Path, shared_data: Path, tmp_path: Path) -> None:
    images = shared_data / "nih_dev" / "images_1024"
    words = [f"bundle={bundle}", f"output={tmp_path / 'n.onnx'}", f"input={images}"]
    assert run_verb(main, words) == 0
