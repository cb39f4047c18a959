"""What was measured, where and when."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cxr_lightning.data.decode_pool import available_cpus

ROOT = Path(__file__).parents[1]
PACKAGES = (
    *("torch", "torchvision", "lightning", "torchmetrics", "timm", "torchxrayvision", "monai"),
    *("albumentations", "opencv-python-headless", "kornia-rs", "pillow", "numpy", "scikit-learn"),
    *("onnxruntime", "openvino", "optuna"),
)


def origin() -> list[str]:
    """Return commit and day, machine, and versions."""
    return [
        f"Commit {commit()}, {datetime.now(UTC).date().isoformat()}",
        machine(),
        f"Python {platform.python_version()}, {', '.join(map(versioned, PACKAGES))}",
    ]


def commit() -> str:
    """Name the commit, and say whether files differ from it; what was measured does not count."""
    status = ("status", "--short", "--", ".", ":!benchmarks/RESULTS.md", ":!benchmarks/results")
    name, changes = git("rev-parse", "--short", "HEAD"), git(*status)
    return "unknown" if not name else f"{name} with changes" if changes else name


def git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


def machine() -> str:
    """Cores, processor, memory and GPU; no name of the machine."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        named = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = named[0].partition(":")[2].strip() if named else model
    import torch  # here, so that whoever only asks for ROOT does not wait for it

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{available_cpus()} cores of {model}, {memory:.0f} GiB of memory, {gpu}"


def versioned(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} not installed"
