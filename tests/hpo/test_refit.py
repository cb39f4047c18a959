"""What the best are trained again for, at its edges; `test_sweep` trains some."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import optuna
import pandas as pd
import pytest
from rich.console import Console

from cxr_lightning.errors import UserError
from cxr_lightning.hpo.check import Composer
from cxr_lightning.hpo.client import ServerClient
from cxr_lightning.hpo.places import refit_place
from cxr_lightning.hpo.reading import read_space
from cxr_lightning.hpo.refit import refit_best
from cxr_lightning.hpo.slots import Slot
from cxr_lightning.hpo.storage import open_storage
from cxr_lightning.hpo.study import SweepStudy
from cxr_lightning.runs import RunFolder, RunState, configuration_hash
from tests.hpo.conftest import children, meanwhile, wait_for

WORDS = ["optim.lr=0.001"]
Refit = Callable[..., tuple[list[str], str]]


@pytest.fixture
def study(tmp_path: Path) -> Iterator[SweepStudy]:
    storage = open_storage(f"sqlite:///{tmp_path / 'optuna.db'}")
    optuna.create_study(storage=storage.rdb, study_name="study", direction="maximize")
    found = SweepStudy(storage, "study", read_space(["sweep=default"]).space, 3, 6)
    yield found
    found.close()
    storage.close()


@pytest.fixture
def refit(study: SweepStudy, tmp_path: Path) -> Refit:
    """Return a function that refits; without a server nothing may be trained."""

    def call(
        count: int, seeds: int, client: ServerClient | None = None, words: Sequence[str] = ()
    ) -> tuple[list[str], str]:
        console = Console(file=io.StringIO(), width=200)
        kept: list[Path] = []
        parent = SimpleNamespace(run_id=None, run=SimpleNamespace(log_artifact=kept.append))
        composer = Composer(read_space(["sweep=default", *words]))
        (tmp_path / "logs").mkdir()
        slots = [Slot(0, 1), Slot(1, 1)] if client else []
        lines = refit_best(
            study, composer, client, slots, parent, tmp_path,  # type: ignore[arg-type]
            count=count, seeds=seeds, console=console,
        )  # fmt: skip
        assert isinstance(console.file, io.StringIO)
        return lines, console.file.getvalue()

    return call


def complete(study: SweepStudy, value: float, words: Sequence[str] = WORDS) -> int:
    trial = study.claim()
    assert trial is not None
    study.note(trial, {"overrides": list(words)})
    study.complete(trial, [value])
    return trial.number


def finished(folder: Path, trial: int, seed: int, auroc: float | None) -> None:
    """Write what a refit that is done has left."""
    place = folder / f"refit-{trial:04d}-seed{seed}"
    composer = Composer(read_space(["sweep=default"]))
    config = composer.full(WORDS).model_copy(update={"seed": seed, "resume": "auto"})
    write_run(place, configuration_hash(config), "")
    metrics = {"test/auroc_macro": auroc, "test/average_precision_macro": None}
    (place / "metrics.json").write_text(json.dumps(metrics))


def write_run(place: Path, configuration: str, fingerprint: str) -> None:
    place.mkdir()
    state = RunState("finished", configuration, fingerprint)
    (place / "run.json").write_text(json.dumps(asdict(state)))


def test_without_a_complete_trial_there_is_nothing_to_train(
    study: SweepStudy, refit: Refit, tmp_path: Path
) -> None:
    trial = study.claim()
    assert trial is not None
    study.fail(trial, "killed")
    lines, said = refit(2, 3)
    assert "No trial is complete" in lines[0]
    assert "No trial is complete" in said
    assert not (tmp_path / "refits.csv").exists()


def test_mean_and_spread_by_hand_and_what_is_done_is_not_repeated(
    study: SweepStudy, refit: Refit, tmp_path: Path
) -> None:
    for value in (0.6, 0.9, 0.8):
        complete(study, value)
    # The best two by validation; the test set would have them the other way round.
    for seed, auroc in enumerate((0.70, 0.72, 0.74), start=1):
        finished(tmp_path, 1, seed, auroc)
    for seed, auroc in enumerate((0.80, None, 0.80), start=1):
        finished(tmp_path, 2, seed, auroc)
    lines, _ = refit(2, 3)
    table = pd.read_csv(tmp_path / "refits.csv")
    assert list(table["trial"]) == [1, 1, 1, 2, 2, 2]
    assert list(table["seed"]) == [1, 2, 3, 1, 2, 3]
    assert "| 1 | 0.7200 ± 0.0200 | undefined |" in lines  # of three, by n - 1
    assert "| 2 | 0.8000 ± 0.0000 | undefined |" in lines  # an undefined one is left out, not 0
    bundles = (tmp_path / "ensemble.txt").read_text().split()
    assert bundles == list(table["bundle"])


def test_more_than_there_are(study: SweepStudy, refit: Refit, tmp_path: Path) -> None:
    number = complete(study, 0.7)
    finished(tmp_path, number, 1, 0.5)
    lines, said = refit(5, 1)
    assert f"| {number} | 0.5000 | undefined |" in lines
    assert "bundle=$(paste -sd, " in said


def test_a_refit_of_another_configuration_or_other_data_is_not_taken(tmp_path: Path) -> None:
    """A study of the same name that begins anew has other values in its trials."""
    name = "refit-0000-seed1"
    assert refit_place(tmp_path, name, "a", "x") == tmp_path / name
    write_run(tmp_path / name, "a", "x")
    assert refit_place(tmp_path, name, "a", "x") == tmp_path / name
    other = tmp_path / f"{name}_2"
    assert refit_place(tmp_path, name, "b", "x") == other
    assert refit_place(tmp_path, name, "a", "y") == other
    write_run(other, "b", "x")
    assert refit_place(tmp_path, name, "b", "x") == other
    assert refit_place(tmp_path, name, "a", "x") == tmp_path / name
    assert refit_place(tmp_path, name, "c", "x") == tmp_path / f"{name}_3"


def test_ctrl_c_ends_them_so_that_they_can_be_resumed(
    study: SweepStudy, refit: Refit, client: ServerClient, words: Sequence[str], tmp_path: Path
) -> None:
    complete(study, 0.7)
    folders = [tmp_path / f"refit-0000-seed{seed}" for seed in (1, 2)]

    def interrupt() -> None:
        for folder in folders:
            wait_for((folder / "checkpoints" / "last.ckpt").is_file)
        os.kill(os.getpid(), signal.SIGINT)

    with meanwhile(interrupt), pytest.raises(KeyboardInterrupt):
        refit(1, 3, client, (*words, "trainer.max_epochs=400"))
    assert [RunFolder(folder).state().status for folder in folders] == ["interrupted"] * 2
    assert not (tmp_path / "refit-0000-seed3").exists()
    assert children(client.pid) == []


def test_one_that_fails_lets_the_other_finish(
    study: SweepStudy, refit: Refit, client: ServerClient, words: Sequence[str], tmp_path: Path
) -> None:
    """None is begun after it; the one beside it need not be repeated."""
    complete(study, 0.9, ["augment.transforms=[{name: RandomCrop, height: 4096, width: 4096}]"])
    complete(study, 0.8)
    complete(study, 0.7)
    with pytest.raises(UserError, match=r"(?s)refit of trial 0, seed 1 failed: .*4096"):
        refit(3, 1, client, (*words, "trainer.max_epochs=1"))
    assert RunFolder(tmp_path / "refit-0001-seed1").state().status == "finished"
    assert (tmp_path / "refit-0001-seed1" / "bundle.safetensors").is_file()
    assert not (tmp_path / "refit-0002-seed1").exists()
