"""The image cache: right pixels whatever happens to the files, the disk and the processes."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from copy import copy
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from cxr_lightning.config.schema import ImageConfig
from cxr_lightning.data import cache as cache_module
from cxr_lightning.data import decode_pool
from cxr_lightning.data.cache import ImageCache, open_cache
from cxr_lightning.data.cache_files import FILLED, CacheFiles
from cxr_lightning.data.decode_pool import decode_into_slots
from cxr_lightning.data.decoder import Job, content_hash
from cxr_lightning.data.images import read_image, read_resized
from cxr_lightning.data.storage import cache_home
from cxr_lightning.errors import DataError

IMAGE = ImageConfig(size=32)


def write_pictures(folder: Path, count: int, side: int = 40) -> list[Path]:
    """Write distinct pictures that are slow enough to decode to be interrupted."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    paths = [folder / f"{index:05d}.png" for index in range(count)]
    for path in paths:
        pixels = generator.integers(0, 256, (side, side + 3), dtype=np.uint8)
        cv2.imwrite(str(path), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return paths


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    return write_pictures(tmp_path / "images", 12)


@pytest.fixture
def opened(tmp_path: Path):
    """open_cache with a folder of the test's own and no output."""

    def call(paths: list[Path], **options: object) -> ImageCache:
        options = {"image": IMAGE, "cache_dir": tmp_path / "cache", "progress": False} | options
        return open_cache(paths, **options)

    return call


def check_pixels(cache: ImageCache, paths: list[Path], image: ImageConfig = IMAGE) -> None:
    """Compare with decoding the files one by one, without any cache."""
    expected = np.stack([read_resized(path, image) for path in paths])
    np.testing.assert_array_equal(cache.read(cache.rows), expected)


class TestContent:
    def test_pixels_equal_direct_decoding(self, opened, pictures):
        cache = opened(pictures)
        check_pixels(cache, pictures)
        assert (cache.decoded, cache.bad) == (12, ())
        assert cache.source_shape.tolist() == [[40, 43]] * 12
        assert cache.shape == (12, 32, 32)

    def test_pixels_equal_with_processes(self, opened, tmp_path):
        paths = write_pictures(tmp_path / "many", decode_pool.INLINE + 20)
        check_pixels(opened(paths, processes=2), paths)

    @pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
    def test_size_and_fit_have_caches_of_their_own(self, opened, pictures, fit):
        image = ImageConfig(size=48, fit=fit)
        check_pixels(opened(pictures, image=image), pictures, image)
        check_pixels(opened(pictures), pictures)

    def test_mean_and_std_share_a_cache(self, opened, pictures):
        opened(pictures)
        assert opened(pictures, image=ImageConfig(size=32, mean=0.1, std=0.9)).decoded == 0

    def test_any_order_and_repetition(self, opened, pictures):
        wanted = [*pictures[::-1], pictures[3]]
        cache = opened(wanted)
        check_pixels(cache, wanted)
        again = opened(pictures)
        check_pixels(again, pictures)
        assert (cache.decoded, again.decoded, again.folder) == (12, 0, cache.folder)

    def test_relative_paths(self, opened, pictures, monkeypatch):
        absolute = opened(pictures)
        monkeypatch.chdir(pictures[0].parent)
        relative = opened([Path(path.name) for path in pictures])
        assert (relative.decoded, relative.folder) == (0, absolute.folder)

    def test_hash_tells_equal_pixels_whatever_the_file(self, opened, tmp_path):
        grey = np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)
        changed = grey.copy()
        changed[-1, -1] ^= 1
        shapes = {"a": grey, "b": np.dstack([grey] * 3), "c": changed, "d": grey.reshape(30, 40)}
        for name, pixels in shapes.items():
            Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        paths = [tmp_path / f"{name}.png" for name in shapes]
        cache = opened(paths)
        same, copied, other, reshaped = cache.content_hash.tolist()
        assert same == copied
        assert len({same, other, reshaped}) == 3
        assert cache.content_hash.dtype == np.uint64
        assert cache.content_hash.tolist() == [content_hash(read_image(path)) for path in paths]

    def test_a_subset_takes_its_own_room_and_is_shared(self, opened, tmp_path):
        paths = write_pictures(tmp_path / "images", 300, side=8)
        image = ImageConfig(size=128)
        first = opened(paths[100:102], all_paths=paths, image=image)
        pixels = first.folder / "pixels.u8"
        assert pixels.stat().st_size == 300 * 128 * 128
        assert pixels.stat().st_blocks * 512 <= 2 * 128 * 128 + 16_384
        second = opened(paths[101:104], all_paths=paths, image=image)
        assert (first.decoded, second.decoded, second.folder) == (2, 2, first.folder)
        check_pixels(second, paths[101:104], image)
        check_pixels(first, paths[100:102], image)

    def test_a_path_outside_the_data_set_is_a_mistake(self, opened, pictures):
        with pytest.raises(ValueError, match="not among the data set's images"):
            opened([Path("/elsewhere.png")], all_paths=pictures)

    def test_no_images(self, opened):
        with pytest.raises(DataError, match="no images"):
            opened([])

    def test_pickled_to_another_process_it_is_small(self, opened, pictures):
        cache = opened(pictures)
        check_pixels(cache, pictures)  # maps the file
        pickled = pickle.dumps(cache)
        assert len(pickled) < 3000
        check_pixels(pickle.loads(pickled), pictures)  # noqa: S301  # made one line above

    def test_default_folder(self, monkeypatch, tmp_path):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache_home() == tmp_path / "cxr_lightning"
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        assert cache_home() == tmp_path / "home" / ".cache" / "cxr_lightning"


class TestChanges:
    def test_a_changed_file_is_decoded_again(self, opened, pictures):
        opened(pictures)
        Image.fromarray(np.full((50, 50), 99, np.uint8)).save(pictures[4])
        cache = opened(pictures)
        assert cache.decoded == 1
        check_pixels(cache, pictures)
        assert cache.source_shape[4].tolist() == [50, 50]
        assert opened(pictures).decoded == 0

    def test_same_size_with_another_time_is_a_change(self, opened, pictures):
        opened(pictures)
        os.utime(pictures[4], ns=(1, 1))
        assert opened(pictures).decoded == 1

    def test_lost_pixels_are_made_again(self, opened, pictures):
        (opened(pictures).folder / "pixels.u8").unlink()
        cache = opened(pictures)
        assert cache.decoded == 12
        check_pixels(cache, pictures)

    def test_records_do_not_outlive_their_pixels(self, opened, pictures, monkeypatch):
        (opened(pictures).folder / "pixels.u8").unlink()

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(np, "save", killed)  # after new pixels, before new records
        with pytest.raises(KeyboardInterrupt):
            opened(pictures)
        monkeypatch.undo()
        check_pixels(opened(pictures), pictures)

    def test_a_folder_with_something_else_in_it(self, opened, pictures):
        folder = opened(pictures).folder
        np.save(folder / "entries.npy", np.zeros(999))
        with pytest.raises(DataError, match="delete that folder and run again"):
            opened(pictures)


class TestBadImages:
    @pytest.fixture
    def mixed(self, pictures) -> list[Path]:
        pictures[2].write_bytes(pictures[2].read_bytes()[:200])
        pictures[5].unlink()
        pictures[7].write_bytes(b"<html>")
        return pictures

    def test_all_are_listed_with_their_reasons(self, opened, mixed):
        cache = opened(mixed)
        assert cache.bad == (
            (mixed[2], "truncated PNG"),
            (mixed[5], "missing"),
            (mixed[7], "not an image: starts with b'<html>'; PNG, JPEG and DICOM are read"),
        )
        good = [index for index in range(12) if index not in (2, 5, 7)]
        assert np.flatnonzero(cache.rows < 0).tolist() == [2, 5, 7]
        expected = np.stack([read_resized(mixed[index], IMAGE) for index in good])
        np.testing.assert_array_equal(cache.read(cache.rows[good]), expected)
        assert not cache.content_hash[[2, 5, 7]].any()
        assert not cache.source_shape[[2, 5, 7]].any()

    def test_reading_a_bad_row_fails_rather_than_giving_black(self, opened, mixed):
        cache = opened(mixed)
        with pytest.raises(IndexError, match="bad picture"):
            cache.read(cache.rows[[0, 2]])

    def test_they_are_remembered(self, opened, mixed):
        bad = opened(mixed).bad
        again = opened(mixed)
        assert (again.decoded, again.bad) == (0, bad)

    def test_they_are_tried_again_when_they_change(self, opened, mixed):
        opened(mixed)
        for index in (2, 5, 7):
            shutil.copy(mixed[0], mixed[index])
        cache = opened(mixed)
        assert (cache.decoded, cache.bad) == (3, ())
        check_pixels(cache, mixed)

    def test_they_are_tried_again_with_other_decoders(self, opened, mixed, monkeypatch):
        opened(mixed)
        monkeypatch.setattr(cache_module, "decoder_versions", lambda: 1)
        cache = opened(mixed)
        assert (cache.decoded, len(cache.bad)) == (2, 3)
        assert opened(mixed).decoded == 0

    def test_in_a_cache_that_may_only_be_read_their_verdict_stands(
        self, opened, mixed, monkeypatch
    ):
        bad, folder = opened(mixed).bad, opened(mixed).folder
        monkeypatch.setattr(cache_module, "decoder_versions", lambda: 1)
        # root may write whatever the mode says
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path).parent != folder)
        cache = opened(mixed)
        assert (cache.decoded, cache.bad) == (0, bad)
        mixed[7].write_bytes(b"<html></html>")  # another file: there is no verdict on it
        assert opened(mixed).decoded == 2  # and the other one, now that it is written anyway

    def test_a_file_that_vanishes_is_missing(self, opened, pictures):
        opened(pictures)
        pictures[0].unlink()
        cache = opened(pictures)
        assert cache.bad == ((pictures[0], "missing"),)
        assert cache.rows[0] == -1

    def test_nothing_but_missing_files(self, opened, tmp_path):
        paths = [tmp_path / "a.png", tmp_path / "b.png"]
        cache = opened(paths)
        assert cache.bad == ((paths[0], "missing"), (paths[1], "missing"))
        assert not (tmp_path / "cache").exists()


class TestMemory:
    def test_only_the_pictures_of_the_run_are_held(self, opened, pictures):
        some = [pictures[9], pictures[2], pictures[5]]
        cache = opened(some, all_paths=pictures)
        held = cache.held()
        (cache.folder / "pixels.u8").write_bytes(bytes(12 * 32 * 32))
        check_pixels(held, some)
        assert held.__dict__["_held"][1].shape == (3, 32, 32)
        with pytest.raises(IndexError, match="only the pictures of the run"):
            held.read([cache.rows[0], 0])
        assert not copy(held).read(cache.rows).any()  # as in a new process, it maps the file

    def test_more_than_there_is_memory(self, tmp_path):
        rows, side = np.arange(2), 2**24  # half a petabyte
        cache = ImageCache(tmp_path, (2, side, side), rows, rows, rows, (), 0)
        with pytest.raises(DataError, match=r"2 images .* 562,949,953,421,312 bytes, .*=disk"):
            cache.held()


class TestDisk:
    def test_a_folder_that_cannot_be_made(self, opened, pictures, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(DataError) as caught:
            opened(pictures, cache_dir=tmp_path / "file")
        assert str(tmp_path / "file") in str(caught.value)
        assert "cannot be written" in str(caught.value)
        assert "data.cache_dir=DIR" in str(caught.value)

    def test_a_complete_cache_is_opened_without_writing(self, opened, pictures, monkeypatch):
        folder = opened(pictures).folder
        before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
        for path in [*folder.iterdir(), folder]:
            path.chmod(0o555 if path.is_dir() else 0o444)

        def refuse(*_: object) -> None:
            raise OSError(errno.EROFS, "Read-only file system")

        monkeypatch.setattr(CacheFiles, "writing", refuse)  # root may write whatever the mode says
        cache = opened(pictures)
        check_pixels(cache, pictures)
        folder.chmod(0o755)
        assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before

    def test_room_is_checked_before_anything_is_decoded(self, opened, pictures, monkeypatch):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=12_287))
        with pytest.raises(DataError, match=r"needs 12,288 more bytes in .*cache.* and 12,287"):
            opened(pictures)
        monkeypatch.undo()
        check_pixels(opened(pictures), pictures)

    @pytest.mark.parametrize("count", [3, decode_pool.INLINE + 10])
    def test_a_write_that_the_disk_refuses(self, tmp_path, count, full_disk):
        jobs = [Job(i, str(path)) for i, path in enumerate(write_pictures(tmp_path, count))]
        with pytest.raises(OSError, match="No space left") as caught:
            list(decode_into_slots(jobs, full_disk, IMAGE, 2))
        assert caught.value.errno == errno.ENOSPC

    def test_a_disk_that_fills_meanwhile_leaves_nothing_wrong(self, tmp_path, monkeypatch):
        paths = write_pictures(tmp_path / "images", 100, side=8)
        disk = tmp_path / "disk"
        disk.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
        try:
            mounted = subprocess.run(command, capture_output=True).returncode == 0
        except FileNotFoundError:
            mounted = False
        if not mounted:
            pytest.skip("a small disk cannot be mounted here: that takes root")
        try:
            image = ImageConfig(size=128)
            with monkeypatch.context() as patch:  # another program takes the room after the check
                patch.setattr(CacheFiles, "check_free_space", lambda *_: None)
                with pytest.raises(DataError, match="No space left on device"):
                    open_cache(paths, image=image, cache_dir=disk, progress=False)
            filled = check_filled_slots(paths, image, disk)
            assert filled < 100
            subprocess.run(["mount", "-o", "remount,size=9m", str(disk)], check=True)
            cache = open_cache(paths, image=image, cache_dir=disk, progress=False)
            assert cache.decoded == 100 - filled
            check_pixels(cache, paths, image)
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=True)


def check_filled_slots(paths: list[Path], image: ImageConfig, cache_dir: Path) -> int:
    """Compare every slot that is said to be filled with its picture; return how many there are."""
    files = CacheFiles.locate([str(path) for path in paths], image, cache_dir)
    if not files.exist():
        return 0
    filled = np.flatnonzero(files.entries()["status"] == FILLED)
    pixels = np.memmap(files.pixels, np.uint8, "r", shape=files.shape)
    for slot in filled:
        np.testing.assert_array_equal(pixels[slot], read_resized(paths[slot], image))
    return len(filled)


BUILD = """
import sys
from pathlib import Path
from cxr_lightning.config.schema import ImageConfig
from cxr_lightning.data import cache
cache.COMMIT_SECONDS = 0.02
paths = sorted(Path(sys.argv[1]).glob("*.png"))
built = cache.open_cache(
    paths, image=ImageConfig(size=32), cache_dir=Path(sys.argv[2]), processes=2
)
print(built.decoded, len(built.bad))
"""


def start_build(images: Path, cache_dir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, str(images), str(cache_dir)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_records(paths: list[Path], cache_dir: Path, builder: subprocess.Popen[str]) -> None:
    """Return as soon as the builder has recorded a few pictures (or has ended)."""
    files = CacheFiles.locate([str(path) for path in paths], IMAGE, cache_dir)
    until = time.monotonic() + 60
    while builder.poll() is None and time.monotonic() < until:
        if files.exist() and (files.entries()["status"] == FILLED).sum() > 5:
            return
        time.sleep(0.002)


def children_of(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_pictures(tmp_path_factory.mktemp("many") / "images", 300, side=400)


class TestProcesses:
    def test_two_at_once_decode_everything_once(self, many, tmp_path, opened):
        builders = [start_build(many[0].parent, tmp_path / "cache")]
        wait_for_records(many, tmp_path / "cache", builders[0])
        builders.append(start_build(many[0].parent, tmp_path / "cache"))
        said = [builder.communicate(timeout=120) for builder in builders]
        assert [builder.returncode for builder in builders] == [0, 0], said
        assert [out.split() for out, _ in said] == [["300", "0"], ["0", "0"]]
        cache = opened(many)
        assert cache.decoded == 0
        check_pixels(cache, many)

    def test_one_waits_for_the_other_and_says_so(self, pictures, tmp_path, opened):
        files = CacheFiles.locate([str(path) for path in pictures], IMAGE, tmp_path / "cache")
        files.folder.mkdir(parents=True)
        holder = FileLock(files.folder / "lock")
        holder.acquire()
        waiter = start_build(pictures[0].parent, tmp_path / "cache")
        said = waiter.stderr.readline()
        assert "Waiting for another process" in said
        assert str(files.folder) in said
        assert waiter.poll() is None
        holder.release()
        out, _ = waiter.communicate(timeout=60)
        assert out.split() == ["12", "0"]
        check_pixels(opened(pictures), pictures)

    def test_killed_again_and_again(self, many, tmp_path, opened):
        generator = np.random.default_rng(0)
        filled = [0]
        for _ in range(4):
            builder = start_build(many[0].parent, tmp_path / "cache")
            wait_for_records(many, tmp_path / "cache", builder)
            time.sleep(float(generator.uniform(0, 0.15)))
            children = children_of(builder.pid)
            builder.kill()
            builder.communicate()
            until = time.monotonic() + 20
            while any(map(is_running, children)) and time.monotonic() < until:
                time.sleep(0.01)
            assert not any(map(is_running, children)), "a decoding process outlived its parent"
            filled.append(check_filled_slots(many, IMAGE, tmp_path / "cache"))
            assert filled[-1] >= filled[-2]  # it resumes, and loses nothing
        assert filled[1] > 0
        cache = opened(many, processes=2)
        assert cache.decoded == 300 - filled[-1]
        check_pixels(cache, many)

    def test_ctrl_c_ends_promptly_and_keeps_what_is_done(self, many, tmp_path, opened):
        builder = start_build(many[0].parent, tmp_path / "cache")
        wait_for_records(many, tmp_path / "cache", builder)
        children = children_of(builder.pid)
        started = time.monotonic()
        builder.send_signal(signal.SIGINT)
        _, said = builder.communicate(timeout=30)
        assert time.monotonic() - started < 10
        assert "KeyboardInterrupt" in said
        assert not any(map(is_running, children))
        filled = check_filled_slots(many, IMAGE, tmp_path / "cache")
        assert 5 < filled < 300
        cache = opened(many, processes=2)
        assert cache.decoded == 300 - filled
        check_pixels(cache, many)

    def test_a_child_that_dies_takes_one_picture_with_it(self, many, tmp_path):
        pixels = tmp_path / "pixels.u8"
        pixels.write_bytes(bytes(300 * 32 * 32))
        jobs = [Job(slot, str(path)) for slot, path in enumerate(many)]
        pool = decode_pool.DecodePool(jobs, [str(pixels), "32", "pad"])
        outcomes = []
        for outcome in pool.run(1):
            outcomes.append(outcome)
            if len(outcomes) == 20:
                (child,) = pool.children
                child.send_signal(signal.SIGSEGV)
        crashed = [outcome for outcome in outcomes if outcome.reason]
        assert sorted(outcome.slot for outcome in outcomes) == list(range(300))
        assert [outcome.reason for outcome in crashed] == ["the decoder crashed on it (signal 11)"]
        assert crashed[0].passing  # so that the next run tries it again
        decoded = np.fromfile(pixels, np.uint8).reshape(300, 32, 32)
        for outcome in outcomes[::7]:
            if outcome.reason is None:
                expected = read_resized(many[outcome.slot], IMAGE)
                np.testing.assert_array_equal(decoded[outcome.slot], expected)

    def test_a_child_imports_no_more_than_it_needs(self):
        code = "import sys, cxr_lightning.data.decoder; print(*sys.modules)"
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        heavy = {"cv2", "pandas", "pydicom", "torch", "subprocess", "tempfile"}
        assert not heavy & set(said.stdout.decode().split())

    def test_a_child_that_needs_opencv_uses_one_thread_of_it(self):
        said = subprocess.run(
            [sys.executable, "-c", "import cv2; print(cv2.getNumThreads())"],
            env={**os.environ, **decode_pool.ONE_THREAD}, capture_output=True, check=True,
        )  # fmt: skip
        assert said.stdout.split() == [b"1"]

    def test_children_that_cannot_start(self, many, opened, monkeypatch):
        monkeypatch.setattr(decode_pool, "MODULE", "cxr_lightning.data.no_such_module")
        with pytest.raises(RuntimeError, match=r"did not start .*No module named"):
            opened(many)

    def test_the_caller_needs_no_main_guard(self, many, tmp_path):
        # BUILD has none, where multiprocessing's spawn would import and run it again
        builder = start_build(many[0].parent, tmp_path / "cache")
        out, said = builder.communicate(timeout=60)
        assert out.split() == ["300", "0"], said
        assert "Decoded 300 images" in said
        assert str(tmp_path / "cache") in said
