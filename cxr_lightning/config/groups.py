"""The folders of configuration files: where they are, and which choices each group offers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cxr_lightning.errors import ConfigError, bullet_list, nearest

__all__ = ["GROUPS", "SWEEP", "choices", "find_choice", "group_description", "shipped_conf"]

SWEEP = {"sweep": "the search space: what varies, how it is sampled, what is sought"}
GROUPS = {
    "data": "the radiographs and their labels",
    "model": "the network; any timm name or torchvision/NAME works without a file",
    "loss": "the training loss",
    "optim": "optimiser, schedule, learning rates",
    "augment": "albumentations policy for training images",
    "trainer": "devices, precision, epochs, early stopping",
    "experiment": "a named set of choices and values on top of the others",
}


def shipped_conf() -> Path:
    """Return the folder of shipped configuration files.

    Inside a wheel it lies in the package; in a checkout (also an editable install) beside it.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise ConfigError(
        f"the shipped configuration is missing: no conf/config.yaml in {package} or beside it. "
        "Install the package again."
    )


def search_path(config_dir: Path | None) -> list[Path]:
    """Return the folders to look in, the user's own first."""
    return ([config_dir] if config_dir else []) + [shipped_conf()]


def choices(group: str, folders: Sequence[Path]) -> dict[str, Path]:
    """Return the choices of `group` by name, each with its file; the first folder wins."""
    found: dict[str, Path] = {}
    for folder in folders:
        for file in sorted((folder / group).glob("*.yaml")):
            found.setdefault(file.stem, file)
    return dict(sorted(found.items()))


def find_choice(group: str, choice: str, folders: Sequence[Path]) -> Path:
    """Return the file of one choice of a group, or raise ConfigError naming all choices."""
    known = choices(group, folders)
    if choice in known:
        return known[choice]
    raise ConfigError(
        f"{group}={choice}: there is no such choice.{nearest(choice, known)}\n"
        f"Choices of {group}:\n{bullet_list(known, limit=60)}"
    )


def group_description(file: Path) -> str:
    """Return the comment that opens a configuration file, as one line."""
    lines: list[str] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("# @package"):
            continue
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").rstrip())
    return " ".join(lines).strip()
