"""What a run ran on: hardware, packages and code, without anything that identifies people."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

__all__ = ["describe_environment"]

_PACKAGES = (
    "torch",
    "torchvision",
    "lightning",
    "timm",
    "torchmetrics",
    "numpy",
    "pandas",
    "scikit-learn",
    "albumentations",
    "opencv-python-headless",
    "pydicom",
    "optuna",
    "mlflow",
)
_PACKAGE = Path(__file__).resolve().parents[1]


def describe_environment(packages: Iterable[str] = _PACKAGES) -> dict[str, str]:
    """Describe hardware, system, package versions and code as flat text.

    Names of users and hosts, paths and addresses are left out on purpose.

    Parameters
    ----------
    packages : iterable of str
        Distributions whose versions are wanted; those not installed are left out.

    Returns
    -------
    dict
        ``hardware.cpu``, ``hardware.cpu_cores``, ``hardware.memory``, ``hardware.gpu`` and
        ``hardware.cuda`` (where torch has been imported), ``system.os``, ``system.python``,
        ``package.NAME``, ``code.version`` and, in a git checkout, ``code.commit`` and
        ``code.dirty`` (``true`` where the package's files differ from the commit).
    """
    return {**_hardware(), **_system(), **_versions(packages), **_code(_PACKAGE)}


def _hardware() -> dict[str, str]:
    facts = {"hardware.cpu": _cpu(), "hardware.cpu_cores": str(_cores())}
    if memory := _memory_gib():
        facts["hardware.memory"] = f"{memory:.0f} GiB"
    return {**facts, **_gpus()}


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, OSError, ValueError):
        return None


def _gpus() -> dict[str, str]:
    torch = sys.modules.get("torch")  # importing it here would cost seconds where it is not used
    if torch is None:
        return {}
    if not torch.cuda.is_available():
        return {"hardware.gpu": "none"}
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    counted = ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
    return {"hardware.gpu": counted, "hardware.cuda": str(torch.version.cuda)}


def _system() -> dict[str, str]:
    return {
        "system.os": f"{platform.system()} {platform.machine()}",
        "system.python": platform.python_version(),
    }


def _versions(packages: Iterable[str]) -> dict[str, str]:
    facts = {}
    for name in packages:
        try:
            facts[f"package.{name}"] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return facts


def _code(package: Path) -> dict[str, str]:
    facts = {}
    try:
        facts["code.version"] = metadata.version("cxr-lightning")
    except metadata.PackageNotFoundError:
        facts["code.version"] = "not installed"
    # An installed copy may lie inside somebody else's checkout (a .venv): only tracked files count.
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return facts
    commit = _git(package, "rev-parse", "HEAD")
    changes = _git(package, "status", "--porcelain", "--", ".")
    if commit is not None and changes is not None:
        facts |= {"code.commit": commit, "code.dirty": "true" if changes else "false"}
    return facts


def _git(folder: Path, *arguments: str) -> str | None:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
