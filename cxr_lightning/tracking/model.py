"""A run's bundle as an MLflow model: logged, linked to the run, registered on request."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from .records import Record
from .sender import Refused

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run
    from mlflow.models import ModelSignature

__all__ = ["MODEL_NAME", "deliver_model"]

MODEL_NAME = "model"
LOADER = "cxr_lightning.inference.served"


def deliver_model(client: MlflowClient, run_id: str, record: Record) -> None:
    """Log the bundle of a record as a model of the run, and register it where the record says so.

    Sending it again changes nothing: a run has one model, and a model one version of a name.
    """
    bundle = Path(record["path"])
    if not bundle.is_file():
        raise Refused(f"{bundle} is not there any more")
    run = client.get_run(run_id)
    model = _ready_model(client, run)
    if model is None:
        model = _log(client, run, bundle)
    if name := record.get("register_as"):
        _register(client, run_id, model, name)


def _ready_model(client: MlflowClient, run: Run) -> LoggedModel | None:
    found = client.search_logged_models(
        [run.info.experiment_id],
        filter_string=f"source_run_id = '{run.info.run_id}' AND name = '{MODEL_NAME}'",
    )
    return next((model for model in found if str(model.status) == "READY"), None)


def _log(client: MlflowClient, run: Run, bundle: Path) -> LoggedModel:
    from mlflow.entities import LoggedModelOutput

    model = client.create_logged_model(
        run.info.experiment_id, name=MODEL_NAME, source_run_id=run.info.run_id, model_type="pyfunc"
    )
    try:
        with tempfile.TemporaryDirectory(prefix="cxr_lightning-") as folder:
            save_model(bundle, Path(folder) / "model", model, run.info.run_id)
            client.log_model_artifacts(model.model_id, str(Path(folder) / "model"))
        client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=0)])
        return client.finalize_logged_model(model.model_id, "READY")
    except BaseException:
        client.finalize_logged_model(model.model_id, "FAILED")
        raise


def save_model(bundle: Path, folder: Path, logged: LoggedModel | None, run_id: str | None) -> None:
    """Write an MLflow model into a new folder: the bundle, a signature and an example."""
    import pandas as pd
    from mlflow import pyfunc
    from mlflow.models import Model

    from ..bundle import read_bundle_info

    info = read_bundle_info(bundle)
    facts: dict[str, Any] = {}
    if logged is not None:
        facts = {
            "artifact_path": logged.artifact_location,
            "model_uuid": logged.model_id,
            "model_id": logged.model_id,
        }
    example = pd.DataFrame({"image": [example_image(info.image.size)]})
    example.columns = pd.Index(example.columns, dtype="object")  # MLflow 3.17 warns of pandas' own
    pyfunc.save_model(
        folder,
        loader_module=LOADER,
        data_path=str(bundle),
        mlflow_model=Model(run_id=run_id, **facts),
        signature=_signature(info),
        input_example=example,
        # The package is not downloaded: it is installed where the model is loaded.
        pip_requirements=[f"cxr-lightning=={__version__}"],
        metadata={"labels": list(info.labels), "provenance": dict(info.provenance)},
    )


def _signature(info: Any) -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    from ..inference.served import IMAGE, output_columns

    kinds: dict[str, str] = {"numeric": "double", "categorical": "string"}
    beside = [
        ColSpec(kinds[column["kind"]], column["name"], required=False)
        for column in info.tabular.to_dict()
        if column["kind"] in kinds
    ]
    names = {float: "double", bool: "boolean", str: "string"}
    return ModelSignature(
        inputs=Schema([ColSpec("binary", IMAGE), *beside]),
        outputs=Schema(
            [ColSpec(names[of], name, required=False) for name, of in output_columns(info).items()]
        ),
    )


def example_image(size: int) -> bytes:
    """Return a synthetic radiograph as the bytes of a PNG file, at most 256 pixels wide."""
    from io import BytesIO

    from PIL import Image

    from ..phantom import make_cohort, render

    file = BytesIO()
    picture = render(make_cohort(1, seed=0)[0], size=min(size, 256))
    Image.fromarray(picture).save(file, "PNG", optimize=True)
    return file.getvalue()


def _register(client: MlflowClient, run_id: str, model: LoggedModel, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as problem:
        if problem.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    versions = client.search_model_versions(f"name = '{name}'")
    if all(version.run_id != run_id for version in versions):
        client.create_model_version(
            name,
            # Not models:/ID, which MLflow looks up in the store that the process has set globally.
            source=model.artifact_location,
            run_id=run_id,
            model_id=model.model_id,
            await_creation_for=0,
        )
