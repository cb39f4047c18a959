"""--download from a server of its own: whole, broken off, damaged, refused, offline."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import sys
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from cxr_lightning.cli import run_verb
from cxr_lightning.config.compose import compose
from cxr_lightning.data.download import download
from cxr_lightning.errors import ConfigError, DataError
from cxr_lightning.prepare import main

KEY = "a-secret-that-nobody-sees"


class Kaggle:
    """What the server gives, and what it was asked for."""

    def __init__(self, archive: bytes) -> None:
        self.archive = archive
        self.stated = base64.b64encode(hashlib.md5(archive).digest()).decode()
        self.stop_after: int | None = None
        self.status = 200
        self.ranges: list[str | None] = []
        self.keys: set[str | None] = set()


def handler(kaggle: Kaggle) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            kaggle.keys.add(self.headers.get("Authorization"))
            if kaggle.status != 200:
                self._answer(kaggle.status, b"{}", "application/json")
            elif self.path.endswith("/GetDataset"):
                body = json.dumps({"currentVersionNumber": 4}).encode()
                self._answer(200, body, "application/json")
            else:
                self.send_response(302)
                self.send_header("Location", "/archive.zip?signature=also-secret")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            kaggle.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
            self._answer(206 if asked else 200, kaggle.archive[start:], "application/zip")

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("x-goog-hash", f"md5={kaggle.stated}")
            self.end_headers()
            self.wfile.write(body[: kaggle.stop_after if kind == "application/zip" else None])
            self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    return Handler


@pytest.fixture(scope="module")
def archive(phantom_root: Path) -> bytes:
    """The sample as Kaggle packs it: everything a second time, a folder deeper."""
    table = (phantom_root / "Data_Entry_2017.csv").read_text().splitlines()[:41]
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        for folder in ("", "sample/sample/"):
            file.writestr(f"{folder}sample_labels.csv", "\n".join(table) + "\n")
        for row in table[1:]:
            name = row.split(",")[0]
            picture = (phantom_root / "images" / name).read_bytes()
            for folder in ("sample/", "sample/sample/"):
                file.writestr(f"{folder}images/{name}", picture)
        # kagglehub keeps what it has in steps of 1 MiB
        file.writestr("notes.bin", np.random.default_rng(0).bytes(3 << 20))
    return made.getvalue()


@pytest.fixture
def kaggle(archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kaggle]:
    env = pytest.importorskip("kagglesdk.kaggle_env", reason="the extra `kaggle`")
    served = Kaggle(archive)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(served))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setitem(
        env._env_to_endpoint, env.KaggleEnv.PROD, f"http://127.0.0.1:{server.server_port}"
    )
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield served
    server.shutdown()
    server.server_close()
    thread.join()


def fetch(root: Path) -> None:
    said: list[str] = []
    config = download(compose(["data=nih", f"data.root={root}"]).data, said.append)
    assert config.split == "patient"
    assert said[-1].endswith(f"data=nih data.root={root} data.split=patient")


def test_fetched_audited_and_not_fetched_twice(
    kaggle: Kaggle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".env").write_text(f"POSTGRES_PASSWORD=x\nKAGGLE_API_TOKEN='{KEY}'\n")
    words = ["data=nih", "--download", "data.image.size=32", "data.labels=[Infiltration]"]
    assert run_verb(main, [*words, "--output", "audit"]) in (0, 1)  # 40 images may lack a class
    root = tmp_path / "nih-sample"
    assert {path.name for path in root.iterdir()} == {"images", "sample_labels.csv"}
    assert len(list((root / "images").iterdir())) == 40
    assert json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert kaggle.keys == {f"Bearer {KEY}"}
    output = "".join(capsys.readouterr())
    assert KEY not in output
    assert "nih-sample" in output
    fetch(root)
    assert kaggle.ranges == [None]


def test_a_download_that_broke_off_goes_on(kaggle: Kaggle, tmp_path: Path) -> None:
    kaggle.stop_after = len(kaggle.archive) // 2
    with pytest.raises(DataError, match="same command goes on where it stopped") as error:
        fetch(tmp_path / "data")
    assert "secret" not in str(error.value)
    assert not (tmp_path / "data" / "sample_labels.csv").exists()
    kaggle.stop_after = None
    fetch(tmp_path / "data")
    begun = kaggle.ranges[-1]
    assert begun is not None
    assert int(begun.removeprefix("bytes=").rstrip("-")) == 1 << 20
    assert len(list((tmp_path / "data" / "images").iterdir())) == 40


def test_a_wrong_checksum_is_refused_and_begun_anew(kaggle: Kaggle, tmp_path: Path) -> None:
    right, kaggle.stated = kaggle.stated, "AAAAAAAAAAAAAAAAAAAAAA=="
    with pytest.raises(DataError, match="is damaged"):
        fetch(tmp_path / "data")
    kaggle.stated = right
    fetch(tmp_path / "data")
    assert kaggle.ranges == [None, None]


def test_without_permission(kaggle: Kaggle, tmp_path: Path) -> None:
    kaggle.status = 403
    with pytest.raises(DataError, match=r"answered 403\.\nIt wants keys: make a token at") as error:
        fetch(tmp_path / "data")
    assert "By hand: open https://www.kaggle.com/datasets/nih-chest-xrays/sample" in str(
        error.value
    )


def test_offline(
    kaggle: Kaggle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    env = sys.modules["kagglesdk.kaggle_env"]
    monkeypatch.setitem(env._env_to_endpoint, env.KaggleEnv.PROD, "http://127.0.0.1:9")
    assert run_verb(main, ["data=nih", "--download"]) == 2
    said = capsys.readouterr().err
    assert "Kaggle cannot be reached" in said
    assert "unpack the archive so" in said


def test_pictures_that_went_missing(kaggle: Kaggle, tmp_path: Path) -> None:
    fetch(tmp_path / "data")
    next((tmp_path / "data" / "images").iterdir()).unlink()
    with pytest.raises(DataError, match="1 of 40 images are missing or empty"):
        fetch(tmp_path / "data")


def test_the_whole_data_set_is_left_alone(phantom_root: Path) -> None:
    with pytest.raises(ConfigError, match="holds the NIH data set already"):
        fetch(phantom_root)


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(ConfigError, match=r"pip install 'cxr-lightning\[kaggle\]'\nBy hand"):
        fetch(tmp_path / "data")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("chexpert", "research use agreement"),
        ("mimic_cxr", "credentialed users of PhysioNet"),
        ("ehr", "a hospital's own files"),
        ("table", "files of your own"),
        ("phantom", "made on first use"),
        ("mix", "fetch each source by itself"),
    ],
)
def test_what_cannot_be_fetched(name: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb(main, [f"data={name}", "--download"]) == 2
    assert said in capsys.readouterr().err.replace("\n", " ")
