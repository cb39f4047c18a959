"""Streams of images: the pixels of training, in order, without a limit, in constant memory."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cxr_lightning.config.schema import ImageConfig
from cxr_lightning.data.decode_pool import AHEAD
from cxr_lightning.data.decode_stream import INLINE, decode_stream
from cxr_lightning.data.images import read_resized

IMAGE = ImageConfig(size=32)


@pytest.fixture(scope="module")
def paths(phantom_root: Path) -> list[str]:
    return [str(path) for path in sorted((phantom_root / "images").iterdir())]


@pytest.mark.parametrize("count", [0, 3, INLINE, INLINE + 1, 150])
def test_every_picture_in_order(paths: list[str], count: int, tmp_path: Path) -> None:
    wanted = paths[:count]
    if count > 2:
        (tmp_path / "cut.png").write_bytes(Path(paths[0]).read_bytes()[:500])
        wanted = [*wanted[:2], str(tmp_path / "cut.png"), "/nowhere.png", *wanted[2:]]
    found = list(decode_stream(wanted, IMAGE, processes=2))
    assert [one.path for one in found] == wanted
    for one in found:
        if one.path == "/nowhere.png":
            assert (one.pixels, one.reason) == (None, "missing")
        elif one.path.endswith("cut.png"):
            assert (one.pixels, one.reason) == (None, "truncated PNG")
        else:
            assert one.pixels is not None
            np.testing.assert_array_equal(one.pixels, read_resized(one.path, IMAGE))


def test_paths_are_taken_as_slots_become_free(paths: list[str]) -> None:
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        for path in itertools.cycle(paths):
            taken += 1
            yield path

    stream = decode_stream(endless(), IMAGE, processes=1)
    for handed_on in range(1, 200):
        next(stream)
        assert taken <= handed_on + 4 * AHEAD
    stream.close()
    assert taken < 200 + 4 * AHEAD


def test_closing_ends_the_processes(paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[str]] = []
    original = subprocess.Popen

    def recorded(*args: object, **kwargs: object) -> subprocess.Popen[str]:
        started.append(original(*args, **kwargs))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", recorded)
    stream = decode_stream(paths, IMAGE, processes=2)
    next(stream)
    stream.close()
    assert started
    assert all(child.returncode is not None for child in started)


def test_a_fault_of_the_paths_reaches_the_caller(paths: list[str]) -> None:
    def faulty() -> Iterator[str]:
        yield from paths[:40]
        raise ValueError("the pipe broke")

    with pytest.raises(ValueError, match="the pipe broke"):
        list(decode_stream(faulty(), IMAGE, processes=1))
