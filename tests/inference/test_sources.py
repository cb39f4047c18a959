"""Words of a command line to paths, where folders hold links."""

from __future__ import annotations

import io
from pathlib import Path

from cxr_lightning.inference.sources import image_paths


def test_links_to_folders_are_followed_but_never_back(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    for folder in (root / "a" / "b", elsewhere):
        folder.mkdir(parents=True)
        (folder / "x.png").touch()
    (root / "linked").symlink_to(elsewhere)
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "b" / "here").symlink_to(".")
    (elsewhere / "back").symlink_to(elsewhere)
    found = [Path(path).relative_to(root) for path in image_paths([str(root)], io.StringIO())]
    assert found == [Path("a/b/x.png"), Path("linked/x.png")]


def test_two_links_to_each_other_s_folder_end(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        (folder / "x.png").touch()
    (one / "to").symlink_to(other)
    (other / "to").symlink_to(one)
    found = [Path(path).relative_to(one) for path in image_paths([str(one)], io.StringIO())]
    assert found == [Path("x.png"), Path("to/x.png")]
