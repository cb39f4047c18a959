"""Trials that are stopped early: by the pruner, by all devices of one, and by their own numbers."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.trial import FrozenTrial, TrialState

from cxr_lightning.config.compose import compose, config_from_file, config_to_yaml
from cxr_lightning.hpo.client import ServerClient
from cxr_lightning.hpo.options import SweepOptions
from cxr_lightning.hpo.run import run_sweep
from cxr_lightning.runs import RunFolder, configuration_hash
from tests.hpo.conftest import trials_of

# The first leaves the numbers that there are: each step makes its weights eight times as large. The
# second learns, and the third stands still.
LADDER = """
objective: {val/loss: minimize}
sampler: {name: grid}
pruner: {name: median, startup_trials: 1, warmup_epochs: 1}
fixed: {optim: sgd, optim.weight_decay: 1}
budget: {trainer.max_epochs: 8}
parameters:
  optim.lr: {type: categorical, choices: [10, 0.1, 1.0e-9]}
"""


# Read by each Python that starts: the second rank keeps what it is given to train.
WITNESS = """
import os
if os.environ.get("LOCAL_RANK") == "1":
    import pathlib
    from cxr_lightning import training
    from cxr_lightning.config.compose import config_to_yaml
    run_fit = training.run_fit
    def witnessed(config, *args, **kwargs):
        pathlib.Path(__file__).with_name("rank1.yaml").write_text(config_to_yaml(config))
        return run_fit(config, *args, **kwargs)
    training.run_fit = witnessed
"""


def history(folder: Path, column: str) -> list[float]:
    """Return a column of the run's own record, one number an epoch."""
    with (folder / "history.csv").open() as stream:
        return [float(row[column]) for row in csv.DictReader(stream)]


def test_trials_that_lead_nowhere_are_stopped(
    client: ServerClient, options: Callable[..., SweepOptions], sweep_store: str, tmp_path: Path
) -> None:
    """Each way to end has its own state and says why; what was measured until then is kept."""
    small = options(
        "sweep=ladder",
        "data.val_fraction=0.4",
        files={"sweep_ladder": LADDER},
        study="ladder",
        workers=1,
    )
    assert run_sweep(small, client) == 0
    wild, good, still = trials_of("sqlite:///optuna.db", "ladder")
    assert good.state == TrialState.COMPLETE
    assert len(good.intermediate_values) == 8
    # Worse than the median in the second epoch, the first that may be judged.
    assert still.state == TrialState.PRUNED
    assert still.user_attrs["reason"] == "stopped after 2 epochs by the median pruner"
    assert wild.state == TrialState.PRUNED
    assert wild.user_attrs["reason"].startswith("training diverged in epoch")
    for trial in (good, still):
        curve = history(Path(trial.user_attrs["folder"]), "val/loss")
        reported = [trial.intermediate_values[epoch + 1] for epoch in range(len(curve))]
        assert reported == pytest.approx(curve)
    # In MLflow as well.
    runs = [run_of(sweep_store, trial) for trial in (good, still, wild)]
    assert [run.info.status for run in runs] == ["FINISHED"] * 3
    assert [run.data.tags["trial.state"] for run in runs] == ["complete", "pruned", "pruned"]
    assert "by the median pruner" in runs[1].data.tags["trial.reason"]
    points = MlflowClient(sweep_store).get_metric_history(runs[1].info.run_id, "val/loss")
    assert len(points) == 2


def run_of(store: str, trial: FrozenTrial) -> Run:
    return MlflowClient(store).get_run(trial.user_attrs["mlflow_run_id"])


def test_two_devices_stop_together(
    client: ServerClient, words: tuple[str, ...], sweep_store: str, tmp_path: Path
) -> None:
    """The first decides, and the other does not wait for it in the next step for ever."""
    folder = tmp_path / "two"
    (tmp_path / "sitecustomize.py").write_text(WITNESS)
    paths = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    config = compose(
        [*words, "trainer=ddp_cpu", "trainer.threads=1", "trainer.max_epochs=50",
         "trainer.monitor=val/loss", f"run.dir={folder}", "run.experiment=two_devices"]
    )  # fmt: skip
    job = client.run(
        {
            "kind": "trial",
            "config": config_to_yaml(config),
            "watch": "val/loss",
            "latency": False,
            "parent": None,
            "threads": 2,
            "environment": {"PYTHONPATH": paths},
            "log": str(tmp_path / "two.log"),
        }
    )
    reported = []
    deadline = time.monotonic() + 120
    while not job.over:
        assert time.monotonic() < deadline, (tmp_path / "two.log").read_text()
        for _, message in client.events(0.5):
            if "epoch" in message:
                reported.append(float(message["value"]))
                job.channel.send({"prune": message["epoch"] == 2})
    said = (tmp_path / "two.log").read_text()
    assert job.result is not None, said
    assert "done" in job.result, said
    assert job.result["done"]["pruned"] is True
    assert job.result["done"]["epochs"] == 2
    second = config_from_file(tmp_path / "rank1.yaml")
    assert configuration_hash(second) == configuration_hash(config)
    # One configuration, one run, one report an epoch; its predictions have every image once.
    assert history(folder, "val/loss") == pytest.approx(reported)
    assert said.count("epoch   2/50") == 1
    table = pd.read_parquet(folder / "predictions_val.parquet")
    assert not table["sample_id"].duplicated().any()
    assert "Traceback" not in said
    mlflow = MlflowClient(sweep_store)
    experiment = mlflow.get_experiment_by_name("two_devices")
    assert experiment is not None
    (run,) = mlflow.search_runs([experiment.experiment_id])
    assert run.info.run_id == RunFolder(folder).state().mlflow_run_id
    assert run.data.tags["devices"] == "2"
    assert len(mlflow.get_metric_history(run.info.run_id, "val/loss")) == 2
