"""Help: complete, fast enough to be asked for, and free of heavy imports."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from rich.console import Console

from cxr_lightning.config.groups import GROUPS, choices, shipped_conf
from cxr_lightning.config.help import fields_of, print_help
from cxr_lightning.config.schema import Config


@pytest.fixture(scope="module")
def text() -> str:
    stream = io.StringIO()
    print_help("fit", "usage: fit", console=Console(file=stream, width=300))
    return stream.getvalue()


def test_names_every_choice(text: str) -> None:
    for group in GROUPS:
        for name in choices(group, [shipped_conf()]):
            assert name in text


def test_explains_every_field(text: str) -> None:
    for key, field in Config.model_fields.items():
        if key in ("data", "loss"):
            continue
        if isinstance(field.annotation, type) and hasattr(field.annotation, "model_fields"):
            for path, inner in fields_of(field.annotation, key):
                assert path in text
                assert inner.description in text
    for path in ("data.max_patients", "data.images", "loss.gamma", "loss.weight_cap"):
        assert path in text


def test_shows_types_ranges_and_defaults(text: str) -> None:
    assert "[float > 0, <= 10; default 0.001]" in text
    assert "[pad | crop | stretch; default pad]" in text
    assert "a list is [a,b]" in text


def test_imports_nothing_heavy() -> None:
    code = (
        "import sys, types\n"
        "from cxr_lightning.fit import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch.nn', 'pandas.core', 'lightning', 'timm', 'mlflow', 'cv2'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Groups" in done.stdout
