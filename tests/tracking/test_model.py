"""A bundle as a model of a run on a real MLflow server, which may be away for a while."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from cxr_lightning.bundle import BundleInfo, save_bundle
from cxr_lightning.config.schema import ImageConfig, ModelConfig
from cxr_lightning.evaluation.thresholds import Thresholds
from cxr_lightning.models.network import build_network
from cxr_lightning.tracking import open_run, send_unsent

from .conftest import Server


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = ModelConfig(name="simple_cnn", options={"channels": [8], "convs_per_block": 1})
    image = ImageConfig(size=32)
    info = BundleInfo(("Mass",), model, image, Thresholds(("Mass",), (0.5,), (True,), "f1"))
    path = tmp_path / "bundle.safetensors"
    save_bundle(path, build_network(model, image, ("Mass",)), info)
    return path


def models_of(client: MlflowClient, run_id: str | None) -> list:
    experiment = client.get_run(run_id).info.experiment_id
    return client.search_logged_models([experiment], f"source_run_id = '{run_id}'")


def test_a_server_keeps_and_registers_the_model(
    server: Server, bundle: Path, tmp_path: Path
) -> None:
    run = open_run(server.uri, "models", None, {}, tmp_path / "run")
    run.log_model(bundle, register_as="served")
    assert run.finish() == 0
    client = MlflowClient(server.uri, registry_uri=server.uri)
    (model,) = models_of(client, run.run_id)
    (version,) = client.search_model_versions("name = 'served'")
    assert (version.run_id, version.source) == (run.run_id, model.artifact_location)
    files = {file.path for file in client.list_logged_model_artifacts(model.model_id)}
    assert files >= {"MLmodel", "data", "input_example.json"}


def test_a_server_that_is_away_gets_the_model_later(
    server: Server, bundle: Path, tmp_path: Path
) -> None:
    run = open_run(server.uri, "models", None, {}, tmp_path / "run")
    assert run.flush()
    server.kill()
    run.log_model(bundle)
    assert run.finish(patience=10) == 2  # and the run's status
    server.start()
    assert send_unsent(tmp_path / "run") == (2, 0, ())
    client = MlflowClient(server.uri)
    (model,) = models_of(client, run.run_id)
    assert str(model.status) == "READY"
    assert client.get_run(run.run_id).info.status == "FINISHED"
