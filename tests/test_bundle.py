"""The bundle: what is written is read back, and what cannot be read says what it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from cxr_lightning import __version__
from cxr_lightning.bundle import BundleInfo, load_bundle, read_bundle_info, save_bundle
from cxr_lightning.cli import run_verb
from cxr_lightning.config.schema import ImageConfig, ModelConfig
from cxr_lightning.data.seen import SeenPatients
from cxr_lightning.errors import DataError
from cxr_lightning.evaluation.thresholds import Thresholds
from cxr_lightning.models.network import build_network
from cxr_lightning.predict import main as predict

LABELS = ("Effusion", "Mass")
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    model = ModelConfig(name="simple_cnn", options={"channels": [4, 8], "convs_per_block": 1})
    hashes = {"train": np.array([-5, 3, 2**62]), "val": np.array([7]), "test": np.array([1, 9])}
    info = BundleInfo(
        labels=LABELS,
        model=model,
        image=ImageConfig(size=32),
        thresholds=Thresholds(LABELS, (0.5, 0.25), (True, False), "f1"),
        provenance={"data": "nih"},
        seen=SeenPatients("0123456789abcdef", hashes, ("ehr\0feed",)),
    )
    path = tmp_path / "bundle.safetensors"
    save_bundle(path, build_network(model, info.image, LABELS), info)
    return path


@pytest.fixture
def changed(bundle: Path) -> Callable[[Change], Path]:
    """Return a function that changes the description of the bundle in its file."""

    def change(edit: Change) -> Path:
        with safe_open(bundle, framework="pt") as file:
            header = json.loads(file.metadata()["cxr_lightning"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        edit(header)
        save_file(tensors, bundle, metadata={"cxr_lightning": json.dumps(header)})
        return bundle

    return change


def test_what_is_written_is_read(bundle: Path) -> None:
    info = load_bundle(bundle).info
    assert info.labels == LABELS
    assert info.thresholds.array.tolist() == [0.5, 0.25]
    assert info.seen is not None
    assert info.seen.salt == "0123456789abcdef"
    assert info.seen.ids == ("ehr\0feed",)
    assert {split: one.tolist() for split, one in info.seen.hashes.items()} == {
        "train": [-5, 3, 2**62], "val": [7], "test": [1, 9],
    }  # fmt: skip


def test_a_full_disk_leaves_the_bundle_that_was_there(bundle: Path, full_disk: Path) -> None:
    before, loaded = bundle.read_bytes(), load_bundle(bundle)
    bundle.with_name(f"{bundle.name}.partial").symlink_to(full_disk)
    with pytest.raises(OSError, match="No space left on device"):
        save_bundle(bundle, loaded.network, loaded.info)
    assert bundle.read_bytes() == before
    assert list(bundle.parent.iterdir()) == [bundle]


def test_a_bundle_is_as_readable_as_any_file(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    assert bundle.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_bundle_of_the_format_before(changed: Callable[[Change], Path]) -> None:
    def older(header: dict[str, Any]) -> None:
        header["format"] = 1
        del header["seen"]

    assert load_bundle(changed(older)).info.seen is None


AGAIN = "Train again with this version"


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ({"format": 7, "version": "9.1"}, "of format 7, written by cxr_lightning 9.1; this version "
         f"reads formats 1 to 2. Upgrade cxr_lightning; this is {__version__}."),
        ({"format": 0}, f"of format 0, written by cxr_lightning {__version__}; this version reads "
         f"formats 1 to 2. {AGAIN}"),
        ({"format": "new"}, f"of format new, written by cxr_lightning {__version__}; this version "
         f"reads formats 1 to 2. {AGAIN}"),
        ({"format": None, "version": None}, f"reads formats 1 to 2. {AGAIN}"),
        ({"labels": None}, "its description is damaged"),
        ({"image": {"size": -1}}, "its description is damaged"),
    ],
)  # fmt: skip
def test_formats_and_descriptions_that_are_not_read(
    changed: Callable[[Change], Path], edit: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError) as error:
        read_bundle_info(changed(lambda header: header.update(edit)))
    assert said in str(error.value)


def test_a_description_that_lacks_something(changed: Callable[[Change], Path]) -> None:
    with pytest.raises(DataError, match=f"lacks 'tabular'.*under the same format.*{AGAIN}"):
        read_bundle_info(changed(lambda header: header.pop("tabular")))


def test_nothing_is_fetched_for_a_bundle(changed: Callable[[Change], Path]) -> None:
    """Whatever its description says: a bundle is whole, and may come from anybody."""
    path = changed(lambda header: header["model"].update(pretrained=True))
    assert load_bundle(path).info.model.pretrained is False
    options = {"pretrained_cfg": {"url": "http://127.0.0.1:9/weights"}, "checkpoint_path": "a"}
    path = changed(lambda header: header["model"].update(name="resnet18", options=options))
    with pytest.raises(DataError, match="checkpoint_path, pretrained_cfg: set by the framework"):
        read_bundle_info(path)


def test_weights_of_another_network(changed: Callable[[Change], Path]) -> None:
    path = changed(lambda header: header["model"]["options"].update(channels=[4, 4]))
    with pytest.raises(DataError, match="the weights do not fit the network"):
        load_bundle(path)


def test_files_that_are_no_bundles(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(DataError, match="a safetensors file, but not a bundle that `fit` wrote"):
        read_bundle_info(path)
    save_file({"a": torch.zeros(2)}, path, metadata={"cxr_lightning": "[1]"})
    with pytest.raises(DataError, match="not a bundle that `fit` wrote"):
        read_bundle_info(path)
    path.write_bytes(b"PK\x03\x04 not one")
    with pytest.raises(DataError, match="not a readable bundle"):
        read_bundle_info(path)
    with pytest.raises(DataError, match="there is no such bundle"):
        read_bundle_info(tmp_path / "none")


def test_a_verb_ends_with_2(
    changed: Callable[[Change], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = changed(lambda header: header.update(format=3))
    assert run_verb(predict, [f"bundle={path}", f"input={tmp_path}"]) == 2
    assert "a bundle of format 3" in " ".join(capsys.readouterr().err.split())
