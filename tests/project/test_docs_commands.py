"""Commands in docs/ that need nothing are run, in a small form."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest

from cxr_lightning.config.compose import compose
from cxr_lightning.data.cohort import build_cohort
from cxr_lightning.hpo.client import ServerClient
from cxr_lightning.hpo.run import run_sweep
from cxr_lightning.sweep import options_of
from tests.data.conftest import write_radiograph
from tests.project.pages import COMMANDS, DOCS, run, small_phantom, write_files

pytestmark = pytest.mark.slow
README = (DOCS.parent / "README.md").read_text(encoding="utf-8")
LINES = [
    line
    for line, block in COMMANDS.items()
    if " -m cxr_lightning." in line and not block.needs and f"{line}\n" not in README
]
SMALLER = [
    *("data.image.size=32", "data.batch_size=8", "trainer.threads=1", "trainer.max_epochs=1"),
    *("trainer.limit_train_batches=2", "trainer.monitor=val/loss", "evaluation.replicates=10"),
    "evaluation.report=false",
]
LABELS = "data.labels=[Effusion,Mass,Infiltration]"


def lines(*verbs: str) -> list[str]:
    return [line for line in LINES if line.split()[2].removeprefix("cxr_lightning.") in verbs]


def small_data(words: list[str], root: Path) -> list[str]:
    """Return the words that make the data of a command small."""
    if "data.root=phantom" in words:
        small = ["data.phantom.images=300", "data.phantom.pixels=64"]
        return small if "data=ehr" in words else [*small, LABELS] if "data=nih" in words else small
    labels = [] if any(word.startswith("data.labels") for word in words) else [LABELS]
    return [*small_phantom(root), *labels]


@pytest.mark.parametrize("line", [x for x in lines("fit", "prepare") if "run.name=" not in x])
def test_fit_and_prepare(line: str, phantom_root: Path, user_folder: Path) -> None:
    write_files(user_folder, ".yaml")
    verb, *words = shlex.split(line)[2:]
    verb = verb.removeprefix("cxr_lightning.")
    words += small_data(words, phantom_root) + SMALLER
    run(verb, words)
    if verb == "prepare":
        assert list(Path().rglob("audit.html"))
    else:
        (folder,) = Path("runs").iterdir()
        assert {"metrics.json", "results.csv", "bundle.safetensors"} <= set(os.listdir(folder))
        assert not (folder / "plots").exists()


@pytest.mark.parametrize("line", lines("sweep"))
def test_sweeps(line: str, phantom_root: Path, user_folder: Path, client: ServerClient) -> None:
    words = [*shlex.split(line)[3:], "--trials", "1", *small_phantom(phantom_root), *SMALLER]
    assert run_sweep(options_of([*words, LABELS]), client) == 0
    assert list(Path("runs").glob("*/best.yaml"))


@pytest.fixture(scope="module")
def trained(
    phantom_root: Path, empty_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder in which the two runs of the tutorial were made, small; the first is NAME too."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copy(empty_store, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for line in LINES:
            if "run.name=" in line:
                words = [*shlex.split(line)[3:], *small_phantom(phantom_root), LABELS, *SMALLER]
                # The tutorial names the first run's report.
                run("fit", [*words, f"evaluation.report={'run.name=first' in words}".lower()])
        shutil.copytree("runs/first", "runs/NAME")
    return folder


@pytest.fixture
def folder(
    trained: Path, phantom_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:  # fmt: skip
    """A copy of it, with the files that the pages' commands read."""
    root = tmp_path / "here"
    shutil.copytree(trained, root)
    monkeypatch.chdir(root)
    (root / "scans").mkdir()
    pictures = sorted((phantom_root / "images").iterdir())[:3]
    for file in pictures:
        shutil.copy(file, "scans")
    shutil.copy(pictures[0], "a.png")
    write_radiograph(root / "b.dcm")
    Path("list.txt").write_text("".join(f"{file}\n" for file in pictures), encoding="utf-8")
    return root


@pytest.mark.parametrize("line", lines("evaluate", "explain", "predict", "export"))
def test_other_verbs(
    line: str, folder: Path, phantom_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verb, *words = shlex.split(line)[2:]
    verb = verb.removeprefix("cxr_lightning.")
    if "data=phantom" in words:
        words += small_phantom(phantom_root)
    if "data=ehr" in words:  # the line of the page before it made the run
        small = small_data(words, phantom_root)
        shutil.rmtree("runs/NAME")
        run("fit", ["data=ehr", "data.root=phantom", *small, "run.name=NAME", *SMALLER])
        words += small
    if "runtime=onnx" in words:
        run("export", [f"bundle={folder / 'runs/NAME/bundle.safetensors'}"])
    if verb == "evaluate":
        words += ["evaluation.replicates=10", "evaluation.report=false"]
    before = set(folder.rglob("*"))
    run(verb, words)
    if "format=jsonl" in words:
        said = [json.loads(one) for one in capsys.readouterr().out.splitlines()]
        assert len(said) == 2
    else:
        assert set(folder.rglob("*")) - before
    if "input=scans" in words and verb == "predict":
        assert len(Path("predictions.csv").read_text().splitlines()) == 4


def test_the_tutorial_names_what_is_there(folder: Path) -> None:
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    named = re.findall(r"`(runs/\S*\w)`|bundle=(runs/first/\S+\w)", text)
    assert named
    for written in named:
        assert Path("".join(written).split(",")[0]).exists(), written


def test_the_tutorial_shows_the_data_as_they_are() -> None:
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    cohort = build_cohort(compose(["experiment=quick", "data.pixels=64"]).data)
    assert f"fingerprint of the data: {cohort.fingerprint}" in text
    for step in cohort.flow:
        assert f"{step.images:,} images of {step.patients:,} patients" in text
