"""Every command of the README is run here, or by .ci/run, or needs hardware that tests lack."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from cxr_lightning.bundle import load_bundle
from cxr_lightning.cli import run_verb
from cxr_lightning.config.compose import compose
from cxr_lightning.fit import main
from cxr_lightning.hpo.check import Composer, checked_configurations
from cxr_lightning.hpo.client import ServerClient
from cxr_lightning.hpo.reading import read_space
from cxr_lightning.hpo.run import run_sweep
from cxr_lightning.models.network import build_network
from cxr_lightning.sweep import options_of
from tests.processes import exit_code, start
from tests.project.pages import run

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


COMMANDS = [
    line.split("   #")[0].split("  #")[0].strip()
    for block in blocks("sh")
    for line in block.splitlines()
    if line.strip()
]
FIT = "python -m cxr_lightning.fit"
# Where each of the others is run.
ELSEWHERE = {
    "make fit": ".ci/run",
    "make test": ".ci/run",
    "make bench": ".ci/run runs two of its sections",
    "make ui": "tests/tracking/test_server.py runs what it runs",
    "pip install -e .": "the Makefile's own installation, run by .ci/run",
    "mlflow ui": "tests/tracking/test_server.py",
    "cp .env.example .env": "tests/project/test_packaging.py reads the file",
    "docker": "needs a container engine; .ci/run checks the files",
    "python -m cxr_lightning.tracking": "tests/tracking",
    "mlflow models serve": "tests/inference runs it on a model of its own",
    'pip install -e ".[export]"': "the environment has every extra",
}
AFTER = ("prepare", "evaluate", "explain", "predict", "export", "sweep")
# Later words win: as small as it gets, and a model that is quick to build.
SMALLER = [
    "data.image.size=32",
    "data.batch_size=16",
    "trainer.max_epochs=1",
    "trainer.threads=1",
    "evaluation.replicates=10",
    "evaluation.report=false",
]
NEEDS_GPU = ("trainer=gpu", "trainer=ddp ")


@pytest.mark.parametrize("command", sorted(set(COMMANDS)))
def test_every_command_is_run_somewhere(command: str) -> None:
    after = tuple(f"python -m cxr_lightning.{verb} " for verb in AFTER)
    assert command.startswith((FIT, *ELSEWHERE, *after)), f"{command}: run it in a test"


FITS = sorted({command for command in COMMANDS if command.startswith(FIT)} - {f"{FIT} --help"})


@pytest.mark.slow
@pytest.mark.parametrize("command", FITS)
def test_fit_commands(command: str, phantom_root: Path, user_folder: Path) -> None:
    words = shlex.split(command)[3:]
    compose(words)
    if any(word in f"{command} " for word in NEEDS_GPU):
        pytest.skip("needs GPUs; its configuration was composed")
    if "model.weights=weights.pth" in words:
        config = compose(words)
        network = build_network(config.model, config.data.image, ["a"])
        torch.save(network.backbone.model.state_dict(), "weights.pth")
    words = [word.replace("/data/nih", str(phantom_root)) for word in words]
    if "data.root=phantom" in words:
        words += ["data.phantom.images=400", "data.phantom.pixels=64", *SMALLER]
        assert run_verb(main, [*words, "data.image.size=64"]) == 0
        return
    if "data=table" in words:
        _write_table(phantom_root)
        assert run_verb(main, [*words, *SMALLER]) == 0
        return
    if not any(word.startswith("data.root") for word in words):
        images = 500 if "data.labels" in command else 160
        words += [f"data.images={images}", "data.pixels=64"]
    labels = (
        []
        if any(word.startswith("data.labels") for word in words)
        else ["data.labels=[Effusion,Infiltration,Atelectasis]"]
    )
    small = SMALLER if "model=" not in command else [*SMALLER, "data.image.size=64"]
    if "data.max_patients" in command or "data.views" in command:
        labels = ["data.labels=[Effusion,Infiltration,Nodule]"]
    words += [*labels, *small]
    if "trainer=ddp_cpu" in words:
        # Two processes: this one must not become a part of them.
        log = user_folder / "log.txt"
        assert exit_code(start("cxr_lightning.fit", words, log)) == 0, log.read_text()
    else:
        assert run_verb(main, words) == 0
    assert list(Path("runs").glob("*/metrics.json"))


def _write_table(root: Path) -> None:
    """Write a table of the phantom's images as somebody else would."""
    found = pd.read_csv(root / "Data_Entry_2017.csv", index_col=False)
    labels = found["Finding Labels"]
    pd.DataFrame(
        {
            "path": [str(root / "images" / name) for name in found["Image Index"]],
            "pid": found["Patient ID"],
            "a": labels.str.contains("Effusion").map({True: "yes", False: "no"}),
            "b": labels.str.contains("Infiltration").astype(int),
        }
    ).to_csv("images.csv", index=False)


@pytest.fixture(scope="module")
def bundle(phantom_root: Path, empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a run on the phantom, read as NIH."""
    folder = tmp_path_factory.mktemp("readme")
    words = ["data=nih", f"data.root={phantom_root}", "data.labels=[Effusion,Infiltration]"]
    words += [
        f"run.dir={folder / 'run'}",
        f"run.tracking_uri=sqlite:///{shutil.copy(empty_store, folder)}",
    ]
    assert run_verb(main, [*words, *SMALLER]) == 0
    return folder / "run" / "bundle.safetensors"


VERBS = [c for c in COMMANDS if c.startswith(tuple(f"python -m cxr_lightning.{v} " for v in AFTER))]


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in VERBS if "_lightning.sweep" not in c])
def test_other_verbs(
    command: str,
    bundle: Path,
    phantom_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    verb = shlex.split(command)[2].removeprefix("cxr_lightning.")
    copied = Path(shutil.copy(bundle, tmp_path))
    words = [
        word.replace("runs/NAME/bundle.safetensors", str(copied)).replace(
            "/data/nih", str(phantom_root)
        )
        for word in shlex.split(command)[3:]
    ]
    if verb == "prepare":
        words += ["data.image.size=64", "data.labels=[Effusion,Infiltration]"]
    if verb == "evaluate":
        words += ["evaluation.replicates=10"]
    if verb == "predict":
        words = [
            word.replace("input=", "input=") + "/images" * ("input=" in word) for word in words
        ]
    run(verb, words)
    written = {path.name for path in tmp_path.rglob("*")}
    expected = {
        "prepare": "audit.html",
        "evaluate": "report.html",
        "explain": "localisation.csv",
        "predict": "predictions.csv",
        "export": "bundle.onnx",
    }
    assert expected[verb] in written


SWEEPS = [command for command in VERBS if "_lightning.sweep" in command]


@pytest.mark.slow
@pytest.mark.parametrize("command", SWEEPS)
def test_sweeps(command: str, phantom_root: Path, user_folder: Path, client: ServerClient) -> None:
    words = [word.replace("/data/nih", str(phantom_root)) for word in shlex.split(command)[3:]]
    parsed = options_of(words)
    reading = read_space(parsed.words)
    assert checked_configurations(Composer(reading))
    if "postgresql" in command:
        pytest.skip("its space was composed; tests/hpo/test_postgres.py runs two sweeps on one")
    if "data=nih" not in words:
        words += ["data.images=160", "data.pixels=64"]
    words += ["--trials", "1", "data.labels=[Effusion,Infiltration]", *SMALLER]
    words += ["data.image.size=80"] if "backbones" in command else []  # Inception's smallest
    assert run_sweep(options_of(words), client) == 0
    (study,) = Path("runs").iterdir()
    assert (study / "best.yaml").is_file()
    assert len(pd.read_csv(study / "leaderboard.csv")) == 1


def test_help_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    assert "Groups" in capsys.readouterr().out


@pytest.mark.slow
def test_python_blocks(user_folder: Path) -> None:
    first, second = blocks("python")
    small = ", ".join(repr(word) for word in [*SMALLER, "data.pixels=64"])
    namespace: dict[str, object] = {}
    exec(first.replace('"data.images=300"', f'"data.images=300", {small}'), namespace)
    assert "test/auroc_macro" in namespace["metrics"]  # type: ignore[operator]
    run = next(Path("runs").iterdir())
    info = load_bundle(run / "bundle.safetensors").info
    images = torch.zeros(2, 1, info.image.size, info.image.size, dtype=torch.uint8)
    namespace = {"images": images}
    # The path in the README is a string; a string must do.
    exec(second.replace("runs/NAME", str(run)), namespace)
    assert namespace["logits"].shape == (2, len(info.labels))  # type: ignore[attr-defined]


def test_the_table_of_choices_is_complete() -> None:
    from cxr_lightning.config.groups import GROUPS, choices, shipped_conf

    for group in GROUPS:
        for name in choices(group, [shipped_conf()]):
            if (group, name) != ("model", "timm"):
                assert f"`{name}`" in README, f"{group}={name} is not in the README"


def test_pictures_are_there() -> None:
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (ROOT / picture).is_file(), picture


XRV = ("torchxrayvision", "torchxrayvision, cv2 engine")
MONAI = ("MONAI CacheDataset", "MONAI PersistentDataset")
# The rows of benchmarks/RESULTS.md behind each number of the README's table of speed.
MEASURED = [
    *(f"first epoch, beside {peer}" for peer in XRV),
    "first epoch, beside torchvision on PIL",
    "first epoch, beside albumentations on cv2",
    *(f"later epochs, beside {peer}" for peer in (*XRV, *MONAI)),
    "training step of densenet121 beside fp32, NCHW, three channels",
    "training step of resnet18 beside fp32, NCHW, three channels",
    "bootstrap of AUROC, 1,000 replicates over 25,596 x 14",
    "bootstrap of AUROC, 1,000 replicates over 112,120 x 14",
    "predict, runtime=torch, precision=full (default), beside it",
    "predict, runtime=openvino, precision=bf16, beside eager fp32",
]


def test_speed_is_what_was_measured_rounded_down() -> None:
    page = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    ratios = {cells[0]: cells[1 if cells[-1] == "x" else -2].removesuffix(" x") for cells in rows}
    table = README.partition("## Speed")[2].partition("## Containers")[0]
    told = [line.strip("| ").split(" | ")[-1] for line in table.splitlines() if "|" in line]
    numbers = [float(number) for cell in told for number in re.findall(r"[0-9.]+", cell)]
    for name, number in zip(MEASURED, numbers, strict=True):
        measured = float(ratios[name].replace(",", ""))
        assert 0.9 * measured <= number <= measured, f"{name}: {number}, measured {measured}"
