"""Install beside an image's own torch without replacing it.

NVIDIA's images carry a torch built for their CUDA libraries, under a pre-release version that no
registry has. Everything else of constraints.txt goes into an environment that sees the image's
packages; this script says what to install there and checks that torch still is the image's.

    python docker/environment.py requirements [EXTRA ...]   what pyproject.toml asks for
    python docker/environment.py pins                       those of constraints.txt, but torch's
    python docker/environment.py check                      exit 1 if torch was replaced

It needs the standard library only and runs before anything is installed.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IMAGE = re.compile(r"(torch|torchvision|(pytorch-)?triton|nvidia-.*|cuda-.*)")


def canonical(name: str) -> str:
    """Spell a distribution's name as registries compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def is_image_package(name: str) -> bool:
    """Tell whether a package belongs to torch and the CUDA libraries it was built with."""
    return IMAGE.fullmatch(canonical(name)) is not None


def requirements(extras: list[str]) -> Iterator[str]:
    """Yield the requirements of the package and of some of its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    yield from project["dependencies"]
    for extra in extras:
        yield from project["optional-dependencies"][extra]


def pins(constraints: str, installed: list[Distribution]) -> Iterator[str]:
    """Yield `name==version` lines: those of constraints.txt, and torch's as the image has them."""
    for line in constraints.splitlines():
        if line[:1].isalnum() and not is_image_package(re.split(r"[=\s]", line, maxsplit=1)[0]):
            yield line.removesuffix("\\").strip()
    found = {
        canonical(each.name): each.version for each in installed if is_image_package(each.name)
    }
    if missing := sorted({"torch", "torchvision"} - set(found)):
        raise SystemExit(f"This image has no {' and no '.join(missing)}: take one that has both.")
    yield from (f"{name}=={version}" for name, version in sorted(found.items()))


def replaced(installed: list[Distribution], environment: Path) -> list[str]:
    """Name the image's packages of which `environment` holds a copy of its own."""
    return sorted(
        f"{each.name} {each.version}"
        for each in installed
        if is_image_package(each.name)
        and Path(str(each.locate_file(""))).resolve().is_relative_to(environment.resolve())
    )


def check() -> None:
    """Exit with 1 if torch or its CUDA libraries were installed again, or do not import."""
    if copies := replaced(list(distributions()), Path(sys.prefix)):
        raise SystemExit(f"Installed over the image's own: {', '.join(copies)}")
    import torch
    import torchvision

    # Loading torchvision's operators fails where it was built for another torch.
    torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    print(f"torch {torch.__version__} and torchvision {torchvision.__version__} are the image's")


def main(arguments: list[str]) -> None:
    """Run one of the three commands of the module's description."""
    command, *extras = arguments or ["help"]
    commands: dict[str, Callable[[], object]] = {
        "requirements": lambda: print(*requirements(extras), sep="\n"),
        "pins": lambda: print(
            *pins((ROOT / "constraints.txt").read_text(), list(distributions())), sep="\n"
        ),
        "check": check,
    }
    if command not in commands:
        raise SystemExit(__doc__)
    commands[command]()


if __name__ == "__main__":
    main(sys.argv[1:])
