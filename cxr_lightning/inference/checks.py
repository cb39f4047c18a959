"""Everything that can be wrong with the words of `predict` and `export`, before torch is loaded."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from cxr_lightning.errors import ConfigError, bullet_list
from cxr_lightning.inference.options import (
    ERRORS,
    PACKAGES,
    SUFFIXES,
    ExportOptions,
    PredictOptions,
    Runtime,
)
from cxr_lightning.inference.sources import check_sources

__all__ = ["check_export", "check_predict", "missing_package"]


def check_predict(options: PredictOptions) -> None:
    """Raise one ConfigError that lists every problem."""
    problems = [*_bundle(options.bundle), *check_sources(options.input)]
    problems += [missing_package(options.runtime)]
    if options.network is not None and options.runtime == "torch":
        problems.append(f"network={options.network}: only runtime=onnx and openvino read one")
    if options.network is not None and not options.network.is_file():
        problems.append(f"network={options.network}: there is no such file")
    if options.table is not None and not options.table.is_file():
        problems.append(f"table={options.table}: there is no such file")
    if options.overlays is not None and options.runtime != "torch":
        problems.append("overlays=: heat maps are computed with runtime=torch only")
    if options.overlays is not None:
        # What is there already, of the folder and those above it, has to be folders.
        places = (options.overlays, *options.overlays.parents)
        there = next((one for one in places if one.exists()), None)
        if there is not None and not there.is_dir():
            problems.append(f"overlays={options.overlays}: {there} is a file; name a folder")
        elif there == options.overlays and any(there.iterdir()):
            problems.append(
                f"overlays={there}: this folder is not empty, and old heat maps would lie among "
                "the new ones; name a new folder, or empty it"
            )
    if options.output is None and options.format == "parquet":
        problems.append("format=parquet: needs output=FILE.parquet")
    if options.output is not None:
        problems += _output(options.output)
        if options.output.name == ERRORS:
            problems.append(
                f"output={options.output}: {ERRORS} lists the images that cannot be read; "
                "choose another name"
            )
        if options.format is None and options.output.suffix.lower() not in SUFFIXES:
            problems.append(
                f"output={options.output}: its name must end in {', '.join(SUFFIXES)}, or say "
                "format="
            )
    _raise(problems)


def check_export(options: ExportOptions) -> None:
    """Raise one ConfigError that lists every problem."""
    problems = [*_bundle(options.bundle), *check_sources(options.input)]
    problems += [
        f'format=onnx: the package {package} is not installed: pip install "cxr-lightning[export]"'
        for package in ("onnx", "onnxscript", "onnxruntime")
        if find_spec(package) is None
    ]
    if options.output is not None:
        problems += _output(options.output)
        if options.output.suffix.lower() != ".onnx":
            problems.append(f"output={options.output}: its name must end in .onnx")
    _raise(problems)


def missing_package(runtime: Runtime) -> str:
    """Say what to install for a runtime; "" where it is there."""
    package, extra = PACKAGES[runtime]
    if find_spec(package) is not None:
        return ""
    return (
        f"runtime={runtime}: the package {package} is not installed: "
        f'pip install "cxr-lightning[{extra}]"'
    )


def _bundle(bundle: Path) -> list[str]:
    if bundle.is_file():
        return []
    inside = bundle / "bundle.safetensors"
    hint = f". Did you mean {inside}?" if inside.is_file() else ""
    return [f"bundle={bundle}: there is no such file{hint}"]


def _output(output: Path) -> list[str]:
    if output.is_dir():
        return [f"output={output}: is a folder; name a file"]
    if not output.parent.is_dir():
        return [f"output={output}: there is no folder {output.parent}"]
    return []


def _raise(problems: list[str]) -> None:
    found = [text for text in problems if text]
    if len(found) == 1:
        raise ConfigError(found[0])
    if found:
        raise ConfigError(f"{len(found)} problems\n{bullet_list(found, limit=50)}")
