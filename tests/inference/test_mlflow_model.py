"""The model that a run leaves in MLflow: logged once, loaded, registered, served over HTTP."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from cxr_lightning.data.images import read_image
from cxr_lightning.inference.served import ServedModel
from cxr_lightning.tracking import open_run, send_unsent
from cxr_lightning.tracking.quiet import prepare
from tests.processes import free_port

from .conftest import LABELS, same_rows

prepare()  # before MLflow is imported: without telemetry


class Logged:
    """A run with a model, in a store of its own."""

    def __init__(self, folder: Path, bundle: Path) -> None:
        from mlflow import MlflowClient

        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.run_dir = folder / "run"
        run = open_run(self.uri, "cxr", "one", {}, self.run_dir)
        run.log_model(bundle, register_as="chest")
        self.left = run.finish()
        self.run_id = str(run.run_id)
        self.client = MlflowClient(self.uri, registry_uri=self.uri)

    def load(self, address: str) -> Any:
        import mlflow.pyfunc

        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(self.uri)
        try:
            return mlflow.pyfunc.load_model(address)
        finally:
            mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Logged:
    return Logged(tmp_path_factory.mktemp("logged"), bundle)


def test_it_is_there_and_linked_to_its_run(logged: Logged, bundle: Path) -> None:
    assert logged.left == 0
    run = logged.client.get_run(logged.run_id)
    (output,) = run.outputs.model_outputs
    model = logged.client.get_logged_model(output.model_id)
    assert (model.name, str(model.status), model.source_run_id) == (
        "model",
        "READY",
        logged.run_id,
    )
    (version,) = logged.client.search_model_versions("name = 'chest'")
    assert (version.run_id, version.source) == (logged.run_id, model.artifact_location)


def test_it_holds_the_bundle_and_nothing_pickled(logged: Logged, bundle: Path) -> None:
    (output,) = logged.client.get_run(logged.run_id).outputs.model_outputs
    folder = Path(
        logged.client.get_logged_model(output.model_id).artifact_location.removeprefix("file://")
    )
    files = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert "data/bundle.safetensors" in files
    assert (folder / "data/bundle.safetensors").read_bytes() == bundle.read_bytes()
    assert not [name for name in files if name.endswith((".pkl", ".py"))]
    described = yaml.safe_load((folder / "MLmodel").read_text())
    assert described["metadata"]["labels"] == list(LABELS)
    assert str(bundle.parent) not in (folder / "MLmodel").read_text()


def test_it_is_loaded_by_run_and_by_name(logged: Logged, bundle: Path, pictures: list[str]) -> None:
    from mlflow.exceptions import MlflowException

    chosen = pd.DataFrame({"image": pictures[:3]})
    expected = ServedModel(bundle).predict(chosen)
    for address in (f"runs:/{logged.run_id}/model", "models:/chest/1"):
        model = logged.load(address)
        content = [Path(path).read_bytes() for path in pictures[:3]]
        for images in (pictures[:3], content, [read_image(path) for path in pictures[:3]]):
            same_rows(model.predict({"image": images}), expected, 1e-6)
            table = pd.DataFrame({"image": pd.Series(images, dtype="object")})
            same_rows(model.predict(table), expected, 1e-6)
        # A list has no column's name, which the signature wants.
        with pytest.raises(MlflowException, match="missing inputs"):
            model.predict(content)
    example = model.predict(model.input_example)
    assert list(example["error"]) == [""]
    inputs = model.metadata.signature.inputs.to_dict()
    assert inputs == [{"name": "image", "type": "binary", "required": True}]
    outputs = model.metadata.signature.outputs.input_names()
    assert outputs == list(expected)


def test_sending_it_again_changes_nothing(logged: Logged, bundle: Path) -> None:
    run = open_run(logged.uri, "cxr", "one", {}, logged.run_dir, logged.run_id)
    run.log_model(bundle, register_as="chest")
    assert run.finish() == 0
    experiment = logged.client.get_run(logged.run_id).info.experiment_id
    assert len(logged.client.search_logged_models([experiment])) == 1
    assert len(logged.client.search_model_versions("name = 'chest'")) == 1


def test_inputs_beside_the_image_are_optional_columns(
    tmp_path: Path, tabular_bundle: Path, pictures: list[str]
) -> None:
    logged = Logged(tmp_path, tabular_bundle)
    model = logged.load(f"runs:/{logged.run_id}/model")
    names = {one.name: one.required for one in model.metadata.signature.inputs.inputs}
    assert names == {"image": True, "age_years": False, "sex": False}
    table = pd.DataFrame({"image": pictures[:2], "age_years": [60.0, np.nan], "sex": ["F", "M"]})
    for one in (table, table[["image"]]):
        same_rows(model.predict(one), ServedModel(tabular_bundle).predict(one), 1e-6)


def test_a_bundle_that_went_away_is_kept_with_its_reason(tmp_path: Path, bundle: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    run = open_run(uri, "cxr", None, {}, tmp_path / "run")
    moved = tmp_path / "run" / "bundle.safetensors"
    run.log_model(moved)
    assert run.finish() == 1
    kept = json.loads((tmp_path / "run" / "mlflow_unsent.jsonl").read_text())
    # Relative to the run's folder, which may be moved before it is sent.
    assert (kept["kind"], kept["path"]) == ("model", "bundle.safetensors")
    moved.write_bytes(bundle.read_bytes())
    assert send_unsent(tmp_path / "run") == (1, 0, ())


@pytest.fixture(scope="module")
def address(logged: Logged) -> Iterator[str]:
    """`mlflow models serve` on loopback, until the tests are done."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
    command += ["--model-uri", f"runs:/{logged.run_id}/model", "--port", str(port)]
    log = logged.run_dir.parent / "serve.log"
    with log.open("wb") as file:
        server = subprocess.Popen(
            command,
            env={**os.environ, "MLFLOW_TRACKING_URI": logged.uri, "PATH": _path()},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 150
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.3)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _path() -> str:
    """The server starts `uvicorn` and `mlflow` by name."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


def post(address: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    request = urllib.request.Request(
        address, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["predictions"]


@pytest.mark.slow
def test_a_real_server_answers_image_bytes_with_labelled_probabilities(
    address: str, bundle: Path, pictures: list[str]
) -> None:
    chosen = [Path(path).read_bytes() for path in pictures[:2]]
    encoded = [base64.b64encode(one).decode() for one in chosen]
    expected = ServedModel(bundle).predict(chosen).to_dict("records")
    bodies: list[dict[str, Any]] = [
        {"dataframe_split": {"columns": ["image"], "data": [[one] for one in encoded]}},
        {"dataframe_records": [{"image": one} for one in encoded]},
        {"inputs": {"image": encoded}},
        {"instances": [{"image": one} for one in encoded]},
    ]
    for body in bodies:
        found = post(address, body)
        assert len(found) == 2
        for mine, other in zip(found, expected, strict=True):
            assert set(mine) == set(other)
            for label in LABELS:
                name = f"probability/{label}"
                assert mine[name] == pytest.approx(other[name], abs=1e-5)
                assert mine[f"positive/{label}"] == other[f"positive/{label}"]


@pytest.mark.slow
def test_a_real_server_survives_what_is_no_image_and_reads_no_file(
    address: str, bundle: Path, pictures: list[str]
) -> None:
    good = base64.b64encode(Path(pictures[0]).read_bytes()).decode()
    first, second = post(address, {"dataframe_records": [{"image": "AAAA"}, {"image": good}]})
    assert "not an image" in first["error"]
    assert first["probability/Effusion"] is None
    assert second["error"] == ""
    for body in ({"inputs": {"image": [pictures[0]]}}, {"instances": [{"image": pictures[0]}]}):
        (answer,) = post(address, body)
        assert answer["error"]
        assert answer["probability/Effusion"] is None
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(address, {"dataframe_records": [{"picture": good}]})
    assert caught.value.code == 400
    caught.value.close()
