"""Two processes on the CPU: one run, every sample once, and the network that one process trains."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from cxr_lightning import launch, training
from cxr_lightning.config.compose import compose
from cxr_lightning.errors import ConfigError, Diverged, UserError
from cxr_lightning.runs import RunFolder
from cxr_lightning.training import run_fit
from tests.processes import exit_code, free_port, start

# Batch statistics depend on how a batch is shared out; group norm does not.
EXACT = [
    "model.options={channels: [8, 16], convs_per_block: 1, norm: group}",
    "trainer.precision=32-true",
    "trainer.max_epochs=2",
    "optim.lr=0.01",
]
Overrides = Callable[..., list[str]]


@pytest.mark.parametrize("average", ["entries", "labels"])
def test_two_processes_equal_one(
    undrawn: Overrides, phantom_root: Path, store: str, tmp_path: Path, average: str
) -> None:
    """Of two sources, one of which does not tell a label, and each drawn as often as the other.

    A batch whose halves know different numbers of labels favours neither.
    """
    one_name, two_name = f"single_{average}", f"double_{average}"
    words = [*EXACT, *a_mix(phantom_root), f"loss.average={average}"]
    single = run_fit(compose(undrawn(one_name, *words)))
    log = tmp_path / "log.txt"
    double = undrawn(two_name, *words, "trainer=ddp_cpu", "trainer.threads=1")
    assert exit_code(start("cxr_lightning.fit", double, log)) == 0, log.read_text()
    for split in ("val", "test"):
        one, two = (
            pd.read_parquet(tmp_path / name / f"predictions_{split}.parquet")
            for name in (one_name, two_name)
        )
        logits = [column for column in one if column.startswith("logit/")]
        told = one.groupby("source")["y_true/Infiltration"].count()
        assert told["nih"] > 0
        assert told["chexpert"] == 0
        pd.testing.assert_frame_equal(one.drop(columns=logits), two.drop(columns=logits))
        np.testing.assert_allclose(one[logits], two[logits], atol=1e-4)
    histories = [pd.read_csv(tmp_path / name / "history.csv") for name in (one_name, two_name)]
    losses = [history["train/loss"] for history in histories]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    metrics = json.loads((tmp_path / two_name / "metrics.json").read_text())
    assert metrics["test/images/Effusion"] == single["test/images/Effusion"]
    # One run in MLflow, and nothing said twice.
    state = RunFolder(tmp_path / two_name).state()
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("cxr_lightning")
    assert experiment is not None
    names = [
        run.info.run_name for run in client.search_runs([experiment.experiment_id], max_results=500)
    ]
    assert names.count(two_name) == 1
    assert client.get_run(state.mlflow_run_id).data.tags["devices"] == "2"
    said = log.read_text()
    assert said.count("epoch   1/2") == 1
    assert "recommended" not in said  # no library's advice
    # How an epoch is drawn is said once, not by each device.
    assert said.count("an epoch of training draws images ") == 1
    assert client.get_run(state.mlflow_run_id).data.params["data.sampling.draw"] == "sources"


def a_mix(root: Path) -> list[str]:
    return [
        "data=mix", "data.sources=[nih,chexpert]", "data.root=null", f"data.nih.root={root}",
        "data.chexpert.root=phantom", "data.phantom.images=60", "data.phantom.pixels=64",
        "data.chexpert.uncertain=ones_lsr", "loss=bce",
    ]  # fmt: skip


@pytest.mark.slow
def test_torchrun_starts_the_processes_itself(undrawn: Overrides, tmp_path: Path) -> None:
    words = undrawn("elastic", *EXACT, "trainer=ddp_cpu", "trainer.threads=1")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    done = subprocess.run(
        [sys.executable, *launcher, "cxr_lightning.fit", *words],
        capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "elastic" / "metrics.json").is_file()
    assert done.stdout.count("epoch   1/2") == 1
    # The second process wrote nothing of its own.
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "mlflow.db").exists()


def test_processes_that_read_different_data(undrawn: Overrides, tmp_path: Path) -> None:
    """As where each machine hashes ids with a salt of its own, and so cuts another split."""
    words = undrawn("apart", *EXACT, "trainer=ddp_cpu", "trainer.threads=1")
    logs = [tmp_path / "rank0.txt", tmp_path / "rank1.txt"]
    port = str(free_port())
    ranks = [
        start("cxr_lightning.fit", [*words, f"data.split_seed={rank}"], log, torchrun(rank, port))
        for rank, log in enumerate(logs)
    ]
    assert [exit_code(rank, 120) for rank in ranks] == [2, 2]
    said = " ".join(logs[0].read_text().split())
    assert "have read different data" in said
    assert "data.salt_file=FILE" in said
    assert not list((tmp_path / "apart").glob("checkpoints/*"))


def torchrun(rank: int, port: str) -> dict[str, str]:
    """Return what torchrun tells one of two processes."""
    return {
        "TORCHELASTIC_RUN_ID": "none",
        "WORLD_SIZE": "2",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }


def test_a_machine_that_does_not_see_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is one machine here: its strategy agrees with itself."""
    for name, value in torchrun(1, "29400").items():
        monkeypatch.setenv(name, value)
    strategy = SimpleNamespace(
        setup_environment=lambda: None,
        broadcast=lambda found: found,
        reduce_boolean_decision=lambda found: found,
    )
    trainer, run = SimpleNamespace(strategy=strategy), RunFolder(tmp_path)
    monkeypatch.setattr(training, "_appears", partial(training._appears, seconds=0))
    with pytest.raises(ConfigError, match=r"does not see its folder.* run\.dir=DIR"):
        training._agree(trainer, run, "0123")  # type: ignore[arg-type]
    (tmp_path / "run.json").touch()
    assert training._agree(trainer, run, "0123").path == tmp_path  # type: ignore[arg-type]


def test_several_machines_need_a_launcher(undrawn: Overrides) -> None:
    with pytest.raises(ConfigError, match="only where torchrun or srun starts this command"):
        run_fit(compose(undrawn("nodes", "trainer.num_nodes=2")))


def test_a_rank_that_dies_ends_the_run(undrawn: Overrides, tmp_path: Path) -> None:
    words = undrawn("dies", "trainer=ddp_cpu", "trainer.max_epochs=500")
    log = tmp_path / "log.txt"
    run = start("cxr_lightning.fit", words, log)
    os.kill(wait_for_rank(run, tmp_path / "dies"), signal.SIGKILL)
    assert exit_code(run, 60) > 0
    assert "rank 1 (exit code -9) of the run ended" in log.read_text()
    assert RunFolder(tmp_path / "dies").state().status != "finished"


def test_what_rank_0_says_itself_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When training diverges, every rank ends with an error."""
    monkeypatch.setattr(launch, "_failed", lambda ranks, seconds: "rank 1 (exit code 2) ended")
    with pytest.raises(Diverged, match="in epoch 2"), launch.other_ranks(tmp_path, 2, ("val",)):
        raise Diverged("training diverged in epoch 2")
    with pytest.raises(UserError, match="rank 1"), launch.other_ranks(tmp_path, 2, ("val",)):
        raise RuntimeError("Connection closed by peer")


def test_ranks_end_with_their_parent(undrawn: Overrides, tmp_path: Path) -> None:
    words = undrawn("orphan", "trainer=ddp_cpu", "trainer.max_epochs=500")
    run = start("cxr_lightning.fit", words, tmp_path / "log.txt")
    rank = wait_for_rank(run, tmp_path / "orphan")
    run.kill()
    run.join()
    deadline = time.monotonic() + 30
    while alive(rank):
        assert time.monotonic() < deadline, "the second rank outlived its parent"
        time.sleep(0.1)


def wait_for_rank(run: ForkServerProcess, folder: Path) -> int:
    """Wait for the first epoch, and return the process id of rank 1."""
    deadline = time.monotonic() + 120
    while not (folder / "history.csv").is_file():
        assert time.monotonic() < deadline, "no epoch was finished"
        time.sleep(0.2)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    ranks = [
        int(child)
        for child in children
        if b"cxr_lightning.rank" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    assert len(ranks) == 1
    return ranks[0]


def alive(process: int) -> bool:
    try:
        # A zombie has ended; nobody is left to collect it.
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


@pytest.fixture(autouse=True)
def _linux_only() -> None:
    if not Path("/proc/self/children").parent.is_dir():
        pytest.skip("looks processes up in /proc")
