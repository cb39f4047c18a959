"""Commands in docs/ are understood, the tutorial's are run, and the code works as printed."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from cxr_lightning import evaluate
from cxr_lightning.cli import config_parser
from cxr_lightning.config.compose import compose, config_to_yaml
from cxr_lightning.config.compose_verbs import compose_data
from cxr_lightning.config.schema import Config, ImageConfig, ModelConfig
from cxr_lightning.config.words import options_from_words
from cxr_lightning.data.transforms import Augmentation
from cxr_lightning.explanation.options import ExplainOptions
from cxr_lightning.hpo.check import Composer, checked_configurations
from cxr_lightning.hpo.reading import read_space
from cxr_lightning.inference.options import ExportOptions, PredictOptions
from cxr_lightning.models.freezing import freeze_stages
from cxr_lightning.models.network import build_network
from cxr_lightning.sweep import options_of
from tests.project.pages import BLOCKS, COMMANDS, ROOT, write_files

# What a block may need that a test lacks; none: its commands run here or in the README's tests.
NEEDS = {
    "needs-cluster",
    "needs-data",
    "needs-docker",
    "needs-gpu",
    "needs-hub",
    "needs-network",
    "needs-server",
}
# Commands of other programs, and where they are run.
OTHERS = {
    "make env": ".ci/run",
    ". .venv/bin/activate": "a shell's own",
    "mlflow ui": "tests/tracking/test_server.py",
    "pip install -e .": "the Makefile's own installation, run by .ci/run",
    'pip install -e ".[export]"': "the environment has every extra",
}
OURS = re.compile(r"(?:^|\s)(?:python )?-m cxr_lightning\.(\w+)(?:\s|$)")


def test_blocks_say_what_they_need() -> None:
    assert {block.needs for block in BLOCKS if block.needs} <= NEEDS
    assert {block.language for block in BLOCKS} <= {
        "bash", "diff", "python", "sh", "text", "yaml", "{toctree}",
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the configuration files that the pages show."""
    root = tmp_path_factory.mktemp("docs")
    write_files(root, ".yaml")
    for name in ("shenzhen", "poly"):
        for file in root.rglob(f"{name}.yaml"):
            file.unlink()  # their modules are not in this checkout
    return root


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    ours = OURS.search(command)
    if ours is None:
        block = COMMANDS[command]
        assert block.needs or command in OTHERS, f"{block.page}: where is it run?"
        return
    verb = ours[1]
    words = shlex.split(command[ours.end() :], comments=True)
    if "data=shenzhen" in words:
        return  # the test below runs it
    if verb in ("fit", "prepare"):
        parser = config_parser(verb, "")
        parser.add_argument("--output")
        parser.add_argument("--download", action="store_true")
        given = parser.parse_intermixed_args(words)
        if given.config:  # what an earlier line of the page would have written
            given.config.parent.mkdir(parents=True, exist_ok=True)
            given.config.write_text(config_to_yaml(compose([])), encoding="utf-8")
        config = compose(given.overrides, config_file=given.config, config_dir=given.config_dir)
        Augmentation(config.augment, seed=0, size=config.data.image.size)
        build(config)
    elif verb == "sweep":
        options = options_of(words)
        for config in checked_configurations(Composer(read_space(options.words))):
            build(config)
    elif verb == "evaluate":
        evaluate._read(list(evaluate._parts(words)))
    elif verb == "explain":
        compose_data(words, ExplainOptions)
    elif verb == "predict":
        options_from_words(words, PredictOptions, verb=verb, bare="input")
    elif verb == "export":
        options_from_words(words, ExportOptions, verb=verb)
    else:
        assert verb == "tracking"


def build(config: Config) -> None:
    """Build the network, without numbers: models refuse options and sizes only when they are made.

    Of a whole space each network is built once.
    """
    model = config.model.model_copy(update={"pretrained": False, "weights": None})
    _build(model.model_dump_json(), config.data.image.model_dump_json())


@cache
def _build(model: str, image: str) -> None:
    config = ModelConfig.model_validate_json(model)
    with torch.device("meta"):
        network = build_network(config, ImageConfig.model_validate_json(image), ["a label"])
    freeze_stages(network, config.freeze)


# What a run does with a data set, a loss and a backbone, without Lightning and MLflow, which take
# seconds to import.
TRAIN = """
import sys
import numpy as np, torch
from cxr_lightning.config.compose import compose
from cxr_lightning.data.cohort import build_cohort
from cxr_lightning.data.images import read_resized
from cxr_lightning.losses.base import LabelCounts, build_loss
from cxr_lightning.models.network import build_network
from cxr_lightning.studies import label_array

config = compose(sys.argv[1:])
cohort = build_cohort(config.data)
rows = cohort.table.iloc[cohort.rows("train")[:8]]
images = np.stack([read_resized(path, config.data.image) for path in rows["image_path"]])
targets = torch.from_numpy(label_array(rows, cohort.labels))
network = build_network(config.model, config.data.image, cohort.labels.names)
loss = build_loss(config.loss, LabelCounts(*map(torch.from_numpy, cohort.label_counts("train"))))
loss(network(torch.from_numpy(images[:, None])), targets).backward()
assert all(torch.isfinite(one.grad).all() for one in network.parameters())
table, stages = cohort.table, list(network.backbone.stages)
print(config.data.name, len(table), table.age_years.sum(), stages)
"""


@pytest.mark.slow
def test_adding_a_data_set_a_loss_and_a_backbone(tmp_path: Path) -> None:
    leave = shutil.ignore_patterns("__pycache__", "phantom")
    shutil.copytree(ROOT / "cxr_lightning", tmp_path / "cxr_lightning", ignore=leave)
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    write_files(tmp_path, ".py")
    write_files(tmp_path, ".yaml")
    _apply(next(block.text for block in BLOCKS if block.language == "diff"), tmp_path)
    _write_shenzhen(tmp_path / "shenzhen")
    command = next(line for line in COMMANDS if "data=shenzhen" in line and ".fit" in line)
    words = shlex.split(command)[3:]
    words = [word.replace("/data/", f"{tmp_path}/") for word in words]
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, *words, "data.image.size=32"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    stages = ["stage1", "stage2", "stage3"]
    assert done.stdout.splitlines()[-1] == f"shenzhen 60 {60 * 45 + 1770.0} {stages}"


def _apply(diff: str, root: Path) -> None:
    name, *lines = diff.splitlines()
    file = root / name.removeprefix("--- ")
    before = "\n".join(line[1:] for line in lines if line[0] != "+")
    after = "\n".join(line[1:] for line in lines if line[0] != "-")
    text = file.read_text(encoding="utf-8")
    assert text.count(before) == 1, f"{name}: the place is not found"
    file.write_text(text.replace(before, after), encoding="utf-8")


def _write_shenzhen(root: Path) -> None:
    """Write 60 pictures of noise under the names of the set, and their readings."""
    (root / "CXR_png").mkdir(parents=True)
    (root / "ClinicalReadings").mkdir()
    generator = np.random.default_rng(0)
    for number in range(60):
        stem = f"CHNCXR_{number:04d}_{number % 2}"
        picture = generator.integers(0, 256, (40, 40), dtype=np.uint8)
        cv2.imwrite(str(root / "CXR_png" / f"{stem}.png"), picture)
        reading = root / "ClinicalReadings" / f"{stem}.txt"
        reading.write_text(f"male {45 + number}yrs\nnormal\n", encoding="utf-8")
