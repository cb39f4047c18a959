"""The blocks of code in the pages of docs/."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cxr_lightning.cli import run_verb

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


class Block(NamedTuple):
    page: str
    language: str
    needs: str
    text: str


def blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for info, body in re.findall(r"^```(.*)\n((?s:.*?))^```$", text, re.MULTILINE):
            language, _, needs = info.partition(" ")
            yield Block(page.relative_to(DOCS).as_posix(), language, needs, body)


BLOCKS = list(blocks())
COMMANDS = {
    line: block
    for block in BLOCKS
    if block.language in ("sh", "bash")
    for line in block.text.replace("\\\n", " ").splitlines()
    if line.strip() and not line.startswith("#")
}


def write_files(root: Path, suffix: str) -> None:
    """Write the blocks that begin with the name of their file, as a reader would."""
    for block in BLOCKS:
        name = block.text.partition("\n")[0].removeprefix("# ").split(",")[0]
        if block.language in ("python", "yaml") and name.endswith(suffix):
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text.partition("\n")[2], encoding="utf-8")


def run(verb: str, words: list[str]) -> None:
    """Run a verb in this process, and expect that it ends well."""
    assert run_verb(importlib.import_module(f"cxr_lightning.{verb}").main, words) == 0


def small_phantom(root: Path) -> list[str]:
    return [f"data.root={root}", "data.images=160", "data.phantom_seed=3", "data.pixels=64"]
